"""From a resource's index values to rows of `posting`, `text` and `range`.

Decision: docs/decisions/0041-ranges-in-span-classes.md
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from fhir_server.search.values import MIN_INSTANT, IndexValues, Range
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, Form

NO_DATE = -(1 << 46)
"""Sort value of a resource of a type with a clinical date that has none: before the year 1."""

SPAN_SHIFT = 3
"""A plain range key is parameter << 3 | span class: small integers, which no 64-bit key of `term` equals."""
MINUTE, DAY, MONTH, YEAR = 60_000, 90_000_000, 32 * 86_400_000, 367 * 86_400_000
DATE_SPANS = (MINUTE, DAY, MONTH, YEAR, 10 * YEAR)
NUMBER_SPANS = (1e-3, 0.11, 1.1, 11.0, 1100.0)
OPEN_SPAN = 5
"""Class of ranges longer than the last limit."""
SEVERAL = 7
"""Class of all ranges of a resource that has more than one of the parameter (or one that its clinical date does not start)."""
CLASSES = (0, 1, 2, 3, 4, OPEN_SPAN, SEVERAL)
SEPARATOR = "\x1f"
"""Between unit code and span class in the term of a quantity, and between several spellings in `text.exact`.

FHIR strings hold no such character."""


def span_class(low: float, high: float) -> int:
    """The class of an interval: its length is at most `span_limit(class, ...)`."""
    span = high - low
    for number, limit in enumerate(DATE_SPANS if isinstance(low, int) else NUMBER_SPANS):
        if span <= limit:
            return number
    return OPEN_SPAN


def span_limit(number: int, sample: float) -> float | None:
    """The longest interval of a class, for dates (`sample` is an int) or numbers; None = no limit."""
    limits = DATE_SPANS if isinstance(sample, int) else NUMBER_SPANS
    return limits[number] if number < len(limits) else None


@dataclass(slots=True)
class Entries:
    """What one version adds to the index. `forms` count as terms and are posted; `range_forms` are counted only."""

    forms: list[Form]
    texts: dict[tuple[int, str], str] = field(default_factory=dict)
    """(parameter, folded) -> exact spellings, '' when the only one equals the folded form"""
    plain: list[tuple[int, int | float, int | float]] = field(default_factory=list)
    """(small key, low, high)"""
    quantities: list[tuple[Form, int | float, int | float]] = field(default_factory=list)
    clinical: int = 0


def entries_of(type: str, values: IndexValues, clinical_parameter: int | None) -> Entries:
    """Rows of a version in symbolic form (terms not yet resolved to keys)."""
    forms: list[Form] = [(TYPE_PARAMETER, type, ""), *values.keys]
    if clinical_parameter is None:
        clinical = 0
    else:
        clinical = NO_DATE if values.clinical <= MIN_INSTANT else max(values.clinical, NO_DATE + 1)
    entries = Entries(forms, clinical=clinical)
    if values.texts:
        _texts(entries, values)
    if values.ranges:
        _ranges(entries, values, clinical_parameter)
    return entries


def _texts(entries: Entries, values: IndexValues) -> None:
    texts = entries.texts
    for parameter, folded, exact in values.texts:
        at = (parameter, folded)
        before = texts.get(at)
        if before is None:
            texts[at] = "" if exact == folded else exact
        else:
            spellings = dict.fromkeys([*(before or folded).split(SEPARATOR), exact])
            texts[at] = "" if list(spellings) == [folded] else SEPARATOR.join(spellings)


def _ranges(entries: Entries, values: IndexValues, clinical_parameter: int | None) -> None:
    ranges: list[Range] = values.ranges
    parameters = [item[0] for item in ranges]
    repeated = len(set(parameters)) < len(parameters)
    for parameter, space, value, low, high in ranges:
        if (repeated and parameters.count(parameter) > 1) or (parameter == clinical_parameter and low != entries.clinical):
            number = SEVERAL
        else:
            number = span_class(low, high)
        if space or value:
            entries.quantities.append(((parameter, space, f"{value}{SEPARATOR}{number}"), low, high))
        else:
            entries.plain.append((parameter << SPAN_SHIFT | number, low, high))


def pack_references(keys: Sequence[int]) -> bytes | None:
    """Keys of reference postings as a blob."""
    return struct.pack(f"<{len(keys)}q", *keys) if keys else None


def unpack_references(blob: bytes | None) -> tuple[int, ...]:
    """The inverse of `pack_references`."""
    return struct.unpack(f"<{len(blob) // 8}q", blob) if blob else ()
