"""Code systems too large for a resource (SNOMED CT, LOINC, ICD-10 editions): one file each in the data folder, looked up by code.

A file is written beside the one in use and takes its place at once; readers see the change with their next look.
Specification: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fhir_server.model import json_codec
from fhir_server.model.library import order
from fhir_server.terminology.code_systems import CodeSystem, Concept

FOLDER = "terminology"
_SCHEMA = """
CREATE TABLE about (url TEXT, version TEXT, name TEXT, language TEXT, properties TEXT);
CREATE TABLE concept (code TEXT PRIMARY KEY, display TEXT NOT NULL, more BLOB) WITHOUT ROWID;
CREATE TABLE edge (parent TEXT NOT NULL, child TEXT NOT NULL, PRIMARY KEY (parent, child)) WITHOUT ROWID;
"""
_CLOSURE = """
WITH RECURSIVE reached(code) AS (VALUES(?) UNION SELECT e.{there} FROM reached r JOIN edge e ON e.{here} = r.code)
SELECT code FROM reached
"""


@dataclass(slots=True)
class Row:
    """A concept to be stored. `parents`: codes; what is not among the concepts is passed over."""

    code: str
    display: str
    designations: Sequence[Mapping[str, Any]] = ()
    properties: Sequence[tuple[str, Any]] = ()
    parents: Sequence[str] = ()
    definition: str = ""


def file_of(folder: Path, url: str, version: str) -> Path:
    """Where a version of a code system lies."""
    return folder / FOLDER / (hashlib.sha256(f"{url}|{version}".encode()).hexdigest()[:24] + ".db")


def write(folder: Path, url: str, version: str, name: str, language: str, properties: Mapping[str, str], rows: Iterable[Row]) -> int:
    """Store a code system, in the place of one of the same url and version; how many concepts it has. All of it or nothing."""
    path = file_of(folder, url, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_suffix(f".{os.getpid()}.new")
    passing.unlink(missing_ok=True)
    db = sqlite3.connect(passing, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = OFF")
        db.executescript(_SCHEMA)
        db.execute("BEGIN")
        db.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", (url, version, name, language, json.dumps(dict(properties))))
        for row in rows:
            more = {"d": row.designations, "p": row.properties, "t": row.definition}
            packed = json_codec.dumps(more).decode() if any(more.values()) else None
            db.execute("INSERT OR REPLACE INTO concept VALUES (?, ?, ?)", (row.code, row.display, packed))
            db.executemany("INSERT OR IGNORE INTO edge VALUES (?, ?)", [(parent, row.code) for parent in row.parents])
        db.execute("DELETE FROM edge WHERE parent NOT IN (SELECT code FROM concept)")
        db.execute("CREATE INDEX edge_child ON edge (child, parent)")
        (count,) = db.execute("SELECT count(*) FROM concept").fetchone()
        db.execute("COMMIT")
    except BaseException:
        db.close()
        passing.unlink(missing_ok=True)
        raise
    db.close()
    with passing.open("rb+") as written:
        os.fsync(written.fileno())
    passing.replace(path)
    return int(count)


class _Concepts(Mapping[str, Concept]):
    """The concepts of a file as a mapping; only the ones that are asked for are read."""

    def __init__(self, db: sqlite3.Connection, added: Mapping[str, Concept] | None = None) -> None:
        """`added`: concepts that supplements have said more of."""
        self._db, self._added = db, added or {}

    def __getitem__(self, code: str) -> Concept:
        if code in self._added:
            return self._added[code]
        row = self._db.execute("SELECT code, display, more FROM concept WHERE code = ?", (code,)).fetchone()
        if row is None:
            raise KeyError(code)
        return _concept(row)

    def __iter__(self) -> Iterator[str]:
        return (code for (code,) in self._db.execute("SELECT code FROM concept"))

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM concept").fetchone()[0])

    def values(self) -> Any:
        """All concepts in the order of their codes, one after the other."""
        return (_concept(row) for row in self._db.execute("SELECT code, display, more FROM concept ORDER BY code"))


def _concept(row: tuple[str, str, str | None]) -> Concept:
    more = json_codec.loads_stored(row[2].encode()) if row[2] else {}
    properties = tuple((str(code), value) for code, value in more.get("p", ()))
    return Concept(row[0], row[1], more.get("t", ""), properties, tuple(more.get("d", ())))


class _Edges(Mapping[str, tuple[str, ...]]):
    """Parents or children of each code."""

    def __init__(self, db: sqlite3.Connection, here: str, there: str) -> None:
        self._db, self._ask = db, f"SELECT {there} FROM edge WHERE {here} = ? ORDER BY 1"

    def __getitem__(self, code: str) -> tuple[str, ...]:
        found = tuple(other for (other,) in self._db.execute(self._ask, (code,)))
        if not found:
            raise KeyError(code)
        return found

    def __iter__(self) -> Iterator[str]:
        raise TypeError("the edges of a large code system are not listed")

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM edge").fetchone()[0])


@dataclass(slots=True)
class LargeCodeSystem(CodeSystem):
    """A code system in a file; what it answers is read when it is asked."""

    db: sqlite3.Connection | None = None

    def _with(self, added: Mapping[str, Concept]) -> Any:
        assert self.db is not None
        return _Concepts(self.db, added)

    def _closure(self, code: str, steps: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
        if self.db is None or self.find(code) is None:
            return
        ways = {"here": "parent", "there": "child"} if steps is self.children else {"here": "child", "there": "parent"}
        for (found,) in self.db.execute(_CLOSURE.format(**ways), (code,)):
            yield found

    def search(self, words: list[str]) -> Iterator[Concept]:
        """Concepts that may hold all words in their code or texts, those with the shortest display first."""
        assert self.db is not None
        tests = " AND ".join(["(instr(lower(code || ' ' || display || ' ' || coalesce(more, '')), ?) > 0)"] * len(words))
        sql = f"SELECT code, display, more FROM concept WHERE {tests} ORDER BY length(display), code"
        return (_concept(row) for row in self.db.execute(sql, [word.lower() for word in words]))


class LargeSystems:
    """The files of a data folder, as `refresh` found them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._open: dict[Path, tuple[int, LargeCodeSystem]] = {}

    def refresh(self) -> tuple[tuple[str, int], ...]:
        """Open what is new or was changed; what there is now, by name and time."""
        stamps = {path: path.stat().st_mtime_ns for path in sorted(self._folder.glob("*.db"))} if self._folder.is_dir() else {}
        for path, stamp in stamps.items():
            held = self._open.get(path)
            if held is None or held[0] != stamp:
                self._open[path] = (stamp, _opened(path))
        for path in [one for one in self._open if one not in stamps]:
            del self._open[path]
        return tuple((path.name, stamp) for path, stamp in stamps.items())

    def all(self) -> list[LargeCodeSystem]:
        return [one for _, one in self._open.values()]

    def find(self, url: str, version: str = "") -> LargeCodeSystem | None:
        """A version of a system, of several the highest; or None."""
        fitting = [one for one in self.all() if one.url == url and version in ("", one.version)]
        return max(fitting, key=lambda one: order(one.version), default=None)


def _opened(path: Path) -> LargeCodeSystem:
    db = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    url, version, name, language, properties = db.execute("SELECT url, version, name, language, properties FROM about").fetchone()
    made = LargeCodeSystem(url, version, True, True, name, language, "complete", json.loads(properties), db=db)
    made.concepts = _Concepts(db)  # type: ignore[assignment]
    made.parents, made.children = _Edges(db, "child", "parent"), _Edges(db, "parent", "child")  # type: ignore[assignment]
    return made
