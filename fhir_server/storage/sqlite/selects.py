"""From nodes to SELECTs: which one leads, how the others probe its rows, and what of the versions a snapshot sees.

The rarest node leads; the others probe each of its rows by primary key. Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from fhir_server.search.query import Criterion, KeyMatch
from fhir_server.storage.sqlite.entries import CLASSES, SEPARATOR, SEVERAL, SPAN_SHIFT
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, Keys, Term
from fhir_server.storage.sqlite.node_inside import Insides
from fhir_server.storage.sqlite.node_postings import Beginnings, Postings, Texts
from fhir_server.storage.sqlite.node_ranges import RangeKey, Ranges
from fhir_server.storage.sqlite.nodes import (
    EVERY,
    SAMPLE,
    All,
    Everybody,
    Lead,
    Nobody,
    Node,
    Rids,
    Row,
    Sql,
    WithIds,
    Without,
    joined,
    joined_union,
)

FEW = 100
"""Postings up to which a key leads without a look at the size of anything else."""


class PatientCode(NamedTuple):
    """Parameter numbers of a type: reference to the patient, code, and the key that joins both."""

    subject: int
    code: int
    both: int


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the store knows about types, filled by its owner."""

    types: Mapping[str, int]
    clinical: Mapping[str, int]
    patient_code: Mapping[str, PatientCode]
    fold: Callable[[str], str]
    insides: Insides


@dataclass(slots=True)
class Statement:
    """What the planners of one query share: fresh names, and the sub-selects so far, named so that a statement nests no deeper
    than SQLite's parser can."""

    numbers: count[int] = field(default_factory=count)
    tables: list[tuple[str, Sql]] = field(default_factory=list)
    terms: dict[KeyMatch, list[Term]] = field(default_factory=dict)
    """What was looked up so far."""
    targets: dict[tuple[int, str, Criterion], tuple[Selects, Node]] = field(default_factory=dict)
    """What chains lead to, by the depth of the chain."""


