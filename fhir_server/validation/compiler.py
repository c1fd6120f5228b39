"""Compiles types into checks: one closure per type with a table of rules by JSON name, made when the type is first met.

The loop in `_object` runs for every object of every write; what it does per element depends on the rule's kind:
str: a primitive of which `run(value)` says whether it surely is right, else `more(value, holder, path, report)` decides;
dict and list: an object, or an array of them, for `run(value, path, report)`; None: `more` decides alone.
Specification: https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fhir_server.model.definitions import Definitions, ElementDef, TypeDef
from fhir_server.validation import references
from fhir_server.validation.bindings import ALL_LANGUAGES, bound_concept, code_rule, language_concept
from fhir_server.validation.bundles import check_bundle
from fhir_server.validation.elements import (
    ObjectCheck,
    Test,
    element_id,
    many_primitives,
    many_siblings,
    narrative,
    primitive_value,
    quick_string,
    single_primitive,
    single_sibling,
)
from fhir_server.validation.primitives import MAX_STRING, PRIMITIVES
from fhir_server.validation.report import Path, Report, shown


class Rule(NamedTuple):
    """How the loop treats one JSON name; `bit` marks it as seen (`_name` has the bit of `name`)."""

    bit: int
    kind: type | None
    run: Callable[..., Any] | None
    more: Any


class Needs:
    """What an object as a whole must have, in bits: `required` all, of each of `choices` at most one (`min` 1: exactly one)."""

    __slots__ = ("choices", "content", "required")

    def __init__(self) -> None:
        self.required = 0
        self.content = 0
        self.choices: list[tuple[int, ElementDef]] = []


class Validator:
    """The compiled checks over one set of definitions."""

    def __init__(self, known: Definitions) -> None:
        self._known = known
        self._resource_types = frozenset(known.resource_types)
        self._roots: dict[str, ObjectCheck] = {}
        self._checks: dict[tuple[str, tuple[str, ...]], ObjectCheck] = {}

    # --- resources

    def resource(self, value: Any, path: Path | None, report: Report) -> None:
        """Check a resource with its contained ones. `path` is None at the top, where the expression begins with the type."""
        outer, holder = report.fragments, report.holder
        report.fragments, report.holder = [], -1
        here = self._any_resource(value, path, report)
        if here and (report.fragments or "contained" in value):
            references.check_contained(value, here, report)
        report.fragments, report.holder = outer, holder

    def _any_resource(self, value: Any, path: Path | None, report: Report) -> Path | None:
        """Check by `resourceType`; the path where it stands, None if it is no resource at all."""
        if type(value) is not dict:
            report.wrong_kind(path or (None, "Resource", -1), value, "an object")
            return None
        kind = value.get("resourceType")
        root = self._roots.get(kind) if type(kind) is str else None
        if root is None:
            if type(kind) is not str or kind not in self._resource_types:
                _report_type(kind, path or (None, "Resource", -1), report)
                return None
            root = self._roots[kind] = self._check(kind)
        here: Path = path or (None, str(kind), -1)
        root(value, here, report)
        return here

    def _contained(self, value: Any, path: Path, report: Report) -> None:
        report.holder = path[2]
        self._any_resource(value, path, report)
        report.holder = -1

    # --- objects

    def _check(self, type_name: str, targets: tuple[str, ...] = ()) -> ObjectCheck:
        """The check of a complex type, backbone or resource; `targets` are those of a Reference."""
        key = (type_name, targets if type_name == "Reference" else ())
        made = self._checks.get(key)
        if made is None:
            made = self._checks[key] = self._object(self._known.types[type_name], key[1])
            if type_name in _WHOLE:
                made = self._checks[key] = _WHOLE[type_name](made)
        return made

    def _object(self, definition: TypeDef, targets: tuple[str, ...]) -> ObjectCheck:
        rules: dict[str, Rule] = {}
        needs = Needs()
        get = rules.get
        may_be_empty = definition.kind == "resource"
        is_extension = definition.name == "Extension"

        def check_object(value: Any, path: Path, report: Report) -> None:
            if type(value) is not dict:
                report.wrong_kind(path, value, "an object")
                return
            if not rules:
                self._fill(rules, needs, definition, targets)
            seen = 0
            for key, inner in value.items():
                rule = get(key)
                if rule is None:
                    report.unknown_element(path, key, rules)
                    continue
                bit, kind, run, more = rule
                seen |= bit
                if kind is str:
                    if type(inner) is not str or not 0 < len(inner) <= MAX_STRING or not run(inner):  # type: ignore[misc]
                        more(inner, value, path, report)
                elif kind is dict:
                    run(inner, (path, more, -1), report)  # type: ignore[misc]
                elif kind is list:
                    if type(inner) is list and inner:
                        for index, item in enumerate(inner):
                            run(item, (path, more, index), report)  # type: ignore[misc]
                    else:
                        report.no_array((path, more, -1), inner)
                else:
                    more(inner, value, path, report)
            if seen & needs.required != needs.required:
                _report_missing(definition, value, path, report)
            for mask, element in needs.choices:
                given = seen & mask
                if given & (given - 1) or not given and element.min:  # noqa: RUF021
                    _report_choice(element, value, path, report)
            if is_extension:
                _check_extension(seen & needs.content, needs.choices[0][0], value, rules, path, report)
            elif not seen & needs.content and not may_be_empty and rules.keys() >= value.keys():
                report.broken(
                    path, "ele-1", "an element must have a value or children, but the object has none", "元素必须有值或子元素，但对象为空"
                )

        return check_object

    def _fill(self, rules: dict[str, Rule], needs: Needs, definition: TypeDef, targets: tuple[str, ...]) -> None:
        """Make the rules by JSON name and the bits."""
        made: dict[str, Rule] = {}
        if definition.kind == "resource":
            made["resourceType"] = Rule(1, None, None, _no_test)
        bit = 1
        for element in definition.elements.values():
            if element.max == 0:
                continue
            mask = 0
            for json_name, code in element.json_names.items():
                bit <<= 1
                mask |= bit
                made |= self._rules(definition, element, json_name, code, bit)
            if element.choice:
                needs.choices.append((mask, element))
            elif element.min:
                needs.required |= mask
            if element.name != "id":
                needs.content |= mask
        if definition.name == "Reference":
            self._fill_reference(made, targets)
        rules.update(made)

    def _fill_reference(self, rules: dict[str, Rule], targets: tuple[str, ...]) -> None:
        types = references.target_types(targets, self._resource_types)
        any_type = types == self._resource_types
        quick, test = references.reference_test(types, any_type, self._resource_types)
        rules["reference"] = Rule(rules["reference"].bit, str, quick, test)
        rules["type"] = Rule(rules["type"].bit, None, None, references.type_test(types, any_type))

    # --- elements

    def _rules(self, definition: TypeDef, element: ElementDef, json_name: str, code: str, bit: int) -> dict[str, Rule]:
        """The rule of one JSON name of an element, and that of its `_` sibling."""
        type_name = definition.by_json[json_name][1]
        if type_name not in PRIMITIVES:
            return {json_name: Rule(bit, dict if element.max == 1 else list, self._value_check(element, type_name, code), element.name)}
        if type_name == "xhtml":
            return {json_name: Rule(bit, None, None, narrative)}
        if element.name == "id":
            if definition.kind != "resource":
                return {json_name: Rule(bit, None, None, element_id)}
            type_name = "id"  # the definition says string (known erratum of 4.0.1); the rule is that of the type id
        return self._primitive(element, json_name, type_name, bit)

    def _primitive(self, element: ElementDef, json_name: str, type_name: str, bit: int) -> dict[str, Rule]:
        primitive, binding = PRIMITIVES[type_name], element.binding
        value_set = binding.value_set if binding and binding.strength == "required" else element.max_value_set
        permitted = code_rule(self._known, value_set) if value_set and type_name == "code" else None
        exact = primitive_value(type_name, primitive, permitted)
        made: dict[str, Rule] = {}
        if element.max != 1:
            made[json_name] = Rule(bit, None, None, many_primitives(json_name, element.name, exact))
            sibling: Test = many_siblings(json_name, element.name, self._check("Element"))
        else:
            quick = quick_string(primitive, permitted)
            made[json_name] = Rule(bit, str if quick else None, quick, single_primitive(element.name, exact))
            sibling = single_sibling(json_name, element.name, self._check("Element"))
        if element.name != "id" and element.path != "Extension.url":  # these are attributes, which have no extensions
            made["_" + json_name] = Rule(bit, None, None, sibling)
        return made

    def _value_check(self, element: ElementDef, type_name: str, code: str) -> ObjectCheck:
        if type_name == "Resource":
            return self._contained if element.name == "contained" else self.resource
        targets = next((ref.targets for ref in element.types if ref.code == code), ())
        check = self._check(type_name, targets)
        binding = element.binding
        if binding and binding.strength == "required" and type_name == "CodeableConcept":
            codings = self._known.codings(binding.value_set)
            if codings is not None:
                return bound_concept(check, codings, binding.value_set)
        if element.max_value_set == ALL_LANGUAGES and type_name == "CodeableConcept":
            return language_concept(check)
        return check


def _no_test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
    """`resourceType` has been looked at already."""


def _bundle(check: ObjectCheck) -> ObjectCheck:
    """A Bundle with its own rules; entries of a transaction or batch may hold conditional references."""

    def bundle(value: Any, path: Path, report: Report) -> None:
        outer = report.conditional
        report.conditional = outer or value.get("type") in ("transaction", "batch")
        check(value, path, report)
        report.conditional = outer
        check_bundle(value, path, report)

    return bundle


def _parameter(check: ObjectCheck) -> ObjectCheck:
    """A parameter or part with inv-1: a value, a resource or parts."""

    def parameter(value: Any, path: Path, report: Report) -> None:
        check(value, path, report)
        if type(value) is not dict:
            return
        given = [name for name in value if name in ("resource", "part") or name.startswith(("value", "_value"))]
        if len(given) != 1 and (not given or "resource" in given or "part" in given):
            have = f"this one has {', '.join(given)}" if given else "this one has none"
            english = f"a parameter must have one and only one of value, resource and part; {have}"
            report.broken(path, "inv-1", english, "参数必须且只能有 value、resource、part 之一")

    return parameter


_WHOLE: dict[str, Callable[[ObjectCheck], ObjectCheck]] = {"Bundle": _bundle, "Parameters.parameter": _parameter}
"""Types with rules of the object as a whole."""


def _check_extension(content: int, value_mask: int, value: dict[str, Any], known: dict[str, Rule], path: Path, report: Report) -> None:
    """ext-1: must have either extensions or value[x], not both. An unknown element beside it is told already."""
    has_value, has_extensions = content & value_mask, "extension" in value
    if has_value and has_extensions:
        report.broken(path, "ext-1", "an extension must have either a value or extensions, not both", "扩展只能有 value 或 extension 之一")
    elif not has_value and not has_extensions and known.keys() >= value.keys():
        report.broken(path, "ext-1", "an extension must have a value or extensions", "扩展必须有 value 或 extension")


def _report_type(kind: Any, path: Path, report: Report) -> None:
    if kind is None:
        report.add(
            "structure", path, "resourceType is missing, so this is no resource", "缺少 resourceType", rule="resource-type", syntax=True
        )
    else:
        what = f"resourceType {shown(kind)}"
        report.add("structure", path, f"{what} is no resource type of R4", f"{what} 不是 R4 资源类型", rule="resource-type", syntax=True)


def _report_missing(definition: TypeDef, value: dict[str, Any], path: Path, report: Report) -> None:
    for element in definition.elements.values():
        if element.min and not element.choice and element.name not in value and "_" + element.name not in value:
            report.missing(path, element.name)


def _report_choice(element: ElementDef, value: dict[str, Any], path: Path, report: Report) -> None:
    """None of a required choice is there, or more than one."""
    given = [name for name in element.json_names if name in value or "_" + name in value]
    if not given:
        report.missing(path, element.name)
        return
    listed = ", ".join(given)
    english = f"only one of {listed} may be present, for an element has one type"
    report.add("structure", (path, element.name, -1), english, f"{listed} 只能出现一个", rule="choice")
