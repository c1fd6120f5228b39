"""The versions that were current at a place in the change feed: what a reader must know to go on from there."""

from __future__ import annotations

from fhir_server.search.query import Criterion, Everything, Query
from fhir_server.storage.port import Position, Stored
from subscriptions.jobs.kinds import Services

_PAGE = 500


async def versions_at(services: Services, type: str, position: int, where: Criterion | None = None) -> list[Stored]:
    """Resources of a type as they were right after the version with that sequence number; `where`: only those that meet it now.

    What has changed since may be among them although it never met `where`.
    """
    later = await _later(services, type, position)
    return [stored for stored in await all_of(services, type, where) if stored.rid <= position] + later


async def all_of(services: Services, type: str, where: Criterion | None = None) -> list[Stored]:
    """All current resources of a type, or those that meet `where`."""
    found: list[Stored] = []
    after: Position | None = None
    while True:
        page = await services.gate.search(services.principal, Query((type,), where or Everything(), limit=_PAGE), after)
        found += page.items
        after = page.next
        if after is None:
            return found


async def _later(services: Services, type: str, position: int) -> list[Stored]:
    """For each resource that was written after the position the version that was current there."""
    first: dict[str, Stored] = {}
    after: Position | None = None
    while True:
        page = await services.gate.history(services.principal, type, limit=_PAGE, after=after)
        for stored in page.items:
            if stored.rid <= position:
                after = None
                break
            first[stored.id] = stored
        else:
            after = page.next
        if after is None:
            break
    previous = [await services.store.previous(stored) for stored in first.values()]
    return [stored for stored in previous if stored is not None]
