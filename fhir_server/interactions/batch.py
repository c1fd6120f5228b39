"""FHIR batch interaction: the entries of a Bundle done one by one, each succeeding or failing for itself. https://hl7.org/fhir/R4/http.html#transaction

A POST to the base is a batch or a transaction by the type of its Bundle.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.async_course import Course
from fhir_server.interactions.bundle_answer import bundle_answer, entry_answer, failed_entry
from fhir_server.interactions.bundle_entries import Entry, take_apart, within_entry
from fhir_server.interactions.bundle_reads import without_body
from fhir_server.interactions.content import parsed
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import unexpected
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.transaction import transaction
from fhir_server.storage.port import RecordExists

log = logging.getLogger(__name__)

CONCURRENT = 64
"""Entries of one batch in flight at a time: enough to share commits, few enough to leave room for other clients."""


def bundle_of(request: Request) -> dict[str, Any]:
    """The Bundle of type batch or transaction that a POST to the base carries. Raises FhirError 400, 415."""
    bundle = parsed(request)
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        sent = bundle.get("resourceType") if isinstance(bundle, dict) else None
        raise FhirError.of(
            400,
            "invalid",
            f"A POST to the base must carry a Bundle, found resourceType {sent!r}",
            "Bundle",
            zh=f"向基地址 POST 的内容必须是 Bundle，而收到的 resourceType 是 {sent!r}",
        )
    kind = bundle.get("type")
    if kind not in ("transaction", "batch"):
        raise FhirError.of(
            400,
            "invalid",
            f"A Bundle sent to the base must be of type batch or transaction, found {kind!r}",
            "Bundle.type",
            zh=f"发送到基地址的 Bundle 的 type 应为 batch 或 transaction，而收到 {kind!r}",
        )
    return bundle


async def batch(context: Context, request: Request) -> Response:
    """200 with a batch-response or transaction-response. Raises FhirError 400, 415, 422, and for a transaction whatever an entry raises."""
    bundle = bundle_of(request)
    request.body = b""  # the parsed form is enough; a large Bundle need not be held twice
    if bundle["type"] == "transaction":
        return await transaction(context, request, bundle)
    return await _batch(context, request, bundle)


async def _batch(context: Context, request: Request, bundle: dict[str, Any]) -> Response:
    entries, errors = await take_apart(context, request, bundle)
    answers: dict[int, bytes] = {index: failed_entry(error, request.headers) for index, error in errors.items()}
    if request.course is not None:
        await request.course.begin(len(entries) + len(errors), len(errors))
    for phase in range(4):
        await _do_phase(context, [entry for entry in entries if entry.phase == phase], answers, request.course)
    return bundle_answer("batch-response", [answers[index] for index in sorted(answers)])


async def _do_phase(context: Context, entries: Sequence[Entry], answers: dict[int, bytes], course: Course | None) -> None:
    """Entries of one phase of the processing order, side by side; those about one resource one after the other.

    Raises what ends the `course` of an asynchronous batch, when no entry is in flight any more.
    """
    lines: dict[str, list[Entry]] = {}
    for entry in entries:
        own = entry.route.id and entry.writes
        lines.setdefault(f"{entry.route.type}/{entry.route.id}" if own else f"[{entry.index}]", []).append(entry)
    waiting = iter(list(lines.values()))

    async def work() -> None:
        for line in waiting:
            for entry in line:
                answers[entry.index] = await (_answer(context, entry) if course is None else course.entry(entry, partial(_answer, context)))
                if not entry.writes:
                    await asyncio.sleep(0)  # reads need not wait for anything: let others have their turn

    ends = await asyncio.gather(*(work() for _ in range(min(CONCURRENT, len(lines)))), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end


async def _answer(context: Context, entry: Entry) -> bytes:
    from fhir_server.interactions.dispatch import interact  # the dispatcher knows the batch, and the batch the dispatcher

    request = entry.request
    try:
        response = await interact(context, request, entry.route)
        return await entry_answer(without_body(response) if request.method == "HEAD" else response, request.base)
    except FhirError as error:
        resource_type = request.resource.get("resourceType") if request.resource else None
        return failed_entry(within_entry(error, entry.index, resource_type), request.headers)
    except RecordExists:
        raise  # an asynchronous batch that goes on elsewhere
    except Exception:
        # The other entries are independent of this one: its fault is logged and told, not spread.
        reference = secrets.token_hex(4)
        log.exception("batch entry %s failed, reference %s", entry.index, reference)
        return failed_entry(within_entry(unexpected(reference), entry.index), request.headers)
