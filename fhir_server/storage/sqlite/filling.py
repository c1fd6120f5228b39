"""Filling the index while the server works: a slice of versions at a time, progress and rows in the same transaction.

Three kinds of work, in this order: the whole index, emptied before; the values of parameters that the site has defined; the rows of all
resources of some types, written once more. After them, what is left of removed parameters is cleared away.
Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fhir_server.search.values import MIN_INSTANT, IndexValues
from fhir_server.storage.port import Reindexing
from fhir_server.storage.sqlite.customs import BUILDING, GONE, OPEN_END, REMOVED, SERVED
from fhir_server.storage.sqlite.entries import pack_references, unpack_references
from fhir_server.storage.sqlite.gaps import NOTHING, without
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, parameter_bounds
from fhir_server.storage.sqlite.schema import INDEX_TABLES
from fhir_server.storage.sqlite.writer import SLICE_SECONDS, Writer

log = logging.getLogger(__name__)

SLICE = 40
"""Versions between two looks at the clock."""
BUDGET = 0.02
"""Seconds of work in one transaction, during which other writers wait."""
CLEARED = 1000
"""Rows of a removed parameter, or of an earlier index, that are taken away at once."""
ASIDE = "_aside_"
IS_ASIDE = f"name GLOB '*{ASIDE}[0-9]*'"
"""Tables of an earlier index."""

Values = Callable[[str, frozenset[int]], Callable[[dict[str, Any]], IndexValues]]
"""(type, numbers) -> what gives the values of these numbers."""


@dataclass(slots=True)
class Version:
    """A live version that is visited."""

    rid: int
    type: str
    type_number: int
    id: str
    clinical: int
    refs: bytes | None
    resource: dict[str, Any]


def is_work(db: sqlite3.Connection) -> bool:
    """Whether there is anything to do."""
    row = db.execute(
        "SELECT EXISTS (SELECT 1 FROM reindexing WHERE ended IS NULL) OR EXISTS (SELECT 1 FROM parameter WHERE state IN (?, ?)) "
        f"OR EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND {IS_ASIDE})",
        (BUILDING, REMOVED),
    ).fetchone()
    return bool(row[0])


class Filler:
    """Does the work. `names`: type names by number; `values`: values of some numbers; `clock`: milliseconds since 1970."""

    def __init__(self, names: Sequence[str], values: Values, known: Callable[[], set[int]], clock: Callable[[], int]) -> None:
        self._names, self._values, self._known, self._clock = names, values, known, clock
        self._numbers = {name: number for number, name in enumerate(names)}

    def work(self, writer: Writer) -> Generator[None, None, bool]:
        """Work for BUDGET seconds inside a transaction; whether there was anything to do."""
        started = perf_counter()
        found = False
        while perf_counter() - started < BUDGET:
            if not self._slice(writer):
                return found
            found = True
            if perf_counter() - started > SLICE_SECONDS:
                yield
        return found

    def _slice(self, writer: Writer) -> bool:
        db = writer.db
        whole = db.execute("SELECT id, last, upto FROM reindexing WHERE ended IS NULL AND types = '[]' ORDER BY id").fetchone()
        if whole:
            self._whole(writer, *whole)
            # Their pages serve the new index, so that the file does not grow.
            _clear_aside(db)
            return True
        if self._parameters(writer):
            return True
        renewed = db.execute("SELECT id, last, upto, types FROM reindexing WHERE ended IS NULL ORDER BY id").fetchone()
        if renewed:
            self._renew(writer, *renewed)
            return True
        return self._clear(writer) or _clear_aside(db)

    # --- walking
    def _walk(self, writer: Writer, last: int, upto: int, type: int | None) -> tuple[list[Version], int]:
        """The live versions among the next SLICE ones, and the last rid that was looked at."""
        which = "" if type is None else "AND type = ?"
        rows = writer.db.execute(
            "SELECT v.rid, v.type, v.id, v.clinical, v.refs, CASE WHEN r.rid = v.rid AND v.method <> 3 THEN v.body END FROM "
            f"(SELECT rid FROM version WHERE rid > ? AND rid <= ? {which} ORDER BY rid LIMIT ?) w "
            "CROSS JOIN version v ON v.rid = w.rid CROSS JOIN resource r ON r.type = v.type AND r.id = v.id ORDER BY v.rid",
            (last, upto, *(() if type is None else (type,)), SLICE),
        ).fetchall()
        live = [
            Version(rid, self._names[number], number, id, clinical, refs, writer.loads(blob))
            for rid, number, id, clinical, refs, blob in rows
            if blob is not None
        ]
        return live, rows[-1][0] if len(rows) == SLICE else upto

    def _all_values(self, writer: Writer, version: Version) -> tuple[IndexValues, str]:
        """The values of a version, and what went wrong: then it is found by its type only."""
        try:
            return writer.index(version.resource), ""
        except Exception as fault:
            log.exception("a version of %s could not be indexed", version.type)
            return IndexValues([], [], [], MIN_INSTANT), f"{version.type}/{version.id}: {fault.__class__.__name__}: {fault}"[:300]

    # --- the whole index
    def _whole(self, writer: Writer, id: int, last: int, upto: int) -> None:
        versions, last = self._walk(writer, last, upto, None)
        faults: list[str] = []
        for version in versions:
            values, fault = self._all_values(writer, version)
            faults += [fault] if fault else []
            # Parameters that were defined meanwhile are filled on their own.
            missing = _later(writer, version)
            entries = without(writer.entries_of(version.type, values), missing)
            refs = writer.index_rows(entries, version.rid, None)
            writer.db.execute("UPDATE version SET clinical = ?, refs = ? WHERE rid = ?", (entries.clinical, refs, version.rid))
        writer.flush()
        self._progress(writer, id, last, len(versions), faults)
        if last >= upto:
            self._end(writer, id)
            writer.db.execute(
                "UPDATE state SET origin = ?, building = EXISTS (SELECT 1 FROM parameter WHERE state = ?)", (writer.rid, BUILDING)
            )
        writer.look_again()

    # --- parameters of the site
    def _parameters(self, writer: Writer) -> bool:
        """Fill those that began together, for one type."""
        db, known = writer.db, self._known()
        rows = db.execute(
            "SELECT number, second, type, last, upto FROM parameter WHERE state = ? AND upto > ? ORDER BY number", (BUILDING, OPEN_END)
        ).fetchall()
        rows = [row for row in rows if row[0] in known]
        if not rows:
            return False
        _, _, type, last, upto = rows[0]
        group = [row for row in rows if row[2:] == (type, last, upto)]
        numbers = frozenset(number for one, second, *_ in group for number in ((one, one + 1) if second else (one,)))
        versions, last = self._walk(writer, last, upto, self._numbers[type])
        values = self._values(type, numbers)
        for version in versions:
            self._add(writer, version, values(version.resource), numbers)
        writer.flush()
        state, since = (SERVED, writer.rid) if last >= upto else (BUILDING, 0)
        db.executemany(
            "UPDATE parameter SET last = ?, done = done + ?, state = ?, since = ? WHERE number = ?",
            [(last, len(versions), state, since, row[0]) for row in group],
        )
        if state == SERVED:
            db.execute(
                "UPDATE state SET generation = generation + 1, building = EXISTS (SELECT 1 FROM parameter WHERE state = ?)", (BUILDING,)
            )
            writer.defined = True
        writer.look_again()
        return True

    def _add(self, writer: Writer, version: Version, values: IndexValues, numbers: frozenset[int]) -> None:
        """Rows and counts of these numbers only."""
        entries = writer.entries_of(version.type, values)
        entries.clinical = version.clinical
        refs = writer.index_rows(entries, version.rid, numbers)
        if refs:
            both = dict.fromkeys((*unpack_references(version.refs), *unpack_references(refs)))
            writer.db.execute("UPDATE version SET refs = ? WHERE rid = ?", (pack_references(tuple(both)), version.rid))

    # --- the rows of some types once more
    def _renew(self, writer: Writer, id: int, last: int, upto: int, types: str) -> None:
        wanted = {self._numbers[name] for name in json.loads(types)}
        only = next(iter(wanted)) if len(wanted) == 1 else None
        versions, last = self._walk(writer, last, upto, only)
        versions = [version for version in versions if version.type_number in wanted]
        faults: list[str] = []
        for version in versions:
            values, fault = self._all_values(writer, version)
            faults += [fault] if fault else []
            if not fault:
                self._write_again(writer, version, values)
        writer.flush()
        self._progress(writer, id, last, len(versions), faults)
        if last >= upto:
            self._end(writer, id)

    def _write_again(self, writer: Writer, version: Version, values: IndexValues) -> None:
        """Rows that are missing are there afterwards, texts and ranges that should not be are not; counts stay."""
        db = writer.db
        missing = NOTHING if writer.gaps is None else writer.gaps.missing(version.rid, version.type_number)
        entries = without(writer.entries_of(version.type, values), missing or NOTHING)
        if entries.clinical != version.clinical:
            keys = [writer.terms.key(form) for form in entries.forms[1:]]
            db.executemany(
                "DELETE FROM posting WHERE key = ? AND sort = ? AND rid = ?", [(key, version.clinical, version.rid) for key in keys]
            )
        db.execute("DELETE FROM text WHERE rid = ?", (version.rid,))
        db.execute("DELETE FROM range WHERE rid = ?", (version.rid,))
        refs = writer.index_rows(entries, version.rid, NOTHING)
        db.execute("UPDATE version SET clinical = ?, refs = ? WHERE rid = ?", (entries.clinical, refs, version.rid))

    # --- what is left of removed parameters
    def _clear(self, writer: Writer) -> bool:
        db = writer.db
        row = db.execute("SELECT number, second FROM parameter WHERE state = ? ORDER BY number LIMIT 1", (REMOVED,)).fetchone()
        if row is None:
            return False
        writer.flush()
        for number in (row[0], row[0] + 1) if row[1] else (row[0],):
            if _cleared(db, number):
                return True
            # Others remember the keys of forms: after this they look them up.
            low, high = parameter_bounds(number)
            db.execute("DELETE FROM term WHERE key BETWEEN ? AND ? OR key BETWEEN ? AND ?", (low, high, number << 3, number << 3 | 7))
            db.execute("UPDATE state SET epoch = epoch + 1")
            writer.terms.forget()
        db.execute("UPDATE parameter SET state = ? WHERE number = ?", (GONE, row[0]))
        return True

    # --- reports
    def _progress(self, writer: Writer, id: int, last: int, done: int, faults: list[str]) -> None:
        writer.db.execute(
            "UPDATE reindexing SET last = ?, done = done + ?, faults = faults + ?, fault = CASE fault WHEN '' THEN ? ELSE fault END "
            "WHERE id = ?",
            (last, done, len(faults), faults[0] if faults else "", id),
        )

    def _end(self, writer: Writer, id: int) -> None:
        writer.db.execute("UPDATE reindexing SET ended = ?, total = done WHERE id = ?", (self._clock(), id))
        done, faults = writer.db.execute("SELECT done, faults FROM reindexing WHERE id = ?", (id,)).fetchone()
        log.warning("indexing is complete: %d resources, %d of them with errors", done, faults)


def _later(writer: Writer, version: Version) -> frozenset[int]:
    """The numbers that are filled on their own after the whole index is."""
    found = NOTHING
    if writer.gaps is not None:
        for last, upto, numbers in writer.gaps.by_type.get(version.type_number, ()):
            if last < version.rid <= upto:
                found |= numbers
    return found


def _cleared(db: sqlite3.Connection, number: int) -> int:
    """Take some rows of a number away; how many."""
    low, high = parameter_bounds(number)
    ranges = (low, high, number << 3, number << 3 | 7)
    return sum(
        db.execute(f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {which} LIMIT {CLEARED})", args).rowcount
        for table, key, which, args in (
            ("posting", "key, sort, rid", "key BETWEEN ? AND ?", (low, high)),
            ("text", "parameter, folded, rid", "parameter = ?", (number,)),
            ("range", "key, low, rid, high", "key BETWEEN ? AND ? OR key BETWEEN ? AND ?", ranges),
        )
    )


def _clear_aside(db: sqlite3.Connection) -> bool:
    """Take some rows of a table of an earlier index away; whether there was one."""
    row = db.execute(f"SELECT name FROM sqlite_schema WHERE type = 'table' AND {IS_ASIDE} ORDER BY name LIMIT 1").fetchone()
    if row is None:
        return False
    name = row[0]
    key = INDEX_TABLES[name.partition(ASIDE)[0]][0]
    if db.execute(f"DELETE FROM {name} WHERE ({key}) IN (SELECT {key} FROM {name} LIMIT {CLEARED})").rowcount < CLEARED:
        db.execute(f"DROP TABLE {name}")
    return True


# --- beginning
def begin_whole(writer: Writer, now: int, known: set[int]) -> int:
    """Empty the index and have it filled again; the number of the work. One that is under way is begun anew."""
    writer.flush()
    db = writer.db
    low, high = parameter_bounds(TYPE_PARAMETER)
    (total,) = db.execute("SELECT coalesce(sum(n), 0) FROM term WHERE key BETWEEN ? AND ?", (low, high)).fetchone()
    earlier = db.execute("SELECT max(total) FROM reindexing WHERE ended IS NULL AND types = '[]'").fetchone()[0] or 0
    _set_aside(db)
    db.execute("UPDATE state SET epoch = epoch + 1, reach = 0, generation = generation + 1, building = 2, origin = ?", (writer.rid,))
    served = [(number,) for number in known]
    db.executemany(f"UPDATE parameter SET state = {SERVED}, done = total WHERE state = {BUILDING} AND number = ?", served)
    db.execute("UPDATE parameter SET state = ? WHERE state = ?", (GONE, REMOVED))
    db.execute("UPDATE reindexing SET ended = ?, fault = 'begun anew' WHERE ended IS NULL", (now,))
    id = db.execute(
        "INSERT INTO reindexing(types, upto, total, began) VALUES ('[]', ?, ?, ?)", (writer.rid, max(total, earlier), now)
    ).lastrowid
    writer.terms.forget()
    writer.look_again()
    writer.defined = True
    assert id is not None
    return id


def _set_aside(db: sqlite3.Connection) -> None:
    """Empty tables in the place of those of the index, at once; the old ones are cleared away piece by piece (`_clear_aside`)."""
    number = (db.execute("SELECT max(id) FROM reindexing").fetchone()[0] or 0) + 1
    for table, (_, *statements) in INDEX_TABLES.items():
        db.execute(f"ALTER TABLE {table} RENAME TO {table}{ASIDE}{number}")
        for statement in statements:
            db.execute(statement.format(f"_{number}"))


def begin(writer: Writer, types: Sequence[str], now: int, known: set[int]) -> int:
    """Start, or join, indexing of all resources of these types (none named: of everything); the number of the work."""
    named = json.dumps(sorted(set(types)))
    row = writer.db.execute("SELECT id FROM reindexing WHERE ended IS NULL AND types IN (?, '[]') ORDER BY types", (named,)).fetchone()
    if row:
        return int(row[0])
    if not types:
        return begin_whole(writer, now, known)
    writer.flush()
    total = sum(term.n for type in set(types) if (term := writer.find_type(type)))
    id = writer.db.execute(
        "INSERT INTO reindexing(types, upto, total, began) VALUES (?, ?, ?, ?)", (named, writer.rid, total, now)
    ).lastrowid
    assert id is not None
    return id


def listed(db: sqlite3.Connection, id: int | None) -> list[Reindexing]:
    """Work of this number, or (None) all that is kept, newest first."""
    which = "WHERE id = ?" if id is not None else ""
    rows = db.execute(
        f"SELECT id, types, done, max(total, done), faults, fault, began, ended FROM reindexing {which} ORDER BY id DESC LIMIT 100",
        () if id is None else (id,),
    ).fetchall()
    return [Reindexing(row[0], json.loads(row[1]), *row[2:]) for row in rows]
