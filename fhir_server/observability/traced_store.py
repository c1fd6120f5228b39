"""The store with a span for each unit and each search that a request or a job makes; it is not there unless traces are.

What follows later from a write is told of the span that caused it: a job carries its `traceparent`, and a small record stands beside each
version, because jobs that the change feed brings are made outside of the request. Both are written in the unit itself.
Decision: docs/decisions/0099-observability.md
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, cast

from fhir_server.observability import tracing
from fhir_server.search.query import Query
from fhir_server.storage.port import ClaimedJob, Commit, Effects, Facts, Job, Page, Position, Record, Store, Unit

COLLECTION = "trace"
"""Records: `type/id/version` -> the `traceparent` of the span that wrote this version."""
MOST = 100
"""Versions of one unit that get such a record."""
_NAMED = 8


class TracedStore:
    """A store; all but what stands here is that of `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, unit: Unit) -> Commit:
        """See `Store`."""
        if not tracing.current():  # a reader of the feed, or nobody records
            return await self._store.transact(unit)
        with tracing.span("store transact", {"db.operation.name": "transact"}) as span:
            commit = await self._store.transact(marked(unit, tracing.current(), tracing.attempted()))
            span.set({"fhir.writes": len(commit.outcomes), **_types(sorted({one.stored.type for one in commit.outcomes if one.stored}))})
            return commit

    async def search(self, query: Query, after: Position | None = None, snapshot: int | None = None) -> Page:
        """See `Store`."""
        if not tracing.current():
            return await self._store.search(query, after, snapshot)
        with tracing.span("store search", {"db.operation.name": "search", **_types(query.types)}) as span:
            page = await self._store.search(query, after, snapshot)
            span.set({"db.response.returned_rows": len(page.items)})
            return page

    async def count(self, query: Query, snapshot: int | None = None) -> int:
        """See `Store`."""
        if not tracing.current():
            return await self._store.count(query, snapshot)
        with tracing.span("store count", {"db.operation.name": "count", **_types(query.types)}):
            return await self._store.count(query, snapshot)

    async def claim_jobs(self, now: int, *, kinds: Sequence[str], limit: int = 10, lease: int = 60_000, train: int = 1) -> list[ClaimedJob]:
        """See `Store`; jobs carry what caused them."""
        claimed = await self._store.claim_jobs(now, kinds=kinds, limit=limit, lease=lease, train=train)
        for job in claimed:
            if tracing.HEADER not in job.payload and (key := _version(job)):
                record = await self._store.record(COLLECTION, key)
                if record is not None:
                    job.payload[tracing.HEADER] = record.data[tracing.HEADER]
        return claimed


def traced(store: Store) -> Store:
    """The store with spans where they are made, else the store itself."""
    return cast(Store, TracedStore(store)) if tracing.on() else store


def _types(types: Sequence[str]) -> dict[str, Any]:
    return {"fhir.types": list(types)} if len(types) <= _NAMED else {"fhir.types.number": len(types)}


def _version(job: ClaimedJob) -> str:
    """The version that a job is about: its payload names it, or its key is that of a Subscription. '' where it is about none."""
    payload = job.payload
    type, id = (payload["type"], payload.get("id")) if "type" in payload else ("Subscription", job.key)
    return f"{type}/{id}/{payload['version']}" if id and "version" in payload else ""


def marked(unit: Unit, traceparent: str, attempted: str) -> Unit:
    """A unit whose jobs and versions tell of the span that made them. Pure.

    `attempted`: the kind of the job that makes it. Its next run (of a heartbeat, say) is a trace of its own, not one that never ends.
    """

    def decide(facts: Facts) -> Effects:
        effects = unit.decide(facts)
        jobs = [_with(job, "" if job.kind == attempted else traceparent) for job in effects.jobs]
        conclude = _concluding(effects, traceparent) if effects.writes else effects.conclude
        return replace(effects, jobs=jobs, conclude=conclude)

    return Unit(decide, unit.criteria, unit.targets)


def _with(job: Job, traceparent: str) -> Job:
    # Also '' is written down: then nothing is looked up when it is claimed.
    return job._replace(payload={**job.payload, tracing.HEADER: traceparent})


def _concluding(effects: Effects, traceparent: str) -> Any:
    def conclude(commit: Commit) -> Generator[None, None, Sequence[Record]]:
        records = (yield from effects.conclude(commit)) if effects.conclude is not None else ()
        made = [one.stored for one in commit.outcomes if one.stored is not None and one.result != "unchanged"][:MOST]
        marks = [Record(COLLECTION, f"{one.type}/{one.id}/{one.version}", {tracing.HEADER: traceparent}) for one in made]
        return [*records, *marks]

    return conclude
