"""Evaluates criteria over the index values of one resource in memory: for Subscriptions, and to check stores against.

Joins (chains, `_has`) need a store and raise JoinNeeded.
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.search.composites import Place, parted
from fhir_server.search.near import distance
from fhir_server.search.query import (
    And,
    Criterion,
    Everything,
    Ids,
    KeyMatch,
    KeyPrefix,
    KeySet,
    Near,
    Not,
    Nothing,
    Or,
    Paired,
    Present,
    RangeMatch,
    TextMatch,
    Updated,
)
from fhir_server.search.text import fold
from fhir_server.search.units import UCUM, in_unit
from fhir_server.search.values import IndexValues, Key, Range


class JoinNeeded(Exception):
    """The criterion asks about other resources; one resource alone cannot answer."""


def _key(part: KeyMatch, values: IndexValues) -> bool:
    return any(
        key.parameter == part.parameter and part.space in (None, key.space) and part.value in (None, key.value) for key in values.keys
    )


def _key_set(part: KeySet, values: IndexValues) -> bool:
    excluded = dict(part.systems)
    return any(
        key.parameter == part.parameter
        and ((key.space, key.value) in part.codes or (key.space in excluded and key.value not in excluded[key.space]))
        for key in values.keys
    )


def _key_prefix(part: KeyPrefix, values: IndexValues) -> bool:
    stems = tuple(part.stem + end for end in part.breaks) or (part.stem,)
    return any(
        key.parameter == part.parameter and key.space == part.space and (key.value == part.stem or key.value.startswith(stems))
        for key in values.keys
    )


_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "contains": str.__contains__,
    "suffix": str.endswith,
    "whole": str.__eq__,
}


def _text(part: TextMatch, values: IndexValues) -> bool:
    texts = [text for text in values.texts if text.parameter == part.parameter]
    if part.mode == "exact":
        return any(text.exact == part.text for text in texts)
    wanted, compare = fold(part.text), _COMPARE[part.mode]
    return any(compare(text.folded, wanted) for text in texts)


def _within(part: RangeMatch, found: Range) -> bool:
    if part.space == UCUM == found.space and part.value not in (None, found.value):
        converted = in_unit(part, found.value)
        return converted is not None and _within(converted, found)
    if part.space not in (None, found.space) or part.value not in (None, found.value):
        return False
    low, high, strict = found.low, found.high, part.strict
    checks = (
        ("low_min", part.low_min, low, 1),
        ("low_max", part.low_max, low, -1),
        ("high_min", part.high_min, high, 1),
        ("high_max", part.high_max, high, -1),
    )
    for name, limit, value, sign in checks:
        if limit is not None and ((value - limit) * sign < 0 or (name in strict and value == limit)):
            return False
    return True


def _range(part: RangeMatch, values: IndexValues) -> bool:
    return any(found.parameter == part.parameter and _within(part, found) for found in values.ranges)


def _present(part: Present, values: IndexValues) -> bool:
    number = part.parameter
    return any(one.parameter == number for group in (values.keys, values.texts, values.ranges) for one in group)


def _paired(part: Paired, values: IndexValues) -> bool:
    """Whether some element has the token and, at the same place, a value for each of the others."""
    elements: dict[tuple[str, int], list[IndexValues]] = {}

    def component(token: str, text: str) -> IndexValues | None:
        space, value = parted(token)
        if part.space not in (None, space) or part.value not in (None, value):
            return None
        place = Place.of(text)
        found = elements.setdefault((token, place.slot), [IndexValues() for _ in part.others])
        return found[place.at] if place.at < len(found) else None

    for key in values.keys:
        if key.parameter == part.parameter and (into := component(key.space, key.value)) is not None:
            place = Place.of(key.value)
            into.keys.append(Key(part.parameter, place.space, place.value))
    for one in values.ranges:
        if one.parameter == part.parameter and (into := component(one.space, one.value)) is not None:
            place = Place.of(one.value)
            into.ranges.append(Range(part.parameter, place.space, place.value, one.low, one.high))
    return any(
        all(matches(other, "", 0, inner) for other, inner in zip(part.others, element, strict=True)) for element in elements.values()
    )


def _near(part: Near, values: IndexValues) -> bool:
    at = {one.parameter: one.low for one in values.ranges if one.parameter in (part.parameter, part.parameter + 1)}
    if len(at) < 2:
        return False
    return distance(part.latitude, part.longitude, at[part.parameter], at[part.parameter + 1]) <= part.metres


_LEAVES: dict[type, Callable[..., bool]] = {
    KeyMatch: _key,
    KeySet: _key_set,
    KeyPrefix: _key_prefix,
    TextMatch: _text,
    RangeMatch: _range,
    Present: _present,
    Paired: _paired,
    Near: _near,
}


def matches(criterion: Criterion, id: str, updated: int, values: IndexValues) -> bool:
    """Whether a resource with this id, `lastUpdated` (milliseconds) and index values meets the criterion; raises JoinNeeded."""
    if isinstance(criterion, And):
        return all(matches(part, id, updated, values) for part in criterion.parts)
    if isinstance(criterion, Or):
        return any(matches(part, id, updated, values) for part in criterion.parts)
    if isinstance(criterion, Not):
        return not matches(criterion.part, id, updated, values)
    if isinstance(criterion, Everything):
        return True
    if isinstance(criterion, Nothing):
        return False
    if isinstance(criterion, Ids):
        return id in criterion.ids
    if isinstance(criterion, Updated):
        return (criterion.low is None or updated >= criterion.low) and (criterion.high is None or updated <= criterion.high)
    leaf = _LEAVES.get(type(criterion))
    if leaf is None:
        raise JoinNeeded(f"{type(criterion).__name__} needs a store")
    return leaf(criterion, values)
