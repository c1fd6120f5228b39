"""Chained criteria and `_has` as semi-joins inside the statement, in whichever direction touches fewer rows.

From a referring version to its targets: `version.refs` holds the keys of its reference postings. From a resource to
those that refer to it: the key of `Type/id` is computed by the SQL function `term_key`.
Specification: https://hl7.org/fhir/R4/search.html#chaining
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from fhir_server.search.near import distance
from fhir_server.storage.sqlite.entries import unpack_references
from fhir_server.storage.sqlite.keys import Keys, parameter_of
from fhir_server.storage.sqlite.nodes import EVERY, Lead, Node, Row, Sql, joined
from fhir_server.storage.sqlite.schema import DELETED

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects

REFS_COST = 8
"""Cost of following one reference forward, in rows."""
FEW_ROWS = 100
"""Rows up to which the patient-code key is asked for each, whatever else there is."""
DEEP = 3
"""From this many chained steps on the inner set is made first, so that tests do not nest without limit."""


def register_functions(db: sqlite3.Connection, keys: Keys) -> None:
    """Make `term_key(parameter, space, value)`, `refs_of(refs, parameter)` and `distance` known to a connection."""

    def refs_of(blob: bytes | None, parameter: int) -> str:
        return json.dumps([key for key in unpack_references(blob) if parameter_of(key) == parameter])

    # A condition names it twice for each row, once for each end of a range of keys.
    db.create_function("term_key", 3, lru_cache(maxsize=64)(keys.base), deterministic=True)
    db.create_function("refs_of", 2, refs_of, deterministic=True)
    db.create_function("distance", 4, distance, deterministic=True)


def term_join(planner: Selects, parameter: int, space: str, value: str, prefix: str = "") -> Sql:
    """Condition that term `t` is the form (parameter, space, prefix || column `value`)."""
    expression = f"{value} || ?" if prefix else value
    args = (prefix,) if prefix else ()
    base = f"term_key(?, ?, {expression})"
    if planner.keys.reach:
        text = f"t.key >= {base} AND t.key <= {base} + ? AND t.space = ? AND t.value = {expression}"
        return Sql(text, (parameter, space, *args, parameter, space, *args, planner.keys.reach, space, *args))
    return Sql(f"t.key = {base} AND t.space = ? AND t.value = {expression}", (parameter, space, *args, space, *args))


def target_rid(planner: Selects) -> Sql:
    """The version of resource `r` that the snapshot sees, deleted or not."""
    if planner.snapshot >= EVERY:
        return Sql("r.rid")
    return Sql(
        "CASE WHEN r.rid <= ? THEN r.rid ELSE (SELECT o.rid FROM old o WHERE o.type = r.type AND o.id = r.id AND o.rid <= ? "
        "ORDER BY o.version DESC LIMIT 1) END",
        (planner.snapshot, planner.snapshot),
    )


@dataclass(slots=True)
class Chained(Node):
    """The reference parameter leads to a resource of `target` (its own planner) that matches `inner`."""

    parameter: int
    target: Selects
    inner: Node
    n: int = 0
    cost: int = 0

    def lead(self, planner: Selects) -> Lead | None:
        rids = self.target.select_rids(self.inner)
        terms = term_join(planner, self.parameter, self.target.type, "w.id")
        text = (
            f"(SELECT DISTINCT q.rid AS rid, q.sort AS sort FROM ({rids.text}) i CROSS JOIN version w ON w.rid = i.rid "
            f"CROSS JOIN term t ON {terms.text} CROSS JOIN posting q ON q.key = t.key) d"
        )
        return Lead(Sql(text, (*rids.args, *terms.args)), has_sort=True)

    def probe(self, planner: Selects, row: Row) -> Sql:
        if planner.lead_cost * REFS_COST < self.cost and planner.depth < DEEP:
            return self._forward(planner, row)
        lead = self.lead(planner)
        assert lead is not None
        return Sql(f"{row.rid} IN (SELECT d.rid FROM {lead.source.text})", lead.source.args)

    def gathered(self, lead: int) -> int:
        return min(self.cost, lead * REFS_COST)

    def _forward(self, planner: Selects, row: Row) -> Sql:
        """From the row to its targets, each tested."""
        rid = target_rid(planner)
        alias = planner.alias("w")
        self.target.lead_cost = planner.lead_cost
        test = self.inner.probe(self.target, Row(f"{alias}.rid", f"{alias}.clinical", alias))
        text = (
            f"EXISTS (SELECT 1 FROM json_each(refs_of({row.column('refs')}, ?)) k CROSS JOIN term t ON t.key = k.value "
            f"CROSS JOIN resource r ON r.type = ? AND r.id = t.value CROSS JOIN version {alias} ON {alias}.rid = {rid.text} "
            f"WHERE t.space = ? AND {alias}.method <> {DELETED} AND {test.text})"
        )
        return Sql(text, (self.parameter, self.target.type_number, *rid.args, self.target.type, *test.args))

    def describe(self) -> str:
        return f"reference {self.parameter} to {self.target.type} with [{self.inner.describe()}]"


class Composite(NamedTuple):
    """One key that answers reference and code of `_has` together."""

    parameter: int
    """Number of the patient-code parameter."""
    code: str
    """`system|code`"""
    rest: Node
    """What else the referring resource must match."""


class Referred(Node):
    """Some resource of `source` (its own planner) that matches `inner` refers to this one by `parameter` (`_has`)."""

    def __init__(self, parameter: int, source: Selects, inner: Callable[[], Node], composite: Composite | None = None) -> None:
        """`inner` is planned when it is needed, which it is not where a composite answers for a few rows."""
        self.parameter, self.source, self.composite = parameter, source, composite
        self._plan = inner

    @cached_property
    def inner(self) -> Node:
        return self._plan()

    @property
    def n(self) -> int:  # type: ignore[override]
        return self.inner.n

    @cached_property
    def cost(self) -> int:  # type: ignore[override]
        return self.inner.cost + self.inner.n * REFS_COST

    def _asks_each(self, lead: int) -> bool:
        """Whether looking from each of `lead` rows is cheaper than making the whole set."""
        return (self.composite is not None and lead <= FEW_ROWS) or lead * 4 <= self.cost

    def lead(self, planner: Selects) -> Lead | None:
        rids = self.source.select_rids(self.inner)
        rid = target_rid(planner)
        text = (
            f"(SELECT DISTINCT {rid.text} AS rid FROM ({rids.text}) i CROSS JOIN version w ON w.rid = i.rid "
            "CROSS JOIN json_each(refs_of(w.refs, ?)) k CROSS JOIN term t ON t.key = k.value "
            "CROSS JOIN resource r ON r.type = ? AND r.id = t.value WHERE t.space = ?) d"
        )
        where = Sql(f"(SELECT method FROM version WHERE rid = d.rid) <> {DELETED}")
        return Lead(Sql(text, (*rid.args, *rids.args, self.parameter, planner.type_number, planner.type)), where)

    def probe(self, planner: Selects, row: Row) -> Sql:
        if planner.depth >= DEEP or not self._asks_each(planner.lead_cost):
            lead = self.lead(planner)
            assert lead is not None
            return Sql(f"{row.rid} IN (SELECT d.rid FROM {lead.source.text})", lead.source.args)
        id = row.column("id")
        if self.composite:
            parameter, code, inner = self.composite
            terms = Sql(f"t.key = term_key(?, {id}, ?) AND t.space = {id} AND t.value = ?", (parameter, code, code))
            if planner.keys.reach:
                text = f"t.key >= term_key(?, {id}, ?) AND t.key <= term_key(?, {id}, ?) + ? AND t.space = {id} AND t.value = ?"
                terms = Sql(text, (parameter, code, parameter, code, planner.keys.reach, code))
        else:
            inner = self.inner
            terms = term_join(planner, self.parameter, planner.type, id)
        alias = planner.alias("q")
        self.source.lead_cost = planner.lead_cost
        tested = Row(f"{alias}.rid", f"{alias}.sort", planner.alias("w"))
        tests = joined([self.source.visible(alias), inner.probe(self.source, tested)], "AND")
        version = f" CROSS JOIN version {tested._version} ON {tested._version}.rid = {alias}.rid" if tested.joined else ""
        text = (
            f"EXISTS (SELECT 1 FROM term t CROSS JOIN posting {alias} ON {alias}.key = t.key{version} WHERE {terms.text} AND {tests.text})"
        )
        return Sql(text, (*terms.args, *tests.args))

    def gathered(self, lead: int) -> int:
        return lead * 4 if self._asks_each(lead) else self.cost

    def describe(self) -> str:
        how = "patient-code key" if self.composite else f"reference {self.parameter}"
        return f"referred to by {self.source.type} ({how}) with [{self.inner.describe()}]"
