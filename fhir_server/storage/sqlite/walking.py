"""Orders in which an index lies: texts by their folded form, dates by their start. A page is read off there instead of sorting all hits.

A resource stands in the index under each of its values; it is met where the value is the one that it is sorted by.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.search.han import INITIALS
from fhir_server.search.query import SortKey
from fhir_server.storage.sqlite.nodes import Lead, Sql


class Walk(NamedTuple):
    """A stretch of an index: its rows `d`, and the column in whose order they lie."""

    lead: Lead
    column: str


def walks(db: sqlite3.Connection, sort: Sequence[SortKey], clinical: int | None) -> list[Walk]:
    """The stretches that together hold the values of an order by one key; none where no index lies in it."""
    (key, *more), number = sort, sort[0].parameter
    if more or not isinstance(number, int):
        return []
    if key.kind == "text":
        return _texts(key)
    if key.kind == "range" and (number != clinical or key.others):
        return _dates(db, (number, *key.others))
    return []


def _texts(key: SortKey) -> list[Walk]:
    assert isinstance(key.parameter, int)
    unspelled, found = Sql("1"), []
    if key.spelling:
        found.append(Walk(Lead(Sql("text d"), Sql("d.parameter = ? AND d.folded < ?", (key.spelling, INITIALS))), "d.folded"))
        spelled = "SELECT 1 FROM text s WHERE s.rid = d.rid AND s.parameter = ? AND s.folded < ?"
        unspelled = Sql(f"NOT EXISTS ({spelled})", (key.spelling, INITIALS))
    for number in (key.parameter, *key.others):
        found.append(Walk(Lead(Sql("text d"), Sql(f"d.parameter = ? AND {unspelled.text}", (number, *unspelled.args))), "d.folded"))
    return found


def _dates(db: sqlite3.Connection, numbers: Sequence[int]) -> list[Walk]:
    """Dates are whole milliseconds. Numbers and quantities are ordered by the middle of what they may be, in which no index lies."""
    found = []
    for number in numbers:
        small = number << 3
        for (key,) in db.execute("SELECT key FROM term WHERE key BETWEEN ? AND ?", (small, small | 7)).fetchall():
            kind = db.execute("SELECT typeof(low) FROM range WHERE key = ? LIMIT 1", (key,)).fetchone()
            if kind is not None and kind[0] != "integer":
                return []
            found.append(Walk(Lead(Sql("range d"), Sql("d.key = ?", (key,))), "d.low"))
    return found
