"""The status address of an asynchronous request: its state, its result, and its cancellation.

Specification: https://hl7.org/fhir/R4/async.html, https://hl7.org/fhir/R5/async-bundle.html#status-request
"""

from __future__ import annotations

import orjson

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions import async_requests as kept_as
from fhir_server.interactions.async_requests import Kept
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.headers import http_date
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.query_string import FORMATTING, pairs
from fhir_server.interactions.route import ASYNC_STATUS
from fhir_server.search.errors import shown
from fhir_server.storage.port import Effects, RecordExists, Store, StoredRecord, Unit


async def async_status(context: Context, request: Request, id: str) -> Response:
    """202 with X-Progress, or 200 with the result; DELETE: 202. Raises FhirError 400, 404 (unknown, cancelled, expired, another's)."""
    _check(request)
    store: Store = context.parts["store"]
    record = await store.record(kept_as.REQUESTS, id)
    if record is None or record.data["principal"]["name"] != request.principal.name:
        raise _unknown(id)
    if "gone" in record.data:
        raise _given_up(id)
    kept = Kept.of(record)
    if request.method == "DELETE":
        return await _cancel(context, store, request, kept)
    result = await store.record(kept_as.RESULTS, id)
    if not request.headers.get("accept", "*/*").replace("*/*", "").strip() and "_format=" not in request.query:
        request.form = kept.form  # without a wish, the one of the request itself holds
    if result is None or result.data["state"] == kept_as.WRITTEN:
        return await _under_way(context, store, request, kept)
    if result.data["state"] != kept_as.FINISHED:
        raise _given_up(id)
    if result.data["expires"] <= context.clock():
        raise _unknown(id)
    body = await kept_as.unpacked(result.data["raw"])
    return Response(200, body, [("Expires", http_date(result.data["expires"]))])


def _check(request: Request) -> None:
    for name, _ in pairs(request.query) if request.query else ():
        if name not in FORMATTING:
            what = f"Parameter '{shown(name, 80)}' is not known at a status address; it has _format and _pretty"
            raise FhirError.of(400, "not-supported", what, zh=f"状态地址不支持参数“{shown(name, 80)}”；可用：_format、_pretty")


def _unknown(id: str) -> FhirError:
    place = f"{ASYNC_STATUS}/{shown(id, 64)}"
    what = f"There is no asynchronous request at {place}: it never was, or its result was kept long enough"
    return FhirError.of(404, "not-found", what, zh=f"{place} 处没有异步请求：从未存在，或其结果已过期")


def _given_up(id: str) -> FhirError:
    place = f"{ASYNC_STATUS}/{id}"
    what = f"The asynchronous request at {place} was cancelled, or its result deleted, by its client"
    return FhirError.of(404, "not-found", what, zh=f"{place} 处的异步请求已被客户端取消，或其结果已被删除")


async def _under_way(context: Context, store: Store, request: Request, kept: Kept) -> Response:
    progress = await store.record(kept_as.PROGRESS, kept.id)
    what, zh = _told(kept, progress)
    said = operation_outcome([Issue("informational", what, severity="information", zh=zh)], chinese=wants_chinese(request.headers))
    return Response(202, orjson.dumps(said), [("X-Progress", what), ("Retry-After", str(_pause(context.clock() - kept.at)))])


def _told(kept: Kept, progress: StoredRecord | None) -> tuple[str, str]:
    """How far a request is, in English and Chinese."""
    if progress is None:
        return "waiting", "等待执行"
    if not kept.entries:
        return "in progress", "正在执行"
    done = progress.data["done"]
    return f"{done} of {kept.entries} entries done ({100 * done // kept.entries} %)", f"已完成 {done}/{kept.entries} 个条目"


def _pause(age: int) -> int:
    """Seconds until the client should look again: a tenth of what it has waited, 1 to 30."""
    return max(1, min(30, age // 10_000))


async def _cancel(context: Context, store: Store, request: Request, kept: Kept) -> Response:
    """Nothing more is begun. What comes first holds: a transaction that is committed was not cancelled, and only its result is deleted."""
    id, now = kept.id, context.clock()
    expires = now + context.settings.async_hours * kept_as.HOUR
    away = [kept_as.gone(id, kept.principal.name), kept_as.open_record(id, None)]
    cancelled = Effects(
        records=[kept_as.result_record(id, kept_as.CANCELLED, expires), *away], jobs=kept_as.clearing(id, kept.entries, now, expires)
    )
    try:
        await context.gate.transact(request.principal, Unit(lambda facts: cancelled))
        what, zh = _stopped(kept, await store.record(kept_as.PROGRESS, id))
    except RecordExists:
        forgotten = Effects(records=[kept_as.result_record(id, kept_as.FORGOTTEN, expires, first=False), *away])
        await context.gate.transact(request.principal, Unit(lambda facts: forgotten))
        what, zh = "The request had been carried out; its result is deleted", "请求已执行完毕；其结果已删除"
    await store.delete_record(kept_as.BODIES, id)
    said = operation_outcome([Issue("informational", what, severity="information", zh=zh)], chinese=wants_chinese(request.headers))
    return Response(202, orjson.dumps(said))


def _stopped(kept: Kept, progress: StoredRecord | None) -> tuple[str, str]:
    if progress is None:
        return "The request is cancelled; nothing of it was done", "请求已取消；未执行任何内容"
    if not kept.entries:
        return "The request is cancelled; nothing of it was written", "请求已取消；未写入任何内容"
    done = progress.data["done"]
    what = f"The request is cancelled: no further entry is begun; at least {done} of {kept.entries} were done and stay done"
    return what, f"请求已取消，不再执行其余条目；{kept.entries} 个条目中至少 {done} 个已完成并保留"
