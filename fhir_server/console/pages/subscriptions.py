"""The monitor of Subscriptions: state, lag, last errors and throughput; pause, resume, test, replay; the product's own triggers.

Specification: docs/subscriptions.md (monitor)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from fhir_server.console.feed_readers import Readers
from fhir_server.console.job_view import job_line
from fhir_server.console.site import Console, ConsoleRoute, Remembered, answer, body_of, wrong
from fhir_server.console.subscription_view import STATES, attempt_line, described, last_error
from fhir_server.errors import FhirError
from fhir_server.interactions.cursors import position_of, token_for
from fhir_server.model import json_codec
from fhir_server.search.query import And, Criterion, Everything, Ids, KeyMatch, KeyPrefix, Or, Query, TextMatch
from fhir_server.search.text import fold
from fhir_server.storage.port import Stored
from subscriptions.desk import Desk

PAGE = 25
"""Subscriptions on a page of the table."""
_PAGES = 64
"""Pages of the table that are remembered for a moment."""
_LOG = 60
_JOBS = 20
"""Lines of the delivery log, and dead letters, of one Subscription."""
_KINDS = "subscription."
"""Kinds of jobs whose key is the id of a Subscription begin so."""
_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")


class Monitor:
    """What the page is told, and what it does."""

    def __init__(self, console: Console, readers: Readers, counts: Remembered) -> None:
        self._console, self._readers, self._counts = console, readers, counts
        self._overview = Remembered(self._look)
        self._pages: dict[tuple[str, str, str], Remembered] = {}

    @property
    def _desk(self) -> Desk:
        desk: Desk = self._console.part("desk")
        return desk

    # --- all of them

    async def overview(self) -> dict[str, Any]:
        """How many there are by status, deliveries by minute, the readers with the product's own triggers."""
        found: dict[str, Any] = await self._overview()
        return {**found, "now": self._console.context.clock()}

    async def _look(self) -> dict[str, Any]:
        gate, principal = self._console.gate, self._console.principal
        numbers = {state: await gate.count(principal, Query(("Subscription",), self._where(state, ""))) for state in STATES}
        return {
            "states": numbers,
            "total": await gate.count(principal, Query(("Subscription",))),
            "minutes": [minute._asdict() for minute in await self._desk.minutes(60)],
            "readers": await self._readers.look(await self._counts()),
        }

    def _where(self, state: str, text: str) -> Criterion:
        """`text`: an id, a part of the criteria, or how an endpoint's host begins."""
        parts: list[Criterion] = []
        if state:
            parts.append(KeyMatch(self._number("status"), None, state))
        if text:
            # What an endpoint holds behind its host may be secret: nobody finds it out by asking.
            hosts = [KeyPrefix(self._number("url"), "", f"{scheme}://{text}") for scheme in ("http", "https")]
            ids = [Ids((text,))] if _ID.fullmatch(text) else []
            plain = re.fullmatch(r"[^/?#@]+", text) is not None
            parts.append(Or((TextMatch(self._number("criteria"), fold(text), "contains"), *ids, *(hosts if plain else ()))))
        return And(tuple(parts)) if parts else Everything()

    def _number(self, code: str) -> int:
        parameter = self._console.context.search.get("Subscription", code)
        if parameter is None:  # the definitions of R4 have them
            raise LookupError(code)
        return parameter.number

    async def rows(self, state: str, text: str, cursor: str) -> dict[str, Any]:
        """A page of the table, the one changed last first. Raises FhirError 400, 410 for a cursor that cannot be used."""
        if state and state not in STATES:
            raise wrong("status", f"'{state[:40]}' is not one of {', '.join(STATES)}", f"“{state[:40]}”无效，应为 {', '.join(STATES)}")
        asked = state, text.strip()[:200], cursor
        if asked not in self._pages:
            if len(self._pages) >= _PAGES:
                self._pages.clear()
            self._pages[asked] = Remembered(lambda: self._rows(*asked))
        found: dict[str, Any] = await self._pages[asked]()
        return {**found, "now": self._console.context.clock()}

    async def _rows(self, state: str, text: str, cursor: str) -> dict[str, Any]:
        context, gate, principal = self._console.context, self._console.gate, self._console.principal
        query = Query(("Subscription",), self._where(state, text if fold(text) else ""), limit=PAGE)
        scope = f"console/subscriptions\x1f{state}\x1f{text}"
        after = position_of(context, scope, cursor) if cursor else None
        page = await gate.search(principal, query, after)
        # A later page is one of the state that the first one saw: what is shown is how they are now.
        items = await gate.read_many(principal, [("Subscription", one.id) for one in page.items]) if after else page.items
        await self._topics_known()
        return {
            "rows": [(await self._row(stored))[0] for stored in items],
            "next": token_for(context, scope, page.next) if page.next else "",
            "found": await gate.count(principal, query),
        }

    def _forget(self) -> None:
        """Something was done: the next look is a new one."""
        self._overview.forget()
        self._pages.clear()

    async def _topics_known(self) -> None:
        topics = self._console.context.parts.get("topics")
        if topics is not None:
            await topics.fresh()

    def _topic(self, criteria: str) -> str:
        topics = self._console.context.parts.get("topics")
        found = topics.find(criteria) if topics is not None and criteria else None
        return str(found.topic.title) if found is not None else ""

    async def _row(self, stored: Stored, log_lines: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What the table shows of a Subscription, and the last lines of its delivery log."""
        subscription = json_codec.loads(stored.body)
        shown = described(subscription, self._topic(str(subscription.get("criteria", ""))))
        desk, id = self._desk, stored.id
        held = await desk.held(id)
        waiting, oldest = await desk.waiting(id)
        log = [attempt_line(attempt) for attempt in await desk.log(id, log_lines)]
        row = {
            **shown,
            "error": last_error(shown, log),
            "held": {"since": held[0], "by": held[1]} if held else None,
            "events": await desk.events(id),
            "waiting": waiting,
            "oldest": oldest,
            "last": log[0] if log else None,
        }
        return row, log

    # --- one of them

    async def detail(self, id: str) -> dict[str, Any]:
        """A Subscription with its delivery log, dead letters, and the jobs that failed and wait. Raises FhirError 404, 410."""
        store = self._console.store
        stored = await self._console.gate.read(self._console.principal, "Subscription", id)
        if stored is None:
            raise FhirError.of(404, "not-found", f"Subscription/{id} is not known", zh=f"Subscription/{id} 不存在")
        if stored.deleted:
            raise FhirError.of(410, "deleted", f"Subscription/{id} is deleted", zh=f"Subscription/{id} 已删除")
        await self._topics_known()
        row, log = await self._row(stored, _LOG)
        circuit = self._desk.circuit(json_codec.loads(stored.body))
        dead = await store.list_jobs("dead", key=id, limit=_JOBS)
        waiting = await store.list_jobs("open", f"{_KINDS}deliver", key=id, limit=_JOBS)
        timers = self._console.timers()
        stuck = [job for job in waiting if job["attempts"]]
        return {**row, "circuit": circuit, "log": log, "dead": _own(dead, timers), "stuck": _own(stuck, timers)}

    async def hold(self, id: str) -> dict[str, Any]:
        """Pause."""
        async with self._console.taking("subscription-pause", _named(id)) as entry:
            await self._desk.hold(id, self._console.principal.name, entry.done)
        self._forget()
        return {}

    async def release(self, id: str) -> dict[str, Any]:
        """Resume."""
        async with self._console.taking("subscription-resume", _named(id)) as entry:
            sent = await self._desk.release(id)
            entry.detail = f"{sent} to send"
        self._forget()
        return {"sent": sent}

    async def test(self, id: str) -> dict[str, Any]:
        """Try the endpoint."""
        async with self._console.taking("subscription-test", _named(id)) as entry:
            attempt = attempt_line(await self._desk.test(id))
            entry.detail = "taken" if attempt["taken"] else "not taken"
        self._forget()
        return {"attempt": attempt}

    async def replay(self, id: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Send events once more."""
        first, last = (_event_number(asked, name) for name in ("first", "last"))
        if first > last:
            raise wrong("last", f"({last}) must not be below first ({first})", f"（{last}）不能小于 first（{first}）")
        async with self._console.taking("subscription-replay", _named(id)) as entry:
            entry.detail = f"{first}-{last}"
            events = await self._desk.replay(id, first, last, entry.done)
        self._forget()
        return {"events": events}


def _named(id: str) -> str:
    return f"Subscription/{id}" if _ID.fullmatch(id) else "Subscription"


def _event_number(asked: dict[str, Any], name: str) -> int:
    value = asked.get(name)
    if type(value) is not int or not 0 < value < 2**53:
        raise wrong(name, "must be the number of an event, a whole number from 1 on", "须为事件编号（不小于 1 的整数）")
    return value


def _own(jobs: Sequence[dict[str, Any]], timers: Collection[str]) -> list[dict[str, Any]]:
    return [job_line(job, timers) for job in jobs if job["kind"].startswith(_KINDS)]


def routes(console: Console, readers: Readers, counts: Remembered) -> APIRouter:
    """The page `/console/subscriptions`, its data and its actions."""
    routes = APIRouter(include_in_schema=False, route_class=ConsoleRoute)
    monitor = Monitor(console, readers, counts)
    one = "/console/monitor/subscriptions/{id}"

    @routes.get("/console/subscriptions", response_class=HTMLResponse)
    async def page(request: Request) -> Response:
        return console.page(request, "subscriptions")

    @routes.get("/console/monitor")
    async def overview() -> Response:
        console.require()
        return answer(await monitor.overview())

    @routes.get("/console/monitor/subscriptions")
    async def rows(status: str = "", text: str = "", cursor: str = "") -> Response:
        console.require()
        return answer(await monitor.rows(status, text, cursor))

    @routes.get(one)
    async def detail(id: str) -> Response:
        console.require()
        return answer(await monitor.detail(id))

    @routes.post(f"{one}/hold")
    async def hold(id: str) -> Response:
        console.require()
        return answer(await monitor.hold(id))

    @routes.post(f"{one}/release")
    async def release(id: str) -> Response:
        console.require()
        return answer(await monitor.release(id))

    @routes.post(f"{one}/test")
    async def test(id: str) -> Response:
        console.require()
        return answer(await monitor.test(id))

    @routes.post(f"{one}/replay")
    async def replay(request: Request, id: str) -> Response:
        console.require()
        return answer(await monitor.replay(id, await body_of(request)))

    return routes