class Selects:
    """The statements over one resource type against one connection and snapshot."""

    def __init__(
        self,
        db: sqlite3.Connection,
        keys: Keys,
        knowledge: Knowledge,
        type: str,
        snapshot: int = EVERY,
        statement: Statement | None = None,
        depth: int = 0,
    ) -> None:
        self.db = db
        self.keys = keys
        self.knowledge = knowledge
        self.type = type
        self.type_number = knowledge.types.get(type, -1)
        self.snapshot = snapshot
        self.clinical = knowledge.clinical.get(type)
        self.lead_cost = 0
        """Rows of the current lead: what a probe will be multiplied by."""
        self._statement = statement or Statement()
        self.depth = depth
        """How many chains lead here."""
        self._term: Term | None = None

    # --- names and common pieces
    def alias(self, letter: str) -> str:
        return f"{letter}{next(self._statement.numbers)}"

    def visible(self, alias: str) -> Sql:
        """The snapshot sees the version."""
        if self.snapshot >= EVERY:
            return Sql(f"NOT EXISTS (SELECT 1 FROM superseded x WHERE x.rid = {alias}.rid)")
        text = f"{alias}.rid <= ? AND NOT EXISTS (SELECT 1 FROM superseded x WHERE x.rid = {alias}.rid AND x.until <= ?)"
        return Sql(text, (self.snapshot, self.snapshot))

    @property
    def type_term(self) -> Term:
        """Key and number of all live resources of the type."""
        if self._term is None:
            found = self.keys.find(self.db, TYPE_PARAMETER, self.type, "")
            self._term = found or Term(self.keys.base(TYPE_PARAMETER, self.type, ""), 0, self.type, "")
        return self._term

    def type_lead(self) -> Lead:
        """All resources of the type, in the order of rid."""
        return Lead(Sql("posting d"), Sql("d.key = ? AND d.sort = 0", (self.type_term.key,)), key=self.type_term.key)

    def range_keys(self, parameter: int, space: str | None, value: str | None) -> tuple[RangeKey, ...]:
        """The keys under which ranges of that parameter and unit are kept."""
        small = parameter << SPAN_SHIFT
        found: list[RangeKey] = []
        if not space and not value:
            plain = self.db.execute("SELECT key, n FROM term WHERE key BETWEEN ? AND ?", (small, small | 7)).fetchall()
            found = [RangeKey(key, key & 7, n) for key, n in plain]
            if space == "" and value == "":
                return tuple(found)
        if space is None or value is None:
            for term in self.keys.find_prefixed(self.db, parameter):
                unit, _, span = term.value.partition(SEPARATOR)
                if span and value in (None, unit) and space in (None, term.space):
                    found.append(RangeKey(term.key, int(span), term.n))
            return tuple(found)
        for number in CLASSES:
            one = self.keys.find(self.db, parameter, space, f"{value}{SEPARATOR}{number}")
            if one:
                found.append(RangeKey(one.key, number, one.n))
        return tuple(found)

    # --- lead and probes
    def order(self, node: Node) -> tuple[Node, list[Node]]:
        """Which node leads and which probe."""
        parts = list(node.parts) if isinstance(node, All) else [node]
        best = self._best(parts)
        probes = [part for part in parts if part is not best and not isinstance(part, Everybody)]
        if len(probes) > 1:
            probes.sort(key=_probe_order)
        return best, probes

    def _best(self, parts: Sequence[Node]) -> Node:
        if len(parts) == 1 and isinstance(parts[0], Postings | Everybody):
            return parts[0]
        # Sizes of keys are at hand; other sizes cost a look each, which few rows to test do not repay.
        postings = min((part for part in parts if isinstance(part, Postings | WithIds)), key=lambda part: part.n, default=None)
        if postings is not None and postings.n <= FEW:
            return postings
        begins = next((part for part in parts if isinstance(part, Beginnings) and part.n <= FEW), None)
        if begins is not None:
            return begins
        leads = [part for part in parts if not isinstance(part, Without | Everybody)]
        if postings is not None and self.bounded(postings, parts):
            # Within the dates these are fewer than the dates are.
            leads = [part for part in leads if not (isinstance(part, Ranges) and part.parameter == self.clinical)]
        best = min(leads, key=lambda part: part.cost, default=None)
        if best is not None and (isinstance(best, Postings) or best.cost <= SAMPLE):
            return best
        everything = Everybody(self)
        return everything if best is None or best.cost > 2 * everything.cost + SAMPLE else best

    def leading(self, node: Node) -> Lead:
        """The FROM clause for a node that was chosen to lead."""
        lead = node.lead(self)
        if lead is None:
            raise AssertionError(f"{node.describe()} cannot lead")
        return lead

    def select_rids(self, node: Node, *, visible: bool = True) -> Sql:
        """SELECT of the rids that match, each once; good within a statement that goes through `finished`."""
        best, probes = self.order(node)
        name = self.alias("c")
        self._statement.tables.append((name, self.select(self.leading(best), probes, best.cost, visible=visible)))
        return Sql(f"SELECT rid FROM {name}")

    def finished(self, sql: Sql) -> Sql:
        """The whole statement: `sql` with the sub-selects that it names."""
        tables = self._statement.tables
        if not tables:
            return sql
        text = ", ".join(f"{name} AS ({select.text})" for name, select in tables)
        args = tuple(arg for _, select in tables for arg in select.args)
        tables.clear()
        return Sql(f"WITH {text} {sql.text}", (*args, *sql.args))

    def select(
        self,
        lead: Lead,
        probes: Sequence[Node],
        cost: int,
        *,
        visible: bool = True,
        columns: str = "d.rid AS rid",
        extra: Sequence[Sql] = (),
    ) -> Sql:
        """SELECT `columns` of the rows of a lead that pass all probes and `extra` conditions. `v` is the row's version where needed."""
        outer, self.lead_cost = self.lead_cost, cost
        row = self.row(lead)
        tests = [lead.where, *extra]
        if visible:
            tests.append(self.visible("d"))
        tests.extend(probe.probe(self, row) for probe in probes)
        self.lead_cost = outer
        where = joined(tests, "AND")
        wants_version = row.joined or "v." in columns or any("v." in sql.text for sql in extra)
        version = " CROSS JOIN version v ON v.rid = d.rid" if wants_version else ""
        return Sql(f"SELECT {columns} FROM {lead.source.text}{version} WHERE {where.text}", (*lead.source.args, *where.args))

    def row(self, lead: Lead) -> Row:
        sort = "d.sort" if lead.has_sort else ("0" if self.clinical is None else None)
        return Row("d.rid", sort, "v")

    def union_lead(self, parts: Sequence[Node]) -> Lead | None:
        """The rows of any of the parts, each once."""
        selects = [self.select_rids(part, visible=False) for part in parts]
        if not selects:
            return Nobody().lead(self)
        union = joined_union([Sql(f"SELECT rid FROM ({select.text})", select.args) for select in selects], "UNION")
        return Lead(Sql(f"({union.text}) d", union.args))

    # --- dates that bound postings
    def bounded(self, best: Node, probes: Sequence[Node]) -> tuple[Postings, Ranges | None] | None:
        """Let a criterion on the clinical date bound the postings that lead.

        Returns the bounded postings, and, when a few resources with long periods lie outside the bounds, the ranges that find those.
        """
        if not isinstance(best, Postings) or self.clinical is None or best.n <= FEW:
            return None
        dates = next((probe for probe in probes if isinstance(probe, Ranges) and probe.parameter == self.clinical), None)
        if dates is None:
            return None
        spans = sorted((item for item in dates.keys), key=lambda item: item.span)
        outside = [item for item in spans if item.span > 1]
        inside = [item for item in spans if item.span <= 1]
        if sum(item.n for item in outside) > max(SAMPLE, best.n // 8):
            # Long periods are common here: one wider bound, or none where some have no limit.
            inside, outside = spans, []
        limits = [dates.bounds(item.span) for item in inside] or [dates.bounds(0)]
        lows, highs = [low for low, _ in limits], [high for _, high in limits]
        low = None if None in lows else min(value for value in lows if value is not None)
        high = None if None in highs else max(value for value in highs if value is not None)
        if any(item.span == SEVERAL for item in inside) or (low is None and high is None):
            return None
        bounds = (None if low is None else int(low), None if high is None else int(high))
        narrow = Postings(best.keys, min(best.n, max(1, dates.n)), bounds=bounds)
        return narrow, Ranges(self, dates.tests, tuple(outside)) if outside else None


def _probe_order(node: Node) -> int:
    """Cheap tests first."""
    kinds: tuple[type[Node], ...] = (Rids, Postings, Ranges, Texts, Beginnings, WithIds)
    return next((at for at, kind in enumerate(kinds) if isinstance(node, kind)), len(kinds))
