"""Boundaries and precision of decimals, dates and times; their components.

Specification: http://hl7.org/fhirpath/#boundary-functions, http://hl7.org/fhirpath/#extract-datetime-components
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from fhir_server.fhirpath.evaluation import number
from fhir_server.fhirpath.functions.declare import Function, on_value
from fhir_server.fhirpath.operators import DECIMALS
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal, text_of

# Digits that a value of each precision has: year, month, day; hour, minute, second, millisecond.
_DIGITS = {"Date": (4, 6, 8), "DateTime": (4, 6, 8, 10, 12, 14, 17), "Time": (2, 4, 6, 9)}
_MAX_SCALE = 28


def _scale(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def _number_boundary(value: Decimal, digits: int, sign: int) -> Decimal | None:
    """The edge of the interval that a decimal's last digit stands for, at a number of decimals; None outside of 0 to 28, and of 28 digits.

    With fewer decimals than the edge has, the edge nearer to zero is cut and the other one rounded, as the official tests have it.
    """
    if not 0 <= digits <= _MAX_SCALE or _scale(value) > _MAX_SCALE:
        return None
    edge = value + sign * Decimal("0.5").scaleb(-_scale(value))
    outer = (sign > 0) != value.is_signed()
    rounding = None if digits >= _scale(edge) else ROUND_HALF_UP if outer else ROUND_DOWN
    try:
        return edge.quantize(Decimal(1).scaleb(-digits), rounding, DECIMALS)
    except InvalidOperation:
        return None


def _time_boundary(value: Temporal, digits: int, sign: int) -> Temporal | None:
    steps = _DIGITS[value.kind]
    if digits not in steps:
        return None
    wanted = min(steps.index(digits) + 1, 3 if value.kind != "DateTime" else 6)
    parts = list(value.parts[:wanted])
    if value.kind == "DateTime" and len(parts) == 4 < wanted:
        # FHIR's dateTime has no hours without minutes: T08 means T08:00.
        parts.append(0)
    start = 3 if value.kind == "Time" else 0
    for unit in range(len(parts) + start, wanted + start):
        parts.append(_edge(unit, parts, sign))
    if wanted + start == 6:
        parts[-1] = _second_edge(Decimal(parts[-1]), sign, whole=digits == steps[-2], known=value.precision == wanted)
    offset = value.offset
    if value.kind == "DateTime" and wanted > 3 and offset is None:
        # Without a zone, the earliest time on earth is that of +14:00, the latest that of -12:00.
        offset = 14 * 60 if sign < 0 else -12 * 60
    offset = offset if wanted > 3 else None
    return Temporal(value.kind, tuple(parts), offset, text_of(value.kind, parts, offset))


def _edge(unit: int, parts: list[int | Decimal], sign: int) -> int | Decimal:
    """The first or last value of a unit (1 month … 5 second)."""
    if unit == 5:
        return Decimal(0 if sign < 0 else 59)
    if unit == 2:
        return 1 if sign < 0 else calendar.monthrange(int(parts[0]), int(parts[1]))[1]
    return {1: 1, 3: 0, 4: 0}[unit] if sign < 0 else {1: 12, 3: 23, 4: 59}[unit]


def _second_edge(second: Decimal, sign: int, *, whole: bool, known: bool) -> Decimal:
    if whole:
        return second.quantize(Decimal(1), ROUND_FLOOR)
    width = Decimal(1).scaleb(-_scale(second)) if known else Decimal(1)
    return second.quantize(Decimal("0.001"), ROUND_FLOOR) + (max(width - Decimal("0.001"), Decimal(0)) if sign > 0 else 0)


def _boundary(sign: int) -> Callable[..., Any]:
    def work(value: Any, digits: Any = None) -> Any:
        if digits is not None and (isinstance(digits, bool) or not isinstance(digits, int)):
            return None
        if isinstance(value, Temporal):
            return _time_boundary(value, _DIGITS[value.kind][-1] if digits is None else digits, sign)
        wanted = 8 if digits is None else digits
        if isinstance(value, Quantity):
            found = _number_boundary(value.value, wanted, sign)
            return None if found is None else value.with_value(found)
        n = number(value)
        return None if n is None else _number_boundary(n, wanted, sign)

    return work


def _precision(value: Any) -> int | None:
    if isinstance(value, Temporal):
        digits = _DIGITS[value.kind]
        last = value.parts[-1]
        return digits[value.precision - 1 + (isinstance(last, Decimal) and _scale(last) > 0)]
    n = number(value)
    return None if n is None else _scale(n)


def _component(place: int, kinds: tuple[str, ...]) -> Callable[[Any], Any]:
    def work(value: Any) -> Any:
        if not isinstance(value, Temporal) or value.kind not in kinds:
            return None
        at = place - 3 if value.kind == "Time" else place
        return int(value.parts[at]) if 0 <= at < value.precision else None

    return work


def _millisecond(value: Any) -> Any:
    if not isinstance(value, Temporal) or not isinstance(value.parts[-1], Decimal) or _scale(value.parts[-1]) == 0:
        return None
    return int(value.parts[-1] * 1000 % 1000)


def _zone(value: Any) -> Any:
    return Decimal(value.offset) / 60 if isinstance(value, Temporal) and value.offset is not None else None


def _date(value: Any) -> Any:
    if not isinstance(value, Temporal) or value.kind == "Time":
        return None
    return Temporal("Date", value.parts[:3], None, text_of("Date", list(value.parts[:3]), None))


def _time(value: Any) -> Any:
    if not isinstance(value, Temporal) or value.kind != "DateTime" or value.precision < 4:
        return None
    return Temporal("Time", value.parts[3:], None, text_of("Time", list(value.parts[3:]), None))


_DATES, _CLOCKS = ("Date", "DateTime"), ("DateTime", "Time")
FUNCTIONS: dict[str, Function] = {
    "lowBoundary": on_value(_boundary(-1), 0, 1),
    "highBoundary": on_value(_boundary(1), 0, 1),
    "precision": on_value(_precision),
    "yearOf": on_value(_component(0, _DATES)),
    "monthOf": on_value(_component(1, _DATES)),
    "dayOf": on_value(_component(2, _DATES)),
    "hourOf": on_value(_component(3, _CLOCKS)),
    "minuteOf": on_value(_component(4, _CLOCKS)),
    "secondOf": on_value(_component(5, _CLOCKS)),
    "millisecondOf": on_value(_millisecond),
    "timezoneOffsetOf": on_value(_zone),
    "dateOf": on_value(_date),
    "timeOf": on_value(_time),
}
