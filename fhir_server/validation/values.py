"""Values against fixed values, patterns, lowest and highest values, and greatest lengths.

Specification: https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.fixed_x_
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.fhirpath import compile_expression
from fhir_server.fhirpath.equality import compare_values
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.items import Item, system_value
from fhir_server.fhirpath.kinds import kind_of


def same(value: Any, fixed: Any) -> bool:
    """Exactly the fixed value, down to ids and extensions."""
    if isinstance(fixed, dict):
        return isinstance(value, dict) and value.keys() == fixed.keys() and all(same(value[key], inner) for key, inner in fixed.items())
    if isinstance(fixed, list):
        return isinstance(value, list) and len(value) == len(fixed) and all(map(same, value, fixed))
    if isinstance(fixed, bool) or isinstance(value, bool):
        return value is fixed
    return bool(value == fixed)


def matches(value: Any, pattern: Any) -> bool:
    """At least what the pattern has; each item of an array of it is matched by some item."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(key in value and matches(value[key], inner) for key, inner in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches(one, inner) for one in value) for inner in pattern)
    return same(value, pattern)


def missing(value: Any, pattern: Any, path: str = "") -> str:
    """The first place where a value falls short of a pattern, such as 'coding.code'."""
    if isinstance(pattern, dict) and isinstance(value, dict):
        for key, inner in pattern.items():
            where = f"{path}.{key}" if path else key
            if key not in value:
                return where
            if not matches(value[key], inner):
                return missing(value[key], inner, where)
    return path


def compare(value: Any, limit: Any, type: str) -> int | None:
    """-1, 0 or 1 as a value is less than, equal to or more than a limit of the same type; None where that cannot be told."""
    kind = kind_of(type)
    try:
        return compare_values(system_value(Item(value, kind)), system_value(Item(limit, kind)), "<")
    except FhirPathError:
        return None


def listed(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of an array, whatever else stands there."""
    rows = holder.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


_UNITS = {"a": "years", "mo": "months", "wk": "weeks", "d": "days", "h": "hours", "min": "minutes", "s": "seconds"}


def comparable(item: Item, limit: tuple[str, Any]) -> bool:
    """Whether a value can be said to be below or above a limit: a length in metres is neither for one in kilograms."""
    kind, value = limit
    if kind in ("Quantity", "Duration", "Age") and item.kind.name in ("date", "dateTime", "instant"):
        return isinstance(value, dict) and str(value.get("code")) in _UNITS
    return compare(item.value, value, kind) is not None


def beyond(item: Item, limit: tuple[str, Any], side: int) -> bool:
    """Whether a value is below (`side` -1) or above (1) a limit (type, value). A duration limits a date by its distance before now (a
    lowest value) or after (a highest one)."""
    kind, value = limit
    if kind in ("Quantity", "Duration", "Age") and item.kind.name in ("date", "dateTime", "instant") and isinstance(value, dict):
        unit = _UNITS.get(str(value.get("code")))
        if unit is None:
            return False
        sign, here = ("<", "-") if side < 0 else (">", "+")
        now = "today()" if item.kind.name == "date" else "now()"
        try:
            return compile_expression(f"$this {sign} ({now} {here} {value.get('value')} {unit})").test(item) is True
        except FhirPathError:
            return False
    return compare(item.value, value, kind) == side
