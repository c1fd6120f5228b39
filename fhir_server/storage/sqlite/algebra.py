"""Questions to the query algebra that planning asks: pure functions over criteria."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.search.query import And, Criterion, KeyMatch, Or, RangeMatch


def storable(text: str) -> bool:
    """Whether a text can be in the store at all: lone surrogates are no Unicode text."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flattened(kind: type[And] | type[Or], parts: Iterable[Criterion]) -> Iterable[Criterion]:
    """The parts of nested conjunctions (or disjunctions) as one list."""
    for part in parts:
        if isinstance(part, kind):
            yield from flattened(kind, part.parts)
        else:
            yield part


def range_alternatives(criterion: Criterion) -> tuple[RangeMatch, ...] | None:
    """The alternatives of a criterion that is a range test on one parameter and unit."""
    if isinstance(criterion, RangeMatch):
        return (criterion,)
    if not isinstance(criterion, Or):
        return None
    flat = list(flattened(Or, criterion.parts))
    ranges = [part for part in flat if isinstance(part, RangeMatch)]
    if not ranges or len(ranges) != len(flat):
        return None
    same = {(part.parameter, part.space, part.value) for part in ranges}
    return tuple(ranges) if len(same) == 1 else None


def key_values(criterion: Criterion, parameter: int, space: str | None) -> list[tuple[str, str]] | None:
    """(space, value) of each alternative, when the criterion is whole keys of the parameter (in that space)."""
    if not isinstance(criterion, KeyMatch | Or):
        return None
    found: list[tuple[str, str]] = []
    for part in (criterion,) if isinstance(criterion, KeyMatch) else flattened(Or, criterion.parts):
        if not isinstance(part, KeyMatch) or part.parameter != parameter or part.value is None or part.space is None:
            return None
        if space is not None and part.space != space:
            return None
        found.append((part.space, part.value))
    return found or None
