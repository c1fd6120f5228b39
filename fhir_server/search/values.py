"""What the indexer takes out of a resource: plain values that a store turns into its own index entries.

Specification: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

MIN_INSTANT = -(2**62)
"""Lower bound of an open-ended date range (the value stands for 'before everything')."""
MAX_INSTANT = 2**62
"""Upper bound of an open-ended date range."""


FRAGMENT = "#"
"""Space of the ids of contained resources that a reference leads to."""


class Key(NamedTuple):
    """A value that is found by equality: a token, reference, uri, canonical or composite.

    token: space = system ('' when none), value = code
    reference: space = resource type, value = id; an absolute foreign URL: space = '', value = URL
    uri: space = '', value = the URI; canonical: space = url, value = version ('' when none)
    """

    parameter: int
    space: str
    value: str


class Text(NamedTuple):
    """A string value: `folded` is lower case without accents (see `search.text.fold`), `exact` as it was sent."""

    parameter: int
    folded: str
    exact: str


class Range(NamedTuple):
    """A date, number or quantity as the closed interval [low, high] that its precision implies.

    Dates: integers, milliseconds since 1970-01-01T00:00Z (open ends: MIN_INSTANT, MAX_INSTANT).
    Numbers and quantities: floats. `space` and `value` are system and code of a quantity's unit, else ''.
    """

    parameter: int
    space: str
    value: str
    low: int | float
    high: int | float


@dataclass(slots=True)
class IndexValues:
    """All index values of one resource; without duplicates."""

    keys: list[Key] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    clinical: int = MIN_INSTANT
    """The type's clinical date (Observation.effective, Encounter.period.start ...): start, milliseconds since 1970."""
