"""Criteria bound to one database state: each node can lead a statement (deliver rows) or probe (test one row).

A lead delivers each resource once as `d.rid`, and as `d.sort` its clinical sort value where it has it at hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_server.search.query import RangeMatch
from fhir_server.storage.sqlite.entries import SEPARATOR, SEVERAL, span_limit
from fhir_server.storage.sqlite.keys import parameter_bounds
from fhir_server.storage.sqlite.schema import DELETED

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.planner import Planner

MANY = 32
"""From this number of keys on, a set is made once instead of probing each key per row."""
SAMPLE = 400
"""Rows that an estimate may touch."""
TOP = "\U0010ffff"


class Sql(NamedTuple):
    """A piece of a statement with its arguments in order."""

    text: str
    args: tuple[Any, ...] = ()


class Lead(NamedTuple):
    """A FROM clause that names its rows `d`, and conditions on it."""

    source: Sql
    where: Sql = Sql("1")
    has_sort: bool = False
    key: int | None = None
    """The posting key when the rows are one key's postings: then they can come in order."""


class Row:
    """The row that a probe tests: names of its columns. Asking for more than the lead has joins its `version` row."""

    def __init__(self, rid: str, sort: str | None, version: str) -> None:
        self.rid = rid
        self._sort = sort
        self._version = version
        self.joined = False

    def column(self, name: str) -> str:
        self.joined = True
        return f"{self._version}.{name}"

    @property
    def sort(self) -> str:
        return self._sort if self._sort is not None else self.column("clinical")


def joined(parts: Sequence[Sql], word: str) -> Sql:
    """Conditions joined by AND or OR."""
    if len(parts) == 1:
        return parts[0]
    return Sql("(" + f" {word} ".join(part.text for part in parts) + ")", tuple(arg for part in parts for arg in part.args))


def marks(values: Sequence[Any]) -> Sql:
    """A list for IN: placeholders, or one JSON argument when there are many."""
    if len(values) <= MANY:
        return Sql(",".join("?" * len(values)), tuple(values))
    return Sql("SELECT value FROM json_each(?)", (json.dumps(list(values)),))


class Node:
    """`n`: about how many resources match; `cost`: rows touched when it leads."""

    n: int = 0
    cost: int = 0

    def lead(self, planner: Planner) -> Lead | None:
        """How it delivers rows, or None when it cannot."""
        return None

    def probe(self, planner: Planner, row: Row) -> Sql:
        """A condition that is true for the rows that match."""
        raise NotImplementedError

    def describe(self) -> str:
        return f"{type(self).__name__} (about {self.n})"


class Nobody(Node):
    """No resource."""

    def lead(self, planner: Planner) -> Lead | None:
        return Lead(Sql("(SELECT 0 AS rid, 0 AS sort WHERE 0) d"), has_sort=True)

    def probe(self, planner: Planner, row: Row) -> Sql:
        return Sql("0")

    def describe(self) -> str:
        return "nothing"


