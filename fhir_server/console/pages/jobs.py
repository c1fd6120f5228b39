"""The jobs: how many of each kind are open, run, wait or were given up; retry and set aside; who leads. Nothing is deleted here.

Specification: docs/operations.md (jobs)
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from fhir_server.console.feed_readers import Readers
from fhir_server.console.job_view import by_kind, job_line, retried_at_once, set_aside_now
from fhir_server.console.site import Console, ConsoleRoute, Remembered, answer, body_of, wrong
from fhir_server.errors import FhirError
from subscriptions.desk import Desk

PAGE = 50
_LISTS = ("dead", "waiting", "open")
_MOST = 2_000
"""Dead letters that one press of a button brings back."""
_TOGETHER = 50
_DIGITS = 18


class Board:
    """What the page is told, and what it does."""

    def __init__(self, console: Console, readers: Readers, counts: Remembered) -> None:
        self._console, self._readers, self._counts = console, readers, counts

    @property
    def _desk(self) -> Desk:
        desk: Desk = self._console.part("desk")
        return desk

    async def overview(self) -> dict[str, Any]:
        """Jobs by kind, readers, and who leads: `holder` None where nobody does, `here` whether it is the process that answers."""
        runner = self._console.part("jobs").jobs
        counts = await self._counts()
        holder = await self._console.store.lease_holder("jobs")
        return {
            "kinds": by_kind(counts, [kind.name for kind in runner.kinds]),
            "readers": await self._readers.look(counts),
            "leader": {"holder": holder, "here": holder == runner.owner},
            "now": self._console.context.clock(),
        }

    async def rows(self, which: str, kind: str, after: int) -> dict[str, Any]:
        """Jobs in the order of their numbers: `dead`, `waiting` (failed, and to be tried again) or all `open` ones."""
        if which not in _LISTS:
            raise wrong("state", f"'{which[:40]}' is not one of {', '.join(_LISTS)}", f"“{which[:40]}”无效，应为 {', '.join(_LISTS)}")
        state = "dead" if which == "dead" else "open"
        store, wanted = self._console.store, kind or None
        found: list[dict[str, Any]] = []
        # Where none wait, a long queue need not be gone through to find that out.
        if which != "waiting" or any(row.waiting for row in await self._counts() if not kind or row.kind == kind):
            found = await store.list_jobs(state, wanted, after, PAGE + 1, tried=which == "waiting")
        more = found[PAGE - 1]["id"] if len(found) > PAGE else None
        timers = self._console.timers()
        return {"rows": [job_line(job, timers) for job in found[:PAGE]], "next": more, "now": self._console.context.clock()}

    async def actions(self) -> dict[str, Any]:
        """The last administrative actions, newest first."""
        return {"rows": [action._asdict() for action in await self._console.trail.latest(PAGE)], "now": self._console.context.clock()}

    async def payload(self, id: int) -> Any:
        """What a job carries. Raises FhirError 404."""
        return (await self._job(id))["payload"]

    async def _job(self, id: int) -> dict[str, Any]:
        job = await self._console.store.job(id)
        if job is None:
            raise FhirError.of(404, "not-found", f"there is no job {id}", zh=f"没有编号为 {id} 的作业")
        return job

    async def retry(self, id: int) -> dict[str, Any]:
        """A job back to work at once. `done` False where it is neither dead nor failed and waiting; raises FhirError 404."""
        job = await self._job(id)
        async with self._console.taking("job-retry", _named(job)) as entry:
            done = retried_at_once(job, self._console.timers()) and await self._desk.retry(id)
            entry.outcome = "done" if done else "nothing"
        return self._acted(done=done)

    async def set_aside(self, id: int) -> dict[str, Any]:
        """A waiting job to the dead letters. `done` False where it runs now or waits no more; raises FhirError 404."""
        job = await self._job(id)
        async with self._console.taking("job-set-aside", _named(job)) as entry:
            done = set_aside_now(job, self._console.timers()) and await self._desk.set_aside(id, self._console.principal.name)
            entry.outcome = "done" if done else "nothing"
        return self._acted(done=done)

    def _acted(self, *, done: bool) -> dict[str, Any]:
        self._counts.forget()
        return {"done": done}

    async def retry_all(self, kind: str) -> dict[str, Any]:
        """All dead letters of a kind back to work, at most _MOST of them; `more` tells that some are left."""
        if not kind:
            raise wrong("kind", "is missing: dead letters are retried kind by kind", "缺失：死信须按类型重试")
        known = kind in self._console.part("jobs").jobs.kinds
        async with self._console.taking("job-retry-all", kind if known else "a kind that is unknown here") as entry:
            answer = await self._retry_all(kind)
            entry.outcome = "done" if answer["retried"] else "nothing"
            entry.detail = str(answer["retried"])
        return answer

    async def _retry_all(self, kind: str) -> dict[str, Any]:
        retried, after = 0, 0
        for _ in range(_MOST // _TOGETHER):
            found = await self._console.store.list_jobs("dead", kind, after, _TOGETHER)
            retried += sum(await asyncio.gather(*(self._desk.retry(job["id"]) for job in found)))
            if len(found) < _TOGETHER:
                left = False
                break
            after = found[-1]["id"]
        else:
            left = bool(await self._console.store.list_jobs("dead", kind, after, 1))
        self._counts.forget()
        return {"retried": retried, "more": left}


def _named(job: dict[str, Any]) -> str:
    """A job without its key, which may be that of a patient."""
    return f"job {job['id']} ({job['kind']})"


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise wrong(name, f"'{text[:40]}' is no number of a job", f"“{text[:40]}”不是作业编号")
    return int(text)


def routes(console: Console, readers: Readers, counts: Remembered) -> APIRouter:
    """The page `/console/jobs`, its data and its actions."""
    routes = APIRouter(include_in_schema=False, route_class=ConsoleRoute)
    board = Board(console, readers, counts)

    @routes.get("/console/jobs", response_class=HTMLResponse)
    async def page(request: Request) -> Response:
        return console.page(request, "jobs")

    @routes.get("/console/jobs/overview")
    async def overview() -> Response:
        console.require()
        return answer(await board.overview())

    @routes.get("/console/jobs/list")
    async def rows(state: str = "dead", kind: str = "", after: str = "0") -> Response:
        console.require()
        return answer(await board.rows(state, kind, _whole("after", after)))

    @routes.get("/console/jobs/actions")
    async def actions() -> Response:
        console.require()
        return answer(await board.actions())

    @routes.get("/console/jobs/{id}/payload")
    async def payload(id: str) -> Response:
        console.require()
        return answer(await board.payload(_whole("id", id)))

    @routes.post("/console/jobs/retry")
    async def retry_all(request: Request) -> Response:
        console.require()
        return answer(await board.retry_all(str((await body_of(request)).get("kind") or "")))

    @routes.post("/console/jobs/{id}/retry")
    async def retry(id: str) -> Response:
        console.require()
        return answer(await board.retry(_whole("id", id)))

    @routes.post("/console/jobs/{id}/set-aside")
    async def set_aside(id: str) -> Response:
        console.require()
        return answer(await board.set_aside(_whole("id", id)))

    return routes
