"""The console's live page: what arrives in the log, and the demonstration feed.

Pages are plain HTML with one script; data comes from `/console/changes`, which reads the change feed through the gate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from fhir_server.auth.gate import Gate, Principal
from fhir_server.console.summaries import summarise
from fhir_server.model import json_codec
from fhir_server.storage.port import Store, Stored, StoredRecord

_HERE = Path(__file__).parent
_FIRST = 400
"""How many of the latest changes a page sees when it opens."""
_JOURNAL = "hl7v2"
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Feed = Callable[[], Awaitable[dict[str, int]]]


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


def router(gate: Gate, store: Store, principal: Principal, zone: str, feed_of: Callable[[], Feed | None]) -> APIRouter:
    """The console's routes; `feed_of()` gives what sends the demonstration messages (it says how many were sent and refused), or None."""
    routes = APIRouter(include_in_schema=False)
    templates = Jinja2Templates(_HERE / "templates")
    local = ZoneInfo(zone)

    @routes.get("/", response_class=HTMLResponse)
    async def live(request: Request) -> Response:
        return templates.TemplateResponse(request, "live.html", {"demo": feed_of() is not None}, headers=_SECURITY)

    @routes.get("/console/changes")
    async def changes(after: int | None = None, messages: int | None = None) -> Response:
        gate.require(principal, "console")
        last = await store.last_rid()
        start = max(0, last - _FIRST) if after is None else after
        found = await gate.changes(principal, start, 1000)
        if messages is None:
            journal = list(reversed(await store.records(_JOURNAL, limit=60, newest_first=True)))
        else:
            # Messages whose state changed keep their place in the journal, so the latest ones are always looked at again.
            journal = await store.records(_JOURNAL, after=max(0, messages - 20), limit=200)
        answer = {
            "after": max([start, *(stored.rid for stored in found)]) if found else max(start, last if after is None else start),
            "messages_after": max([messages or 0, *(record.seq for record in journal)]),
            "changes": [_change(stored, local) for stored in found],
            "messages": [_message(record, local) for record in journal],
        }
        return Response(orjson.dumps(answer), media_type="application/json", headers=_SECURITY)

    @routes.get("/console/messages/{key}")
    async def message(key: str) -> Response:
        gate.require(principal, "console")
        record = await store.record(_JOURNAL, key)
        if record is None:
            raise HTTPException(404, "no such message")
        raw = record.data.get("raw")
        readable = {name: value for name, value in record.data.items() if name != "raw"}
        if isinstance(raw, bytes):
            charset = str(record.data.get("charset") or "utf-8")
            readable["message"] = raw.decode(charset, errors="replace").replace("\r\n", "\r").replace("\n", "\r").split("\r")
        return Response(json_codec.pretty(orjson.dumps(readable, default=str)), media_type="application/json", headers=_SECURITY)

    @routes.post("/console/demo/feed")
    async def demo_feed(request: Request) -> Response:
        gate.require(principal, "console")
        feed = feed_of()
        if feed is None:
            raise HTTPException(404, "this server was not started as a demonstration")
        if request.headers.get("x-requested-with") != "console":
            raise HTTPException(403, "only the console's own page may start the feed")
        try:
            result = await feed()
        except OSError as fault:
            raise HTTPException(503, f"the MLLP listener does not answer: {fault}") from fault
        return Response(orjson.dumps(result), media_type="application/json", headers=_SECURITY)

    return routes


def static_files() -> StaticFiles:
    """The console's style sheet and scripts, mounted at /console/static."""
    return StaticFiles(directory=_HERE / "static")
