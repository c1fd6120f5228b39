"""Quantities in commensurable units: what is asked in one unit finds values that are stored in another.

Values stay in the index in the units in which they came; a search is converted into each of these.
Specification: https://hl7.org/fhir/R4/search.html#quantity, https://ucum.org/ucum
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from fhir_server.search.query import RangeMatch
from fhir_server.terminology.ucum import UcumError, comparable, convert

UCUM = "http://unitsofmeasure.org"
_MIRRORED = {"low_min": "high_max", "low_max": "high_min", "high_min": "low_max", "high_max": "low_min"}
"""Limits on a scale that falls where the other rises (pH and mol/L)."""


def same_kind(code: str, other: str) -> bool:
    """Whether values in the two units can be compared; a code that is not UCUM's only with itself."""
    if code == other:
        return True
    try:
        return comparable(code, other)
    except UcumError:
        return False


@lru_cache(maxsize=4096)
def in_unit(match: RangeMatch, code: str) -> RangeMatch | None:
    """The same question in another UCUM unit; None where the units have nothing to do with each other."""
    if match.space != UCUM or match.value is None or not same_kind(match.value, code):
        return None
    if match.value == code:
        return match
    source = match.value

    def there(limit: float) -> float:
        return float(convert(Decimal(repr(limit)), source, code))

    limits = {name: limit for name in _MIRRORED if (limit := getattr(match, name)) is not None}
    try:
        falls = there(2.0) < there(1.0)
        converted = {name: there(limit) for name, limit in limits.items()}
    except (UcumError, OverflowError):
        # Below the least value of a logarithmic scale, or beyond what a number can hold: no value there compares with it.
        return None
    if falls:
        converted = {_MIRRORED[name]: limit for name, limit in converted.items()}
    strict = frozenset(_MIRRORED[name] for name in match.strict) if falls else match.strict
    cleared = dict.fromkeys(_MIRRORED)
    return replace(match, **{**cleared, **converted, "strict": strict, "value": code})  # type: ignore[arg-type]
