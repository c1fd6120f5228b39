"""Rids by time: the log of versions is in order of both."""

from __future__ import annotations

import sqlite3


def last_version(db: sqlite3.Connection) -> int:
    """The highest rid."""
    return db.execute("SELECT max(rid) FROM version").fetchone()[0] or 0


def first_rid(db: sqlite3.Connection, updated: int) -> int:
    """The first version of that time or later; `updated` never falls from one rid to the next, so halving finds it."""
    low, high = 1, last_version(db) + 1
    while low < high:
        middle = (low + high) // 2
        rid, at = db.execute("SELECT rid, updated FROM version WHERE rid >= ? ORDER BY rid LIMIT 1", (middle,)).fetchone()
        if at < updated:
            low = rid + 1
        else:
            high = middle
    return low
