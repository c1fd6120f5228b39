"""From the query algebra to nodes that know their size in this database, and from nodes to SELECTs.

The rarest node leads; the others probe each of its rows by primary key. Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from fhir_server.search.query import (
    And,
    Chain,
    Criterion,
    Everything,
    Has,
    Ids,
    KeyMatch,
    Not,
    Nothing,
    OfType,
    Or,
    Present,
    RangeMatch,
    TextMatch,
    Updated,
)
from fhir_server.storage.sqlite.algebra import flattened, key_values, range_alternatives, storable
from fhir_server.storage.sqlite.entries import CLASSES, SEPARATOR, SEVERAL, SPAN_SHIFT
from fhir_server.storage.sqlite.joins import REFS_COST, Chained, Referred
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, UNCOUNTED, Keys, Term, parameter_bounds
from fhir_server.storage.sqlite.node_postings import PostingRange, Postings, Texts
from fhir_server.storage.sqlite.node_ranges import AnyRange, RangeKey, Ranges
from fhir_server.storage.sqlite.nodes import SAMPLE, All, Any_, Everybody, Lead, Nobody, Node, Rids, Row, Sql, WithIds, Without, joined
from fhir_server.storage.sqlite.versions import first_rid, last_version

EVERY = 1 << 62
"""Snapshot that sees all committed versions."""
SMALL_CHAIN = 64
"""Up to so many first-stage hits a chain is replaced by the keys of these resources, so that they can lead or combine."""
FEW = 100
"""Postings up to which a key leads without a look at the size of anything else."""
COMPOSITES = 64
"""Most combinations of patients and codes that are looked up as patient-code keys."""


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


@dataclass(slots=True)
class Statement:
    """What the planners of one query share: fresh names, and the sub-selects so far, named so that a statement nests no deeper
    than SQLite's parser can."""

    numbers: count[int] = field(default_factory=count)
    tables: list[tuple[str, Sql]] = field(default_factory=list)


