"""Quantities with units: comparison and calculation across UCUM units and the calendar's words.

Specification: http://hl7.org/fhirpath/N1/#quantity, https://hl7.org/fhir/R4/fhirpath.html#quantity, https://ucum.org
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from fhir_server.fhirpath.units import Reduced, reduce_unit, unit_text

UCUM = "http://unitsofmeasure.org"
CALENDAR = {"year": "a", "month": "mo", "week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
WORDS = {word: name for name in CALENDAR for word in (name, name + "s")}
_WORD_OF = {code: name for name, code in CALENDAR.items()}
# Of the UCUM codes only those up to a week are as long as the calendar's; a and mo are means.
_DEFINITE = {"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}
_LONG = {"year": Fraction(12), "month": Fraction(1)}
_EXACT = Context(prec=28, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit: a UCUM code, or a calendar word (`calendar`; then `unit` is year, month ... in the singular).

    `fhir`: it comes from a FHIR Quantity, whose 'a' and 'mo' stand for the calendar's years and months as well.
    """

    value: Decimal
    unit: str = "1"
    calendar: bool = False
    fhir: bool = False

    @property
    def code(self) -> str:
        """The unit as a UCUM code."""
        return CALENDAR[self.unit] if self.calendar else self.unit

    def with_value(self, value: Decimal) -> Quantity:
        """The same unit with another number."""
        return Quantity(value, self.unit, self.calendar, self.fhir)

    def time_unit(self) -> str | None:
        """The calendar word for date arithmetic; None where the unit is no definite time."""
        if self.calendar:
            return self.unit
        return (_WORD_OF if self.fhir else _DEFINITE).get(self.unit)

    def as_fhir(self) -> dict[str, Any]:
        """The JSON of a FHIR Quantity."""
        unit = self.unit if not self.calendar or self.value == 1 else self.unit + "s"
        return {"value": self.value, "unit": unit, "system": UCUM, "code": self.code}

    def __str__(self) -> str:
        number = format(self.value, "f")
        if self.calendar:
            return f"{number} {self.unit}{'' if self.value == 1 else 's'}"
        return f"{number} '{self.unit}'"


def of_literal(text: str, unit: str, quoted: bool) -> Quantity:
    """Of a literal: a unit in quotes is UCUM, a bare word is the calendar's."""
    return Quantity(Decimal(text), unit) if quoted else Quantity(Decimal(text), WORDS[unit], True)


def of_fhir(value: Any) -> Quantity | None:
    """Of a FHIR Quantity; None without a value or with a comparator (it is no single number then)."""
    if not isinstance(value, dict):
        return None
    number = value.get("value")
    if not isinstance(number, int | float | Decimal) or isinstance(number, bool) or value.get("comparator"):
        return None
    amount = number if isinstance(number, Decimal) else Decimal(repr(number))
    unit = value.get("code") or value.get("unit") or "1"
    return Quantity(amount, str(unit), False, value.get("system") == UCUM)


def _reduced(quantity: Quantity) -> Reduced | None:
    return reduce_unit(quantity.code)


def _comparable_times(left: Quantity, right: Quantity) -> tuple[Fraction, Fraction] | None:
    """Numbers to compare where calendar words meet; None where a year or month meets what has another length."""
    a, b = left.time_unit(), right.time_unit()
    if a is None or b is None or (a in _LONG) != (b in _LONG):
        return None
    if a in _LONG:
        return Fraction(left.value) * _LONG[a], Fraction(right.value) * _LONG[b]
    x, y = reduce_unit(CALENDAR[a]), reduce_unit(CALENDAR[b])
    assert x and y
    return Fraction(left.value) * x.factor, Fraction(right.value) * y.factor


def _numbers(left: Quantity, right: Quantity) -> tuple[Fraction, Fraction] | None:
    """Both numbers in one unit; None where the units have nothing in common."""
    if left.unit == right.unit and left.calendar == right.calendar:
        return Fraction(left.value), Fraction(right.value)
    if left.calendar or right.calendar:
        return _comparable_times(left, right)
    a, b = _reduced(left), _reduced(right)
    if a is None or b is None or a.dimensions != b.dimensions:
        return None
    return Fraction(left.value) * a.factor + a.offset, Fraction(right.value) * b.factor + b.offset


def compare(left: Quantity, right: Quantity) -> int | None:
    """-1, 0 or 1 after conversion; None where the units cannot be compared."""
    pair = _numbers(left, right)
    return None if pair is None else (pair[0] > pair[1]) - (pair[0] < pair[1])


