"""FHIR transaction interaction: all entries of a Bundle in one unit of the store, or none. https://hl7.org/fhir/R4/http.html#trules

Everything that needs no look at the store (reading, validating, ids, rewriting of links between entries) is done before
the unit; the unit decides what the store's state decides: matches, preconditions, conditional references.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from fhir_server.auth.hooks import WritesRefused
from fhir_server.errors import FhirError
from fhir_server.interactions import bundle_reads
from fhir_server.interactions.bundle_answer import bundle_answer, entry_answer, failed_entry, whole_entry
from fhir_server.interactions.bundle_entries import Entry, joined, take_apart, within_entry
from fhir_server.interactions.bundle_links import BundleLinks, addresses, connect
from fhir_server.interactions.bundle_unit import Address, Decision, Prepared, answered_seen, decide_all, same_resource
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import unexpected
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.plan import PlannedWrite, leaving, to_keep
from fhir_server.search.query import Query
from fhir_server.storage.port import Commit, Effects, Facts, Record, Stored, Unit

log = logging.getLogger(__name__)

_SLICE = 40
"""Entries between two chances for others on the event loop."""


async def transaction(context: Context, request: Request, bundle: dict[str, Any], records: Sequence[Record] = ()) -> Response:
    """200 with a transaction-response in the order of the request. `records` are written in the same unit.

    The answer of an asynchronous one is kept in that unit too, so that it happens exactly once.
    Raises the FhirError of the failing entry, which names it (`Bundle.entry[k]`), or 400/422 with all faults of all contents.
    """
    entries, errors = await take_apart(context, request, bundle)
    bundle.clear()  # the entries hold what is needed; what is written need not be kept until the answer
    reading = [entry for entry in entries if not entry.writes]
    errors.update(bundle_reads.check_kinds(context, reading))
    course = request.course
    if course is not None and not errors and course.written is not None:
        return await _resume(context, entries, course.written.answers, course.written.rid)
    prepared = await _prepare(context, entries, errors)
    written = _certain(prepared)
    if reading:
        await bundle_reads.rehearse(context, reading, written)
    prepared.gather(bundle_reads.wanted(reading), context.gate.asks)
    decision = Decision()
    shown: dict[int, Stored | None] = {}

    def decide(facts: Facts) -> Effects:
        nonlocal decision, shown
        decision = decide_all(context, prepared, facts)
        if reading:
            shown = bundle_reads.check(context, reading, facts, {(write.type, write.id): write for write in decision.writes})
        effects = Effects(decision.writes, records=list(records))
        return (
            effects
            if course is None
            else course.with_answers(effects, lambda commit: _written(context, _responses(entries, prepared, decision, commit)))
        )

    try:
        commit = await context.gate.transact(request.principal, Unit(decide, prepared.criteria, tuple(prepared.targets)))
    except FhirError as error:
        raise _named(error, decision) from error
    if course is not None:
        course.commit(whole=not reading)
    return await _answers(context, entries, prepared, decision, commit, shown)


async def _prepare(context: Context, entries: Sequence[Entry], errors: dict[int, FhirError]) -> Prepared:
    """All write entries planned and their links found. Raises FhirError with the faults of all entries."""
    plans: dict[int, PlannedWrite] = {}
    writing = sorted((entry for entry in entries if entry.writes), key=lambda entry: (entry.phase, entry.index))
    for number, entry in enumerate(writing):
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        try:
            plans[entry.index] = await _plan(context, entry)
        except FhirError as error:
            resource = entry.request.resource
            errors[entry.index] = within_entry(error, entry.index, resource.get("resourceType") if resource else None)
    links = BundleLinks()
    if not errors:
        _refuse_equal_criteria(writing, plans)
        addresses(links, writing, plans)
        await connect(context, links, writing, plans, errors)
    if errors:
        raise joined(errors)
    return Prepared(writing, plans, links)


async def _plan(context: Context, entry: Entry) -> PlannedWrite:
    from fhir_server.interactions.dispatch import plan  # the dispatcher knows the transaction, and the transaction the dispatcher

    return await plan(context, entry.request, entry.route)


def _refuse_equal_criteria(writing: Sequence[Entry], plans: dict[int, PlannedWrite]) -> None:
    """Two creates or updates with the same criteria would make the same resource twice. Raises FhirError 400 naming both."""
    first: dict[Query, int] = {}
    for entry in writing:
        planned = plans[entry.index]
        if planned.criteria and planned.interaction in ("create", "update"):
            other = first.setdefault(planned.criteria[0], entry.index)
            if other != entry.index:
                asked = entry.request.headers.get("if-none-exist") or entry.request.query
                raise same_resource(
                    other,
                    entry.index,
                    f"have the same criteria '{planned.type}?{asked[:200]}'",
                    f"的条件相同：“{planned.type}?{asked[:200]}”",
                )


def _certain(prepared: Prepared) -> dict[Address, int]:
    """Which entry writes what, as far as addresses tell. Raises FhirError 400 naming both entries when two write the same."""
    owner: dict[Address, int] = {}
    for entry in prepared.writing:
        planned = prepared.plans[entry.index]
        if planned.id and not planned.criteria:
            first = owner.setdefault((planned.type, planned.id), entry.index)
            if first != entry.index:
                raise same_resource(
                    first, entry.index, f"are both about {planned.type}/{planned.id}", f"都涉及 {planned.type}/{planned.id}"
                )
    return owner


def _named(error: FhirError, decision: Decision) -> FhirError:
    """The refusal of one write by the store, or of several by those who are asked before them, with the entries that they belong to."""
    if isinstance(error, WritesRefused):
        return joined({(at := decision.owner[type, id]): within_entry(fault, at, type) for type, id, fault in error.faults})
    where = error.issues[0].expression[0] if error.issues and error.issues[0].expression else ""
    type, _, id = where.partition("/")
    index = decision.owner.get((type, id))
    return error if index is None else within_entry(error, index)


def _responses(entries: Sequence[Entry], prepared: Prepared, decision: Decision, commit: Commit) -> Iterator[tuple[Entry, Response | None]]:
    """All entries in the order of the request, with the answers of those that write."""
    made = _made(decision, commit)
    for entry in sorted(entries, key=lambda entry: entry.index):
        if not entry.writes:
            yield entry, None
            continue
        start, end = decision.spans[entry.index]
        seen = answered_seen(decision, entry.index, made)
        yield entry, prepared.plans[entry.index].answer(seen, commit.outcomes[start:end])


def _written(
    context: Context, responses: Iterator[tuple[Entry, Response | None]]
) -> Generator[None, None, list[tuple[Entry, bytes | None]]]:
    """The same as they are kept; yields between slices."""
    answers: list[tuple[Entry, bytes | None]] = []
    for entry, response in responses:
        if len(answers) % _SLICE == _SLICE - 1:
            yield
        answers.append((entry, None if response is None else whole_entry(to_keep(context, response), entry.request.base)))
    return answers


def _made(decision: Decision, commit: Commit) -> dict[Address, Stored | None]:
    writes = zip(decision.writes, commit.outcomes, strict=True)
    return {(write.type, write.id): outcome.stored for write, outcome in writes}


async def _answers(
    context: Context, entries: Sequence[Entry], prepared: Prepared, decision: Decision, commit: Commit, shown: dict[int, Stored | None]
) -> Response:
    for write in decision.writes:
        write.resource = None
    made = _made(decision, commit)
    answers: list[bytes] = []
    for entry, response in _responses(entries, prepared, decision, commit):
        if len(answers) % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        if response is not None:
            answers.append(whole_entry(await leaving(context, entry.request, response), entry.request.base))
            continue
        place = (entry.route.type, entry.route.id)
        stored = shown.get(entry.index) or made.get(place) if entry.route.interaction == "read" else None
        answers.append(await _read_answer(context, entry, stored, commit.rid))
    return bundle_answer("transaction-response", answers)


async def _resume(context: Context, entries: Sequence[Entry], written: Sequence[bytes | None], rid: int) -> Response:
    """The answer of a transaction that was interrupted behind its unit: only what reads is still to be done, as of that moment."""
    answers: list[bytes] = []
    for entry, answer in zip(sorted(entries, key=lambda entry: entry.index), written, strict=True):
        if answer is not None:
            answers.append(answer)
            continue
        stored = None
        if entry.route.interaction == "read":
            place = (entry.route.type, entry.route.id)
            stored = next(iter(await context.gate.read_many(entry.request.principal, [place], rid)), None)
        answers.append(await _read_answer(context, entry, stored, rid))
    return bundle_answer("transaction-response", answers)


async def _read_answer(context: Context, entry: Entry, stored: Stored | None, rid: int) -> bytes:
    try:
        return await entry_answer(await bundle_reads.answer(context, entry, stored, rid), entry.request.base)
    except FhirError as error:
        # Checked before the writes; only what befell the store since (a time limit) can come here. The writes stand.
        return failed_entry(within_entry(error, entry.index), entry.request.headers)
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("transaction entry %s failed behind the writes, reference %s", entry.index, reference)
        return failed_entry(within_entry(unexpected(reference), entry.index), entry.request.headers)
