"""Nodes over the table `range`: dates, numbers and quantities by span class.

Decision: docs/decisions/0041-ranges-in-span-classes.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_server.search.near import latitudes
from fhir_server.search.query import Near, RangeMatch
from fhir_server.storage.sqlite.entries import NO_DATE, SEVERAL, SPAN_SHIFT, span_limit
from fhir_server.storage.sqlite.keys import parameter_bounds
from fhir_server.storage.sqlite.nodes import SAMPLE, Lead, Nobody, Node, Row, Sql, joined, joined_union, marks

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects

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


class Stretch(NamedTuple):
    """Clinical sort values from `first` to `last`, both among them; `last` None is without end."""

    first: int
    last: int | None

    def holds(self, sort: str) -> Sql:
        """That a sort value lies in it."""
        if self.last is None:
            return Sql(f"{sort} >= ?", (_number(self.first),))
        return Sql(f"({sort} >= ? AND {sort} <= ?)", (_number(self.first), _number(self.last)))


def common(stretches: Iterable[Stretch]) -> Stretch:
    """What lies in all of them."""
    firsts, lasts = zip(*stretches, strict=True)
    ends = [last for last in lasts if last is not None]
    return Stretch(max(firsts), min(ends) if ends else None)


def stretch_of(match: RangeMatch, limit: float | None) -> Stretch | None:
    """Where a date that is at most `limit` long (None: any length) surely meets the match; None where its beginning does not tell."""
    if match.high_max is not None and limit is None:
        return None
    # A date begins at its sort value, ends there at the earliest, and `limit` later at the latest.
    end = None if match.high_max is None or limit is None else match.high_max - limit
    first, lasts = NO_DATE + 1, []
    for bound, name in ((match.low_min, "low_min"), (match.high_min, "high_min")):
        if bound is not None:
            first = max(first, floor(bound) + 1 if name in match.strict else ceil(bound))
    for bound, name in ((match.low_max, "low_max"), (end, "high_max")):
        if bound is not None:
            lasts.append(ceil(bound) - 1 if name in match.strict else floor(bound))
    return Stretch(first, min(lasts) if lasts else None)


def certain(alternatives: Alternatives, spans: Sequence[int], sort: str) -> Sql | None:
    """On which clinical sort values a date meets some alternative whatever its end is, so that nobody looks at the date itself.

    `spans`: the classes that dates of the parameter have. None where the sort value does not tell.
    """
    if SEVERAL in spans:
        return None
    limit = span_limit(max(spans, default=0), 0)
    found = [sure.holds(sort) for match in alternatives if (sure := stretch_of(match, limit)) is not None]
    return joined(found, "OR") if found else None


def told(alternatives: Alternatives, spans: Sequence[int], sort: str, exists: Sql) -> Sql:
    """Whether some date of a row meets any of the alternatives: by its sort value where that tells, else by `exists`."""
    sure = certain(alternatives, spans, sort)
    if SEVERAL in spans:
        return exists
    low, high = low_bounds(alternatives, span_limit(max(spans, default=0), 0))
    tests, args = [f"{sort} > ?"], [NO_DATE]
    for bound, sign in ((low, ">="), (high, "<=")):
        if bound is not None:
            tests.append(f"{sort} {sign} ?")
            args.append(bound)  # type: ignore[arg-type]
    perhaps = joined([Sql(" AND ".join(tests), tuple(args)), exists], "AND")
    return perhaps if sure is None else joined([sure, perhaps], "OR")


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

    def __init__(self, planner: Selects, tests: tuple[Alternatives, ...], keys: tuple[RangeKey, ...] | None = None) -> None:
        first = tests[0][0]
        self._planner = planner
        self.parameter, self.space, self.value = first.parameter, first.space, first.value
        self.tests = tests
        self._given = keys
        self._bounds: dict[int, tuple[int | float | None, int | float | None]] = {}

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
        known = self._bounds.get(span)
        if known is not None:
            return known
        limit = None if span == SEVERAL else span_limit(span, self._sample())
        tests = self.tests[:1] if span == SEVERAL else self.tests
        pairs = [low_bounds(alternatives, limit) for alternatives in tests]
        lows = [low for low, _ in pairs if low is not None]
        highs = [high for _, high in pairs if high is not None]
        found = self._bounds[span] = (max(lows) if lows else None, min(highs) if highs else None)
        return found

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

    def lead(self, planner: Selects) -> Lead | None:
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
        if self._given is not None:
            numbers = marks([item.key for item in self._given])
            keys = Sql(f"q.key IN ({numbers.text})", numbers.args)
        elif self.space == "" and self.value == "":
            keys = plain
        elif self.space is None and self.value is None:
            low, high = parameter_bounds(self.parameter)
            keys = Sql("(q.key BETWEEN ? AND ? OR q.key BETWEEN ? AND ?)", (*plain.args, low, high))
        else:
            numbers = marks([item.key for item in self.keys])
            keys = Sql(f"q.key IN ({numbers.text})", numbers.args)
        return Sql(f"EXISTS (SELECT 1 FROM range q WHERE q.rid = {rid} AND {keys.text} AND {test.text})", (*keys.args, *test.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        return joined([self._meets(planner, alternatives, row) for alternatives in self.tests], "AND")

    def _meets(self, planner: Selects, alternatives: Alternatives, row: Row) -> Sql:
        exists, sort = self._exists(alternatives, row.rid), row.known_sort
        if self.parameter != planner.clinical or sort is None:
            return exists
        return told(alternatives, [item.span for item in self.keys], sort, exists)

    def stretch(self) -> Stretch | None:
        """Where all tests are surely met, whatever the ends of the dates; None where no single stretch is known."""
        spans = [item.span for item in self.keys]
        if SEVERAL in spans or any(len(alternatives) != 1 for alternatives in self.tests):
            return None
        limit = span_limit(max(spans, default=0), 0)
        found = [stretch_of(match, limit) for (match,) in self.tests]
        return None if None in found else common(sure for sure in found if sure is not None)

    def describe(self) -> str:
        return f"ranges of parameter {self.parameter}, about {self.n}"


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

    def lead(self, planner: Selects) -> Lead | None:
        keys = self._keys("")
        return Lead(Sql(f"(SELECT DISTINCT rid FROM range WHERE {keys.text}) d", keys.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        keys = self._keys("q.")
        return Sql(f"EXISTS (SELECT 1 FROM range q WHERE q.rid = {row.rid} AND {keys.text})", keys.args)


class Nearby(Node):
    """Resources with a position within a distance. Latitude bounds what is looked at; a great circle decides."""

    def __init__(self, planner: Selects, near: Near) -> None:
        self._planner, self._near = planner, near
        self._latitude = near.parameter << SPAN_SHIFT
        self._longitude = (near.parameter + 1) << SPAN_SHIFT

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        low, high = latitudes(self._near.latitude, self._near.metres)
        text = f"SELECT count(*) FROM (SELECT 1 FROM range WHERE key = ? AND low BETWEEN ? AND ? LIMIT {SAMPLE})"
        count: int = self._planner.db.execute(text, (self._latitude, low, high)).fetchone()[0]
        return count if count < SAMPLE else max(SAMPLE, self._planner.type_term.n // 3)

    @property
    def cost(self) -> int:  # type: ignore[override]
        return 2 * self.n

    def _where(self) -> Sql:
        near = self._near
        low, high = latitudes(near.latitude, near.metres)
        text = "y.key = ? AND y.low BETWEEN ? AND ? AND x.rid = y.rid AND x.key = ? AND distance(?, ?, y.low, x.low) <= ?"
        return Sql(text, (self._latitude, low, high, self._longitude, near.latitude, near.longitude, near.metres))

    def lead(self, planner: Selects) -> Lead | None:
        where = self._where()
        return Lead(Sql(f"(SELECT y.rid AS rid FROM range y CROSS JOIN range x WHERE {where.text}) d", where.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        where = self._where()
        return Sql(f"EXISTS (SELECT 1 FROM range y CROSS JOIN range x WHERE y.rid = {row.rid} AND {where.text})", where.args)

    def describe(self) -> str:
        return f"places within {self._near.metres:.0f} m, about {self.n}"