class Everybody(Node):
    """Each resource of the type."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    @property
    def n(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    def lead(self, planner: Planner) -> Lead | None:
        return planner.type_lead()

    def probe(self, planner: Planner, row: Row) -> Sql:
        return Sql("1")

    def describe(self) -> str:
        return f"all {self.n} of the type"


@dataclass
class Postings(Node):
    """Resources that post under any of `keys`."""

    keys: tuple[int, ...]
    n: int
    cost: int = 0
    bounds: tuple[int | None, int | None] = (None, None)
    """Limits of the sort value that hold for every match (from a date criterion beside it)."""
    exact: bool = False
    """`n` is the exact number of live resources, given that there is one key."""

    def __post_init__(self) -> None:
        self.cost = self.n

    def _limits(self, alias: str) -> Sql:
        low, high = self.bounds
        parts, args = "", []
        if low is not None:
            parts += f" AND {alias}sort >= ?"
            args.append(low)
        if high is not None:
            parts += f" AND {alias}sort <= ?"
            args.append(high)
        return Sql(parts, tuple(args))

    def lead(self, planner: Planner) -> Lead | None:
        if len(self.keys) == 1:
            limits = self._limits("d.")
            return Lead(Sql("posting d"), Sql(f"d.key = ?{limits.text}", (self.keys[0], *limits.args)), True, self.keys[0])
        keys, limits = marks(self.keys), self._limits("")
        source = f"(SELECT DISTINCT rid, sort FROM posting WHERE key IN ({keys.text}){limits.text}) d"
        return Lead(Sql(source, (*keys.args, *limits.args)), has_sort=True)

    def probe(self, planner: Planner, row: Row) -> Sql:
        keys = marks(self.keys)
        if len(self.keys) > MANY:
            return Sql(f"{row.rid} IN (SELECT rid FROM posting WHERE key IN ({keys.text}))", keys.args)
        return Sql(
            f"EXISTS (SELECT 1 FROM posting q WHERE q.key IN ({keys.text}) AND q.sort = {row.sort} AND q.rid = {row.rid})", keys.args
        )

    def describe(self) -> str:
        return f"postings of {len(self.keys)} key(s), {self.n} resource(s)"


@dataclass
class PostingRange(Node):
    """Resources that post under any key of a parameter, or of one space of it."""

    low: int
    high: int
    space: str | None
    n: int
    cost: int = 0

    def __post_init__(self) -> None:
        self.cost = self.n

    def _select(self, columns: str) -> Sql:
        if self.space is None:
            return Sql(f"SELECT {columns} FROM posting q WHERE q.key BETWEEN ? AND ?", (self.low, self.high))
        text = f"SELECT {columns} FROM posting q CROSS JOIN term t ON t.key = q.key WHERE q.key BETWEEN ? AND ? AND t.space = ?"
        return Sql(text, (self.low, self.high, self.space))

    def lead(self, planner: Planner) -> Lead | None:
        inner = self._select("DISTINCT q.rid, q.sort")
        return Lead(Sql(f"({inner.text}) d", inner.args), has_sort=True)

    def probe(self, planner: Planner, row: Row) -> Sql:
        inner = self._select("q.rid")
        return Sql(f"{row.rid} IN ({inner.text})", inner.args)

    def describe(self) -> str:
        return f"all postings of a {'parameter' if self.space is None else 'system'}, about {self.n}"


class Texts(Node):
    """Resources with a string value of the parameter."""

    def __init__(self, planner: Planner, parameter: int, text: str, folded: str, mode: str) -> None:
        self._planner = planner
        self.parameter, self.text, self.folded, self.mode = parameter, text, folded, mode

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        """A count of a sample; 'contains' is a guess."""
        total = self._planner.type_term.n
        if self.mode == "contains":
            return max(1, total // 20)
        where = self._where("")
        sample = f"SELECT count(*) FROM (SELECT 1 FROM text WHERE {where.text} LIMIT {SAMPLE})"
        count: int = self._planner.db.execute(sample, where.args).fetchone()[0]
        return count if count < SAMPLE else max(SAMPLE, total // 10)

    @property
    def cost(self) -> int:  # type: ignore[override]
        """'contains' must look at each value of the parameter."""
        return self._planner.type_term.n if self.mode == "contains" else self.n

    def _where(self, alias: str) -> Sql:
        if self.mode == "contains":
            return Sql(f"{alias}parameter = ? AND instr({alias}folded, ?) > 0", (self.parameter, self.folded))
        if self.mode == "exact":
            text = (
                f"{alias}parameter = ? AND {alias}folded = ? AND (({alias}exact = '' AND {alias}folded = ?) "
                f"OR instr(? || {alias}exact || ?, ?) > 0)"
            )
            wrapped = f"{SEPARATOR}{self.text}{SEPARATOR}"
            return Sql(text, (self.parameter, self.folded, self.text, SEPARATOR, SEPARATOR, wrapped))
        if not self.folded:
            return Sql(f"{alias}parameter = ?", (self.parameter,))
        return Sql(f"{alias}parameter = ? AND {alias}folded >= ? AND {alias}folded < ?", (self.parameter, self.folded, self.folded + TOP))

    def lead(self, planner: Planner) -> Lead | None:
        where = self._where("")
        return Lead(Sql(f"(SELECT DISTINCT rid FROM text WHERE {where.text}) d", where.args))

    def probe(self, planner: Planner, row: Row) -> Sql:
        where = self._where("q.")
        return Sql(f"EXISTS (SELECT 1 FROM text q WHERE q.rid = {row.rid} AND {where.text})", where.args)

    def describe(self) -> str:
        return f"text of parameter {self.parameter} ({self.mode}), about {self.n}"


Alternatives = tuple[RangeMatch, ...]


def _number(value: Any) -> int | float:
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    return float(value)


def condition(alternatives: Alternatives, alias: str) -> Sql:
    """Whether one range row meets any of the alternatives."""
    parts: list[Sql] = []
    for match in alternatives:
        tests: list[str] = []
        args: list[Any] = []
        for column, limit, name, sign in (
            ("low", match.low_min, "low_min", ">"),
            ("low", match.low_max, "low_max", "<"),
            ("high", match.high_min, "high_min", ">"),
            ("high", match.high_max, "high_max", "<"),
        ):
            if limit is not None:
                tests.append(f"{alias}{column} {sign}{'' if name in match.strict else '='} ?")
                args.append(_number(limit))
        parts.append(Sql("(" + " AND ".join(tests) + ")" if tests else "1", tuple(args)))
    return joined(parts, "OR")


def low_bounds(alternatives: Alternatives, limit: float | None) -> tuple[int | float | None, int | float | None]:
    """Between which values `low` of a matching range must lie, when ranges are at most `limit` long."""
    lows: list[int | float | None] = []
    highs: list[int | float | None] = []
    for match in alternatives:
        low = [_number(match.low_min)] if match.low_min is not None else []
        if match.high_min is not None and limit is not None:
            least = _number(match.high_min) - limit
            low.append(least - abs(least) * 1e-9 - 1e-9 if isinstance(least, float) else least)
        high = [_number(value) for value in (match.low_max, match.high_max) if value is not None]
        lows.append(max(low) if low else None)
        highs.append(min(high) if high else None)
    return (
        None if None in lows else min(value for value in lows if value is not None),
        None if None in highs else max(value for value in highs if value is not None),
    )


class RangeKey(NamedTuple):
    """One key of `range` with its span class and the number of live resources that have it."""

    key: int
    span: int
    n: int


class Ranges(Node):
    """Resources with a date, number or quantity of the parameter that meets all `tests`, each on some row of its own.

    `space` and `value` name the unit as in RangeMatch.
    """

    def __init__(self, planner: Planner, tests: tuple[Alternatives, ...], keys: tuple[RangeKey, ...] | None = None) -> None:
        first = tests[0][0]
        self._planner = planner
        self.parameter, self.space, self.value = first.parameter, first.space, first.value
        self.tests = tests
        self._given = keys

    @cached_property
    def keys(self) -> tuple[RangeKey, ...]:
        """Where such ranges are kept."""
        return self._planner.range_keys(self.parameter, self.space, self.value) if self._given is None else self._given

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        """A count of a sample of each key's rows within the bounds."""
        seen = 0
        for item in self.keys:
            low, high = self.bounds(item.span)
            if low is None and high is None:
                seen += item.n
                continue
            text = (
                "SELECT 1 FROM range WHERE key = ?"
                + (" AND low >= ?" if low is not None else "")
                + (" AND low <= ?" if high is not None else "")
            )
            args = [item.key, *(bound for bound in (low, high) if bound is not None)]
            count = self._planner.db.execute(f"SELECT count(*) FROM ({text} LIMIT {SAMPLE})", args).fetchone()[0]
            seen += count if count < SAMPLE else max(SAMPLE, item.n // 3)
        return seen

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self.n

    def _sample(self) -> int | float:
        for alternatives in self.tests:
            for match in alternatives:
                for value in (match.low_min, match.low_max, match.high_min, match.high_max):
                    if value is not None:
                        return _number(value)
        return 0

    def bounds(self, span: int) -> tuple[int | float | None, int | float | None]:
        """Limits of `low` for ranges of a span class. Rows of the class SEVERAL need only meet one test each."""
        limit = None if span == SEVERAL else span_limit(span, self._sample())
        tests = self.tests[:1] if span == SEVERAL else self.tests
        pairs = [low_bounds(alternatives, limit) for alternatives in tests]
        lows = [low for low, _ in pairs if low is not None]
        highs = [high for _, high in pairs if high is not None]
        return (max(lows) if lows else None, min(highs) if highs else None)

    def _branch(self, item: RangeKey) -> Sql:
        low, high = self.bounds(item.span)
        text, args = "r.key = ?", [item.key]
        if low is not None:
            text += " AND r.low >= ?"
            args.append(low)  # type: ignore[arg-type]
        if high is not None:
            text += " AND r.low <= ?"
            args.append(high)  # type: ignore[arg-type]
        first = [condition(alternatives, "r.") for alternatives in (self.tests[:1] if item.span == SEVERAL else self.tests)]
        others = [self._exists(alternatives, "r.rid") for alternatives in self.tests[1:]] if item.span == SEVERAL else []
        every = joined([*first, *others], "AND")
        return Sql(f"SELECT r.rid AS rid FROM range r WHERE {text} AND {every.text}", (*args, *every.args))

    def lead(self, planner: Planner) -> Lead | None:
        branches = [self._branch(item) for item in self.keys]
        if not branches:
            return Nobody().lead(planner)
        union = joined_union(branches)
        if any(item.span == SEVERAL for item in self.keys):
            union = Sql(f"SELECT DISTINCT rid FROM ({union.text})", union.args)
        return Lead(Sql(f"({union.text}) d", union.args))

    def _exists(self, alternatives: Alternatives, rid: str) -> Sql:
        test = condition(alternatives, "q.")
        small = self.parameter << 3
        plain = Sql("q.key BETWEEN ? AND ?", (small, small | 7))
        if self.space == "" and self.value == "":
            keys = plain
        elif self.space is None and self.value is None:
            low, high = parameter_bounds(self.parameter)
            keys = Sql("(q.key BETWEEN ? AND ? OR q.key BETWEEN ? AND ?)", (*plain.args, low, high))
        else:
            numbers = marks([item.key for item in self.keys])
            keys = Sql(f"q.key IN ({numbers.text})", numbers.args)
        return Sql(f"EXISTS (SELECT 1 FROM range q WHERE q.rid = {rid} AND {keys.text} AND {test.text})", (*keys.args, *test.args))

    def probe(self, planner: Planner, row: Row) -> Sql:
        return joined([self._exists(alternatives, row.rid) for alternatives in self.tests], "AND")

    def describe(self) -> str:
        return f"ranges of parameter {self.parameter}, about {self.n}"


def joined_union(parts: Sequence[Sql]) -> Sql:
    """SELECTs as one, duplicates kept."""
    return Sql(" UNION ALL ".join(part.text for part in parts), tuple(arg for part in parts for arg in part.args))


@dataclass
class Rids(Node):
    """Versions with a sequence number within [low, high]: what `_lastUpdated` comes to."""

    low: int
    high: int
    n: int = 0
    cost: int = 0

    def lead(self, planner: Planner) -> Lead | None:
        lead = planner.type_lead()
        where = Sql(f"{lead.where.text} AND d.rid BETWEEN ? AND ?", (*lead.where.args, self.low, self.high))
        return Lead(lead.source, where)

    def probe(self, planner: Planner, row: Row) -> Sql:
        return Sql(f"{row.rid} BETWEEN ? AND ?", (self.low, self.high))

    def describe(self) -> str:
        return f"versions {self.low} to {self.high}"


@dataclass
class WithIds(Node):
    """Resources with one of these ids."""

    ids: tuple[str, ...]
    n: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        self.n = self.cost = len(self.ids)

    def lead(self, planner: Planner) -> Lead | None:
        ids = marks(self.ids)
        number = planner.type_number
        source = (
            f"(SELECT rid FROM resource WHERE type = ? AND id IN ({ids.text}) UNION ALL "
            f"SELECT o.rid FROM old o CROSS JOIN superseded s ON s.rid = o.rid WHERE o.type = ? AND o.id IN ({ids.text})) d"
        )
        where = Sql(f"(SELECT method FROM version WHERE rid = d.rid) <> {DELETED}")
        return Lead(Sql(source, (number, *ids.args, number, *ids.args)), where)

    def probe(self, planner: Planner, row: Row) -> Sql:
        ids = marks(self.ids)
        return Sql(f"{row.column('id')} IN ({ids.text})", ids.args)

    def describe(self) -> str:
        return f"{len(self.ids)} id(s)"


@dataclass
class AnyValue(Node):
    """Resources with some value of the parameter, in whichever tables have values of it."""

    parts: tuple[Node, ...]
    n: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        self.n = sum(part.n for part in self.parts)
        self.cost = self.n

    def lead(self, planner: Planner) -> Lead | None:
        return planner.union_lead(self.parts)

    def probe(self, planner: Planner, row: Row) -> Sql:
        return joined([part.probe(planner, row) for part in self.parts], "OR") if self.parts else Sql("0")


@dataclass
class AnyRange(Node):
    """Resources with some range of the parameter."""

    parameter: int
    n: int
    cost: int = 0

    def _keys(self, alias: str) -> Sql:
        low, high = parameter_bounds(self.parameter)
        small = self.parameter << 3
        return Sql(f"({alias}key BETWEEN ? AND ? OR {alias}key BETWEEN ? AND ?)", (small, small | 7, low, high))

    def lead(self, planner: Planner) -> Lead | None:
        keys = self._keys("")
        return Lead(Sql(f"(SELECT DISTINCT rid FROM range WHERE {keys.text}) d", keys.args))

    def probe(self, planner: Planner, row: Row) -> Sql:
        keys = self._keys("q.")
        return Sql(f"EXISTS (SELECT 1 FROM range q WHERE q.rid = {row.rid} AND {keys.text})", keys.args)


class All(Node):
    """All parts match."""

    def __init__(self, planner: Planner, parts: tuple[Node, ...]) -> None:
        self._planner = planner
        self.parts = parts

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        """As if the parts had nothing to do with each other."""
        total = max(1, self._planner.type_term.n)
        share = 1.0
        for part in self.parts:
            share *= min(1.0, part.n / total)
        return int(total * share)

    @property
    def cost(self) -> int:  # type: ignore[override]
        return min(part.cost for part in self.parts)

    def lead(self, planner: Planner) -> Lead | None:
        select = planner.select_rids(self, visible=False)
        return Lead(Sql(f"({select.text}) d", select.args))

    def probe(self, planner: Planner, row: Row) -> Sql:
        return joined([part.probe(planner, row) for part in self.parts], "AND")

    def describe(self) -> str:
        return "all of: " + "; ".join(part.describe() for part in self.parts)


@dataclass
class Any_(Node):
    """Some part matches."""

    parts: tuple[Node, ...]
    n: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        self.n = sum(part.n for part in self.parts)
        self.cost = sum(part.cost for part in self.parts)

    def lead(self, planner: Planner) -> Lead | None:
        return planner.union_lead(self.parts)

    def probe(self, planner: Planner, row: Row) -> Sql:
        return joined([part.probe(planner, row) for part in self.parts], "OR")

    def describe(self) -> str:
        return "any of: " + "; ".join(part.describe() for part in self.parts)


class Without(Node):
    """The part does not match. Cannot lead."""

    def __init__(self, planner: Planner, part: Node) -> None:
        self._planner = planner
        self.part = part

    @property
    def n(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    def probe(self, planner: Planner, row: Row) -> Sql:
        inner = self.part.probe(planner, row)
        return Sql(f"NOT ({inner.text})", inner.args)

    def describe(self) -> str:
        return f"not: {self.part.describe()}"
