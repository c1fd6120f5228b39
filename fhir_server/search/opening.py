"""Criteria that ask what only resources of the store can tell: found in a query, and replaced by their answers.

Specification: https://hl7.org/fhir/R4/search.html#token (:in, :not-in, :above, :below)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fhir_server.search.query import And, Chain, Criterion, Has, Not, Open, Or, Worded


def open_parts(criterion: Criterion) -> Iterator[Open]:
    """The open criteria inside a criterion, those behind chains and `_has` included."""
    if isinstance(criterion, Open):
        yield criterion
    elif isinstance(criterion, And | Or):
        for part in criterion.parts:
            yield from open_parts(part)
    elif isinstance(criterion, Not | Has):
        yield from open_parts(criterion.part)
    elif isinstance(criterion, Chain):
        for _, part in criterion.targets:
            yield from open_parts(part)


def words_in(criterion: Criterion) -> Iterator[Worded]:
    """What asks about words inside a criterion."""
    if isinstance(criterion, Worded):
        yield criterion
    elif isinstance(criterion, And | Or):
        for part in criterion.parts:
            yield from words_in(part)
    elif isinstance(criterion, Not | Has):
        yield from words_in(criterion.part)
    elif isinstance(criterion, Chain):
        for _, part in criterion.targets:
            yield from words_in(part)


def closed(criterion: Criterion, answers: Mapping[Open, Criterion]) -> Criterion:
    """The criterion with each open part replaced by its answer."""
    if isinstance(criterion, Open):
        return answers[criterion]
    if isinstance(criterion, And | Or):
        return type(criterion)(tuple(closed(part, answers) for part in criterion.parts))
    if isinstance(criterion, Not | Has):
        return replace(criterion, part=closed(criterion.part, answers))
    if isinstance(criterion, Chain):
        return replace(criterion, targets=tuple((type, closed(part, answers)) for type, part in criterion.targets))
    return criterion


def names_of(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The (space, value) of references to a resource by canonical or URI in the index: its url without a version, and with its own."""
    url, version = resource.get("url"), resource.get("version")
    if not isinstance(url, str):
        return []
    return [("", url), (url, ""), *([(url, version)] if isinstance(version, str) else [])]
