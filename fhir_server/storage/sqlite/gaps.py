"""Which versions the index does not hold yet, or not under all numbers, while it is being filled.

A live version in a gap has no rows and counts under the gap's numbers: its successor must not take them off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fhir_server.storage.sqlite.customs import BUILDING
from fhir_server.storage.sqlite.entries import SPAN_SHIFT, Entries

NOTHING: frozenset[int] = frozenset()


@dataclass(slots=True)
class Gaps:
    """`whole`: (last, upto) of rids that have no rows at all; `by_type`: type -> (last, upto, numbers) of rids without rows of these."""

    whole: tuple[int, int] | None = None
    by_type: dict[int, list[tuple[int, int, frozenset[int]]]] = field(default_factory=dict)

    def missing(self, rid: int, type: int) -> frozenset[int] | None:
        """The numbers under which a live version has no rows; None: it has none at all."""
        if self.whole is not None and self.whole[0] < rid <= self.whole[1]:
            return None
        found = NOTHING
        for last, upto, numbers in self.by_type.get(type, ()):
            if last < rid <= upto:
                found |= numbers
        return found


def load(db: sqlite3.Connection, types: Mapping[str, int], known: Collection[int]) -> Gaps:
    """The gaps as they are now. `known`: numbers by which this process indexes; one that is just being defined is not among them."""
    gaps = Gaps()
    row = db.execute("SELECT last, upto FROM reindexing WHERE ended IS NULL AND types = '[]'").fetchone()
    gaps.whole = (row[0], row[1]) if row else None
    for number, second, type, last, upto in db.execute(
        "SELECT number, second, type, last, upto FROM parameter WHERE state = ?", (BUILDING,)
    ).fetchall():
        if number in known and type in types:
            gaps.by_type.setdefault(types[type], []).append((last, upto, frozenset((number, number + 1) if second else (number,))))
    return gaps


def without(entries: Entries, numbers: Collection[int]) -> Entries:
    """The entries but those of these numbers."""
    if not numbers:
        return entries
    return Entries(
        [entries.forms[0], *(form for form in entries.forms[1:] if form[0] not in numbers)],
        {at: exact for at, exact in entries.texts.items() if at[0] not in numbers},
        [one for one in entries.plain if one[0] >> SPAN_SHIFT not in numbers],
        [one for one in entries.quantities if one[0][0] not in numbers],
        entries.clinical,
    )
