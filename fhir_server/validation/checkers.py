"""One checker per type, compiled from the definitions: cardinality, JSON types, primitives, choices, required bindings, targets.

Specification: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fhir_server.model.definitions import ElementDef, TypeDef, definitions
from fhir_server.model.references import parse_reference
from fhir_server.validation.faults import Fault, Faults, under
from fhir_server.validation.primitives import CHECKS, kind_of

Checker = Callable[[Any], Faults | None]
"""Gives the faults of a value, paths relative to it; None when there are none."""

_CODED = ("Coding", "CodeableConcept", "Quantity")


@lru_cache(maxsize=4096)
def checker(type_name: str) -> Checker:
    """The checker of a type ('Patient', 'Patient.contact', 'HumanName', 'code')."""
    if type_name in CHECKS:
        return _primitive(type_name)
    return _Complex(definitions().types[type_name]).check


def _primitive(type_name: str) -> Checker:
    test = CHECKS[type_name]

    def check(value: Any) -> Faults | None:
        rule = test(value)
        return None if rule is None else [Fault("", "value", f"{rule} ({type_name})", value, f"不是合法的 {type_name}", True)]

    return check


def _lazy(type_name: str) -> Checker:
    """A checker that is compiled when first used: types refer to each other in circles."""
    found: list[Checker] = []

    def check(value: Any) -> Faults | None:
        if not found:
            found.append(checker(type_name))
        return found[0](value)

    return check


def resource(value: Any) -> Faults | None:
    """Any resource inside another one."""
    if type(value) is not dict:
        return [Fault("", "structure", f"must be a resource, not {kind_of(value)}", None, "必须是资源", True)]
    kind = value.get("resourceType")
    types = definitions().types
    if not isinstance(kind, str) or kind not in types or types.kind(kind) != "resource" or types[kind].abstract:
        return [Fault("resourceType", "structure", "must name a resource type of R4", kind, "不是 R4 的资源类型", True)]
    return checker(kind)(value)


class _Complex:
    """The checker of a complex type, a backbone or a resource."""

    def __init__(self, definition: TypeDef) -> None:
        self.name = definition.name
        self.is_resource = definition.kind == "resource"
        self.single: dict[str, Checker] = {}
        self.many: dict[str, Checker] = {}
        self.beside: dict[str, tuple[str, bool]] = {}
        self.required: list[tuple[str, tuple[str, ...]]] = []
        self.choices: list[tuple[str, tuple[str, ...]]] = []
        self.limits: list[tuple[str, int]] = []
        for element in definition.elements.values():
            self._add(definition, element)
        self.names = frozenset(self.single) | frozenset(self.many)

    def _add(self, definition: TypeDef, element: ElementDef) -> None:
        names = tuple(element.json_names)
        for json_name in names:
            kind = definition.by_json[json_name][1]
            target = self.single if element.max == 1 else self.many
            target[json_name] = _value_checker(element, kind)
            if kind in CHECKS and kind != "xhtml":
                self.beside["_" + json_name] = (json_name, element.max != 1)
            if element.max not in (0, 1, None):
                self.limits.append((json_name, int(element.max or 0)))
        if element.max == 0:
            for json_name in names:
                self.single.pop(json_name, None)
        if element.min > 0:
            self.required.append((element.name + ("[x]" if element.choice else ""), names))
        if element.choice and len(names) > 1:
            self.choices.append((element.name, names))

    def check(self, value: Any) -> Faults | None:
        if type(value) is not dict:
            return [Fault("", "structure", f"must be a JSON object ({self.name}), not {kind_of(value)}", None, "必须是 JSON 对象", True)]
        faults: Faults | None = None
        single, many = self.single, self.many
        for name, inner in value.items():
            found: Faults | None
            if name in single:
                check = single[name]
                found = check(inner)
                if found is None:
                    continue
                found = _single_faults(name, inner, found, value)
            elif name in many:
                found = _list_faults(name, inner, many[name], value)
            elif name in self.beside:
                found = self._beside_faults(name, inner, value)
            elif name == "resourceType" and self.is_resource:
                continue
            else:
                found = [Fault(name, "structure", f"is no element of {self.name}", None, f"{self.name} 没有这个元素", True)]
            if found:
                faults = (faults or []) + found
        if not value or (self.is_resource and len(value) == 0):
            faults = (faults or []) + [
                Fault("", "invariant", "must not be empty: an element has a value or children (ele-1)", None, "元素不能为空")
            ]
        rest = self._whole(value)
        return (faults or []) + rest if rest else faults

    def _whole(self, value: dict[str, Any]) -> Faults | None:
        faults: Faults | None = None
        for element, names in self.required:
            for name in names:
                if name in value or "_" + name in value:
                    break
            else:
                fault = Fault(element.removesuffix("[x]"), "required", f"is missing; {self.name} needs {element}", None, "缺少必填元素")
                faults = [*(faults or []), fault]
        for element, names in self.choices:
            present = [name for name in names if name in value or "_" + name in value]
            if len(present) > 1:
                fault = Fault(element, "structure", f"has several values: {', '.join(present)}; one is allowed", None, "只允许一个值")
                faults = [*(faults or []), fault]
        for name, limit in self.limits:
            if isinstance(value.get(name), list) and len(value[name]) > limit:
                faults = [
                    *(faults or []),
                    Fault(name, "structure", f"has {len(value[name])} items; at most {limit}", None, f"最多 {limit} 项"),
                ]
        return faults

    def _beside_faults(self, name: str, inner: Any, value: dict[str, Any]) -> Faults | None:
        plain, is_list = self.beside[name]
        check = checker("Element")
        if not is_list:
            if type(inner) is not dict:
                return [Fault(name, "structure", f"must be a JSON object, not {kind_of(inner)}", None, "必须是 JSON 对象", True)]
            found = check(inner)
            return under(plain, found) if found else None
        if type(inner) is not list:
            return [Fault(name, "structure", f"must be a JSON array, not {kind_of(inner)}", None, "必须是 JSON 数组", True)]
        values = value.get(plain)
        if isinstance(values, list) and len(values) != len(inner):
            return [
                Fault(
                    name, "structure", f"has {len(inner)} items, {plain} has {len(values)}; null fills a gap", None, "数组长度不一致", True
                )
            ]
        faults: Faults = []
        for k, one in enumerate(inner):
            if one is None:
                if not isinstance(values, list) or values[k] is None:
                    faults.append(Fault(f"{plain}[{k}]", "structure", "has neither value nor extension", None, "既无值也无扩展", True))
                continue
            if found := check(one):
                faults += under(f"{plain}[{k}]", found)
        return faults or None


def _single_faults(name: str, inner: Any, found: Faults, value: dict[str, Any]) -> Faults:
    if type(inner) is list:
        return [Fault(name, "structure", "must be a single value, not an array", None, "不允许数组", True)]
    if inner is None:
        return [Fault(name, "structure", "must not be null; leave the element out", None, "不允许 null", True)]
    return under(name, found)


def _list_faults(name: str, inner: Any, check: Checker, value: dict[str, Any]) -> Faults | None:
    if type(inner) is not list:
        return [Fault(name, "structure", f"must be a JSON array, not {kind_of(inner)}", None, "必须是 JSON 数组", True)]
    if not inner:
        return [Fault(name, "structure", "must not be an empty array; leave the element out", None, "不允许空数组", True)]
    faults: Faults | None = None
    for k, one in enumerate(inner):
        if one is None:
            beside = value.get("_" + name)
            if not (isinstance(beside, list) and k < len(beside) and beside[k] is not None):
                fault = Fault(f"{name}[{k}]", "structure", "must not be null: no extension stands in its place", None, "不允许 null", True)
                faults = [*(faults or []), fault]
            continue
        found = check(one)
        if found:
            faults = (faults or []) + under(f"{name}[{k}]", found)
    return faults


def _value_checker(element: ElementDef, kind: str) -> Checker:
    if kind in ("Resource", "DomainResource"):
        return resource
    inner = checker(kind) if kind in CHECKS else _lazy(kind)
    extra = [one for one in (_binding(element, kind), _targets(element, kind)) if one]
    if kind == "Extension":
        extra.append(_extension)
    if not extra:
        return inner

    def check(value: Any) -> Faults | None:
        found = inner(value)
        if found:
            return found
        for one in extra:
            if more := one(value):
                return more
        return None

    return check


def _extension(value: dict[str, Any]) -> Faults | None:
    has_value = any(name.startswith(("value", "_value")) for name in value)
    if has_value == ("extension" in value):
        rule = "must have either a value[x] or extensions, not both and not neither (ext-1)"
        return [Fault("", "invariant", rule, None, "扩展必须有 value[x] 或子扩展之一")]
    return None


def _binding(element: ElementDef, kind: str) -> Checker | None:
    if element.binding is None or element.binding.strength != "required":
        return None
    value_set = element.binding.value_set
    codings = definitions().codings(value_set)
    codes = definitions().codes(value_set)
    if codings is None or codes is None:
        return None
    url = value_set.split("|")[0]

    def refused(value: Any, path: str = "") -> Faults:
        return [Fault(path, "code-invalid", f"is not in the required value set {url}", value, f"不在必需的值集 {url} 中")]

    if kind in ("code", "string", "uri"):
        return lambda value: None if value in codes else refused(value)
    if kind == "Coding":
        return lambda value: None if _coded(value, codings) else refused(value.get("code"), "code")
    if kind == "CodeableConcept":

        def check(value: Any) -> Faults | None:
            coding = value.get("coding")
            if coding and any(_coded(one, codings) for one in coding if one):
                return None
            if not coding and value.get("extension"):
                return None
            shown = ", ".join(str(one.get("code")) for one in coding or () if one) or "no coding"
            return refused(shown, "coding" if coding else "")

        return check
    return None


def _coded(value: dict[str, Any], codings: frozenset[tuple[str, str]]) -> bool:
    return (value.get("system") or "", value.get("code") or "") in codings


def _targets(element: ElementDef, kind: str) -> Checker | None:
    targets = {target for ref in element.types if ref.code == kind for target in ref.targets}
    if kind != "Reference":
        return None
    types = definitions().types
    open_target = not targets or "Resource" in targets

    def check(value: Any) -> Faults | None:
        text = value.get("reference")
        stated = value.get("type")
        found = ""
        if text is not None:
            parsed = parse_reference(text)
            found = parsed.type
            if parsed.form == "relative" and (found not in types or types.kind(found) != "resource"):
                return [Fault("reference", "value", f"points to {found}, which is no resource type of R4", text, "不是 R4 的资源类型")]
            if parsed.form == "absolute" and (found not in types or types.kind(found) != "resource"):
                found = ""
        kind_named = found or (stated if isinstance(stated, str) else "")
        if not open_target and kind_named and "/" not in kind_named and kind_named not in targets:
            rule = f"points to {kind_named}; allowed: {', '.join(sorted(targets))}"
            return [Fault("reference" if found else "type", "value", rule, text or stated, "引用的资源类型不允许")]
        if found and isinstance(stated, str) and "/" not in stated and stated != found:
            return [Fault("type", "value", f"says {stated}, but the reference points to {found}", stated, "type 与引用不符")]
        return None

    return check
