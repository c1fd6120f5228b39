"""Numbers in searches: the range that the digits of a search value imply.

Specification: https://hl7.org/fhir/R4/search.html#number
"""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?\Z", re.ASCII)


def parse_number(text: str) -> Decimal | None:
    """A number as FHIR writes it, or None."""
    return Decimal(text) if _NUMBER.match(text) else None


def implicit_range(value: Decimal) -> tuple[float, float]:
    """[low, high) of a search value: half of its last digit to each side; 5.4 → [5.35, 5.45), 100 → [99.5, 100.5), 1e2 → [50, 150)."""
    half = Decimal("0.5").scaleb(int(value.as_tuple().exponent))
    return float(value - half), float(value + half)


def approximate_range(value: Decimal) -> tuple[float, float]:
    """What `ap` accepts: ten percent to each side, at least the implicit range."""
    low, high = implicit_range(value)
    tenth = float(abs(value)) / 10
    return min(low, float(value) - tenth), max(high, float(value) + tenth)
