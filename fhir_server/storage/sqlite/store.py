"""The embedded store: one SQLite database in write-ahead mode, behind the store's port.

Layout: docs/storage-layout.md
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.search.custom import Customs
from fhir_server.search.query import Query
from fhir_server.search.values import IndexValues
from fhir_server.storage.body import BodyCodec
from fhir_server.storage.port import Commit, Page, Position, Purge, Purged, Reindexing, Stored, Unit, UnusableStore
from fhir_server.storage.sqlite import customs as custom_table
from fhir_server.storage.sqlite import erasing, files, filling, history, jobs, purging, rebuilding
from fhir_server.storage.sqlite.committer import Committer
from fhir_server.storage.sqlite.faults import translated
from fhir_server.storage.sqlite.full_text import FullText, Source
from fhir_server.storage.sqlite.joins import register_functions
from fhir_server.storage.sqlite.key_searches import KeySearches
from fhir_server.storage.sqlite.keys import Hash, Keys, keyed_hash
from fhir_server.storage.sqlite.node_inside import Insides
from fhir_server.storage.sqlite.pages import explained, fetch, run_page
from fhir_server.storage.sqlite.queues import Queues, system_clock
from fhir_server.storage.sqlite.readers import Readers
from fhir_server.storage.sqlite.readiness import Changed, Readiness
from fhir_server.storage.sqlite.reindexer import Reindexer
from fhir_server.storage.sqlite.schema import FILE_NAME, METHODS
from fhir_server.storage.sqlite.searching import HEAVY, Search, snapshot_of
from fhir_server.storage.sqlite.selects import Knowledge, PatientCode
from fhir_server.storage.sqlite.sweeper import Sweeper
from fhir_server.storage.sqlite.text_searches import TextSearches
from fhir_server.storage.sqlite.tools import Part, Tools
from fhir_server.storage.sqlite.versions import last_version
from fhir_server.storage.sqlite.waking import Waker
from fhir_server.storage.sqlite.writer import Writer

READ = (
    "SELECT v.rid, v.version, v.updated, v.method, v.body FROM resource r "
    "CROSS JOIN version v ON v.rid = r.rid WHERE r.type = ? AND r.id = ?"
)
WRITE_CACHE_KIB = 24_000
OPENING_SECONDS = 10.0
"""How long a store that another process holds alone is waited for."""
READ_CACHE_KIB = 12_000
MMAP_BYTES = 64 << 20
WIPES = 50
"""Looks for a moment without readers, in which the log can be cut off after a purge."""


class SqliteStore(Queues):
    """See `fhir_server.storage.port.Store` for what each method promises."""

    def __init__(
        self,
        folder: Path | str,
        *,
        index: Callable[[dict[str, Any]], IndexValues],
        type_names: Sequence[str],
        part: Callable[[str, frozenset[str]], Part] | None = None,
        dumps: Callable[[Any], bytes] | None = None,
        loads: Callable[[bytes], dict[str, Any]] | None = None,
        fold: Callable[[str], str] | None = None,
        durability: str = "FULL",
        group_ms: float = 2.0,
        search_seconds: float = 30.0,
        cursor_seconds: int = 3600,
        clinical: Mapping[str, int] | None = None,
        patient_code: Mapping[str, tuple[int, int, int]] | None = None,
        clock: Callable[[], int] = system_clock,
        hash64: Hash | None = None,
        fingerprint: str = "",
        customs: Customs | None = None,
        words: Source | None = None,
        observed: Callable[[int, float], None] | None = None,
    ) -> None:
        """`part`: which parameters depend on some members of a type, and their index values (`Indexer.part`); spares work on updates.

        `clinical`: type -> number of the parameter whose start date `IndexValues.clinical` is.

        `patient_code`: type -> numbers of (reference to the patient, code, key of both). `clock` gives `meta.lastUpdated`.
        `durability`: FULL (each acknowledged write survives power loss) or NORMAL (the last ones may not; never inconsistent).
        `hash64` replaces the store's own hash (tests of collisions). `fingerprint` names the rules of `index`: a store whose index was made
        by others is indexed anew from its opening on; '' = not looked at. `customs`: what the site may define itself; None = nothing.
        `words`: takes the words out of resources; None = no searches by words. `observed` is told of each transaction: how many pieces of
        work it held, and after how many seconds it was durable.
        """
        if durability not in ("FULL", "NORMAL"):
            raise ValueError(f"durability must be FULL or NORMAL, not {durability!r}")
        if dumps is None or loads is None:
            from fhir_server.model import json_codec

            dumps, loads = dumps or json_codec.dumps, loads or json_codec.loads_stored
        if fold is None:
            from fhir_server.search.text import fold as fold_text

            fold = fold_text
        self._folder = Path(folder)
        self._observed = observed
        self._part, self._fingerprint, self._customs, self._words = part, fingerprint, customs, words
        self._index, self._dumps, self._loads, self._fold = index, dumps, loads, fold
        self._type_names = tuple(type_names)
        self._durability = durability
        self._group_seconds = group_ms / 1000
        self._search_seconds = search_seconds
        self._cursor_seconds = cursor_seconds
        self._clinical = dict(clinical or {})
        self._patient_code = {type: PatientCode(*numbers) for type, numbers in (patient_code or {}).items()}
        self._clock = clock
        self._hash64 = hash64
        self._codec = BodyCodec()
        self._opened = False

    # --- life
    async def open(self) -> None:
        path = files.prepare(self._folder)
        self._path = path
        self._file = str(path)
        try:
            writing = await self._connected(path)
            while not files.migrate(writing):
                await asyncio.sleep(0.02)
            types = await self._type_numbers(writing)
            (secret,) = writing.execute("SELECT value FROM secret WHERE name = 'hash'").fetchone()
        except sqlite3.Error as error:
            raise UnusableStore(f"{path}: cannot be opened ({error})") from error
        self._keys = Keys(self._hash64 or keyed_hash(secret))
        self._types = types
        self._names = [""] * (max(types.values(), default=0) + 1)
        for name, number in types.items():
            self._names[number] = name
        insides = Insides(self._index, self._loads)
        self._knowledge = Knowledge(types, self._clinical, self._patient_code, self._fold, insides)
        self._readers = Readers(path, self._durability, self._keys, self._search_seconds, READ_CACHE_KIB, MMAP_BYTES, insides.register)
        self._db = self._readers.near
        self._by_keys = KeySearches(self._db, self._keys, self._knowledge, self._names, self._codec)
        self._by_texts = TextSearches(self._db, self._keys, self._knowledge, self._codec)
        register_functions(writing, self._keys)
        insides.register(writing)
        self._writing = writing
        self._ready = Readiness(self._keys, self._customs, self._fingerprint)
        writer = self._writer = Writer(writing, self._keys, self._tools())
        if self._fingerprint:
            wanted = self._customs.wanted if self._customs else None
            await rebuilding.ensure(writer, self._fingerprint, self._clock(), self._known, wanted, types.get("SearchParameter"))
        self._ready.renew(self._db)
        if self._customs is not None:
            self._customs.connect(lambda type, code: self._asked(custom_table.progress, type, code), self.renew)
        self._waker = Waker(self._db)
        self._committer = Committer(writer, self._file, self._committed, self._group_seconds, self._observed)
        self._sweeper = Sweeper(self._committer, self._db, self._names, self._clock, self._cursor_seconds)
        self._sweeper.start()
        filler = filling.Filler(self._names, self._values, self._known, self._clock)
        self._reindexer = Reindexer(self._committer, self._db, filler)
        self._reindexer.start()
        self._full_text: FullText | None = None
        if self._words is not None:
            self._full_text = FullText(self._committer, self._db, self._words, lambda: snapshot_of(self._db, self._keys))
        self._opened = True

    async def _connected(self, path: Path) -> sqlite3.Connection:
        """The connection that writes. After a kill one process carries the log over while the others wait for it."""
        until = monotonic() + OPENING_SECONDS
        while True:
            db = files.connect(path, self._durability, cache_kib=WRITE_CACHE_KIB)
            try:
                db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
                return db
            except sqlite3.OperationalError as error:
                db.close()
                if "locked" not in str(error) or monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    def _tools(self) -> Tools:
        """What the writer is given."""
        return Tools(
            self._index,
            self._part,
            self._dumps,
            self._loads,
            self._codec,
            self._types,
            self._clinical,
            frozenset(numbers.both for numbers in self._patient_code.values()),
            self._clock,
            self._match,
            self._ready.renew,
            self._customs.wanted if self._customs else None,
            self._known,
        )

    async def _type_numbers(self, db: sqlite3.Connection) -> dict[str, int]:
        """The small numbers of the resource types; new types get the next ones."""
        for attempt in range(200):
            known = dict(db.execute("SELECT name, number FROM type").fetchall())
            missing = [(name,) for name in self._type_names if name not in known]
            if not missing:
                return known
            try:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("INSERT INTO type(name) VALUES (?) ON CONFLICT DO NOTHING", missing)
                db.commit()
            except sqlite3.OperationalError:
                if db.in_transaction:
                    db.rollback()
                if attempt == 199:
                    raise
                await asyncio.sleep(0.02)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Finish what is in flight, make all durable, release every file."""
        if not self._opened:
            return
        self._opened = False
        await self._sweeper.stop()
        await self._reindexer.stop()
        if self._full_text is not None:
            await self._full_text.stop()
        self._waker.stop()
        await self._committer.close()
        self._readers.close()
        # With a full disk, or another process at work, the log stays beside the database and is read at the next start.
        with contextlib.suppress(sqlite3.Error):
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._writing.close()

    # --- what is indexed
    def _known(self) -> set[int]:
        return self._customs.numbers() if self._customs else set()

    def _values(self, kind: str, numbers: frozenset[int]) -> Callable[[dict[str, Any]], IndexValues]:
        assert self._customs is not None
        return self._customs.values(kind, numbers)

    def _committed(self) -> None:
        """After a commit of this process: what it changed of the rules holds for its next search."""
        if self._writer.defined:
            self._writer.defined = False
            self.renew()
            self._reindexer.wake()
        self._waker.wake()

    def renew(self) -> None:
        """Learn what this or another process has changed of the search parameters. Raises FhirError 503."""
        self._asked(self._ready.renew)

    async def reindex(self, types: Sequence[str] = ()) -> int:
        known = self._known()
        id: int = await self._committer.submit(lambda writer: filling.begin(writer, types, self._clock(), known))
        self._reindexer.wake()
        return id

    async def reindexing(self, id: int | None = None) -> list[Reindexing]:
        found: list[Reindexing] = self._asked(filling.listed, id)
        return found

    # --- writes
    def _match(self, db: sqlite3.Connection, query: Query) -> list[tuple[str, str]]:
        self._ready.within(db, query, self._writer.building)
        search = Search(db, self._keys, self._knowledge, query, 1 << 62)
        found: list[tuple[str, str]] = []
        for hit in search.hits(None, 2):
            type, id = db.execute("SELECT type, id FROM version WHERE rid = ?", (hit.rid,)).fetchone()
            found.append((self._names[type], id))
        return found

    async def transact(self, unit: Unit) -> Commit:
        commit: Commit = await self._committer.submit(unit)
        return commit

    async def erase(self, type: str, id: str) -> int:
        number = self._types.get(type)
        if number is None:
            return 0
        erased: int = await self._committer.submit(lambda writer: erasing.erase(writer, self._names, number, id))
        return erased

    async def purge(self, purge: Purge) -> Purged:
        def looked(db: sqlite3.Connection, codec: BodyCodec) -> tuple[int, list[tuple[str, str]]]:
            upto = snapshot_of(db, self._keys)
            return upto, purging.deleted_members(db, self._names, purge, 0, codec.unpack, self._loads) if purge.members else []

        try:
            # Deletions are in no index: all are looked at, away from the event loop, and inside the unit those that came since.
            upto, deleted = await self._readers.in_thread(looked)
        except sqlite3.Error as error:
            raise translated(error, self._file) from error
        purged: Purged = await self._committer.submit(
            lambda writer: purging.purge(writer, self._names, purge, upto, deleted, partial(self._all, most=purging.MOST + 1))
        )
        for _ in range(WIPES):
            self._committer.wiping = True
            await self._act(lambda db: None)
            await asyncio.sleep(0.02)
            if not self._committer.wiping:
                return purged._replace(wiped=True)
        return purged

    def _all(self, db: sqlite3.Connection, query: Query, most: int) -> list[Stored]:
        """All matches inside a write transaction, at most so many."""
        self._ready.within(db, query, self._writer.building)
        hits = Search(db, self._keys, self._knowledge, query, 1 << 62).hits(None, most)
        return [
            stored
            for at in range(0, len(hits), 500)
            for stored in fetch(db, self._codec, self._names, [h.rid for h in hits[at : at + 500]])
        ]

    # --- point reads
    def _stored(self, row: tuple[Any, ...]) -> Stored:
        rid, type, id, version, updated, method, blob = row
        return Stored(rid, self._names[type], id, version, updated, METHODS[method], self._codec.unpack(blob))

    def _execute(self, statement: str, args: tuple[Any, ...]) -> list[Any]:
        try:
            return self._db.execute(statement, args).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self._file) from error

    async def read(self, type: str, id: str) -> Stored | None:
        try:
            row = self._db.execute(READ, (self._types.get(type), id)).fetchone()
        except UnicodeEncodeError:
            # A lone surrogate in the id: no resource has such a one.
            return None
        except sqlite3.Error as error:
            raise translated(error, self._file) from error
        if row is None:
            return None
        rid, version, updated, method, blob = row
        return Stored(rid, type, id, version, updated, METHODS[method], self._codec.unpack(blob))

    async def read_version(self, type: str, id: str, version: int) -> Stored | None:
        current = await self.read(type, id)
        if current is None or current.version == version:
            return current
        if not 0 < version < current.version:
            return None
        rows = self._execute(
            f"SELECT {history.COLUMNS} FROM old o CROSS JOIN version v ON v.rid = o.rid WHERE o.type = ? AND o.id = ? AND o.version = ?",
            (self._types[type], id, version),
        )
        return self._stored(rows[0]) if rows else None

    async def read_many(self, references: Sequence[tuple[str, str]], snapshot: int | None = None) -> list[Stored]:
        limit = 1 << 62 if snapshot is None else snapshot
        found: list[Stored] = []
        for at, (type, id) in enumerate(references):
            stored = await self.read(type, id)
            if stored is not None and stored.rid > limit:
                rows = self._execute(
                    f"SELECT {history.COLUMNS} FROM old o CROSS JOIN version v ON v.rid = o.rid "
                    "WHERE o.type = ? AND o.id = ? AND o.rid <= ? ORDER BY o.version DESC LIMIT 1",
                    (self._types[type], id, limit),
                )
                stored = self._stored(rows[0]) if rows else None
            if stored is not None and not stored.deleted:
                found.append(stored)
            if at % 200 == 199:
                await asyncio.sleep(0)
        return found

    async def previous(self, stored: Stored) -> Stored | None:
        return await self.read_version(stored.type, stored.id, stored.version - 1)

    async def last_rid(self) -> int:
        return snapshot_of(self._db, self._keys)

    # --- searches
    async def _searched(
        self,
        query: Query,
        snapshot: int | None,
        work: Callable[[Search, BodyCodec], Any],
        *,
        counting: bool = False,
        quick: Callable[[int], Any] | None = None,
    ) -> Any:
        """Run a small search at once, a large one in a thread. `quick` is tried first, with the snapshot; None: it cannot."""
        given = snapshot
        words = await self._words_ready() if query.words else None
        if words is not None and snapshot is None:
            snapshot = words[0]
        try:
            with self._readers.reading(self._db):
                at = self._ready.at(self._db, query, snapshot)
                if words is not None and not words[1].covers(self._db, at):
                    raise Changed
                if quick is not None and (found := quick(at)) is not None:
                    return found
                search = Search(self._db, self._keys, self._knowledge, query, at, bound=snapshot is not None)
                cost = search.cost
                if counting and search.free_total() is None:
                    cost = max(cost, search.count_cost())
                if cost <= HEAVY:
                    return work(search, self._codec)
        except sqlite3.Error as error:
            raise translated(error, self._file) from error
        except Changed:
            return await self._searched(query, given, work, counting=counting)

        def far(db: sqlite3.Connection, codec: BodyCodec) -> Any:
            at = self._ready.at(db, query, snapshot, far=True)
            if words is not None and not words[1].covers(db, at):
                raise Changed
            return work(Search(db, self._keys, self._knowledge, query, at, bound=snapshot is not None), codec)

        try:
            return await self._readers.in_thread(far)
        except sqlite3.Error as error:
            raise translated(error, self._file) from error
        except Changed:
            return await self._searched(query, given, work, counting=counting)

    async def _words_ready(self) -> tuple[int, FullText]:
        """A snapshot up to which all words are kept. Raises FhirError 503 while they are gathered."""
        if self._full_text is None:
            raise FhirError.of(
                501,
                "not-supported",
                "Searches by words (_text, _content, :text) are switched off in this store",
                zh="此存储已关闭全文检索（_text、_content、:text）",
            )
        return await self._full_text.ready(), self._full_text

    async def search(self, query: Query, after: Position | None = None, snapshot: int | None = None) -> Page:
        past = after.snapshot if after else snapshot
        quick = None
        if len(query.types) == 1 and query.limit:
            quick = partial(self._quick_page, query, after, bound=past is not None)
        page: Page = await self._searched(
            query,
            past,
            lambda search, codec: run_page(search, codec, self._names, after),
            counting=query.total != "none" and (after is None or after.total is None),
            quick=quick,
        )
        return page

    def _quick_page(self, query: Query, after: Position | None, snapshot: int, *, bound: bool) -> Page | None:
        """A page of the searches that need no planning, None for others."""
        found = self._by_keys.page(query, after, snapshot, bound=bound)
        return found or self._by_texts.page(query, after, snapshot, bound=bound, most=HEAVY)

    async def count(self, query: Query, snapshot: int | None = None) -> int:
        def work(search: Search, codec: BodyCodec) -> int:
            free = search.free_total()
            return search.count() if free is None else free

        number: int = await self._searched(query, snapshot, work, counting=True)
        return number

    async def explain(self, query: Query) -> dict[str, Any]:
        facts: dict[str, Any] = await self._searched(query, None, lambda search, codec: explained(search))
        return facts

    async def history(
        self,
        type: str | None = None,
        id: str | None = None,
        *,
        since: int | None = None,
        at: tuple[int, int] | None = None,
        limit: int = 20,
        after: Position | None = None,
        total: bool = False,
        snapshot: int | None = None,
    ) -> Page:
        number = None if type is None else self._types.get(type)
        if type is not None and number is None:
            return Page([], None, 0 if total else None)

        def work(db: sqlite3.Connection, codec: BodyCodec) -> Page:
            def make(row: tuple[Any, ...]) -> Stored:
                rid, type_number, its_id, version, updated, method, blob = row
                return Stored(rid, self._names[type_number], its_id, version, updated, METHODS[method], codec.unpack(blob))

            upto = after.snapshot if after else snapshot_of(db, self._keys) if snapshot is None else snapshot
            return history.page(db, make, number, id, upto, since=since, at=at, limit=limit, after=after, total=total)

        heavy = id is None and (at is not None or (total and (after is None or after.total is None)))
        try:
            if heavy and last_version(self._db) > HEAVY:
                page: Page = await self._readers.in_thread(work)
                return page
            with self._readers.reading(self._db):
                return work(self._db, self._codec)
        except sqlite3.Error as error:
            raise translated(error, self._file) from error

    # --- the change feed
    async def changes(self, after: int, limit: int = 1000) -> list[Stored]:
        rows = self._execute(f"SELECT {history.COLUMNS} FROM version v WHERE v.rid > ? ORDER BY v.rid LIMIT ?", (after, limit))
        return [self._stored(row) for row in rows]

    async def position(self, name: str) -> int:
        return self._asked(jobs.position, name)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        return self._waker.subscribe(wake)

    # --- secrets
    async def secret(self, name: str) -> bytes:
        if name == "hash":
            raise ValueError("this name is the store's own")
        row = self._execute("SELECT value FROM secret WHERE name = ?", (name,))
        if row:
            return bytes(row[0][0])

        def make(db: sqlite3.Connection) -> bytes:
            db.execute("INSERT INTO secret(name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, os.urandom(32)))
            return bytes(db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()[0])

        made: bytes = await self._act(make)
        return made

    # --- health
    def sizes(self) -> dict[str, int]:
        """Bytes of the database and of its log, asked of the file system alone."""
        log = Path(f"{self._path}-wal")
        return {"bytes": self._path.stat().st_size, "log_bytes": log.stat().st_size if log.exists() else 0}

    async def check(self) -> dict[str, Any]:
        try:
            await self._act(lambda db: db.execute("UPDATE state SET probe = probe + 1"))
        except FhirError as error:
            raise FhirError(503, error.issues, error.headers) from error
        space = os.statvfs(self._folder)
        return {
            "store": "sqlite",
            "file": FILE_NAME,
            **self.sizes(),
            "free_bytes": space.f_bavail * space.f_frsize,
            "last_rid": await self.last_rid(),
            "durability": self._durability,
            "superseded": self._execute("SELECT count(*) FROM superseded", ())[0][0],
            "indexing": [
                {"types": one.types or "all", "done": one.done, "total": one.total} for one in await self.reindexing() if not one.ended
            ],
            "parameters_not_ready": self._asked(custom_table.not_ready),
        }


__all__ = ["FILE_NAME", "SqliteStore", "fetch"]
