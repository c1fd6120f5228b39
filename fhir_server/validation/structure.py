"""Structural validation: is this content a resource of R4, and which rules of structure does it break?

Checks are compiled once per type from the official definitions into closures over dicts; all faults are found in one walk.
Specification: https://hl7.org/fhir/R4/validation.html (structure, cardinality, value domains, bindings), https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.model.definitions import Definitions, ElementDef, TypeDef, definitions
from fhir_server.model.xhtml import narrative_problem
from fhir_server.validation import references
from fhir_server.validation.bindings import code_rule, report_concept
from fhir_server.validation.bundles import check_bundle
from fhir_server.validation.elements import (
    ObjectCheck,
    Test,
    many_objects,
    many_primitives,
    many_siblings,
    one_of_choice,
    primitive_value,
    single_object,
    single_primitive,
    single_sibling,
)
from fhir_server.validation.primitives import PRIMITIVES, string_fault
from fhir_server.validation.report import MAX_ISSUES, Enough, Path, Report, shown

_CONTENT = 1  # bit that every element but `id` sets: an element needs a value or children (ele-1)


def validate(resource: Any, *, bundle_entry: bool = False) -> list[Issue]:
    """All structural issues of a resource (at most MAX_ISSUES and a note that there are more); errors refuse it, warnings do not.

    `bundle_entry`: the resource comes from a transaction or batch, where conditional references (`Patient?identifier=…`) may stand.
    """
    report = Report(bundle_entry)
    try:
        _validator().resource(resource, None, report)
    except Enough:
        more = f"There are {MAX_ISSUES} issues or more; the others are not listed"
        report.issues.append(Issue("too-costly", more, severity="information", zh=f"问题达到 {MAX_ISSUES} 个，其余未列出"))
    return report.issues


def check(resource: Any, *, bundle_entry: bool = False) -> None:
    """Raise FhirError with all issues if one is an error: 400 if some content cannot be read as R4, else 422."""
    issues = validate(resource, bundle_entry=bundle_entry)
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise FhirError(status_of(issues), issues)


def status_of(issues: list[Issue]) -> int:
    """The HTTP status that refused content gets."""
    return 400 if any(issue.syntax for issue in issues) else 422


@lru_cache(maxsize=1)
def _validator() -> Validator:
    return Validator(definitions())


class Validator:
    """The compiled checks over one set of definitions; types are compiled when first met."""

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
                self._report_type(kind, path or (None, "Resource", -1), report)
                return None
            root = self._roots[kind] = self._check(kind)
        here = path or (None, kind, -1)
        root(value, here, report)
        return here

    def _report_type(self, kind: Any, path: Path, report: Report) -> None:
        if kind is None:
            report.add("structure", path, "resourceType is missing, so this is no resource", "缺少 resourceType", syntax=True)
        else:
            what = f"resourceType {shown(kind)}"
            report.add("structure", path, f"{what} is no resource type of R4", f"{what} 不是 R4 资源类型", syntax=True)

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
        return made

    def _object(self, definition: TypeDef, targets: tuple[str, ...]) -> ObjectCheck:
        rules: dict[str, tuple[int, Test]] = {}
        needs: list[int] = [0]
        get = rules.get
        after = self._after(definition)
        no_ele1 = definition.kind == "resource"

        def check_object(value: Any, path: Path, report: Report) -> None:
            if type(value) is not dict:
                report.wrong_kind(path, value, "an object")
                return
            if not rules:
                needs[0] = self._fill(rules, definition, targets)
            seen = 0
            for key, inner in value.items():
                rule = get(key)
                if rule is None:
                    report.unknown_element(path, key, rules)
                else:
                    seen |= rule[0]
                    rule[1](inner, value, path, report)
            required = needs[0]
            if seen & required != required:
                _report_missing(definition, value, path, report)
            if not seen & _CONTENT and not no_ele1:
                report.empty(path, "the object", "对象")
            elif after is not None:
                after(value, path, report)

        return check_object

    def _fill(self, rules: dict[str, tuple[int, Test]], definition: TypeDef, targets: tuple[str, ...]) -> int:
        """Make the rules by JSON name; returns the bits of the required elements."""
        required = 0
        if definition.kind == "resource":
            rules["resourceType"] = (_CONTENT, _no_test)
        for position, element in enumerate(definition.elements.values(), start=1):
            bit = 1 << position
            if element.min:
                required |= bit
            content = 0 if element.name == "id" else _CONTENT
            for json_name, test in self._tests(definition, element).items():
                rules[json_name] = (bit | content, test)
        if definition.name == "Reference":
            types = references.target_types(targets, self._resource_types)
            any_type = types == self._resource_types
            rules["reference"] = (rules["reference"][0], references.reference_test(types, any_type))
            rules["type"] = (rules["type"][0], references.type_test(types, any_type))
        return required

    # --- elements

    def _tests(self, definition: TypeDef, element: ElementDef) -> dict[str, Test]:
        """The tests of one element by JSON name, those of `_name` included."""
        tests: dict[str, Test] = {}
        for json_name, code in element.json_names.items():
            type_name = definition.by_json[json_name][1]
            many = element.max != 1
            if type_name in PRIMITIVES:
                tests |= self._primitive(definition, element, json_name, type_name, many)
            else:
                check = self._value_check(element, type_name, code)
                tests[json_name] = (many_objects if many else single_object)(element.name, check)
        if not element.choice:
            return tests
        names = set(tests)
        return {
            json_name: one_of_choice(test, json_name.lstrip("_"), frozenset(names - _both(json_name)), element.name)
            for json_name, test in tests.items()
        }

    def _primitive(self, definition: TypeDef, element: ElementDef, json_name: str, type_name: str, many: bool) -> dict[str, Test]:
        if type_name == "xhtml":
            return {json_name: _narrative}
        if element.name == "id":
            if definition.kind == "resource":
                type_name = "id"
            else:
                return {json_name: _element_id}
        primitive, binding = PRIMITIVES[type_name], element.binding
        value_set = binding.value_set if binding and binding.strength == "required" else element.max_value_set
        rule = code_rule(self._known, value_set) if value_set and type_name == "code" else None
        exact = primitive_value(type_name, primitive, rule)
        if many:
            tests = {json_name: many_primitives(json_name, element.name, exact)}
        else:
            tests = {json_name: single_primitive(element.name, primitive, exact, rule)}
        if element.name != "id" and element.path != "Extension.url":
            tests["_" + json_name] = (many_siblings if many else single_sibling)(json_name, element.name, self._check("Element"))
        return tests

    def _value_check(self, element: ElementDef, type_name: str, code: str) -> ObjectCheck:
        if type_name == "Resource":
            return self._contained if element.name == "contained" else self.resource
        targets = next((ref.targets for ref in element.types if ref.code == code), ())
        check = self._check(type_name, targets)
        binding = element.binding
        if binding and binding.strength == "required" and type_name == "CodeableConcept":
            codings = self._known.codings(binding.value_set)
            if codings is not None:
                return _bound_concept(check, codings, binding.value_set)
        return check

    def _after(self, definition: TypeDef) -> ObjectCheck | None:
        """The rule of a type that looks at the object as a whole."""
        rules: dict[str, Callable[[dict[str, Any], Path, Report], None]] = {"Extension": _extension, "Bundle": check_bundle}
        return rules.get(definition.name)


def _both(json_name: str) -> set[str]:
    bare = json_name.lstrip("_")
    return {bare, "_" + bare}


def _no_test(value: Any, owner: dict[str, Any], path: Path, report: Report) -> None:
    """`resourceType` has been looked at already."""


def _element_id(value: Any, owner: dict[str, Any], path: Path, report: Report) -> None:
    """Element.id: "any string value that does not contain spaces" (https://hl7.org/fhir/R4/element.html)."""
    place = (path, "id", -1)
    if type(value) is not str:
        report.wrong_kind(place, value, "a string")
    elif not value:
        report.empty(place, "the value", "值")
    elif why := string_fault(value):
        report.malformed(place, value, "string", why)
    elif " " in value:
        report.malformed(place, value, "element id", ("must not contain spaces", "不得含空格"))


def _narrative(value: Any, owner: dict[str, Any], path: Path, report: Report) -> None:
    place = (path, "div", -1)
    if type(value) is not str:
        report.wrong_kind(place, value, "a string")
        return
    if not value:
        report.empty(place, "the value", "值")
        return
    problem = narrative_problem(value)
    if problem and problem.malformed:
        report.malformed(place, value, "xhtml", (problem.english, problem.chinese))
    elif problem:
        severity = "warning" if problem.lenient else "error"
        report.broken(place, problem.rule, f"the narrative {problem.english}", f"叙述{problem.chinese}", severity=severity)


def _bound_concept(check: ObjectCheck, codings: frozenset[tuple[str, str]], value_set: str) -> ObjectCheck:
    def bound(value: Any, path: Path, report: Report) -> None:
        check(value, path, report)
        if type(value) is dict and value:
            report_concept(value, codings, value_set, path, report)

    return bound


def _extension(value: dict[str, Any], path: Path, report: Report) -> None:
    """ext-1: must have either extensions or value[x], not both."""
    has_value = any(key.startswith(("value", "_value")) for key in value)
    if has_value and "extension" in value:
        report.broken(path, "ext-1", "an extension must have either a value or extensions, not both", "扩展只能有 value 或 extension 之一")
    elif not has_value and "extension" not in value:
        report.broken(path, "ext-1", "an extension must have a value or extensions", "扩展必须有 value 或 extension")


def _report_missing(definition: TypeDef, value: dict[str, Any], path: Path, report: Report) -> None:
    for element in definition.elements.values():
        if element.min and not any(name in value or "_" + name in value for name in element.json_names):
            report.missing(path, element.name)
