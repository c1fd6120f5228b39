"""Tells subscribers of commits: at once those of this process, within moments those of others."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

POLL_SECONDS = 0.05


class Waker:
    """Keeps the subscribers; looks at the database's change counter only while there are any."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Returns the function that ends the subscription."""
        token = object()
        self._subscribers[token] = wake
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll(), name="store waker")
        return lambda: self._subscribers.pop(token, None) and None

    def wake(self) -> None:
        """After a commit of this process."""
        for call in list(self._subscribers.values()):
            try:
                call()
            except Exception:
                logging.getLogger(__name__).exception("a subscriber of the store failed")

    def stop(self) -> None:
        self._subscribers.clear()
        if self._task is not None:
            self._task.cancel()

    async def _poll(self) -> None:
        seen = None
        while self._subscribers:
            try:
                (now,) = self._db.execute("PRAGMA data_version").fetchone()
            except sqlite3.OperationalError:
                # Locked for a moment (recovery by another process): the next look tells.
                now = seen
            if seen is not None and now != seen:
                self.wake()
            seen = now
            await asyncio.sleep(POLL_SECONDS)
