"""Carrying out a search: order, pages and totals over the planner's SELECTs.

A page continues strictly behind the sort values and rid of the row before it (no OFFSET), at the snapshot of the first page.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Any

from fhir_server.search.query import Query, SortKey
from fhir_server.storage.port import Position
from fhir_server.storage.sqlite.counting import PER_ROW, edges, sure_count, sure_dates
from fhir_server.storage.sqlite.entries import NO_DATE
from fhir_server.storage.sqlite.keys import Keys
from fhir_server.storage.sqlite.node_postings import Postings
from fhir_server.storage.sqlite.node_ranges import Ranges, Stretch
from fhir_server.storage.sqlite.nodes import EVERY, All, Everybody, Lead, Nobody, Node, Sql
from fhir_server.storage.sqlite.planner import Planner
from fhir_server.storage.sqlite.selects import Knowledge, Statement
from fhir_server.storage.sqlite.sorting import Placed, behind, key_values, sort_value
from fhir_server.storage.sqlite.versions import last_version
from fhir_server.storage.sqlite.walking import Walk, walks

HEAVY = 4000
"""Rows from which on a search is left to a thread."""
GATHER = 1500
"""Rows up to which all hits are gathered and sorted rather than met in order."""
WINDOW = 512


@dataclass(slots=True)
class Hit:
    """A found version: its order within the search, and rid."""

    order: tuple[Any, ...]
    rid: int
    values: tuple[Any, ...]


@dataclass(slots=True)
class Plan:
    """What will be done for one type."""

    planner: Planner
    node: Node
    best: Node
    probes: list[Node]
    beside: Ranges | None = None
    """Finds the resources with long periods that lie outside the bounds of `best`."""
    sort: tuple[SortKey, ...] = ()
    walks: list[Walk] = field(default_factory=list)
    """Stretches of an index that lies in the wanted order, where reading them off is cheaper than sorting all hits."""
    cost: int = 0
    statements: list[str] = field(default_factory=list)


def snapshot_of(db: sqlite3.Connection, keys: Keys) -> int:
    """The highest rid of the current state; also learns what other processes changed about terms."""
    last, floor, reach = db.execute("SELECT (SELECT max(rid) FROM version), floor, reach FROM state").fetchone()
    keys.reach = max(keys.reach, reach)
    return max(last or 0, floor)


class Search:
    """One query against one connection and snapshot."""

    def __init__(
        self, db: sqlite3.Connection, keys: Keys, knowledge: Knowledge, query: Query, snapshot: int, *, bound: bool = False
    ) -> None:
        """`bound`: the snapshot may be past, so counts of the current state say nothing."""
        self.db = db
        self.bound = bound
        self.query = query
        self.snapshot = snapshot
        self._several = len(query.types) > 1
        shared = Statement() if self._several else None
        # Within a read transaction the present state is the snapshot.
        seen = snapshot if bound else EVERY
        planners = [Planner(db, keys, knowledge, type, seen, shared) for type in query.types if type in knowledge.types]
        if self._several and not bound:
            planners = [planner for planner in planners if planner.type_term.n]
        self.plans = [self._plan(planner) for planner in planners]
        self.cost = sum(plan.cost for plan in self.plans)

    def _plan(self, planner: Planner) -> Plan:
        node = planner.node(self.query.where)
        best, probes = planner.order(node)
        beside = None
        bounded = planner.bounded(best, probes)
        if bounded:
            best, beside = bounded
        plan = Plan(planner, node, best, probes, beside, self.query.sort)
        plan.walks = self._walks(plan)
        plan.cost = self._cost(plan)
        return plan

    def _walks(self, plan: Plan) -> list[Walk]:
        everybody, wanted = plan.planner.type_term.n, self.query.limit
        if self._several or plan.best.cost <= GATHER or not wanted or not self.query.sort:
            return []
        cheaper = _looked_at(plan, wanted, everybody) < plan.best.cost // 2
        return walks(self.db, self.query.sort, plan.planner.clinical) if cheaper else []

    def _cost(self, plan: Plan) -> int:
        """Rows that the first page will touch, roughly."""
        weight = 1 + len(plan.probes)
        gathered = sum(probe.gathered(plan.best.cost) for probe in plan.probes)
        rows = plan.best.cost + (plan.beside.cost if plan.beside else 0)
        if self._streams(plan) or plan.walks:
            most = plan.planner.type_term.n if plan.walks else rows
            return min(most, _looked_at(plan, self.query.limit, most)) * weight + gathered
        return rows * weight + gathered

    # --- order
    def _by_rid(self) -> bool | None:
        """Ascending (True) or descending order of lastUpdated; None when the search has another order."""
        sort = self.query.sort
        if not sort:
            return False
        return not sort[0].descending if sort[0].kind == "updated" else None

    def _clinical(self, plan: Plan) -> bool:
        sort, clinical = self.query.sort, plan.planner.clinical
        return not self._several and clinical is not None and len(sort) == 1 and sort[0].kind == "range" and sort[0].parameter == clinical

    def _streams(self, plan: Plan) -> bool:
        """Whether the rows can be met in the wanted order."""
        if self._by_rid() is not None:
            return _is_all(plan.best) or plan.best.cost > GATHER
        if not self._clinical(plan):
            return False
        if isinstance(plan.best, Ranges):
            return plan.best.parameter == plan.planner.clinical and plan.best.cost > GATHER
        return _is_all(plan.best) or (isinstance(plan.best, Postings) and len(plan.best.keys) <= 32)

    # --- results
    def hits(self, after: Position | None, limit: int) -> list[Hit]:
        """The next `limit` hits of all types, in order."""
        found = [self._type_hits(plan, after, limit) for plan in self.plans]
        if len(found) == 1:
            return found[0]
        return list(merge(*found, key=lambda hit: hit.order))[:limit]

    def _type_hits(self, plan: Plan, after: Position | None, limit: int) -> list[Hit]:
        ascending = self._by_rid()
        if ascending is not None:
            return self._rid_hits(plan, after, limit, ascending)
        if self._clinical(plan) and self._streams(plan):
            return self._clinical_hits(plan, after, limit)
        return self._walked_hits(plan, after, limit) if plan.walks else self._sorted_hits(plan, after, limit)

    def _select(
        self,
        plan: Plan,
        best: Node,
        probes: Sequence[Node],
        columns: str,
        extra: Sequence[Sql],
        tail: str = "",
        tail_args: tuple[Any, ...] = (),
        rows: int | None = None,
    ) -> list[Any]:
        """`rows`: how many of the lead's rows will be tested, where they are not all."""
        extra = list(extra)
        if self._several:
            extra.append(Sql("v.type = ?", (plan.planner.type_number,)))
        cost = best.cost if rows is None else min(rows, best.cost)
        sql = plan.planner.select(plan.planner.leading(best), probes, cost, columns=columns, extra=extra)
        return self._rows(plan, Sql(f"{sql.text} {tail}", (*sql.args, *tail_args)))

    def _rows(self, plan: Plan, sql: Sql) -> list[Any]:
        """Run a whole statement."""
        whole = plan.planner.finished(sql)
        plan.statements.append(whole.text)
        return self.db.execute(*whole).fetchall()

    def _branches(self, plan: Plan) -> list[tuple[Node, list[Node]]]:
        """The statements that together find all hits; a hit may come from more than one."""
        branches = [(plan.best, plan.probes)]
        if plan.beside is not None:
            dates = plan.beside.parameter
            others = [probe for probe in plan.probes if not (isinstance(probe, Ranges) and probe.parameter == dates)]
            whole = Postings(plan.best.keys, plan.best.n) if isinstance(plan.best, Postings) else plan.best
            branches.append((plan.beside, [whole, *others]))
        return branches

    # --- order of lastUpdated
    def _rid_hits(self, plan: Plan, after: Position | None, limit: int, ascending: bool) -> list[Hit]:
        way, compare = ("ASC", ">") if ascending else ("DESC", "<")
        keyset = [Sql(f"d.rid {compare} ?", (after.rid,))] if after else []
        if self._streams(plan) and not _is_all(plan.best):
            rids = self._windows(plan, after, limit, ascending)
        else:
            rids = []
            looked_at = _looked_at(plan, limit, plan.best.n) if _is_all(plan.best) else None
            for best, probes in self._branches(plan):
                rows = self._select(plan, best, probes, "d.rid AS rid", keyset, f"ORDER BY d.rid {way} LIMIT ?", (limit,), rows=looked_at)
                rids.extend(row[0] for row in rows)
            rids = sorted(set(rids), reverse=not ascending)[:limit]
        return [Hit((rid if ascending else -rid,), rid, ()) for rid in rids]

    def _windows(self, plan: Plan, after: Position | None, limit: int, ascending: bool) -> list[int]:
        """Meet the resources of the type in the order of rid, window by window, as long as that promises to be cheaper than
        gathering all postings of the leading key."""
        everything, probes = Everybody(plan.planner), _tests(plan.node)
        lowest, highest = 1, self.snapshot if self.snapshot < EVERY else last_version(self.db)
        if after:
            lowest, highest = (after.rid + 1, highest) if ascending else (lowest, after.rid - 1)
        way = "ASC" if ascending else "DESC"
        found: list[int] = []
        width, spent = WINDOW * max(1, limit // 16), 0
        while lowest <= highest and len(found) < limit and spent <= plan.best.cost:
            low, high = (lowest, min(highest, lowest + width - 1)) if ascending else (max(lowest, highest - width + 1), highest)
            window = [Sql("d.rid BETWEEN ? AND ?", (low, high))]
            tail = f"ORDER BY d.rid {way} LIMIT ?"
            rows = self._select(plan, everything, probes, "d.rid AS rid", window, tail, (limit - len(found),), rows=width)
            found.extend(row[0] for row in rows)
            spent += width
            width *= 4
            lowest, highest = (high + 1, highest) if ascending else (lowest, low - 1)
        if len(found) < limit and lowest <= highest:
            rest: set[int] = set()
            window = [Sql("d.rid BETWEEN ? AND ?", (lowest, highest))]
            for best, others in self._branches(plan):
                rows = self._select(plan, best, others, "d.rid AS rid", window, f"ORDER BY d.rid {way} LIMIT ?", (limit - len(found),))
                rest.update(row[0] for row in rows)
            found.extend(sorted(rest, reverse=not ascending)[: limit - len(found)])
        return found

    # --- order of the clinical date
    def _clinical_hits(self, plan: Plan, after: Position | None, limit: int) -> list[Hit]:
        """Postings lie in this order; without a leading key the date's own ranges do. Resources without a date come last."""
        descending = self.query.sort[0].descending
        undated = after is not None and after.values[0] is None
        dated: list[Hit] = []
        if not undated:
            bound = (after.values[0], after.rid) if after else None
            for rows in self._dated(plan, bound, limit, descending):
                dated.extend(Hit((0, -sort if descending else sort, -rid if descending else rid), rid, (sort,)) for rid, sort in rows)
            dated.sort(key=lambda hit: hit.order)
            dated = _unique(dated)[:limit]
        if len(dated) < limit:
            behind = after.rid if after and undated else None
            dated.extend(self._undated(plan, behind, limit - len(dated), descending))
        return dated

    def _dated(self, plan: Plan, bound: tuple[int, int] | None, limit: int, descending: bool) -> Iterable[list[tuple[int, int]]]:
        way, compare = ("DESC", "<") if descending else ("ASC", ">")
        tail = f"ORDER BY {{0}} {way}, d.rid {way} LIMIT ?"
        looked_at = _looked_at(plan, limit, plan.best.n)
        if _is_all(plan.best) or isinstance(plan.best, Ranges):
            yield from self._dated_by_range(plan, bound, limit, descending)
            return
        for best, probes in self._branches(plan):
            singles = [Postings((key,), best.n, bounds=best.bounds) for key in best.keys] if isinstance(best, Postings) else [best]
            for single in singles:
                column = "d.sort" if isinstance(single, Postings) else "v.clinical"
                extra = [Sql(f"{column} > ?", (NO_DATE,))]
                if bound:
                    extra.append(Sql(f"({column}, d.rid) {compare} (?, ?)", bound))
                columns = f"d.rid AS rid, {column} AS s"
                rows = looked_at if isinstance(single, Postings) else None
                yield self._select(plan, single, probes, columns, extra, tail.format(column), (limit,), rows=rows)

    def _dated_by_range(self, plan: Plan, bound: tuple[int, int] | None, limit: int, descending: bool) -> Iterable[list[tuple[int, int]]]:
        """All resources of the type, or those of a stretch of dates: each span class lies in the order of its low end, which is the
        clinical date."""
        planner = plan.planner
        assert planner.clinical is not None
        way, compare = ("DESC", "<") if descending else ("ASC", ">")
        small = planner.clinical << 3
        for (key,) in self.db.execute("SELECT key FROM term WHERE key BETWEEN ? AND ?", (small, small | 7)).fetchall():
            several = key & 7 == 7
            lead_text = "(SELECT DISTINCT rid FROM range WHERE key = ?) d" if several else "range d"
            column = "v.clinical" if several else "d.low"
            lead = Lead(Sql(lead_text, (key,) if several else ()), Sql("1") if several else Sql("d.key = ?", (key,)))
            extra = [Sql(f"{column} > ?", (NO_DATE,))]
            probes = plan.probes
            if isinstance(plan.best, Ranges):
                probes = [plan.best, *probes]
                if not several:
                    low, high = plan.best.bounds(key & 7)
                    extra += [Sql(f"{column} {sign} ?", (limit_,)) for limit_, sign in ((low, ">="), (high, "<=")) if limit_ is not None]
            if bound:
                extra.append(Sql(f"({column}, d.rid) {compare} (?, ?)", bound))
            if self._several:
                extra.append(Sql("v.type = ?", (planner.type_number,)))
            cost = planner.type_term.n if several else _looked_at(plan, limit, plan.best.n)
            sql = planner.select(lead, probes, cost, columns=f"d.rid AS rid, {column} AS s", extra=extra)
            yield self._rows(plan, Sql(f"{sql.text} ORDER BY {column} {way}, d.rid {way} LIMIT ?", (*sql.args, limit)))

    def _undated(self, plan: Plan, behind: int | None, limit: int, descending: bool) -> list[Hit]:
        """Resources without a clinical date to be placed by, which may have a period without a start."""
        way, compare = ("DESC", "<") if descending else ("ASC", ">")
        rids: set[int] = set()
        for best, probes in self._branches(plan):
            if isinstance(best, Postings) and best.bounds[0] is not None:
                continue
            column = "d.sort" if isinstance(best, Postings) else "v.clinical"
            extra = [Sql(f"{column} = ?", (NO_DATE,))]
            if behind is not None:
                extra.append(Sql(f"d.rid {compare} ?", (behind,)))
            rows = self._select(plan, best, probes, "d.rid AS rid", extra, f"ORDER BY d.rid {way} LIMIT ?", (limit,))
            rids.update(rid for (rid,) in rows)
        found = sorted(rids, reverse=descending)[:limit]
        return [Hit((1, 0, -rid if descending else rid), rid, (None,)) for rid in found]

    # --- an order in which an index lies
    def _walked_hits(self, plan: Plan, after: Position | None, limit: int) -> list[Hit]:
        """Values are met in their order, each resource where its own is; those without one come last."""
        key = self.query.sort[0]
        way, compare = ("DESC", "<") if key.descending else ("ASC", ">")
        own, everybody = sort_value(key, plan.planner.clinical), plan.planner.type_term.n
        hits: list[Hit] = []

        def found(rid: int, value: Any) -> Hit:
            return Hit((Placed(value, key.descending), -rid if key.descending else rid), rid, (value,))

        if after is None or after.values[0] is not None:
            for walk in plan.walks:
                extra = [Sql(f"{walk.column} = {own.text}", own.args)]
                if after:
                    extra.append(Sql(f"({walk.column}, d.rid) {compare} (?, ?)", (after.values[0], after.rid)))
                columns = f"d.rid AS rid, {walk.column} AS s"
                sql = plan.planner.select(walk.lead, _tests(plan.node), _looked_at(plan, limit, everybody), columns=columns, extra=extra)
                tail = f"ORDER BY {walk.column} {way}, d.rid {way} LIMIT ?"
                hits += [found(*row) for row in self._rows(plan, Sql(f"{sql.text} {tail}", (*sql.args, limit)))]
            hits = _unique(sorted(hits, key=lambda hit: hit.order))[:limit]
            after = None
        if len(hits) < limit:
            extra = [Sql(f"{own.text} IS NULL", own.args)]
            if after:
                extra.append(Sql(f"d.rid {compare} ?", (after.rid,)))
            rest: set[int] = set()
            for best, probes in self._branches(plan):
                rows = self._select(plan, best, probes, "d.rid AS rid", extra, f"ORDER BY d.rid {way} LIMIT ?", (limit - len(hits),))
                rest.update(rid for (rid,) in rows)
            hits += [found(rid, None) for rid in sorted(rest, reverse=key.descending)][: limit - len(hits)]
        return hits

    # --- any order
    def _sorted_hits(self, plan: Plan, after: Position | None, limit: int) -> list[Hit]:
        """Sort values are computed for each hit; missing ones come last, ties by rid in the direction of the first key."""
        sort = self.query.sort
        columns: list[str] = []
        args: list[Any] = []
        joins = ""
        join_args: list[Any] = []
        for at, key in enumerate(sort):
            if key.kind == "key":
                join = key_values(key, at)
                joins += join.text
                join_args.extend(join.args)
                columns.append(f"k{at}.value AS s{at}")
                continue
            expression = sort_value(key, plan.planner.clinical)
            columns.append(f"{expression.text} AS s{at}")
            args.extend(expression.args)
        selects: list[str] = []
        select_args: list[Any] = []
        for best, probes in self._branches(plan):
            extra = [Sql("v.type = ?", (plan.planner.type_number,))] if self._several else []
            lead = plan.planner.leading(best)
            source = plan.planner.select(lead, probes, best.cost, columns="d.rid AS rid", extra=extra)
            selects.append(source.text)
            select_args.extend(source.args)
        rows = f"SELECT v.rid AS rid, {', '.join(columns)} FROM ({' UNION '.join(selects)}) d CROSS JOIN version v ON v.rid = d.rid{joins}"
        first_down = sort[0].descending
        terms = [f"s{at} IS NULL, s{at} {'DESC' if key.descending else 'ASC'}" for at, key in enumerate(sort)]
        keyset = behind(sort, after, first_down) if after else Sql("1")
        names = ", ".join(f"s{at}" for at in range(len(sort)))
        order = f"{', '.join(terms)}, rid {'DESC' if first_down else 'ASC'}"
        text = f"SELECT rid, {names} FROM ({rows}) WHERE {keyset.text} ORDER BY {order} LIMIT ?"
        found = self._rows(plan, Sql(text, (*args, *select_args, *join_args, *keyset.args, limit)))
        hits = [Hit((), row[0], tuple(row[1:])) for row in found]
        for hit in hits:
            hit.order = (
                *(Placed(value, key.descending) for value, key in zip(hit.values, sort, strict=True)),
                -hit.rid if first_down else hit.rid,
            )
        return hits

    # --- totals
    def free_total(self) -> int | None:
        """The exact number of matches where a stored count tells it (valid for the current state only)."""
        if self.bound:
            return None
        total = 0
        for plan in self.plans:
            node = plan.node
            counted = isinstance(node, Postings) and node.exact and len(node.keys) == 1 and not self._several
            if not counted and not isinstance(node, Everybody | Nobody):
                return None
            total += node.n
        return total

    def count(self) -> int:
        """The exact number of matches at the snapshot."""
        total = 0
        for plan in self.plans:
            if (counted := self._counted_by_dates(plan)) is not None:
                total += counted
                continue
            selects: list[str] = []
            args: list[Any] = []
            for best, probes in self._branches(plan):
                extra = [Sql("v.type = ?", (plan.planner.type_number,))] if self._several else []
                sql = plan.planner.select(plan.planner.leading(best), probes, best.cost, extra=extra)
                selects.append(sql.text)
                args.extend(sql.args)
            text = f"SELECT count(*) FROM ({' UNION '.join(selects)})"
            total += self._rows(plan, Sql(text, tuple(args)))[0][0]
        return total

    def count_cost(self) -> int:
        """About how many rows `count` will test."""
        return sum(
            plan.best.cost // PER_ROW
            if self._sure_dates(plan) is not None
            else (plan.best.cost + (plan.beside.cost if plan.beside else 0)) * (1 + len(plan.probes))
            for plan in self.plans
        )

    def _sure_dates(self, plan: Plan) -> Stretch | None:
        simple = not self.bound and not self._several and plan.beside is None
        return sure_dates(plan.best, plan.probes, plan.planner.clinical) if simple else None

    def _counted_by_dates(self, plan: Plan) -> int | None:
        """The postings on sure dates are counted where they lie; only those at the edge are tested."""
        sure, best = self._sure_dates(plan), plan.best
        if sure is None or not isinstance(best, Postings):
            return None
        counted = sure_count(lambda sql: self._rows(plan, sql), best, sure)
        if counted is None:
            return None
        return counted + sum(self._select(plan, best, plan.probes, "count(*)", [edge])[0][0] for edge in edges(sure))


def _looked_at(plan: Plan, limit: int, among: int) -> int:
    """About how many rows that come in the wanted order, of `among` that there are, are tested for `limit` hits."""
    return int(limit * max(1.0, among / max(1, plan.node.n)))


def _tests(node: Node) -> list[Node]:
    """What resources of the type must meet one by one."""
    return [part for part in (node.parts if isinstance(node, All) else (node,)) if not isinstance(part, Everybody)]


def _is_all(node: Node) -> bool:
    return isinstance(node, Everybody)


def _unique(hits: list[Hit]) -> list[Hit]:
    seen: set[int] = set()
    return [hit for hit in hits if not (hit.rid in seen or seen.add(hit.rid))]  # type: ignore[func-returns-value]
