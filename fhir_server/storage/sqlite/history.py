"""History of an instance, a type or the whole store, and the change feed: scans in the order of rid.

Specification: https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from fhir_server.storage.port import Page, Position, Stored
from fhir_server.storage.sqlite.versions import first_rid

COLUMNS = "v.rid, v.type, v.id, v.version, v.updated, v.method, v.body"
MakeStored = Callable[[tuple[Any, ...]], Stored]


def instance_page(
    db: sqlite3.Connection, type: int, id: str, tests: tuple[str, tuple[Any, ...]], limit: int, after: Position | None
) -> list[tuple[Any, ...]]:
    """Versions of one resource, newest first."""
    text, args = tests
    found: list[tuple[Any, ...]] = []
    if after is None:
        statement = f"SELECT {COLUMNS} FROM resource r CROSS JOIN version v ON v.rid = r.rid WHERE r.type = ? AND r.id = ? AND {text}"
        found = db.execute(statement, (type, id, *args)).fetchall()
    below = after.values[0] if after else 1 << 62
    statement = (
        f"SELECT {COLUMNS} FROM old o CROSS JOIN version v ON v.rid = o.rid WHERE o.type = ? AND o.id = ? AND o.version < ? AND {text} "
        "ORDER BY o.version DESC LIMIT ?"
    )
    return found + db.execute(statement, (type, id, below, *args, limit - len(found))).fetchall()


def wide_page(
    db: sqlite3.Connection, type: int | None, tests: tuple[str, tuple[Any, ...]], limit: int, after: Position | None
) -> list[tuple[Any, ...]]:
    """Versions of a type or of all types, newest first."""
    text, args = tests
    if type is not None:
        text, args = f"v.type = ? AND {text}", (type, *args)
    if after is not None:
        text, args = f"{text} AND v.rid < ?", (*args, after.rid)
    return db.execute(f"SELECT {COLUMNS} FROM version v WHERE {text} ORDER BY v.rid DESC LIMIT ?", (*args, limit)).fetchall()


def tests_of(db: sqlite3.Connection, snapshot: int, since: int | None, at: tuple[int, int] | None) -> tuple[str, tuple[Any, ...]]:
    """Conditions on version row `v` for the time limits, as bounds of rid where possible."""
    low, high = 0, snapshot
    if since is not None:
        low = first_rid(db, since)
    if at is None:
        return "v.rid BETWEEN ? AND ?", (low, high)
    high = min(high, first_rid(db, at[1] + 1) - 1)
    start = first_rid(db, at[0])
    # A version made before the interval counts while no newer one was made up to its start.
    newer = (
        "coalesce((SELECT o.rid FROM old o WHERE o.type = v.type AND o.id = v.id AND o.version = v.version + 1), "
        "(SELECT r.rid FROM resource r WHERE r.type = v.type AND r.id = v.id AND r.rid > v.rid), ?)"
    )
    return (
        f"v.rid BETWEEN ? AND ? AND (v.rid >= ? OR coalesce((SELECT n.updated FROM version n WHERE n.rid = {newer}), ?) > ?)",
        (low, high, start, 0, 1 << 62, at[0]),
    )


def count(db: sqlite3.Connection, type: int | None, id: str | None, tests: tuple[str, tuple[Any, ...]]) -> int:
    """The exact number of versions."""
    text, args = tests
    if type is None:
        return db.execute(f"SELECT count(*) FROM version v WHERE {text}", args).fetchone()[0]
    if id is None:
        return db.execute(f"SELECT count(*) FROM version v WHERE v.type = ? AND {text}", (type, *args)).fetchone()[0]
    rids = "SELECT rid FROM resource WHERE type = ?1 AND id = ?2 UNION ALL SELECT rid FROM old WHERE type = ?1 AND id = ?2"
    numbered = f"SELECT count(*) FROM ({rids.replace('?1', '?').replace('?2', '?')}) h CROSS JOIN version v ON v.rid = h.rid WHERE {text}"
    return db.execute(numbered, (type, id, type, id, *args)).fetchone()[0]


def page(
    db: sqlite3.Connection,
    make: MakeStored,
    type: int | None,
    id: str | None,
    snapshot: int,
    *,
    since: int | None,
    at: tuple[int, int] | None,
    limit: int,
    after: Position | None,
    total: bool,
) -> Page:
    """One page of a history at the snapshot."""
    tests = tests_of(db, snapshot, since, at)
    if type is not None and id is not None:
        rows = instance_page(db, type, id, tests, limit + 1, after)
    else:
        rows = wide_page(db, type, tests, limit + 1, after)
    more, rows = len(rows) > limit, rows[:limit]
    number = after.total if after else None
    if total and number is None:
        number = count(db, type, id, tests)
    items = [make(row) for row in rows]
    following = Position(snapshot, items[-1].rid, (items[-1].version,), number) if more and items else None
    return Page(items, following, number)
