"""Checks of single elements as closures: primitives and their `_` siblings, objects, arrays of both.

A test of an element is called with (value, the object that holds it, path of that object, report).
Specification: https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.model.xhtml import narrative_problem
from fhir_server.validation.bindings import CodeRule, form_fault, report_code
from fhir_server.validation.primitives import MAX_STRING, Primitive, string_fault
from fhir_server.validation.report import Fragment, Path, Report

Test = Callable[[Any, dict[str, Any], Path, Report], None]
ObjectCheck = Callable[[Any, Path, Report], None]
ValueCheck = Callable[[Any, Path, Report], None]

_STRING, _BOOLEAN = "a string", "a boolean"


def _is_kind(value: Any, kind: str) -> bool:
    if kind == _STRING:
        return isinstance(value, str)
    if kind == _BOOLEAN:
        return isinstance(value, bool)
    return not isinstance(value, bool | str | dict | list) and value is not None


def primitive_value(type_name: str, primitive: Primitive, rule: CodeRule | None) -> ValueCheck:
    """The exact check of one value of a primitive type at its full path; `rule` is that of a required binding."""
    kind, quick, fault = primitive
    codes = rule.codes if rule else None
    may_be_fragment = type_name in ("uri", "url", "canonical")

    def check(value: Any, path: Path, report: Report) -> None:
        if not _is_kind(value, kind):
            report.wrong_kind(path, value, kind)
            return
        sized = kind != _STRING or 0 < len(value) <= MAX_STRING
        why = None if sized and quick(value) else fault(value)
        if why:
            if value == "":
                report.empty(path, "the value", "值")
            else:
                report.malformed(path, value, type_name, why)
        elif codes is not None:
            if value not in codes:
                assert rule
                report_code(rule, value, path, report)
        elif rule and (why := form_fault(rule, value)):
            report.add("code-invalid", path, f"'{value}' {why[0]}", f"“{value}”{why[1]}", rule="binding")
        if may_be_fragment and value[:1] == "#":
            report.fragments.append(Fragment(value[1:], path, None, report.holder))

    return check


def quick_string(primitive: Primitive, rule: CodeRule | None) -> Callable[[str], Any] | None:
    """A predicate that holds only for valid texts of the type (non-empty and of permitted length); None for what is no text."""
    if primitive.kind != _STRING:
        return None
    if rule is None:
        return primitive.quick
    return rule.codes.__contains__ if rule.codes is not None else rule.quick


def single_primitive(name: str, exact: ValueCheck) -> Test:
    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        exact(value, (path, name, -1), report)

    return test


def many_primitives(json_name: str, name: str, exact: ValueCheck) -> Test:
    """An array of primitives; null stands where only the `_` sibling has something."""
    sibling = "_" + json_name

    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        if type(value) is not list or not value:
            report.no_array((path, name, -1), value)
            return
        for index, item in enumerate(value):
            if item is not None:
                exact(item, (path, name, index), report)
            elif not _at(holder.get(sibling), index):
                report.add(
                    "structure",
                    (path, name, index),
                    f"null needs an object at the same place of {sibling}",
                    f"null 必须在 {sibling} 的同一位置有对象",
                    syntax=True,
                    rule="json",
                )

    return test


def _at(array: Any, index: int) -> bool:
    return isinstance(array, list) and index < len(array) and array[index] is not None


def single_sibling(json_name: str, name: str, element: ObjectCheck) -> Test:
    """`_name`: id and extensions of a primitive."""

    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        if _only_id(value) and json_name in holder:
            return
        element(value, (path, name, -1), report)

    return test


def _only_id(value: Any) -> bool:
    """An object with nothing but a usable id: fine beside a value, not alone (ele-1)."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get("id"), str) and bool(value["id"]) and " " not in value["id"]


def many_siblings(json_name: str, name: str, element: ObjectCheck) -> Test:
    """`_name` of an array of primitives: objects and nulls, at the places of their values."""

    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        if type(value) is not list or not value:
            report.no_array((path, "_" + json_name, -1), value)
            return
        values = holder.get(json_name)
        if values is None or (isinstance(values, list) and len(values) != len(value)):
            _report_uneven(json_name, values, len(value), path, report)
        for index, item in enumerate(value):
            present = _at(values, index)
            if item is None:
                if not present:
                    report.add(
                        "structure",
                        (path, "_" + json_name, index),
                        f"null needs a value at the same place of {json_name}",
                        f"null 必须在 {json_name} 的同一位置有值",
                        syntax=True,
                        rule="json",
                    )
            elif not (present and _only_id(item)):
                element(item, (path, name, index), report)

    return test


def _report_uneven(json_name: str, values: list[Any] | None, length: int, path: Path, report: Report) -> None:
    """ "JSON null values are used to fill out both arrays" (json.html#primitive): both are as long as the element repeats."""
    have = "missing" if values is None else f"of {len(values)}"
    report.add(
        "structure",
        (path, "_" + json_name, -1),
        f"the array has {length} items, but {json_name} is {have}; null must fill out both arrays to the same length",
        f"数组有 {length} 项，但 {json_name} {'缺失' if values is None else f'有 {len(values)} 项'}；两个数组须用 null 补齐到同一长度",
        syntax=True,
        rule="json",
    )


def element_id(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
    """Element.id: "any string value that does not contain spaces" (https://hl7.org/fhir/R4/element.html)."""
    place = (path, "id", -1)
    if type(value) is not str:
        report.wrong_kind(place, value, _STRING)
    elif not value:
        report.empty(place, "the value", "值")
    elif why := string_fault(value):
        report.malformed(place, value, "string", why)
    elif " " in value:
        report.malformed(place, value, "element id", ("must not contain spaces", "不得含空格"))


def narrative(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
    """Narrative.div: well-formed XHTML (else it cannot be read), and txt-1, txt-2."""
    place = (path, "div", -1)
    if type(value) is not str:
        report.wrong_kind(place, value, _STRING)
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