class Planner:
    """Plans criteria over one resource type against one connection and snapshot."""

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

    def other(self, type: str) -> Planner:
        """A planner for another type of the same query."""
        return Planner(self.db, self.keys, self.knowledge, type, self.snapshot, self._statement, self.depth + 1)

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

    # --- criteria to nodes
    def node(self, criterion: Criterion) -> Node:
        """The node of a criterion. Raises TypeError for a criterion that this store does not know."""
        match criterion:
            case Everything():
                return Everybody(self)
            case Nothing():
                return Nobody()
            case And(parts):
                return self._all(parts)
            case Or(parts):
                return self._any(parts)
            case Not(part):
                return Without(self, self.node(part))
            case KeyMatch():
                return self._postings([criterion]) or self._space(criterion)
            case TextMatch(parameter, text, mode):
                if not storable(text):
                    return Nobody()
                return Texts(self, parameter, text, self.knowledge.fold(text) if mode == "exact" else text, mode)
            case RangeMatch():
                return Ranges(self, ((criterion,),))
            case OfType(type):
                return Everybody(self) if type == self.type else Nobody()
            case Ids(ids):
                return WithIds(tuple(filter(storable, dict.fromkeys(ids))))
            case Present(parameter):
                return self._present(parameter)
            case Updated(low, high):
                return self._updated(low, high)
            case Chain():
                shortened = self._shortened(criterion)
                return self._chain(shortened) if isinstance(shortened, Chain) else self.node(shortened)
            case Has():
                return self._has(criterion)
        raise TypeError(f"unknown criterion {criterion.__class__.__name__}")

    def _terms(self, match: KeyMatch) -> list[Term]:
        assert match.value is not None
        if match.space is None:
            return self.keys.find_any_space(self.db, match.parameter, match.value)
        found = self.keys.find(self.db, match.parameter, match.space, match.value)
        return [found] if found else []

    def _postings(self, matches: Sequence[KeyMatch]) -> Node | None:
        """One node for key criteria with a value; None when one of them has none."""
        if any(match.value is None for match in matches):
            return None
        terms = {term.key: term.n for match in matches for term in self._terms(match)}
        if not terms:
            return Nobody()
        exact = UNCOUNTED not in terms.values()
        return Postings(tuple(terms), sum(n if n != UNCOUNTED else self._sampled(key) for key, n in terms.items()), exact=exact)

    def _sampled(self, key: int) -> int:
        """About how many postings a key has that is not counted."""
        for limit in (SAMPLE, 20 * SAMPLE):
            count = self.db.execute("SELECT count(*) FROM (SELECT 1 FROM posting WHERE key = ? LIMIT ?)", (key, limit)).fetchone()[0]
            if count < limit:
                return count
        return max(count, self.type_term.n // 10)

    def _space(self, match: KeyMatch) -> Node:
        assert match.space is not None
        if not storable(match.space):
            return Nobody()
        low, high = self.keys.space_bounds(match.parameter, match.space)
        return PostingRange(low, high, match.space, self._sum(low, high))

    def _sum(self, low: int, high: int) -> int:
        rows = self.db.execute("SELECT n FROM term WHERE key BETWEEN ? AND ? LIMIT ?", (low, high, SAMPLE)).fetchall()
        total = sum(max(1, row[0]) for row in rows)
        return total if len(rows) < SAMPLE and not any(row[0] == UNCOUNTED for row in rows) else max(total, self.type_term.n // 2)

    def _updated(self, low: int | None, high: int | None) -> Node:
        first = 0 if low is None else first_rid(self.db, low)
        last = EVERY if high is None else first_rid(self.db, high + 1) - 1
        node = Rids(first, last)
        node.n = node.cost = max(0, min(self.type_term.n, min(last, last_version(self.db)) - first + 1))
        return node

    def _present(self, parameter: int) -> Node:
        parts: list[Node] = []
        low, high = parameter_bounds(parameter)
        one = self.db.execute
        if one("SELECT 1 FROM posting WHERE key BETWEEN ? AND ? LIMIT 1", (low, high)).fetchone():
            parts.append(PostingRange(low, high, None, self._sum(low, high)))
        if one("SELECT 1 FROM text WHERE parameter = ? LIMIT 1", (parameter,)).fetchone():
            parts.append(Texts(self, parameter, "", "", "prefix"))
        small = parameter << SPAN_SHIFT
        if one("SELECT 1 FROM term WHERE key BETWEEN ? AND ? LIMIT 1", (small, small | 7)).fetchone() or (
            not parts and one("SELECT 1 FROM term WHERE key BETWEEN ? AND ? LIMIT 1", (low, high)).fetchone()
        ):
            parts.append(AnyRange(parameter, self.type_term.n, self.type_term.n))
        return Any_(tuple(parts)) if parts else Nobody()

    # --- ranges
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

    # --- and, or
    def _all(self, parts: Iterable[Criterion]) -> Node:
        flat = list(flattened(And, parts))
        flat = self._patient_code([self._shortened(part) for part in flat])
        groups: dict[tuple[int, str | None, str | None], list[tuple[RangeMatch, ...]]] = {}
        nodes: list[Node] = []
        for part in flat:
            alternatives = range_alternatives(part)
            if alternatives:
                first = alternatives[0]
                groups.setdefault((first.parameter, first.space, first.value), []).append(alternatives)
            else:
                nodes.append(self._bound(part))
        nodes.extend(Ranges(self, tuple(tests)) for tests in groups.values())
        if any(isinstance(node, Nobody) for node in nodes):
            return Nobody()
        nodes = [node for node in nodes if not isinstance(node, Everybody)]
        if not nodes:
            return Everybody(self)
        return nodes[0] if len(nodes) == 1 else All(self, tuple(nodes))

    def _any(self, parts: Iterable[Criterion]) -> Node:
        flat = [self._shortened(part) for part in flattened(Or, parts)]
        flat = list(flattened(Or, flat))
        whole = range_alternatives(Or(tuple(flat)))
        if whole:
            return Ranges(self, (whole,))
        matches = [part for part in flat if isinstance(part, KeyMatch) and part.value is not None]
        nodes = [self._bound(part) for part in flat if not (isinstance(part, KeyMatch) and part.value is not None)]
        if matches:
            found = self._postings(matches)
            assert found is not None
            nodes.append(found)
        nodes = [node for node in nodes if not isinstance(node, Nobody)]
        if not nodes:
            return Nobody()
        if any(isinstance(node, Everybody) for node in nodes):
            return Everybody(self)
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _patient_code(self, parts: list[Criterion]) -> list[Criterion]:
        """Patient and code of one type together are one key."""
        known = self.knowledge.patient_code.get(self.type)
        if known is None:
            return parts
        patients = next(((at, found) for at, part in enumerate(parts) if (found := key_values(part, known.subject, "Patient"))), None)
        codes = next(((at, found) for at, part in enumerate(parts) if (found := key_values(part, known.code, None))), None)
        if patients is None or codes is None or len(patients[1]) * len(codes[1]) > COMPOSITES:
            return parts
        both = tuple(KeyMatch(known.both, id, f"{system}|{code}") for _, id in patients[1] for system, code in codes[1])
        rest = [part for at, part in enumerate(parts) if at not in (patients[0], codes[0])]
        return [both[0] if len(both) == 1 else Or(both), *rest]

    # --- chains
    def _shortened(self, criterion: Criterion) -> Criterion:
        """A chain with few first-stage hits becomes the keys of these resources."""
        if not isinstance(criterion, Chain):
            return criterion
        rest: list[tuple[str, Criterion]] = []
        found: list[Criterion] = []
        for target, inner in criterion.targets:
            planner = self.other(target)
            node = planner.node(inner)
            if node.n > SMALL_CHAIN or node.cost > 20 * SMALL_CHAIN:
                rest.append((target, inner))
                continue
            rids = planner.select_rids(node)
            hits = self.finished(Sql(f"SELECT w.id FROM ({rids.text}) i CROSS JOIN version w ON w.rid = i.rid", rids.args))
            ids = self.db.execute(*hits).fetchall()
            found.extend(KeyMatch(criterion.parameter, target, id) for (id,) in ids)
        if rest:
            found.append(Chain(criterion.parameter, tuple(rest)))
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _bound(self, criterion: Criterion) -> Node:
        """The node of a criterion that was shortened before."""
        return self._chain(criterion) if isinstance(criterion, Chain) else self.node(criterion)

    def _chain(self, chain: Chain) -> Node:
        nodes: list[Node] = []
        for target, inner in chain.targets:
            planner = self.other(target)
            node = planner.node(inner)
            if isinstance(node, Nobody):
                continue
            share = min(1.0, node.n / max(1, planner.type_term.n))
            size = int(self.type_term.n * share)
            nodes.append(Chained(chain.parameter, planner, node, size, node.cost + node.n * 3 + size))
        if not nodes:
            return Nobody()
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _has(self, has: Has) -> Node:
        source = self.other(has.type)
        inner = source.node(has.part)
        if isinstance(inner, Nobody):
            return inner
        size = min(inner.n, self.type_term.n)
        composite = None
        known = self.knowledge.patient_code.get(has.type)
        if known is not None and self.type == "Patient" and has.parameter == known.subject:
            composite = self._has_composite(source, has.part, known)
        return Referred(has.parameter, source, inner, composite, size, inner.cost + inner.n * REFS_COST)

    def _has_composite(self, source: Planner, part: Criterion, known: PatientCode) -> tuple[int, str, Node] | None:
        parts = list(flattened(And, [part]))
        for at, criterion in enumerate(parts):
            values = key_values(criterion, known.code, None)
            if values and len(values) == 1:
                rest = source.node(And(tuple(parts[:at] + parts[at + 1 :])))
                return known.both, f"{values[0][0]}|{values[0][1]}", rest
        return None

    # --- nodes to SELECTs
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
        leads = [part for part in parts if not isinstance(part, Without | Everybody)]
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
        text = " UNION ".join(f"SELECT rid FROM ({select.text})" for select in selects)
        return Lead(Sql(f"({text}) d", tuple(arg for select in selects for arg in select.args)))

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
    kinds: tuple[type[Node], ...] = (Rids, Postings, Ranges, Texts, WithIds)
    return next((at for at, kind in enumerate(kinds) if isinstance(node, kind)), len(kinds))
