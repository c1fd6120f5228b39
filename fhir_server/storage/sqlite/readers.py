"""Read connections: one for the event loop, a few for searches that would hold it up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

from fhir_server.storage.body import BodyCodec
from fhir_server.storage.sqlite import files
from fhir_server.storage.sqlite.joins import register_functions
from fhir_server.storage.sqlite.keys import Keys

FAR = 2
"""Connections (and threads) for large searches."""
STEPS = 20_000
"""Instructions of SQLite's machine between two looks at the clock."""


class _Limit:
    """The time by which the statement that runs on a connection must have ended."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = float("inf")

    def passed(self) -> bool:
        return monotonic() > self.until


class Reading:
    """A read transaction with a time limit, as a context."""

    __slots__ = ("_db", "_limit", "_seconds")

    def __init__(self, db: sqlite3.Connection, limit: _Limit, seconds: float) -> None:
        self._db, self._limit, self._seconds = db, limit, seconds

    def __enter__(self) -> None:
        self._limit.until = monotonic() + self._seconds
        self._db.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._limit.until = float("inf")
        if self._db.in_transaction:
            self._db.rollback()


class Readers:
    """`near` is for the event loop's thread; `in_thread` lends another connection to a worker thread.

    `register` makes the functions of statements known to a connection.
    """

    def __init__(
        self,
        path: Path,
        durability: str,
        keys: Keys,
        seconds: float,
        cache_kib: int,
        mmap_bytes: int,
        register: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._path, self._durability, self._keys, self._seconds = path, durability, keys, seconds
        self._cache_kib, self._mmap_bytes = cache_kib, mmap_bytes
        self._register = register
        self._limits: dict[int, _Limit] = {}
        self.near = self._connect()
        self._idle: SimpleQueue[tuple[sqlite3.Connection, BodyCodec]] = SimpleQueue()
        self._all: list[sqlite3.Connection] = [self.near]
        self._pool = ThreadPoolExecutor(FAR, thread_name_prefix="fhir-store-search")
        self._lent = 0

    def _connect(self) -> sqlite3.Connection:
        db = files.connect(self._path, self._durability, cache_kib=self._cache_kib, mmap_bytes=self._mmap_bytes)
        db.execute("PRAGMA busy_timeout = 2000")
        db.execute("PRAGMA query_only = 1")
        register_functions(db, self._keys)
        self._register(db)
        limit = self._limits[id(db)] = _Limit()
        db.set_progress_handler(limit.passed, STEPS)
        return db

    def reading(self, db: sqlite3.Connection) -> Reading:
        """One state of the database for all statements within, and the time limit for each search."""
        return Reading(db, self._limits[id(db)], self._seconds)

    async def in_thread(self, work: Callable[[sqlite3.Connection, BodyCodec], Any]) -> Any:
        """The result of `work`, which gets a connection of its own."""

        def run() -> Any:
            if self._idle.empty() and self._lent < FAR:
                self._lent += 1
                db = self._connect()
                self._all.append(db)
                own = (db, BodyCodec())
            else:
                own = self._idle.get()
            try:
                with self.reading(own[0]):
                    return work(*own)
            finally:
                self._idle.put(own)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def close(self) -> None:
        """Interrupt what still runs and release the files."""
        for db in self._all[1:]:
            db.interrupt()
        self._pool.shutdown(wait=True)
        for db in self._all:
            db.close()
