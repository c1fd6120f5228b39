"""Readers of the change feed: each turns versions into effects, and its position moves on in the same unit.

The feed is the outbox: every version is written in the transaction of its change, so what a reader makes of it can be late but never lost,
and a reader that is interrupted goes on where its last committed effects ended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fhir_server.storage.port import ClaimedJob, Effects, Job, LeaseLost, Stored, Unit
from subscriptions.jobs.kinds import Kind, Services

log = logging.getLogger("fhir_server.jobs")

BATCH = 500
LAZY = 1.0
"""Seconds for which a position without effects may stay unwritten; reading such versions again changes nothing."""


async def _nothing(position: int) -> None:
    """A reader without a state of its own."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something that a reader waits for, as people are shown it: a subscription of the product itself.

    `types`: resource types whose versions it looks at, empty for any. `kinds`: the jobs that follow. `english`, `chinese`: what happens.
    """

    name: str
    types: tuple[str, ...]
    kinds: tuple[str, ...]
    english: str
    chinese: str


@dataclass(frozen=True, slots=True)
class FeedReader:
    """`react` is given versions in commit order and answers with the effects they have; it must not write by itself.

    `prepare(position)` puts the reader's own state to what it was after the version with that sequence number.
    `triggers` say what it reacts to.
    """

    name: str
    react: Callable[[list[Stored]], Awaitable[Effects]]
    prepare: Callable[[int], Awaitable[None]] = _nothing
    triggers: tuple[Trigger, ...] = ()

    @property
    def stumble(self) -> str:
        """The kind of the jobs that hold versions which `react` could not digest."""
        return f"{self.name}.change"

    def kind(self) -> Kind:
        """The job kind that tries such a version again, away from the feed."""

        async def again(job: ClaimedJob, services: Services) -> Effects:
            payload = job.payload
            stored = await services.gate.read_version(services.principal, payload["type"], payload["id"], payload["version"])
            return await self.react([stored]) if stored else Effects()

        return Kind(self.stumble, again)


class Tail:
    """The latest versions, read once for all readers that stand at the same place."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._after = -1
        self._changes: list[Stored] = []

    async def after(self, position: int) -> list[Stored]:
        """Versions after a position, in commit order; at most BATCH."""
        if position != self._after or not self._changes:
            self._changes = await self._services.gate.changes(self._services.principal, position, BATCH)
            self._after = position
        return self._changes


class Feed:
    """Drives one reader along the feed."""

    def __init__(self, reader: FeedReader, services: Services, tail: Tail) -> None:
        self.reader = reader
        self.made_jobs = False
        """Whether the last step left jobs behind."""
        self._services, self._tail = services, tail
        self._position: int | None = None
        self._more = False
        self._written = 0
        self._written_at = 0.0

    @property
    def position(self) -> int | None:
        """The last sequence number read; None before the first step."""
        return self._position

    @property
    def behind(self) -> bool:
        """Whether there may be more to read now; else the bell rings when there is."""
        return self._position is None or self._more

    @property
    def unwritten(self) -> bool:
        """Whether a position still has to be written down."""
        return self._position is not None and self._position != self._written

    async def step(self) -> int:
        """Read the next versions and commit what follows from them; how many were read. Raises FhirError when the store refuses."""
        try:
            return await self._step()
        except LeaseLost:
            # Another runner moved the position: start again from where it stands now.
            self._position = None
            return 1
        except BaseException:
            # The reader's own state may be ahead of the position: it is prepared anew.
            self._position = None
            raise

    async def _step(self) -> int:
        name, services = self.reader.name, self._services
        if self._position is None:
            position = await services.store.position(name)
            await self.reader.prepare(position)
            self._position = self._written = position
        changes = await self._tail.after(self._position)
        self.made_jobs, self._more = False, len(changes) >= BATCH
        if not changes:
            return 0
        effects = await self._digest(changes)
        self.made_jobs = bool(effects.jobs)
        await self._commit(effects, changes[-1].rid)
        return len(changes)

    async def _digest(self, changes: list[Stored]) -> Effects:
        try:
            return await self.reader.react(changes)
        except Exception:
            if len(changes) > 1:
                parts = [await self._digest([change]) for change in changes]
                return _joined(parts)
            change = changes[0]
            log.exception("reader %s stumbled over %s version %d", self.reader.name, change.type, change.version)
            payload = {"type": change.type, "id": change.id, "version": change.version}
            return Effects(jobs=[Job(self.reader.stumble, f"{change.type}/{change.id}", payload, self._services.clock())])

    async def _commit(self, effects: Effects, position: int) -> None:
        empty = not (effects.writes or effects.jobs or effects.records)
        if empty and time.monotonic() - self._written_at < LAZY:
            self._position = position
            return
        effects.positions[self.reader.name] = (self._written, position)
        await self._services.gate.transact(self._services.principal, Unit(lambda facts: effects))
        self._position = self._written = position
        self._written_at = time.monotonic()

    async def flush(self) -> None:
        """Write a position down that was kept back."""
        if self.unwritten and self._position is not None:
            self._written_at = 0.0
            try:
                await self._commit(Effects(), self._position)
            except LeaseLost:
                self._position = None


def _joined(parts: list[Effects]) -> Effects:
    whole = Effects()
    for part in parts:
        whole.writes += part.writes
        whole.jobs += part.jobs
        whole.records += part.records
    return whole
