"""The table of search parameters that the site defines: written in the unit that writes a SearchParameter, read when the generation grew.

A parameter is 0 being filled, 1 served, 2 to be removed, 3 gone. Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from fhir_server.errors import FhirError
from fhir_server.search.parameters import CUSTOM, Custom, Definition
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, Keys

BUILDING, SERVED, REMOVED, GONE = range(4)
OPEN_END = -1
"""`upto` until the transaction that defines the parameter is whole."""


def load(db: sqlite3.Connection) -> list[Custom]:
    """All parameters by which resources are indexed."""
    rows = db.execute(
        "SELECT number, type, code, kind, expression, targets, url, second, state, since FROM parameter WHERE state < ?", (REMOVED,)
    ).fetchall()
    return [
        Custom(number, Definition(type, code, kind, expression, tuple(json.loads(targets)), url, bool(second)), state == SERVED, since)
        for number, type, code, kind, expression, targets, url, second, state, since in rows
    ]


def progress(db: sqlite3.Connection, type: str, code: str) -> tuple[int, int]:
    """How many resources are indexed by a parameter, of how many."""
    row = db.execute(
        "SELECT done, max(total, done) FROM parameter WHERE type = ? AND code = ? AND state < ?", (type, code, REMOVED)
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def not_ready(db: sqlite3.Connection) -> list[dict[str, object]]:
    """The parameters that are being filled, with their progress over all types."""
    rows = db.execute(
        "SELECT url, code, sum(done), sum(max(total, done)) FROM parameter WHERE state = ? GROUP BY id ORDER BY min(number)", (BUILDING,)
    ).fetchall()
    return [{"url": url, "code": code, "done": done, "total": total} for url, code, done, total in rows]


class Claims:
    """What the SearchParameters of one unit ask for: checked before the unit's first row, written after its last one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._holders: dict[tuple[str, str], str | None] = {}
        self._numbers = 0
        self._changes: list[tuple[str, list[Definition]]] = []

    def add(self, id: str, wanted: list[Definition]) -> None:
        """SearchParameter/`id` is written and asks for this. Raises FhirError 422 where another one has the name, or numbers run out."""
        held = self._db.execute("SELECT type, code FROM parameter WHERE id = ? AND state < ?", (id, REMOVED)).fetchall()
        for at in held:
            self._holders.setdefault(at, None)
        for one in wanted:
            at = (one.type, one.code)
            other = self._holder(at)
            if other is not None and other != id:
                what = f"'{one.code}' is a search parameter of {one.type} already, by SearchParameter/{other}; retire that one first"
                zh = f"“{one.code}”已是 {one.type} 的检索参数，由 SearchParameter/{other} 定义；请先停用它"
                raise FhirError.of(
                    422, "duplicate", f"SearchParameter.code: {what}", "SearchParameter.code", zh=f"SearchParameter.code：{zh}"
                )
            self._holders[at] = id
            self._numbers += 2 if one.second else 1
        if _next_number(self._db) + self._numbers > TYPE_PARAMETER:
            raise FhirError.of(
                422,
                "too-costly",
                "SearchParameter: the numbers for search parameters of the site are used up",
                "SearchParameter",
                zh="SearchParameter：本站点可用的检索参数编号已用完",
            )
        self._changes.append((id, wanted))

    def _holder(self, at: tuple[str, str]) -> str | None:
        if at in self._holders:
            return self._holders[at]
        row = self._db.execute("SELECT id FROM parameter WHERE type = ? AND code = ? AND state < ?", (*at, REMOVED)).fetchone()
        return row[0] if row else None

    def write(self, keys: Keys) -> int | None:
        """Write what changes; the first new number, TYPE_PARAMETER if something changed but none is new, None if nothing changed."""
        first = _next_number(self._db)
        changed = [_change(self._db, keys, id, wanted) for id, wanted in self._changes]
        if not any(changed):
            return None
        self._db.execute("UPDATE state SET generation = generation + 1")
        if _next_number(self._db) == first:
            return TYPE_PARAMETER
        self._db.execute("UPDATE state SET building = max(building, 1)")
        return first


def _next_number(db: sqlite3.Connection) -> int:
    return db.execute("SELECT coalesce(max(number + 1 + second), ?) FROM parameter", (CUSTOM,)).fetchone()[0]


def _change(db: sqlite3.Connection, keys: Keys, id: str, wanted: Sequence[Definition]) -> bool:
    """Put this in the place of what the SearchParameter asked for before; what stays the same keeps its number."""
    new = {(one.type, one.code, one.kind, one.expression, json.dumps(one.targets)): one for one in wanted}
    changed = False
    rows = db.execute(
        "SELECT number, url, type, code, kind, expression, targets FROM parameter WHERE id = ? AND state < ?", (id, REMOVED)
    ).fetchall()
    for number, url, *place in rows:
        kept = new.pop(tuple(place), None)
        if kept is None:
            db.execute("UPDATE parameter SET state = ? WHERE number = ?", (REMOVED, number))
            changed = True
        elif kept.url != url:
            db.execute("UPDATE parameter SET url = ? WHERE number = ?", (kept.url, number))
            changed = True
    for (*fields, targets), one in new.items():
        term = keys.find(db, TYPE_PARAMETER, one.type, "")
        db.execute(
            "INSERT INTO parameter(number, second, id, type, code, kind, expression, targets, url, upto, total) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (_next_number(db), one.second, id, *fields, targets, one.url, OPEN_END, term.n if term else 0),
        )
    return changed or bool(new)
