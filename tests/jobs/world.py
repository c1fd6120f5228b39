"""A real embedded store with gate, clock and runner, for tests of what happens later."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fhir_server.auth.gate import Gate
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import Job, Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from subscriptions.jobs.clock import VirtualClock, at
from subscriptions.jobs.kinds import Services

NOW = at("2026-03-02T08:00:00+08:00")


def no_index(resource: dict[str, Any]) -> IndexValues:
    """Jobs do not search."""
    return IndexValues()


@asynccontextmanager
async def services(folder: Path, clock: VirtualClock | None = None):
    """Services on a store of their own; the clock stands at 2026-03-02 08:00 in China."""
    store = SqliteStore(folder, index=no_index, type_names=("Basic", "Patient"), fold=str.lower)
    await store.open()
    try:
        yield Services(Gate(store), store, clock or VirtualClock(NOW))
    finally:
        await store.close()


async def put(services: Services, *jobs: Job) -> None:
    """Write jobs."""
    await services.store.transact(Unit.of(jobs=jobs))


async def write(services: Services, id: str, **content: Any) -> None:
    """Write a Basic resource."""
    resource = {"resourceType": "Basic", "id": id, "code": {"text": "x"}, **content}
    await services.store.transact(Unit.of(Write("PUT", "Basic", id, resource)))


async def states(services: Services) -> dict[int, tuple[str, int]]:
    """Job id -> (state, attempts)."""
    return {row["id"]: (row["state"], row["attempts"]) for row in await services.store.list_jobs()}
