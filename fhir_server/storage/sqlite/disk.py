"""Where a commit waits for the disk, and when the write-ahead log is carried over into the database file.

Decision: docs/decisions/0042-group-commit.md. Specification: https://www.sqlite.org/wal.html#checkpointing
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from time import monotonic, perf_counter

QUICK_SECONDS = 0.002
"""Commits that take longer on average hold up reads more than handing them to a thread costs."""
WEIGHT = 0.2
"""Of the last commit in the moving average."""
FEW_ROWS = 1000
"""Rows up to which a commit is expected to be quick on a quick disk."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Seconds for which the event loop is spared after slow commits; doubled each time until the disk is steady."""
STEADY = 200
"""Quick commits after which the slow ones before them are forgotten."""


class Disk:
    """Knows from the last commits whether the disk is quick: then the event loop itself commits, else a thread does."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._average = QUICK_SECONDS / 2
        self._spared_until = 0.0
        self._pause = FIRST_PAUSE
        self._steady = 0

    def is_quick(self, rows: int) -> bool:
        """Whether the event loop may commit this number of rows."""
        return rows <= FEW_ROWS and self._clock() >= self._spared_until

    def commit(self, db: sqlite3.Connection) -> None:
        """Commit on the event loop, and learn from the time that it takes."""
        started = perf_counter()
        db.commit()
        self.took(perf_counter() - started)

    def took(self, seconds: float) -> None:
        """A commit on the event loop took so long."""
        self._average += WEIGHT * (seconds - self._average)
        if self._average > QUICK_SECONDS:
            self._spared_until = self._clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._average, self._steady = QUICK_SECONDS / 2, 0
            return
        self._steady += 1
        if self._steady >= STEADY:
            self._pause = FIRST_PAUSE


class Log:
    """The write-ahead log, as this process fills it. SQLite would carry it over inside some commit; that may take long."""

    def __init__(self, pages: int) -> None:
        """`pages`: the length at which it is carried over."""
        self._pages = pages
        self._rows = 0
        self._pages_per_row = 1.0
        self._left = 0

    def grew(self, rows: int) -> None:
        """A commit of so many rows was added."""
        self._rows += rows

    @property
    def is_long(self) -> bool:
        return self._rows * self._pages_per_row >= self._pages

    def carry_over(self, db: sqlite3.Connection) -> None:
        """Copy its pages into the database file as far as no reader needs them in the log; faults wait for the next time."""
        rows, self._rows = self._rows, 0
        try:
            _, length, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            logging.getLogger(__name__).warning("the write-ahead log could not be carried over; it grows until it can", exc_info=True)
            return
        if length > self._left and rows:
            self._pages_per_row = min(4.0, max(0.05, (length - self._left) / rows))
        # What was not copied stays at the head of the log, which then does not start anew.
        self._left = length if copied < length else 0

    def wipe(self, db: sqlite3.Connection) -> bool:
        """Copy all pages into the database file and cut the log to nothing; False while somebody still reads from it."""
        try:
            (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        if not busy:
            self._rows = self._left = 0
        return not busy
