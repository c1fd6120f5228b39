"""The live page: what arrives in the log, and the demonstration feed.

Its data comes from `/console/changes`, which reads the change feed through the gate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from fhir_server.console.site import HEADERS, Console, ConsoleRoute, answer
from fhir_server.console.summaries import summarise
from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.storage.port import Stored, StoredRecord

_FIRST = 400
"""How many of the latest changes a page sees when it opens."""
_JOURNAL = "hl7v2"

Place = Annotated[int | None, Query(ge=0, le=2**62)]
"""A sequence number that the page has seen."""
Feed = Callable[[], Awaitable[dict[str, int]]]
"""Sends the demonstration messages and says how many were sent and refused; hung in as the part `demo_feed`."""


def _when(milliseconds: int, zone: ZoneInfo) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, zone).strftime("%m-%d %H:%M:%S")


def _change(stored: Stored, zone: ZoneInfo) -> dict[str, Any]:
    shown: dict[str, Any] = {"rid": stored.rid, "type": stored.type, "id": stored.id, "version": stored.version}
    shown["time"] = _when(stored.updated, zone)
    if stored.deleted:
        return {**shown, "deleted": True, "title": "", "detail": "", "level": "routine", "patient": ""}
    return {**shown, "deleted": False, **summarise(orjson.loads(stored.body))._asdict()}


def _message(record: StoredRecord, zone: ZoneInfo) -> dict[str, Any]:
    data = record.data
    shown = {name: str(data.get(name) or record.attributes.get(name) or "") for name in ("control_id", "source", "status", "type")}
    return {"id": record.key, "seq": record.seq, "ack": str(data.get("ack_code") or ""), "time": _when(record.updated, zone), **shown}


def routes(console: Console) -> APIRouter:
    """The page `/` and its data."""
    routes = APIRouter(include_in_schema=False, route_class=ConsoleRoute)
    gate, principal, zone = console.gate, console.principal, console.context.zone

    def feed_of() -> Feed | None:
        return console.context.parts.get("demo_feed")

    @routes.get("/", response_class=HTMLResponse)
    async def live(request: Request) -> Response:
        return console.page(request, "live", demo=feed_of() is not None)

    @routes.get("/console/changes")
    async def changes(after: Place = None, messages: Place = None) -> Response:
        console.require()
        store = console.store
        last = await store.last_rid()
        start = max(0, last - _FIRST) if after is None else after
        found = await gate.changes(principal, start, 1000)
        if messages is None:
            journal = list(reversed(await store.records(_JOURNAL, limit=60, newest_first=True)))
        else:
            # Messages whose state changed keep their place in the journal, so the latest ones are always looked at again.
            journal = await store.records(_JOURNAL, after=max(0, messages - 20), limit=200)
        return answer(
            {
                "after": max([start, *(stored.rid for stored in found)]) if found else max(start, last if after is None else start),
                "messages_after": max([messages or 0, *(record.seq for record in journal)]),
                "changes": [_change(stored, zone) for stored in found],
                "messages": [_message(record, zone) for record in journal],
            }
        )

    @routes.get("/console/messages/{key}")
    async def message(key: str) -> Response:
        console.require()
        record = await console.store.record(_JOURNAL, key)
        if record is None:
            raise FhirError.of(404, "not-found", f"there is no message {key}", zh=f"没有消息 {key}")
        raw = record.data.get("raw")
        readable = {name: value for name, value in record.data.items() if name != "raw"}
        if isinstance(raw, bytes):
            charset = str(record.data.get("charset") or "utf-8")
            readable["message"] = raw.decode(charset, errors="replace").replace("\r\n", "\r").replace("\n", "\r").split("\r")
        return Response(json_codec.pretty(orjson.dumps(readable, default=str)), media_type="application/json", headers=HEADERS)

    @routes.post("/console/demo/feed")
    async def demo_feed(request: Request) -> Response:
        console.require()
        feed = feed_of()
        if feed is None:
            raise FhirError.of(404, "not-found", "this server was not started as a demonstration", zh="本服务器不是以演示方式启动的")
        try:
            return answer(await feed())
        except OSError as fault:
            what = f"the MLLP listener does not answer: {fault}"
            raise FhirError.of(503, "transient", what, zh=f"MLLP 监听端没有应答：{fault}") from fault

    return routes
