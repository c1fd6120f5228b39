"""Quantities with units: comparison across the common UCUM units and the calendar's words.

Specification: http://hl7.org/fhirpath/N1/#quantity, https://ucum.org
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

UCUM = "http://unitsofmeasure.org"
CALENDAR = {
    "year": "a",
    "month": "mo",
    "week": "wk",
    "day": "d",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
}
_WORDS = {word: name for name in CALENDAR for word in (name, name + "s")}
_OF_CODE = {code: name for name, code in CALENDAR.items()}

# Dimension and factor to its base unit; facts of the metric system and of UCUM.
_FACTORS: dict[str, tuple[str, Decimal]] = {
    "1": ("1", Decimal(1)),
    "%": ("1", Decimal("0.01")),
    **{p + "g": ("g", Decimal(f)) for p, f in {"": "1", "k": "1000", "m": "0.001", "u": "0.000001", "n": "0.000000001", "p": "1e-12", "d": "0.1", "c": "0.01"}.items()},
    **{p + "m": ("m", Decimal(f)) for p, f in {"": "1", "k": "1000", "d": "0.1", "c": "0.01", "m": "0.001", "u": "0.000001", "n": "1e-9"}.items()},
    "[in_i]": ("m", Decimal("0.0254")),
    "[ft_i]": ("m", Decimal("0.3048")),
    "[lb_av]": ("g", Decimal("453.59237")),
    "[oz_av]": ("g", Decimal("28.349523125")),
    **{p + "L": ("L", Decimal(f)) for p, f in {"": "1", "d": "0.1", "c": "0.01", "m": "0.001", "u": "0.000001", "n": "1e-9", "p": "1e-12", "f": "1e-15"}.items()},
    **{p + "mol": ("mol", Decimal(f)) for p, f in {"": "1", "m": "0.001", "u": "0.000001", "n": "1e-9", "p": "1e-12"}.items()},
    "s": ("s", Decimal(1)),
    "ms": ("s", Decimal("0.001")),
    "us": ("s", Decimal("0.000001")),
    "min": ("s", Decimal(60)),
    "h": ("s", Decimal(3600)),
    "d": ("s", Decimal(86400)),
    "wk": ("s", Decimal(604800)),
    "mo": ("s", Decimal("2629800")),
    "a": ("s", Decimal("31557600")),
    "mm[Hg]": ("Pa", Decimal("133.322387415")),
    "kPa": ("Pa", Decimal(1000)),
    "Pa": ("Pa", Decimal(1)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit: a UCUM code, or a calendar word (`calendar`: year, month ...; then `unit` is that word)."""

    value: Decimal
    unit: str
    calendar: bool = False

    @classmethod
    def of_literal(cls, text: str, unit: str) -> Quantity:
        """Of a literal: unit in quotes is UCUM, a bare word is the calendar's."""
        if unit.startswith("'"):
            return cls(Decimal(text), unit.strip("'"))
        return cls(Decimal(text), _WORDS[unit], True)

    @classmethod
    def of_fhir(cls, value: dict[str, Any]) -> Quantity | None:
        """Of a FHIR Quantity; None without a value or with a comparator."""
        number = value.get("value")
        if number is None or isinstance(number, bool | str) or value.get("comparator"):
            return None
        amount = number if isinstance(number, Decimal) else Decimal(repr(number))
        code, unit = value.get("code"), value.get("unit")
        if value.get("system") == UCUM and code in _OF_CODE and code in ("a", "mo", "wk", "d", "h", "min", "s", "ms"):
            return cls(amount, code)
        return cls(amount, code or unit or "1")

    def time_unit(self) -> str | None:
        """The calendar word for date arithmetic: of a calendar quantity, or of the UCUM codes whose length is definite."""
        if self.calendar:
            return self.unit
        return {"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond"}.get(self.unit)

    def base(self) -> tuple[str, Decimal] | None:
        """Dimension and value in its base unit; None for a unit that is not known here."""
        code = CALENDAR[self.unit] if self.calendar else self.unit
        if code in _FACTORS:
            dimension, factor = _FACTORS[code]
            return dimension, self.value * factor
        if "/" in code:
            over, _, under = code.partition("/")
            a, b = _FACTORS.get(over or "1"), _FACTORS.get(under)
            if a and b:
                return f"{a[0]}/{b[0]}", self.value * a[1] / b[1]
        return None

    def __str__(self) -> str:
        if self.calendar:
            return f"{format(self.value, 'f')} {self.unit}{'' if self.value == 1 else 's'}"
        return f"{format(self.value, 'f')} '{self.unit}'"


def compare(left: Quantity, right: Quantity) -> int | None:
    """-1, 0 or 1 after conversion; None where the units cannot be compared (different dimensions, or a year with seconds)."""
    if left.unit == right.unit and left.calendar == right.calendar:
        return (left.value > right.value) - (left.value < right.value)
    if left.calendar != right.calendar and {left.unit, right.unit} & {"year", "month", "a", "mo"}:
        return None
    a, b = left.base(), right.base()
    if a is None or b is None or a[0] != b[0]:
        return None
    return (a[1] > b[1]) - (a[1] < b[1])
