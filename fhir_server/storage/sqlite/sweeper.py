"""Background removal of index entries of versions that no living cursor can see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence

from fhir_server.errors import FhirError
from fhir_server.storage.sqlite import erasing
from fhir_server.storage.sqlite.committer import Committer

CHUNK = 20
"""Versions per transaction."""
MARGIN_SECONDS = 60


class Sweeper:
    """One task of the store."""

    def __init__(
        self, committer: Committer, db: sqlite3.Connection, names: Sequence[str], clock: Callable[[], int], cursor_seconds: int
    ) -> None:
        self._committer = committer
        self._db = db
        self._names = names
        self._clock = clock
        self._keep = (cursor_seconds + MARGIN_SECONDS) * 1000
        self._pause = max(1.0, min(60.0, cursor_seconds / 10))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="store sweeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            try:
                await self.sweep(self._clock() - self._keep)
            except (FhirError, sqlite3.Error):
                # No room or a busy database: the next round tries again, and searches stay right meanwhile.
                logging.getLogger(__name__).warning("sweeping of superseded index entries was put off", exc_info=True)

    async def sweep(self, before: int) -> int:
        """Remove all entries superseded before a time, chunk by chunk; returns how many versions."""
        swept = 0
        while self._db.execute("SELECT 1 FROM superseded WHERE at < ? LIMIT 1", (before,)).fetchone():
            swept += await self._committer.submit(lambda writer: erasing.sweep(writer, self._names, before, CHUNK))
            await asyncio.sleep(0.005)
        return swept
