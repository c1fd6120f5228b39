"""The index of words: made when the first search asks for words, and brought up to date by each search that does.

So stores that nobody searches by words pay nothing for it, and no write waits for it.
Table `words` (FTS5 without contents; rowid = rid), and `wording` (one row), which says how far it reaches.
Decision: docs/decisions/0051-full-text.md
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Generator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from fhir_server.errors import FhirError
from fhir_server.search.errors import words_not_ready
from fhir_server.search.words import Words
from fhir_server.storage.sqlite.committer import Committer
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, parameter_bounds
from fhir_server.storage.sqlite.schema import DELETED
from fhir_server.storage.sqlite.writer import SLICE_SECONDS, Writer

PATIENCE = 3.0
"""Seconds that a search waits for the index of words."""
BUDGET = 0.04
"""Seconds of work in one transaction, during which other writers wait."""
SLICE = 20
"""Versions between two looks at the clock."""
BREATH = 0.004
SPARE = 1000
TABLES = (
    "CREATE VIRTUAL TABLE words USING fts5(narrative, content, wording, content='', columnsize=0, tokenize='ascii')",
    "CREATE TABLE wording (rules TEXT NOT NULL, upto INTEGER NOT NULL, docs INTEGER NOT NULL)",
)
ADD = "INSERT INTO words(rowid, narrative, content, wording) VALUES (?, ?, ?, ?)"
THERE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'wording'"
NEXT = (
    "SELECT v.rid, CASE WHEN v.method <> ? AND (EXISTS (SELECT 1 FROM resource r WHERE r.type = v.type AND r.id = v.id AND r.rid = v.rid) "
    "OR EXISTS (SELECT 1 FROM superseded x WHERE x.rid = v.rid)) THEN v.body END "
    "FROM version v WHERE v.rid > ? AND v.rid <= ? ORDER BY v.rid LIMIT ?"
)


class Source(Protocol):
    """What takes words out of resources (`search.words.Wording`)."""

    @property
    def rules(self) -> str: ...

    def of(self, resource: dict[str, Any]) -> Words: ...


class State(NamedTuple):
    """By which rules the words of versions up to the rid `upto` are kept, and of how many versions."""

    rules: str
    upto: int
    docs: int


def state_of(db: sqlite3.Connection) -> State | None:
    """None: there is no index of words."""
    if db.execute(THERE).fetchone() is None:
        return None
    row = db.execute("SELECT rules, upto, docs FROM wording").fetchone()
    return State._make(row) if row else None


def drop(db: sqlite3.Connection) -> None:
    """Take the index of words away, inside a write transaction: an erased resource must leave no word behind."""
    if db.execute(THERE).fetchone() is not None:
        db.execute("DROP TABLE words")
        db.execute("DROP TABLE wording")


class FullText:
    """One process's part in it. `last`: the highest rid of the current state."""

    def __init__(self, committer: Committer, db: sqlite3.Connection, source: Source, last: Callable[[], int]) -> None:
        self._committer, self._db, self._source, self._last = committer, db, source, last
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> int:
        """A snapshot, not before this moment, up to which all words are kept. Raises FhirError 503 with the progress."""
        target, until = self._last(), perf_counter() + PATIENCE
        while True:
            state = state_of(self._db)
            if state is not None and state.upto >= target and not self._is_stale(self._db, state):
                return state.upto
            if perf_counter() > until:
                if self._task is None or self._task.done():
                    self._task = asyncio.get_running_loop().create_task(self._fill(), name="store words")
                raise words_not_ready(state.upto if state else 0, target)
            if self._task is not None and not self._task.done():
                await asyncio.sleep(0.05)
            else:
                await self._committer.submit(partial(self._step, target=target))

    def covers(self, db: sqlite3.Connection, snapshot: int) -> bool:
        """Whether a reader sees the words of all versions of a snapshot."""
        state = state_of(db)
        return state is not None and state.upto >= snapshot and state.rules == self._source.rules

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _fill(self) -> None:
        try:
            while (state := state_of(self._db)) is None or state.upto < self._last():
                target = self._last()
                await self._committer.submit(partial(self._step, target=target))
                await asyncio.sleep(BREATH)
        except (FhirError, sqlite3.Error) as fault:
            # The next search that asks for words goes on.
            logging.getLogger(__name__).warning("the index of words was put off: %s", fault)

    def _is_stale(self, db: sqlite3.Connection, state: State) -> bool:
        """Made by other rules, or most of it of versions that are no longer there."""
        if state.rules != self._source.rules:
            return True
        low, high = parameter_bounds(TYPE_PARAMETER)
        (live,) = db.execute("SELECT coalesce(sum(n), 0) FROM term WHERE key BETWEEN ? AND ?", (low, high)).fetchone()
        if state.docs <= 2 * live + SPARE:
            return False
        (past,) = db.execute("SELECT count(*) FROM superseded").fetchone()
        return bool(state.docs > 2 * (live + past) + SPARE)

    def _step(self, writer: Writer, target: int) -> Generator[None, None, None]:
        """Add the words of further versions for BUDGET seconds, inside a transaction."""
        started = perf_counter()
        db = writer.db
        state = state_of(db)
        if state is None or self._is_stale(db, state):
            drop(db)
            for statement in TABLES:
                db.execute(statement)
            state = State(self._source.rules, 0, 0)
            db.execute("INSERT INTO wording VALUES (?, ?, ?)", state)
        upto, docs = state.upto, state.docs
        while upto < target and perf_counter() - started < BUDGET:
            rows = db.execute(NEXT, (DELETED, upto, target, SLICE)).fetchall()
            for rid, blob in rows:
                if blob is not None:
                    db.execute(ADD, (rid, *self._words(writer, blob)))
                    docs += 1
            upto = rows[-1][0] if len(rows) == SLICE else target
            if perf_counter() - started > SLICE_SECONDS:
                yield
        db.execute("UPDATE wording SET upto = max(upto, ?), docs = ?", (upto, docs))

    def _words(self, writer: Writer, blob: bytes) -> Words:
        resource = writer.loads(blob)
        try:
            return self._source.of(resource)
        except Exception:
            # A fault of one resource must not keep all others from being found.
            logging.getLogger(__name__).exception("the words of %s/%s could not be taken", resource.get("resourceType"), resource.get("id"))
            return Words("", "", "")
