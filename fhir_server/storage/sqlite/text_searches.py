"""Searches that name few resources by the beginning of a text (family, given, address …), in two statements: look, then test.

What else is asked of them (`_has`, other names, tokens) is probed on the rows that the look gave. What begins more often is left
to the planner; both find the same. Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from fhir_server.search.query import And, Criterion, Or, Query, TextMatch
from fhir_server.storage.body import BodyCodec
from fhir_server.storage.port import Page, Position, Stored
from fhir_server.storage.sqlite.algebra import flattened, storable
from fhir_server.storage.sqlite.keys import Keys
from fhir_server.storage.sqlite.node_postings import BEGINS, TOP
from fhir_server.storage.sqlite.nodes import EVERY, Row, Sql, joined_union
from fhir_server.storage.sqlite.planner import MOST_BEGINNINGS, Planner
from fhir_server.storage.sqlite.schema import METHODS
from fhir_server.storage.sqlite.selects import FEW, Knowledge

Found = tuple[int, str, int, int, int, bytes]
"""A row of COLUMNS."""
COLUMNS = "v.rid, v.id, v.version, v.updated, v.method, v.body"
MOST = 4 * FEW
"""Texts that are looked at."""


def texts_of(criterion: Criterion) -> list[TextMatch] | None:
    """The alternatives of a criterion that is only beginnings of texts."""
    found: list[TextMatch] = []
    for part in flattened(Or, [criterion]):
        if part.__class__ is not TextMatch or part.mode != "prefix" or not part.text or not storable(part.text):  # type: ignore[attr-defined]
            return None
        found.append(part)  # type: ignore[arg-type]
    return found if 0 < len(found) <= MOST_BEGINNINGS else None


class TextSearches:
    """Over one connection."""

    def __init__(self, db: sqlite3.Connection, keys: Keys, knowledge: Knowledge, codec: BodyCodec) -> None:
        self._db, self._keys, self._knowledge, self._codec = db, keys, knowledge, codec

    def page(self, query: Query, after: Position | None, snapshot: int, *, bound: bool, most: int) -> Page | None:
        """A page of such a search, None for any other. `bound`: the snapshot may be past; `most`: rows that may be touched here."""
        type = query.types[0]
        if query.sort or type not in self._knowledge.types:
            return None
        parts = list(flattened(And, [query.where]))
        named = self._few(parts)
        if named is None:
            return None
        leading, rids = named
        if after is not None:
            rids = [rid for rid in rids if rid < after.rid]
        if not rids:
            return Page([], None, 0 if after is None else after.total)
        planner = Planner(self._db, self._keys, self._knowledge, type, snapshot if bound else EVERY)
        rows = self._tested(planner, rids, [part for part in parts if part is not leading], most)
        if rows is None:
            return None
        more = len(rows) > query.limit
        total = len(rows) if after is None else after.total
        rows = rows[: query.limit]
        unpack = self._codec.unpack
        items = [Stored(rid, type, id, version, updated, METHODS[method], unpack(body)) for rid, id, version, updated, method, body in rows]
        return Page(items, Position(snapshot, rows[-1][0], (), total) if more else None, total)

    def _few(self, parts: Sequence[Criterion]) -> tuple[Criterion, list[int]] | None:
        """The first part that names few versions by a text, and these, present or past, each once, newest first."""
        for part in parts:
            texts = texts_of(part)
            if texts is None:
                continue
            union = joined_union([Sql(f"SELECT rid FROM text WHERE {BEGINS}", (one.parameter, one.text, one.text + TOP)) for one in texts])
            rows = self._db.execute(f"{union.text} LIMIT {MOST}", union.args).fetchall()
            # A name stands there with its spellings, so that some come twice.
            found = {rid for (rid,) in rows}
            if len(rows) < MOST and len(found) <= FEW:
                return part, sorted(found, reverse=True)
        return None

    def _tested(self, planner: Planner, rids: list[int], rest: list[Criterion], most: int) -> list[Found] | None:
        """Those of the rows that the snapshot sees and that meet the rest, newest first; None where that is much work."""
        tests = [planner.visible("v")]
        if rest:
            node = planner.node(rest[0] if len(rest) == 1 else And(tuple(rest)))
            if len(rids) + node.gathered(len(rids)) > most:
                return None
            planner.lead_cost = len(rids)
            tests.append(node.probe(planner, Row("v.rid", "v.clinical", "v")))
        where = " AND ".join(test.text for test in tests)
        # Padded to a power of two, so that the statements are few and stay prepared.
        padded = rids + [rids[-1]] * ((1 << (len(rids) - 1).bit_length()) - len(rids))
        text = f"SELECT {COLUMNS} FROM version v WHERE v.rid IN ({','.join('?' * len(padded))}) AND {where} ORDER BY v.rid DESC"
        args = (*padded, *(arg for test in tests for arg in test.args))
        return self._db.execute(*planner.finished(Sql(text, args))).fetchall()
