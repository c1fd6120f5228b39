"""The embedded runner: drives feed readers and jobs inside the server process.

Any number of processes may have one; a lease on the store lets one of them work and another take over within seconds. The lease only
saves work: what keeps effects single are the claims on jobs and the expected positions of readers, which the store checks in the unit.
Celery will be a second driver of the same kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import uuid
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.storage.port import ClaimedJob
from subscriptions.jobs.bell import rest, ringing
from subscriptions.jobs.feed import LAZY, Feed, FeedReader, Tail
from subscriptions.jobs.kinds import Kind, Kinds, Lane, Services
from subscriptions.jobs.work import perform

log = logging.getLogger("fhir_server.jobs")

LEASE = 3_000
"""Milliseconds of system time after which another process takes over from one that fell silent."""
PACE = 0.01
"""Seconds between two looks at the store: what many commits bring in this time is taken up together."""
POLL = 1.0
"""Longest sleep in seconds: after a kill -9 elsewhere nobody wakes us when its claims run out."""
_MARGIN = 5_000


@dataclass(slots=True)
class Settled:
    """What `settle` ran."""

    timers: int = 0
    outbox: int = 0
    changes: int = 0


class Jobs:
    """The runner. `start` and `stop` are called by the application; `settle` runs all that is due now and comes back.

    `manual_timers`: timers wait for `settle` (the test clock of followup.md section 2).
    """

    def __init__(
        self,
        services: Services,
        kinds: Kinds,
        readers: Sequence[FeedReader] = (),
        *,
        manual_timers: bool = False,
        seed: int | None = None,
        lease: int = LEASE,
    ) -> None:
        self.services = services
        self.kinds = kinds
        self.owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self.counts: Counter[tuple[str, str]] = Counter()
        """(kind, result) -> number; results are done, retried, dead, lost."""
        self._manual = manual_timers
        self._lease = lease
        self._random = random.Random(seed)
        for reader in readers:
            self.kinds.add(reader.kind())
        tail = Tail(services)
        self._feeds = [Feed(reader, services, tail) for reader in readers]
        self._wake = asyncio.Event()
        self._feed_bells: list[asyncio.Event] = []
        self._lane_bells: list[asyncio.Event] = []
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[asyncio.Task[None], tuple[Lane, list[ClaimedJob]]] = {}
        self._leading = asyncio.Event()
        self._stopping = False
        self._unsubscribe: Any = None
        self._turn = asyncio.Lock()

    # --- life

    async def start(self) -> None:
        """Begin to work; returns at once. Unknown kinds in the queue are reported in the log and stay there."""
        self._stopping = False
        self._unsubscribe = self.services.store.subscribe(ringing(self._wake))
        await self._take_lead()
        self._spawn(self._keep_lead())
        self._spawn(self._scout())
        for feed in self._feeds:
            self._spawn(self._follow(feed, _new(self._feed_bells)))
        for lane, kinds in self.kinds.lanes().items():
            self._spawn(self._serve(lane, kinds, _new(self._lane_bells)))
        for kind, number in (await self.unknown()).items():
            log.warning("%d open jobs of the unknown kind %s stay in the queue", number, kind)

    async def stop(self, grace: float = 8.0) -> None:
        """Take nothing new, let what runs finish within `grace` seconds, put the rest back, give up the lease."""
        self._stopping = True
        if self._unsubscribe:
            self._unsubscribe()
            self._unsubscribe = None
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        self._feed_bells.clear()
        self._lane_bells.clear()
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        with contextlib.suppress(FhirError):
            for feed in self._feeds:
                await feed.flush()
            if self._leading.is_set():
                await self.services.store.acquire_lease("jobs", self.owner, 0)
        self._leading.clear()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._loops.append(asyncio.create_task(work))

    async def _take_lead(self) -> None:
        try:
            leads = await self.services.store.acquire_lease("jobs", self.owner, self._lease)
        except FhirError as fault:
            log.warning("the lease of the jobs runner cannot be renewed: %s", fault)
            leads = False
        if leads and not self._leading.is_set():
            self._leading.set()
            self._wake.set()
        elif not leads:
            self._leading.clear()

    async def _keep_lead(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._lease / 3000)
            await self._take_lead()
            await self._renew()

    async def _renew(self) -> None:
        """Keep the claims of what still runs, so that short leases (quick take-over after a kill -9) suit long jobs too."""
        held = [(job.id, job.lease) for _, train in self._running.values() for job in train]
        if held:
            try:
                await self.services.store.renew_jobs(held, self._lease)
            except FhirError as fault:
                log.warning("the claims of %d running jobs cannot be renewed: %s", len(held), fault)

    async def _scout(self) -> None:
        """Looks after commits (many at once under load) whether there is something to read or to do, and rings who is concerned.

        One look for all, because it happens after every commit of the server.
        """
        names = [kind.name for kind in self.kinds if not (self._manual and kind.timer)]
        store, seen, pause = self.services.store, -1, POLL
        while not self._stopping:
            await self._leading.wait()
            await rest(self._wake, pause)
            self._wake.clear()
            pause = POLL
            try:
                if (last := await store.last_rid()) != seen:
                    seen = last
                    _ring(self._feed_bells)
                now, due = self.services.clock(), await store.next_due(names)
                if due is not None and due <= now:
                    _ring(self._lane_bells)
                elif due is not None:
                    pause = min(POLL, (due - now) / 1000)
            except FhirError as fault:
                log.warning("the runner waits for the store: %s", fault)
            await asyncio.sleep(PACE)

    # --- feed

    async def _follow(self, feed: Feed, bell: asyncio.Event) -> None:
        while not self._stopping:
            await self._leading.wait()
            bell.clear()
            try:
                read = await feed.step()
                if read and feed.made_jobs:
                    _ring(self._lane_bells)
                if read and feed.behind:
                    continue
                if not feed.unwritten:
                    await bell.wait()
                else:
                    await rest(bell, LAZY)
                    if not bell.is_set():
                        await feed.flush()
            except FhirError as fault:
                log.warning("reader %s waits for the store: %s", feed.reader.name, fault)
                await asyncio.sleep(POLL)
            except Exception:
                log.exception("reader %s could not take its step", feed.reader.name)
                await asyncio.sleep(POLL)

    # --- jobs

    async def _serve(self, lane: Lane, kinds: list[Kind], bell: asyncio.Event) -> None:
        served = [kind for kind in kinds if not (self._manual and kind.timer)]
        while not self._stopping:
            await self._leading.wait()
            bell.clear()
            free = lane.places - sum(1 for busy in self._running.values() if busy[0] is lane)
            claimed: list[ClaimedJob] = []
            try:
                if free and served:
                    claimed = await self._claim(served, free, self._lease, lane.train)
            except FhirError as fault:
                log.warning("lane %s waits for the store: %s", lane.name, fault)
            except Exception:
                log.exception("lane %s could not claim jobs", lane.name)
            for train in _trains(claimed):
                self._begin(train, lane, bell)
            if not claimed:
                await bell.wait()

    def _begin(self, train: list[ClaimedJob], lane: Lane, bell: asyncio.Event) -> None:
        task = asyncio.create_task(self._perform(train))
        self._running[task] = lane, train

        def ended(task: asyncio.Task[None]) -> None:
            self._running.pop(task, None)
            bell.set()

        task.add_done_callback(ended)

    async def _perform(self, train: list[ClaimedJob]) -> None:
        name = train[0].kind
        results = await perform(train, self.kinds[name], self.services, self._random)
        for result, number in results.items():
            self.counts[name, result] += number

    async def _claim(self, kinds: list[Kind], limit: int, lease: int, train: int = 1) -> list[ClaimedJob]:
        names = [kind.name for kind in kinds]
        return await self.services.store.claim_jobs(self.services.clock(), kinds=names, limit=limit, lease=lease, train=train)

    # --- the tick

    async def settle(self, *, timers: bool = True) -> Settled:
        """Run everything that is due at the clock's now: changes and outbox first, then timers in due order, until nothing is left.

        Works beside the background loops and without them (`start` not called). A second call at the same time waits for the first.
        """
        async with self._turn:
            settled = Settled()
            ordinary = [kind for kind in self.kinds if not kind.timer]
            timed = [kind for kind in self.kinds if kind.timer]
            while True:
                changes = sum([await feed.step() for feed in self._feeds])
                outbox = await self._run_due(ordinary, 32)
                settled.changes += changes
                settled.outbox += outbox
                if changes or outbox:
                    continue
                if self._running:
                    await asyncio.wait(list(self._running))
                    continue
                ran = await self._run_due(timed, 1) if timers and timed else 0
                settled.timers += ran
                if not ran:
                    return settled

    async def _run_due(self, kinds: list[Kind], limit: int) -> int:
        # Nobody renews claims here, so they last as long as the slowest handler may take.
        lease = round(max((kind.timeout for kind in kinds), default=0) * 1000) + _MARGIN
        trains: dict[int, list[Kind]] = {}
        for kind in kinds:
            trains.setdefault(kind.lane.train if kind.train else 1, []).append(kind)
        number = 0
        for train, alike in trains.items():
            claimed = await self._claim(alike, limit, lease, train)
            await asyncio.gather(*(self._perform(jobs) for jobs in _trains(claimed)))
            number += len(claimed)
        return number

    # --- what is seen of it

    async def lag(self) -> dict[str, int]:
        """Reader -> how many sequence numbers it is behind the store."""
        last = await self.services.store.last_rid()
        positions = {feed.reader.name: feed.position for feed in self._feeds}
        return {
            name: max(0, last - (await self.services.store.position(name) if position is None else position))
            for name, position in positions.items()
        }

    async def unknown(self) -> dict[str, int]:
        """Open jobs whose kind this server does not know, by kind (of the first 10,000 open jobs)."""
        found: Counter[str] = Counter()
        after = 0
        for _ in range(10):
            rows = await self.services.store.list_jobs(state="open", after=after, limit=1000)
            found.update(row["kind"] for row in rows if row["kind"] not in self.kinds)
            if len(rows) < 1000:
                break
            after = rows[-1]["id"]
        return dict(found)

    @property
    def leading(self) -> bool:
        """Whether this process is the one that works."""
        return self._leading.is_set()


def _trains(jobs: list[ClaimedJob]) -> list[list[ClaimedJob]]:
    """Claimed jobs by kind and key, in the order of their claims."""
    trains: dict[tuple[str, str], list[ClaimedJob]] = {}
    for job in jobs:
        trains.setdefault((job.kind, job.key), []).append(job)
    return list(trains.values())


def _new(bells: list[asyncio.Event]) -> asyncio.Event:
    bell = asyncio.Event()
    bell.set()
    bells.append(bell)
    return bell


def _ring(bells: list[asyncio.Event]) -> None:
    for bell in bells:
        bell.set()
