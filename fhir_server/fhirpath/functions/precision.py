"""Boundaries and precision of decimals, dates and times; their components.

Specification: http://hl7.org/fhirpath/#boundary-functions, http://hl7.org/fhirpath/#extract-datetime-components
"""

from __future__ import annotations

import calendar
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from fhir_server.fhirpath.evaluation import number
from fhir_server.fhirpath.functions.declare import Function, on_value
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal, text_of

_DIGITS = {"Date": (4, 6, 8), "DateTime": (4, 6, 8, 10, 12, 17), "Time": (2, 4, 9)}


def _scale(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def _number_boundary(value: Decimal, digits: int, sign: int) -> Decimal | None:
    if not 0 <= digits <= 28:
        return None
    edge = value + sign * Decimal("0.5").scaleb(-_scale(value))
    return (
        edge.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR if sign < 0 else ROUND_CEILING)
        if digits < _scale(edge)
        else edge.quantize(Decimal(1).scaleb(-digits))
    )


def _time_boundary(value: Temporal, digits: int, sign: int) -> Temporal | None:
    steps = _DIGITS[value.kind]
    if digits not in steps:
        return None
    wanted = steps.index(digits) + 1
    parts = list(value.parts[:wanted])
    offset = value.offset
    start = 3 if value.kind == "Time" else 0
    for place in range(len(parts), wanted):
        unit = place + start
        if unit == 1:
            parts.append(1 if sign < 0 else 12)
        elif unit == 2:
            parts.append(1 if sign < 0 else calendar.monthrange(int(parts[0]), int(parts[1]))[1])
        elif unit in (3, 4):
            parts.append(0 if sign < 0 else (23, 59)[unit - 3])
        else:
            parts.append(Decimal("0.000") if sign < 0 else Decimal("59.999"))
    if wanted + start == 6 and isinstance(parts[-1], Decimal) and -int(parts[-1].as_tuple().exponent) < 3:
        known = -int(parts[-1].as_tuple().exponent)
        parts[-1] = parts[-1].quantize(Decimal("0.001")) + (0 if sign < 0 else Decimal(1).scaleb(-known) - Decimal("0.001"))
    if value.kind == "DateTime" and wanted > 3 and offset is None:
        offset = 14 * 60 if sign < 0 else -12 * 60
    return Temporal(value.kind, tuple(parts), offset, text_of(value.kind, parts, offset))


def _boundary(sign: int) -> Any:
    def work(value: Any, digits: Any = None) -> Any:
        if isinstance(value, Quantity):
            found = _number_boundary(value.value, 8 if digits is None else digits, sign)
            return None if found is None else Quantity(found, value.unit, value.calendar)
        if isinstance(value, Temporal):
            return _time_boundary(value, _DIGITS[value.kind][-1] if digits is None else digits, sign)
        n = number(value)
        return None if n is None else _number_boundary(n, 8 if digits is None else digits, sign)

    return work


def _precision(value: Any) -> int | None:
    if isinstance(value, Temporal):
        digits = _DIGITS[value.kind][value.precision - 1]
        seconds = value.precision == len(_DIGITS[value.kind]) and value.kind != "Date"
        if seconds and _scale(Decimal(value.parts[-1])) == 0:
            return digits - 3
        return digits
    n = number(value)
    return None if n is None else _scale(n)


def _component(place: int, kinds: tuple[str, ...]) -> Any:
    def work(value: Any) -> Any:
        if not isinstance(value, Temporal) or value.kind not in kinds:
            return None
        at = place - 3 if value.kind == "Time" else place
        if at >= value.precision or at < 0:
            return None
        return int(value.parts[at])

    return work


def _millisecond(value: Any) -> Any:
    if not isinstance(value, Temporal) or not isinstance(value.parts[-1], Decimal) or _scale(value.parts[-1]) == 0:
        return None
    return int(value.parts[-1] * 1000 % 1000)


def _zone(value: Any) -> Any:
    return Decimal(value.offset) / 60 if isinstance(value, Temporal) and value.offset is not None else None


_DATES, _CLOCKS = ("Date", "DateTime"), ("DateTime", "Time")
FUNCTIONS: dict[str, Function] = {
    "lowBoundary": on_value("lowBoundary", _boundary(-1), 0, 1),
    "highBoundary": on_value("highBoundary", _boundary(1), 0, 1),
    "precision": on_value("precision", _precision),
    "yearOf": on_value("yearOf", _component(0, _DATES)),
    "monthOf": on_value("monthOf", _component(1, _DATES)),
    "dayOf": on_value("dayOf", _component(2, _DATES)),
    "hourOf": on_value("hourOf", _component(3, _CLOCKS)),
    "minuteOf": on_value("minuteOf", _component(4, _CLOCKS)),
    "secondOf": on_value("secondOf", _component(5, _CLOCKS)),
    "millisecondOf": on_value("millisecondOf", _millisecond),
    "timezoneOffsetOf": on_value("timezoneOffsetOf", _zone),
    "dateOf": on_value("dateOf", lambda value: value and Temporal("Date", value.parts[:3], None, value.text[:10])),
    "timeOf": on_value(
        "timeOf",
        lambda value: (
            Temporal("Time", value.parts[3:], None, text_of("Time", list(value.parts[3:]), None)) if value.precision > 3 else None
        ),
    ),
}
