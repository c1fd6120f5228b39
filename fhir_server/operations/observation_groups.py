"""Observations by what they measure and when: grouped by equal codes, ordered by their effective time.

Specification: https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.model import dates
from fhir_server.search.query import Position, Query
from fhir_server.storage.port import Stored

NEVER = (dates.MIN_INSTANT, dates.MIN_INSTANT)
"""The time of what has none: before all others."""


def code_keys(concept: dict[str, Any]) -> tuple[Hashable, ...]:
    """What makes a concept equal to others: each coding's system and code; without codes the text."""
    codings = {(coding.get("system", ""), coding["code"]) for coding in concept.get("coding") or () if coding.get("code")}
    return tuple(sorted(codings)) or ((None, concept.get("text", "")),)


class Groups:
    """Codes that stand together in one concept are translations of each other; equality is transitive."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def root(self, key: Hashable) -> Hashable:
        """The one key that stands for the group."""
        parent = self._parent.setdefault(key, key)
        while parent != self._parent[parent]:
            self._parent[parent] = self._parent[self._parent[parent]]
            parent = self._parent[parent]
        return parent

    def join(self, keys: Iterable[Hashable]) -> None:
        """These keys are equal."""
        first, *others = keys
        for other in others:
            self._parent[self.root(other)] = self.root(first)


def effective(observation: dict[str, Any], zone: ZoneInfo) -> tuple[int, int]:
    """The effective time as (start, end) in milliseconds since 1970; an open start begins at the end; NEVER without one."""
    text = observation.get("effectiveDateTime") or observation.get("effectiveInstant")
    try:
        if isinstance(text, str):
            return dates.interval(text, zone)
        period, timing = observation.get("effectivePeriod"), observation.get("effectiveTiming")
        found = dates.period_interval(period, zone) if period else dates.timing_interval(timing, zone) if timing else None
    except dates.DateError:
        return NEVER
    if found is None:
        return NEVER
    low, high = found
    return (high, high) if low == dates.MIN_INSTANT and high != dates.MAX_INSTANT else (low, high)


async def all_of(context: Context, request: Request, query: Query) -> AsyncIterator[list[Stored]]:
    """All matches, a page at a time, of one snapshot."""
    after: Position | None = None
    while True:
        page = await context.gate.search(request.principal, query, after)
        yield page.items
        after = page.next
        if after is None:
            return
