"""Group commit: the one place of a process that writes.

Work queues up while a commit is being made durable; the next group takes all of it into one transaction. Statements run
on the event loop (they are short), and so does COMMIT on a quick disk; on a slow one it waits in a thread, so reads go on meanwhile.
Decision: docs/decisions/0042-group-commit.md
"""

from __future__ import annotations

import asyncio
import queue
import random
import sqlite3
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.storage.port import LeaseLost, RecordExists, Unit
from fhir_server.storage.sqlite.disk import Disk, Log
from fhir_server.storage.sqlite.faults import is_busy, translated
from fhir_server.storage.sqlite.files import LOG_PAGES
from fhir_server.storage.sqlite.writer import LARGE_UNIT, Writer

Action = Callable[[Writer], Any]
"""Small work of the store itself inside the transaction (a lease, a record); may raise LeaseLost before it writes.

It may answer with a generator, which is driven like a unit: it yields now and then, and returns the result."""

GROUP = 64
"""Most pieces of work in one transaction."""
LOCK_SECONDS = 15.0
"""How long a write waits for other processes before it is refused."""
REFUSALS = (FhirError, RecordExists, LeaseLost)


@dataclass(slots=True)
class _Work:
    what: Unit | Action
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class CommitThread:
    """One thread that waits for the disk; cheaper than an executor."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while job := self._jobs.get():
            work, loop, future = job
            try:
                result, error = work(), None
            except BaseException as caught:
                result, error = None, caught
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                # The loop was closed while the disk was busy: nobody waits for the answer any more.
                return

    async def run(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, made in the thread."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._jobs.put((work, loop, future))
        return await future

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(10)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Committer:
    """Collects work into groups and commits them, one after the other."""

    def __init__(
        self,
        writer: Writer,
        file: str,
        wake: Callable[[], None],
        group_seconds: float,
        observed: Callable[[int, float], None] | None = None,
    ) -> None:
        """`observed` is told of each transaction: how many pieces of work it held, and after how many seconds it was durable."""
        self._observed = observed
        self._writer = writer
        self._file = file
        self._wake = wake
        self._group_seconds = group_seconds
        self._queue: list[_Work] = []
        self._signal: asyncio.Future[None] | None = None
        self._thread = CommitThread("fhir-store-commit")
        self._closing = False
        self.wiping = False
        """Set it, and the log is cut to nothing after the next group that finds no reader in it."""
        self._contended = 0.0
        self._last_group = 1
        self._disk = Disk()
        self._log = Log(LOG_PAGES)
        self._changes = writer.db.total_changes
        self._task = asyncio.get_running_loop().create_task(self._run(), name="store committer")

    async def submit(self, what: Unit | Action) -> Any:
        """Durable when it returns. Raises what the unit or action raised, or FhirError 503/507 for the store's faults."""
        if self._closing:
            raise FhirError.of(
                503,
                "transient",
                "The server is shutting down; nothing was written.",
                headers=[("Retry-After", "5")],
                zh="服务器正在关闭；没有写入任何内容。",
            )
        work = _Work(what, asyncio.get_running_loop().create_future())
        self._queue.append(work)
        if self._signal is not None and not self._signal.done():
            self._signal.set_result(None)
        return await work.done

    async def close(self) -> None:
        """Finish what is queued, then end."""
        self._closing = True
        if self._signal is not None and not self._signal.done():
            self._signal.set_result(None)
        await self._task
        self._thread.stop()

    # --- the loop
    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._signal = loop.create_future()
                await self._signal
                self._signal = None
                # Others that became ready in the same turn of the loop join the group.
                await asyncio.sleep(0)
            elif len(self._queue) * 2 < self._last_group and self._group_seconds:
                # The clients of the last group are about to come back: one commit for all is cheaper than two.
                await self._gather(loop)
            group = self._next_group()
            began = monotonic()
            try:
                await self._commit(group)
                if self._observed is not None:
                    self._observed(len(group), monotonic() - began)
            except Exception as error:
                fault = translated(error, self._file) if isinstance(error, sqlite3.Error) else error
                for work in group:
                    work.error = work.error or fault
            wrote = False
            for work in group:
                wrote = wrote or work.error is None
                _settle(work.done, work.result, work.error)
            self._last_group = len(group)
            if wrote:
                self._wake()
            if self.wiping:
                self.wiping = not await self._thread.run(lambda: self._log.wipe(self._writer.db))
            elif self._log.is_long:
                # Between two groups: the log starts anew only when nothing was added since it was copied.
                await self._thread.run(lambda: self._log.carry_over(self._writer.db))

    async def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        until = loop.time() + self._group_seconds
        while loop.time() < until and len(self._queue) < self._last_group:
            before = len(self._queue)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if len(self._queue) == before:
                return

    def _next_group(self) -> list[_Work]:
        group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
        return group

    async def _commit(self, group: list[_Work]) -> None:
        await self._begin()
        try:
            for work in group:
                await self._perform(work)
            self._writer.flush()
            await self._make_durable()
        except BaseException as error:
            self._rollback()
            if len(group) > 1 and isinstance(error, Exception):
                await self._one_by_one(group)
                return
            raise

    async def _make_durable(self) -> None:
        db = self._writer.db
        rows = db.total_changes - self._changes
        if self._disk.is_quick(rows):
            self._disk.commit(db)
        else:
            await self._thread.run(db.commit)
        self._changes += rows
        self._log.grew(rows)

    async def _one_by_one(self, group: list[_Work]) -> None:
        """After an unexpected fault: each on its own, so that only the culprit fails."""
        for work in group:
            work.result = work.error = None
            try:
                await self._commit([work])
            except Exception as error:
                work.error = translated(error, self._file) if isinstance(error, sqlite3.Error) else error

    async def _perform(self, work: _Work) -> None:
        """One unit or action; a refusal is kept as its answer, which is given only after the commit that it rests on."""
        try:
            if isinstance(work.what, Unit):
                work.result = await self._drive(self._writer.apply(work.what))
            else:
                self._writer.flush()
                result = work.what(self._writer)
                work.result = await self._drive(result) if isinstance(result, Generator) else result
        except REFUSALS as refusal:
            work.error = refusal

    async def _drive(self, steps: Generator[None, None, Any]) -> Any:
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            return end.value

    async def _begin(self) -> None:
        """Take the write lock of the database, waiting in small random steps while another process has it."""
        db = self._writer.db
        if self._contended and monotonic() - self._contended < 1.0:
            # Others write too: leave them a gap, else a busy process would starve them.
            await asyncio.sleep(random.uniform(0.0005, 0.002))
        until = monotonic() + LOCK_SECONDS
        pause = 0.0005
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.Error as error:
                if not is_busy(error) or monotonic() > until:
                    raise
                self._contended = monotonic()
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 1.5, 0.01)
        try:
            self._writer.begin()
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        self._writer.abandon()
        db = self._writer.db
        if db.in_transaction:
            db.rollback()


__all__ = ["LARGE_UNIT", "Action", "CommitThread", "Committer"]
