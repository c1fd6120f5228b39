"""The commonest searches in one statement: a few exact keys (patient, code, identifier, status …), and tests of the clinical date.

What asks for anything else, or meets many rows, is left to the planner; both find the same.
Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fhir_server.search.query import And, Chain, KeyMatch, Query
from fhir_server.storage.body import BodyCodec
from fhir_server.storage.port import Page, Position, Stored
from fhir_server.storage.sqlite.algebra import range_alternatives
from fhir_server.storage.sqlite.entries import NO_DATE, SPAN_SHIFT, span_limit
from fhir_server.storage.sqlite.keys import UNCOUNTED, Keys, Term
from fhir_server.storage.sqlite.node_ranges import Alternatives, condition, low_bounds, told
from fhir_server.storage.sqlite.nodes import Sql
from fhir_server.storage.sqlite.schema import METHODS
from fhir_server.storage.sqlite.selects import FEW, Knowledge

COLUMNS = "v.rid, v.type, v.id, v.version, v.updated, v.method, v.body, d.sort"
WITHIN = " AND d.sort BETWEEN ? AND ?"
Bounds = tuple[int, int]
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
NO_BOUNDS: Bounds = (LOWEST, HIGHEST)
SELECT = f"SELECT {COLUMNS} FROM posting d CROSS JOIN version v ON v.rid = d.rid WHERE"
IDS = "SELECT v.id FROM posting d CROSS JOIN version v ON v.rid = d.rid WHERE d.key = ? AND"
NOW = "NOT EXISTS (SELECT 1 FROM superseded x WHERE x.rid = d.rid)"
THEN = "d.rid <= ? AND NOT EXISTS (SELECT 1 FROM superseded x WHERE x.rid = d.rid AND x.until <= ?)"
PROBE = " AND EXISTS (SELECT 1 FROM posting q WHERE q.key = ? AND q.sort = d.sort AND q.rid = d.rid)"


@lru_cache(maxsize=1024)
def _date_test(alternatives: Alternatives, spans: tuple[int, ...]) -> Sql:
    """Whether some date of the row's resource meets any of the alternatives, mostly told by the row itself."""
    test = condition(alternatives, "q.")
    first = alternatives[0].parameter << SPAN_SHIFT
    text = f"EXISTS (SELECT 1 FROM range q WHERE q.rid = d.rid AND q.key BETWEEN ? AND ? AND {test.text})"
    whole = told(alternatives, spans, "d.sort", Sql(text, (first, first | 7, *test.args)))
    return Sql(f" AND {whole.text}", whole.args)