def comparable(left: Quantity, right: Quantity) -> bool:
    """Whether the units measure the same dimension."""
    if left.unit == right.unit and left.calendar == right.calendar:
        return True
    a, b = _reduced(left), _reduced(right)
    return a is not None and b is not None and a.dimensions == b.dimensions


def different(left: Quantity, right: Quantity) -> bool:
    """Whether the units are known and measure different dimensions."""
    a, b = _reduced(left), _reduced(right)
    return a is not None and b is not None and a.dimensions != b.dimensions


def equivalent(left: Quantity, right: Quantity) -> bool:
    """`~`: equal when both are rounded to the less precise one's last digit; 1 year ~ 1 'a'."""
    if left.unit == right.unit:
        pair = Fraction(left.value), Fraction(right.value)
        steps = _step(left.value), _step(right.value)
    else:
        a, b = _reduced(left), _reduced(right)
        if a is None or b is None or a.dimensions != b.dimensions:
            return False
        pair = Fraction(left.value) * a.factor + a.offset, Fraction(right.value) * b.factor + b.offset
        steps = _step(left.value) * a.factor, _step(right.value) * b.factor
    step = max(steps)
    return _round(pair[0] / step) == _round(pair[1] / step)


def _step(value: Decimal) -> Fraction:
    """The weight of a number's last digit; trailing zeros after the point do not count."""
    exponent = int(value.normalize().as_tuple().exponent) if value else 0
    return Fraction(10) ** min(exponent, 0)


def _round(value: Fraction) -> int:
    return int(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def decimal_of(value: Fraction) -> Decimal:
    """A fraction with 28 digits."""
    with localcontext(_EXACT):
        return Decimal(value.numerator) / Decimal(value.denominator)


def converted(quantity: Quantity, unit: str) -> Quantity | None:
    """The same amount in another unit (a UCUM code or calendar word); None where it has another dimension."""
    word = WORDS.get(unit)
    wanted = Quantity(Decimal(1), word, True) if word else Quantity(Decimal(1), unit)
    if quantity.unit == wanted.unit and quantity.calendar == wanted.calendar:
        return quantity
    a, b = _reduced(quantity), _reduced(wanted)
    if a is None or b is None or a.dimensions != b.dimensions:
        return None
    if quantity.calendar and wanted.calendar and (quantity.unit in _LONG) == (wanted.unit in _LONG):
        pair = _comparable_times(quantity, wanted)
        assert pair
        return wanted.with_value(_tidy(pair[0] / pair[1]))
    return wanted.with_value(_tidy((Fraction(quantity.value) * a.factor + a.offset - b.offset) / b.factor))


def _tidy(value: Fraction) -> Decimal:
    found = decimal_of(value)
    return Decimal(int(found)) if found == found.to_integral_value() else found.normalize()


def added(left: Quantity, right: Quantity, sign: int) -> Quantity | None:
    """Sum (sign 1) or difference (-1) in the left unit; None where the dimensions differ."""
    if left.unit == right.unit and left.calendar == right.calendar:
        return left.with_value(left.value + sign * right.value)
    other = converted(right, left.unit)
    return None if other is None else left.with_value(left.value + sign * other.value)


def multiplied(left: Quantity, right: Quantity, sign: int) -> Quantity | None:
    """Product (sign 1) or quotient (-1); the unit is combined, in base units where the two differ. None when divided by zero."""
    if sign < 0 and right.value == 0:
        return None
    if right.code == "1":
        return left.with_value(_result(left.value, right.value, sign))
    if left.code == "1" and sign > 0:
        return right.with_value(left.value * right.value)
    a, b = _reduced(left), _reduced(right)
    if a is None or b is None:
        if sign < 0 and left.code == right.code:
            return Quantity(_result(left.value, right.value, sign))
        joint = f"{left.code}.{right.code}" if sign > 0 else f"{left.code}/{right.code}"
        return Quantity(_result(left.value, right.value, sign), joint)
    dimensions = dict(a.dimensions)
    for name, power in b.dimensions:
        dimensions[name] = dimensions.get(name, 0) + sign * power
    factor = a.factor * b.factor if sign > 0 else a.factor / b.factor
    number = Fraction(left.value) * Fraction(right.value) if sign > 0 else Fraction(left.value) / Fraction(right.value)
    unit = unit_text(tuple(sorted((name, power) for name, power in dimensions.items() if power)))
    return Quantity(_tidy(number * factor), unit)


def _result(left: Decimal, right: Decimal, sign: int) -> Decimal:
    return left * right if sign > 0 else _tidy(Fraction(left) / Fraction(right))
