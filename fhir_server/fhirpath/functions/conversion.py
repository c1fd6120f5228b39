"""Conversion between System types: toX() and convertsToX().

Specification: http://hl7.org/fhirpath/N1/#conversion
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.code import Code, of_truth, of_value
from fhir_server.fhirpath.evaluation import Env, single_value, string
from fhir_server.fhirpath.functions.declare import Function, Site
from fhir_server.fhirpath.items import Collection, Long
from fhir_server.fhirpath.quantity import WORDS, Quantity, converted
from fhir_server.fhirpath.temporal import Temporal, parse_temporal
from fhir_server.model.json_codec import plain

_INTEGER = re.compile(r"[+-]?\d{1,30}\Z", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,100}(?:\.\d{1,100})?\Z", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d{1,100}(?:\.\d{1,100})?)(?:\s*'([^']+)'|\s+([a-z]+))?\Z", re.ASCII)
_TRUE, _FALSE = frozenset(("true", "t", "yes", "y", "1", "1.0")), frozenset(("false", "f", "no", "n", "0", "0.0"))


def to_boolean(value: Any) -> bool | None:
    """As the table of toBoolean() has it; None for what is no boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return True if value == 1 else False if value == 0 else None
    if isinstance(value, str):
        return True if value.lower() in _TRUE else False if value.lower() in _FALSE else None
    return None


def _whole(type_: type[int], bits: int) -> Callable[[Any], int | None]:
    def convert(value: Any) -> int | None:
        if isinstance(value, str):
            if not _INTEGER.match(value):
                return None
            value = int(value)
        if not isinstance(value, int):
            return None
        return type_(value) if -(2**bits) <= value < 2**bits else None

    return convert


to_integer = _whole(int, 31)
to_long = _whole(Long, 63)


def to_decimal(value: Any) -> Decimal | None:
    """A Decimal, or None."""
    if isinstance(value, bool | int):
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value
    return Decimal(value) if isinstance(value, str) and _DECIMAL.match(value) else None


def to_string(value: Any) -> str | None:
    """The text of a System value; None of an element with parts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    return str(value) if isinstance(value, int | str | Temporal | Quantity) else None


def _temporal(kind: str) -> Callable[[Any], Temporal | None]:
    def convert(value: Any) -> Temporal | None:
        if isinstance(value, str):
            found = parse_temporal(value, kind)
            if found is None and kind == "Date" and (moment := parse_temporal(value, "DateTime")):
                found = convert(moment)
            return found
        if not isinstance(value, Temporal):
            return None
        if value.kind == kind:
            return value
        if kind == "Date" and value.kind == "DateTime":
            return Temporal("Date", value.parts[:3], None, value.text[:10].rstrip("T"))
        return Temporal("DateTime", value.parts, None, value.text) if kind == "DateTime" and value.kind == "Date" else None

    return convert


def to_quantity(value: Any) -> Quantity | None:
    """A number, a boolean or a text such as 4 days or 5.5 'mg' as a Quantity; None for anything else."""
    if isinstance(value, Quantity):
        return value
    if isinstance(value, bool | int | Decimal):
        return Quantity(Decimal(int(value)) if isinstance(value, bool) else Decimal(value))
    if not isinstance(value, str) or not (found := _QUANTITY.match(value)):
        return None
    number, code, word = found.groups()
    if word:
        return Quantity(Decimal(number), WORDS[word], True) if word in WORDS else None
    return Quantity(Decimal(number), code or "1")


def _function(convert: Callable[[Any], Any], *, test: bool, unit: bool) -> Function:
    def build(site: Site) -> Code:
        source, name = site.input, site.name
        wanted = site.argument(0) if site.given else None

        def value(focus: Collection, env: Env) -> Any:
            given = single_value(source(focus, env), name)
            if given is None:
                return None
            found = convert(given)
            if wanted is not None and found is not None and (code := string(wanted(focus, env), name)) is not None:
                found = converted(found, code)
            return found is not None if test else found

        return of_truth(value) if test else of_value(value)

    return Function(build, 0, 1 if unit else 0)


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": to_boolean,
    "Integer": to_integer,
    "Long": to_long,
    "Decimal": to_decimal,
    "String": to_string,
    "Date": _temporal("Date"),
    "DateTime": _temporal("DateTime"),
    "Time": _temporal("Time"),
    "Quantity": to_quantity,
}
FUNCTIONS = {
    **{f"to{name}": _function(convert, test=False, unit=name == "Quantity") for name, convert in _CONVERSIONS.items()},
    **{f"convertsTo{name}": _function(convert, test=True, unit=name == "Quantity") for name, convert in _CONVERSIONS.items()},
}
