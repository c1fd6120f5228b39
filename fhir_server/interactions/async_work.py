"""Carrying an asynchronous request out: the same interaction as without `Prefer: respond-async`, and its answer kept.

Specification: https://hl7.org/fhir/R5/async-bundle.html#status-response---complete
"""

from __future__ import annotations

import logging
import secrets

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions import async_requests as kept_as
from fhir_server.interactions.async_course import Course, Ended, Written
from fhir_server.interactions.async_requests import Kept
from fhir_server.interactions.bundle_answer import entry_answer, failed_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.dispatch import dispatch
from fhir_server.interactions.errors import unexpected
from fhir_server.storage.port import Effects, Record, RecordExists, Store, StoredRecord, Unit

log = logging.getLogger(__name__)

_MOST_ATTEMPTS = 50
"""Beginnings of a request that never comes to an end: it may be what stops the server."""


class Overtaken(Exception):
    """Another attempt at the request was at work at the same time; look again how far it is."""


async def carry_out(context: Context, store: Store, id: str, attempts: int) -> None:
    """Carry a request out and keep its result. Returns when it has ended.

    Raises FhirError 503 or 507 for what passes, Overtaken: it is to be tried again.
    """
    record, result = await store.record(kept_as.REQUESTS, id), await store.record(kept_as.RESULTS, id)
    if record is None or "gone" in record.data or (result is not None and result.data["state"] != kept_as.WRITTEN):
        return
    kept = Kept.of(record)
    written = await _written(result) if result is not None else None
    course = Course(context, store, kept, again=attempts > 1, written=written)
    try:
        entry = await _answer(context, store, kept, course, attempts)
        if not course.ended:
            await _finish(context, kept, course, entry)
    except Ended:
        return
    except RecordExists as other:
        if await store.record(kept_as.RESULTS, id) is None:
            raise Overtaken(str(other)) from other


async def _written(result: StoredRecord) -> Written:
    answers = orjson.loads(await kept_as.unpacked(result.data["raw"]))
    return Written(result.data["rid"], [None if answer is None else answer.encode() for answer in answers])


async def _answer(context: Context, store: Store, kept: Kept, course: Course, attempts: int) -> bytes:
    """The entry that tells the outcome. Raises Ended, RecordExists, FhirError 503 or 507."""
    headers = kept.headers
    if attempts > _MOST_ATTEMPTS:
        log.error("an asynchronous request was given up after %d attempts", attempts - 1)
        what = f"The server began {attempts - 1} times to carry this request out, was interrupted each time, and has given it up"
        zh = f"服务器 {attempts - 1} 次开始执行此请求，均被中断，已放弃执行"
        return failed_entry(FhirError.of(500, "incomplete", what, zh=zh), headers)
    body = await store.record(kept_as.BODIES, kept.id)
    request = kept.request(await kept_as.unpacked(body.data["raw"]) if body is not None else b"")
    request.course = course
    await course.begin(kept.entries, 0)
    try:
        return await entry_answer(await dispatch(context, request), kept.base)
    except FhirError as error:
        late = context.clock() > kept.at + context.settings.async_hours * kept_as.HOUR
        if error.status in (503, 507) and error.issues[0].code != "too-costly" and not late:
            raise
        return failed_entry(error, headers)
    except (Ended, RecordExists):
        raise
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("an asynchronous request failed, reference %s", reference)
        return failed_entry(unexpected(reference), headers)


async def _finish(context: Context, kept: Kept, course: Course, entry: bytes) -> None:
    """Keep the result, and see to its removal. Raises RecordExists where the request has ended otherwise."""
    raw, now, expires = await kept_as.packed(kept_as.wrapped(entry)), context.clock(), course.expires
    first = not course.committed
    records: list[Record] = [kept_as.result_record(kept.id, kept_as.FINISHED, expires, raw, first=first)]
    records.append(kept_as.open_record(kept.id, None))
    jobs = kept_as.clearing(kept.id, kept.entries, now, expires) if first else []
    await context.gate.transact(kept.principal, Unit(lambda facts: Effects(jobs=jobs, records=records)))
