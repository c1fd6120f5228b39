"""The background task that fills the index, in one process at a time; after a crash another one, or the next start, goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Generator

from fhir_server.errors import FhirError
from fhir_server.storage.sqlite import filling, jobs
from fhir_server.storage.sqlite.committer import Committer
from fhir_server.storage.sqlite.filling import Filler
from fhir_server.storage.sqlite.writer import Writer

LEASE = "reindex"
LEASE_MS = 4_000
"""A process that does not come back within it has ended: renewed with each transaction of work."""
LOOK_SECONDS = 1.0
"""Pause between two looks whether another process left work behind."""
PAUSE_SECONDS = 5.0
"""Pause after a fault."""
BREATH = 0.004
"""Pause between two transactions of work, for other writers."""


class Reindexer:
    """One task of the store. `wake` when there may be work."""

    def __init__(self, committer: Committer, db: sqlite3.Connection, filler: Filler) -> None:
        self._committer, self._db, self._filler = committer, db, filler
        self._owner = secrets.token_hex(8)
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._bell.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="store reindexer")

    def wake(self) -> None:
        self._bell.set()

    async def stop(self) -> None:
        """End after the transaction that is under way, and leave the work to others."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            with contextlib.suppress(FhirError, sqlite3.Error):
                if filling.is_work(self._db):
                    await self._committer.submit(self._give_back)

    def _give_back(self, writer: Writer) -> None:
        writer.db.execute("DELETE FROM lease WHERE name = ? AND owner = ?", (LEASE, self._owner))

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._bell.wait()
            self._bell.clear()
            try:
                while filling.is_work(self._db) and await self._committer.submit(self._step):
                    await asyncio.sleep(BREATH)
            except (FhirError, sqlite3.Error) as fault:
                # No room, a busy database, or other rules: the work waits, and so do the searches that need it.
                logging.getLogger(__name__).warning("indexing was put off: %s", fault)
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                logging.getLogger(__name__).exception("indexing failed; it is tried again")
                await asyncio.sleep(PAUSE_SECONDS)

    def _step(self, writer: Writer) -> Generator[None, None, bool] | bool:
        """A transaction of work; False where another process works, or nothing is left."""
        if not jobs.acquire(writer.db, LEASE, self._owner, LEASE_MS, time.time_ns() // 1_000_000):
            return False
        return self._filler.work(writer)
