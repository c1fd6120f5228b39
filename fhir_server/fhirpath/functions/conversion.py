"""Conversion between System types: toX() and convertsToX().

Specification: http://hl7.org/fhirpath/N1/#conversion
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, single_value
from fhir_server.fhirpath.functions.declare import Function, answer, env_focus
from fhir_server.fhirpath.quantity import CALENDAR, Quantity
from fhir_server.fhirpath.temporal import Temporal, parse_temporal
from fhir_server.model.json_codec import plain

_INTEGER = re.compile(r"[+-]?\d+\Z", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?\Z", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:'([^']+)'|([a-zA-Z]+))?\Z", re.ASCII)
_TRUE, _FALSE = {"true", "t", "yes", "y", "1", "1.0"}, {"false", "f", "no", "n", "0", "0.0"}


def to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return True if value == 1 else False if value == 0 else None
    if isinstance(value, str):
        return True if value.lower() in _TRUE else False if value.lower() in _FALSE else None
    return None


def to_integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and _INTEGER.match(value) else None


def to_decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool | int):
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, str) and _DECIMAL.match(value) else None


def to_string(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    return str(value) if isinstance(value, int | str | Temporal | Quantity) else None


def _temporal(kind: str) -> Callable[[Any], Temporal | None]:
    def convert(value: Any) -> Temporal | None:
        if isinstance(value, str):
            return parse_temporal(value, kind)
        if not isinstance(value, Temporal):
            return None
        if value.kind == kind:
            return value
        if kind == "Date" and value.kind == "DateTime":
            return parse_temporal(value.text[:10].rstrip("T"), "Date")
        if kind == "DateTime" and value.kind == "Date":
            return parse_temporal(value.text, "DateTime")
        return None

    return convert


def to_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, bool):
        return Quantity(Decimal(int(value)), "1")
    if isinstance(value, int | Decimal):
        return Quantity(Decimal(value), "1")
    if not isinstance(value, str) or not (found := _QUANTITY.match(value)):
        return None
    number, code, word = found.groups()
    if word:
        singular = word.removesuffix("s")
        return Quantity(Decimal(number), singular, True) if singular in CALENDAR else None
    return Quantity(Decimal(number), code or "1")


def _in_unit(value: Quantity | None, unit: str) -> Quantity | None:
    if value is None or value.unit == unit:
        return value
    wanted = Quantity(Decimal(1), unit.removesuffix("s"), True) if unit.removesuffix("s") in CALENDAR else Quantity(Decimal(1), unit)
    a, b = value.base(), wanted.base()
    return Quantity(a[1] / b[1], wanted.unit, wanted.calendar) if a and b and a[0] == b[0] else None


def _make(name: str, convert: Callable[[Any], Any], *, test: bool) -> Function:
    def make(*arguments: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            value = single_value(focus, f"{name}()")
            if value is None:
                return []
            found = convert(value)
            if arguments and (unit := single_value(arguments[0](env, env_focus(env, focus)), name)) is not None:
                found = _in_unit(found, unit)
            return answer(found is not None) if test else answer(found)

        return evaluate

    return Function(make, 0, 1 if "Quantity" in name else 0)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": to_boolean,
    "Integer": to_integer,
    "Long": to_integer,
    "Decimal": to_decimal,
    "String": to_string,
    "Date": _temporal("Date"),
    "DateTime": _temporal("DateTime"),
    "Time": _temporal("Time"),
    "Quantity": to_quantity,
}
FUNCTIONS = {
    **{f"to{name}": _make(f"to{name}", convert, test=False) for name, convert in _CONVERSIONS.items()},
    **{f"convertsTo{name}": _make(f"convertsTo{name}", convert, test=True) for name, convert in _CONVERSIONS.items()},
}