class KeySearches:
    """Over one connection. `names`: type names by number."""

    def __init__(self, db: sqlite3.Connection, keys: Keys, knowledge: Knowledge, names: Sequence[str], codec: BodyCodec) -> None:
        self._db, self._keys, self._knowledge, self._names, self._codec = db, keys, knowledge, names, codec

    def page(self, query: Query, after: Position | None, snapshot: int, *, bound: bool) -> Page | None:
        """A page of such a search, None for any other. `bound`: the snapshot may be past."""
        type = query.types[0]
        clinical = self._knowledge.clinical.get(type)
        dated = False
        if query.sort:
            # Missing dates are the lowest, and come last: so only downwards.
            key = query.sort[0]
            dated = len(query.sort) == 1 and key.descending and key.kind == "range" and key.parameter == clinical
            if not dated:
                return None
        found = self._terms(query, type, clinical, snapshot if bound else None)
        if found is None:
            return None
        terms, dates = found
        if not terms:
            return Page([], None, 0 if after is None else after.total)
        return self._found(query, after, snapshot, terms, dates, bound=bound, dated=dated)

    def _terms(self, query: Query, type: str, clinical: int | None, past: int | None) -> tuple[list[Term], list[Alternatives]] | None:
        """The terms of the keys (none when one of them has no resource), and the tests of the date; None for other criteria."""
        where = query.where
        wanted: list[KeyMatch] = []
        dates: list[Alternatives] = []
        for part in where.parts if where.__class__ is And else (where,):  # type: ignore[attr-defined]
            if part.__class__ is KeyMatch:
                if part.value is None:
                    return None
                if part.space is None:
                    there = self._keys.find_any_space(self._db, part.parameter, part.value)
                    if len(there) > 1:
                        return None
                    if not there:
                        return [], dates
                    wanted.append(KeyMatch(part.parameter, there[0].space, part.value))
                else:
                    wanted.append(part)
                continue
            if part.__class__ is Chain:
                led = self._led(part, past)
                if led is None:
                    return None
                wanted += led
                if not led:
                    return [], dates
                continue
            alternatives = range_alternatives(part) if clinical is not None else None
            if alternatives is None or alternatives[0].parameter != clinical:
                return None
            dates.append(alternatives)
        if not wanted:
            return None
        terms: list[Term] = []
        for parameter, space, value in self._joined(wanted, type):
            term = self._keys.find(self._db, parameter, space, value)
            if term is None:
                return [], dates
            terms.append(term)
        return terms, dates

    def _led(self, chain: Chain, past: int | None) -> list[KeyMatch] | None:
        """The key of the one resource to which a chain by a key leads (an identifier mostly); [] when there is none, None when several."""
        found: list[KeyMatch] = []
        for target, inner in chain.targets:
            if inner.__class__ is not KeyMatch or inner.value is None or inner.space is None:
                return None
            if self._keys.find(self._db, chain.parameter, target, ""):
                return None  # some contain what they refer to
            term = self._keys.find(self._db, inner.parameter, inner.space, inner.value)
            if term is not None:
                text, args = (f"{THEN} LIMIT 2", (past, past)) if past is not None else (f"{NOW} LIMIT 2", ())
                rows = self._db.execute(f"{IDS} {text}", (term.key, *args)).fetchall()
                found += [KeyMatch(chain.parameter, target, id) for (id,) in rows]
                if len(found) > 1:
                    return None
        return found

    def _joined(self, wanted: list[KeyMatch], type: str) -> list[tuple[int, str, str]]:
        """The forms of the keys; patient and code of one type together are one."""
        forms: list[tuple[int, str, str]] = [(part.parameter, part.space, part.value) for part in wanted]  # type: ignore[misc]
        known = self._knowledge.patient_code.get(type) if len(forms) > 1 else None
        if known is not None:
            patient = next((form for form in forms if form[0] == known.subject and form[1] == "Patient"), None)
            code = next((form for form in forms if form[0] == known.code), None)
            if patient is not None and code is not None:
                rest = [form for form in forms if form is not patient and form is not code]
                return [(known.both, patient[2], f"{code[1]}|{code[2]}"), *rest]
        return forms

    def _size(self, term: Term, within: Bounds = NO_BOUNDS) -> int:
        """Rows that lead, at most FEW + 1 where they must be counted."""
        if term.n != UNCOUNTED and within == NO_BOUNDS:
            return term.n
        sample = f"SELECT count(*) FROM (SELECT 1 FROM posting d WHERE d.key = ?{WITHIN} LIMIT {FEW + 1})"
        count: int = self._db.execute(sample, (term.key, *within)).fetchone()[0]
        return count

    def _spans(self, parameter: int) -> tuple[int, ...]:
        """The classes that dates of a parameter have."""
        first = parameter << SPAN_SHIFT
        keys = self._db.execute("SELECT key FROM term WHERE key BETWEEN ? AND ?", (first, first | 7)).fetchall()
        return tuple([key & 7 for (key,) in keys])

    def _within(self, dates: list[Alternatives], spans: tuple[int, ...]) -> Bounds | None:
        """Between which sort values the rows of these dates lie; None where some resources have long or several dates."""
        limit = span_limit(max(spans, default=0), 0)
        if limit is None:
            return None
        pairs = [low_bounds(alternatives, limit) for alternatives in dates]
        lows = [int(low) for low, _ in pairs if low is not None]
        highs = [int(high) for _, high in pairs if high is not None]
        return max(lows, default=LOWEST), min(highs, default=HIGHEST)

    def _found(
        self, query: Query, after: Position | None, snapshot: int, terms: list[Term], dates: list[Alternatives], *, bound: bool, dated: bool
    ) -> Page | None:
        within = NO_BOUNDS
        size = 0
        lead = terms[0]
        spans = self._spans(dates[0][0].parameter) if dates else ()
        # The rows of one key lie in the order of the date, however many they are.
        if not dated or len(terms) > 1 or dates:
            size, lead = min(((self._size(term), term) for term in terms), key=lambda pair: pair[0])
            if size > FEW:
                bounds = self._within(dates, spans) if dates else None
                if bounds is None:
                    return None
                within = bounds
                size = self._size(lead, within)
                if size > FEW and not (dated and len(terms) == 1):
                    return None
        where, args = "d.key = ?", [lead.key]
        if within != NO_BOUNDS:
            where, args = where + WITHIN, [*args, *within]
        if bound:
            where, args = f"{where} AND {THEN}", [*args, snapshot, snapshot]
        else:
            where = f"{where} AND {NOW}"
        for term in terms:
            if term is not lead:
                where += PROBE
                args.append(term.key)
        for alternatives in dates:
            test = _date_test(alternatives, spans)
            where += test.text
            args += test.args
        if after is not None:
            if not dated:
                where, args = f"{where} AND d.rid < ?", [*args, after.rid]
            elif after.values[0] is None:
                where, args = f"{where} AND d.sort = ? AND d.rid < ?", [*args, NO_DATE, after.rid]
            else:
                where, args = f"{where} AND (d.sort, d.rid) < (?, ?)", [*args, after.values[0], after.rid]
        rows = self._rows(where, args, query.limit + 1, size, dated=dated)
        return self._paged(query, after, snapshot, rows, terms, exact=not (bound or dates or len(terms) > 1), dated=dated)

    def _rows(self, where: str, args: list[Any], limit: int, size: int, *, dated: bool) -> list[Any]:
        if dated:
            return self._db.execute(f"{SELECT} {where} ORDER BY d.sort DESC, d.rid DESC LIMIT ?", (*args, limit)).fetchall()
        if size < limit:
            rows = self._db.execute(f"{SELECT} {where}", args).fetchall()
        else:
            inner = f"SELECT d.rid, d.sort FROM posting d WHERE {where} ORDER BY d.rid DESC LIMIT ?"
            rows = self._db.execute(f"SELECT {COLUMNS} FROM ({inner}) d CROSS JOIN version v ON v.rid = d.rid", (*args, limit)).fetchall()
        rows.sort(reverse=True)  # by rid, which is in each row once
        return rows

    def _paged(
        self, query: Query, after: Position | None, snapshot: int, rows: list[Any], terms: list[Term], *, exact: bool, dated: bool
    ) -> Page | None:
        more = len(rows) > query.limit
        if after is not None:
            total = after.total
        else:
            total = len(rows) if not more else terms[0].n if exact and terms[0].n != UNCOUNTED else None
        if total is None and query.total != "none":
            return None
        if more:
            rows.pop()
        names, unpack = self._names, self._codec.unpack
        items = [
            Stored(rid, names[type], id, version, updated, METHODS[method], unpack(body))
            for rid, type, id, version, updated, method, body, _ in rows
        ]
        following = None
        if more:
            last = rows[-1]
            values = ((None if last[7] == NO_DATE else last[7]),) if dated else ()
            following = Position(snapshot, last[0], values, total)
        return Page(items, following, total)
