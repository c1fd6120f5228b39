"""Loading straight into a store's folder: read, validate, index and write in this process, many resources to a unit.

A server may run on the same store at the same time: both take their turn at the write lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from fhir_server.auth.gate import ALL_SEEING
from fhir_server.errors import FhirError
from fhir_server.interactions.batch import batch
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.transaction import transaction
from fhir_server.loading.chunks import Chunk, chunked
from fhir_server.loading.content import Executed, Single, checked, met, read, repeatable
from fhir_server.loading.journal import BUNDLES, Journal, bundle_done
from fhir_server.loading.report import Refusal, Report, refusal
from fhir_server.loading.sources import Source, open_items
from fhir_server.storage.port import Outcome, Record, Store, Unit, Write

IN_FLIGHT = 2
"""Units on their way to the disk while the next chunk is read."""
STORE_FAULT = 500
"""From this status on an error is the store's, not the resource's: the load stops and can be resumed."""

Advance = Callable[[int], None]
"""Told how many items more are done."""


class DirectLoader:
    """Loads sources one after the other; `report` grows meanwhile."""

    def __init__(self, context: Context, store: Store, report: Report) -> None:
        self._context = context
        self._store = store
        self._report = report
        self._on_the_way: set[asyncio.Task[None]] = set()

    async def load(self, source: Source, advance: Advance, read_bytes: Callable[[int], None]) -> None:
        """Load a source, going on where an interrupted load stopped. Raises LoadError (a damaged file), FhirError (the store's faults)."""
        journal = Journal(source)
        await journal.open(self._store, self._report)
        items, progress = open_items(source)
        try:
            for chunk in chunked(items):
                read_bytes(progress.read())
                if chunk.number in journal.done:
                    advance(len(chunk.items))
                    continue
                await self._chunk(journal, chunk, advance)
            await self._arrived(0)
        finally:
            for task in self._on_the_way:
                task.cancel()
        await journal.finish(self._store)
        read_bytes(source.size)

    async def _chunk(self, journal: Journal, chunk: Chunk, advance: Advance) -> None:
        """Write a chunk: its single resources in one unit that also holds its line of the journal."""
        report = Report()
        singles: list[Single] = []
        errors = None
        if self._context.settings.validation == "profiles":
            validating = self._context.parts["validating"]
            await validating.fresh()
            errors = validating.written
        for item in chunk.items:
            for found in read(item):
                if isinstance(found, Refusal):
                    report.refuse(found)
                elif isinstance(found, Executed):
                    singles = await self._flush(singles, report)
                    await self._execute(found, report)
                else:
                    reason = checked(found) or await self._admitted(found) or met(found, errors)
                    if reason is None:
                        singles.append(found)
                    else:
                        report.refuse(reason)
        await self._arrived(IN_FLIGHT - 1)
        task = asyncio.create_task(self._finish(journal, chunk, singles, report, advance))
        self._on_the_way.add(task)
        await asyncio.sleep(0)

    async def _admitted(self, single: Single) -> Refusal | None:
        """The reason of those who are asked before a write to refuse a resource, as over the wire; None where there is none."""
        type, id = single.resource["resourceType"], single.resource["id"]
        if not self._context.gate.asks(type):
            return None
        error = await self._context.gate.refusal(ALL_SEEING, Write("PUT", type, id, single.resource))
        return refusal(single.item.source, single.item.line, single.resource, error, single.entry) if error else None

    async def _arrived(self, most: int) -> None:
        """Wait until at most `most` units are on their way; raises what befell one of them."""
        while len(self._on_the_way) > most or any(task.done() for task in self._on_the_way):
            done, self._on_the_way = await asyncio.wait(self._on_the_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _flush(self, singles: list[Single], report: Report) -> list[Single]:
        """Write what has come before a Bundle, which may lean on it."""
        if singles:
            await self._arrived(0)
            await self._write(singles, report, [])
        return []

    async def _finish(self, journal: Journal, chunk: Chunk, singles: list[Single], report: Report, advance: Advance) -> None:
        line = journal.chunk_done(chunk.number, len(chunk.items), _foreseen(report, singles))
        await self._write(singles, report, [line])
        self._report.add(report.delta())
        advance(len(chunk.items))

    async def _write(self, singles: Sequence[Single], report: Report, records: list[Record]) -> None:
        """One unit; where the store refuses it, each resource on its own, so that only the culprit is refused."""
        writes = [Write("PUT", single.resource["resourceType"], single.resource["id"], single.resource) for single in singles]
        try:
            commit = await self._context.gate.transact(ALL_SEEING, Unit.of(*writes, records=records))
        except FhirError as error:
            if error.status >= STORE_FAULT:
                raise
            await self._one_by_one(singles, writes, report)
            await self._store.transact(Unit.of(records=records))
            return
        _count(report, writes, commit.outcomes)

    async def _one_by_one(self, singles: Sequence[Single], writes: Sequence[Write], report: Report) -> None:
        for single, write in zip(singles, writes, strict=True):
            try:
                commit = await self._context.gate.transact(ALL_SEEING, Unit.of(write))
                _count(report, [write], commit.outcomes)
            except FhirError as error:
                if error.status >= STORE_FAULT:
                    raise
                report.refuse(refusal(single.item.source, single.item.line, single.resource, error, single.entry))

    async def _execute(self, found: Executed, report: Report) -> None:
        """Carry out a transaction or batch once: a Bundle of the same content that has been carried out is skipped."""
        await self._arrived(0)
        if await self._store.record(BUNDLES, found.name) is not None:
            report.skipped_bundles += 1
            return
        item, kind = found.item, found.bundle.get("type")
        done = bundle_done(item.body, item.source, item.line)
        request = Request("POST", "", base=self._context.settings.public_url.rstrip("/"))
        try:
            if kind == "transaction":
                response = await transaction(self._context, request, found.bundle, [done])
            else:
                request.resource = repeatable(found.bundle, item)
                response = await batch(self._context, request)
                await self._store.transact(Unit.of(records=[done]))
        except FhirError as error:
            if error.status >= STORE_FAULT:
                raise
            report.refuse(refusal(item.source, item.line, {"resourceType": "Bundle"}, error))
            return
        report.bundles += 1
        count_response(report, found, response)


def _foreseen(report: Report, singles: Sequence[Single]) -> dict[str, Any]:
    """The report of a chunk for its journal, written before the store has told what is new: it only says `loaded before`."""
    kept = Report()
    kept.add(report.delta())
    for single in singles:
        kept.count(single.resource["resourceType"], "loaded before")
    return kept.delta()


def _count(report: Report, writes: Sequence[Write], outcomes: Sequence[Outcome]) -> None:
    for write, outcome in zip(writes, outcomes, strict=True):
        report.count(write.type, outcome.result)


def count_response(report: Report, found: Executed, response: Response) -> None:
    """Count the entries of a response Bundle; failed entries of a batch are refusals."""
    for index, entry in enumerate(orjson.loads(response.body).get("entry", ())):
        told = entry["response"]
        status = int(told["status"][:3])
        if status >= 400:
            issues = told.get("outcome", {}).get("issue", [])
            reasons = tuple(issue.get("diagnostics", "") for issue in issues) or (told["status"],)
            where = tuple(expression for issue in issues for expression in issue.get("expression", ()))
            report.refuse(Refusal(found.item.source, found.item.line, index, _type_of(found, index), "", status, reasons, where))
        elif "location" in told:
            type = told["location"].partition("/")[0]
            report.count(type, "created" if status == 201 else "updated" if told.get("etag") != 'W/"1"' else "unchanged")
        elif status == 204:
            report.count(_type_of(found, index), "deleted")


def _type_of(found: Executed, index: int) -> str:
    entries = found.bundle.get("entry") or []
    resource = entries[index].get("resource") if index < len(entries) else None
    return str(resource.get("resourceType", "")) if isinstance(resource, dict) else ""
