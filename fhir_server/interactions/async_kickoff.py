"""The kick-off of an asynchronous request: `Prefer: respond-async` on a search, a history or a Bundle.

Specification: https://hl7.org/fhir/R4/async.html, https://hl7.org/fhir/R5/async-bundle.html#kick-off-request
"""

from __future__ import annotations

import secrets

import orjson

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions import async_requests as kept_as
from fhir_server.interactions import history, search
from fhir_server.interactions.async_requests import Kept
from fhir_server.interactions.batch import bundle_of
from fhir_server.interactions.bundle_entries import joined, take_apart
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.prefer import without_respond_async
from fhir_server.interactions.query_string import pairs
from fhir_server.interactions.route import ASYNC_STATUS, Route
from fhir_server.storage.port import Job, Record, Store, Unit

_SERVED = frozenset({"search", "history", "batch"})
_KEPT_HEADERS = ("accept", "accept-language", "content-type")
"""What decides about the result, `Prefer` aside."""


def serves(request: Request, to: Route) -> bool:
    """Whether the wish is followed; elsewhere it is passed over (RFC 7240 section 2), as in entries of a Bundle."""
    return to.interaction in _SERVED and request.method != "HEAD" and not request.entry


async def kick_off(context: Context, request: Request, to: Route) -> Response:
    """202 with the status address, when the request is kept for good. Raises FhirError 400, 415, 422, 429."""
    context.gate.require(request.principal, to.interaction)
    _refuse_bulk(request)
    entries = await _check(context, request, to)
    return await accept(context, request, kept_as.REQUEST, entries)


async def accept(context: Context, request: Request, kind: str, entries: int = 0) -> Response:
    """Keep a request together with the job of `kind` that carries it out, and answer 202. Raises FhirError 429."""
    store: Store = context.parts["store"]
    await _make_room(context, store, request.principal.name)
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    if prefer := without_respond_async(request.headers.get("prefer", "")):
        headers["prefer"] = prefer
    id, now = secrets.token_hex(16), context.clock()
    kept = Kept(id, request.method, request.path, request.query, headers, request.base, request.principal, request.form, entries, now)
    records = [kept.record(), kept_as.open_record(id, request.principal.name)]
    if request.body:
        records.append(Record(kept_as.BODIES, id, {"raw": await kept_as.packed(request.body)}))
    await context.gate.transact(request.principal, Unit.of(jobs=[Job(kind, id, {}, now)], records=records))
    place = f"{ASYNC_STATUS}/{id}"
    what = f"The request is accepted and will be carried out; its state: GET [base]/{place}; DELETE there cancels it"
    zh = f"请求已接受，将异步执行；查询状态：GET [base]/{place}；取消：对该地址发送 DELETE"
    said = operation_outcome([Issue("informational", what, severity="information", zh=zh)], chinese=wants_chinese(request.headers))
    told = [("Content-Location", f"{request.base}/{place}"), ("Retry-After", "1"), ("Preference-Applied", "respond-async")]
    return Response(202, orjson.dumps(said), told)


async def _check(context: Context, request: Request, to: Route) -> int:
    """What can be refused at once is refused at once; the number of entries of a batch, else 0. Raises FhirError 400, 415, 422."""
    if to.interaction == "search":
        search.understood(context, request, to)
        return 0
    if to.interaction == "history":
        history.check(context, request, to.type or None, to.id or None)
        return 0
    bundle = bundle_of(request)
    entries, errors = await take_apart(context, request, bundle)
    if bundle["type"] == "batch":
        return len(entries) + len(errors)
    if errors:
        raise joined(errors)
    return 0


def _refuse_bulk(request: Request) -> None:
    """Raises FhirError 400: with `_outputFormat` the Bulk Data pattern is asked for, which is not served here."""
    if "_outputFormat" in request.query and any(name == "_outputFormat" for name, _ in pairs(request.query)):
        what = "_outputFormat asks for a Bulk Data answer, which this interaction does not have; leave it out for a Bundle"
        raise FhirError.of(400, "not-supported", what, zh="_outputFormat 要求批量数据格式的应答，此交互不支持；去掉该参数即可得到 Bundle")


async def _make_room(context: Context, store: Store, name: str) -> None:
    """Raises FhirError 429 where too many requests of one client wait or run."""
    most = context.settings.async_requests
    if len(await store.records(kept_as.OPEN, {"principal": name}, limit=most)) >= most:
        what = f"{most} asynchronous requests of this client wait or run already; wait for one, or cancel it"
        zh = f"该客户端已有 {most} 个异步请求在等待或执行；请等待其完成或取消"
        raise FhirError.of(429, "throttled", what, zh=zh, headers=[("Retry-After", "10")])
