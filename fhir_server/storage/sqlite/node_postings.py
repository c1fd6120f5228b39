"""Nodes over the tables `posting` and `text`: values of token, reference, uri and string parameters.

Decision: docs/decisions/0040-postings-and-collisions.md
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fhir_server.storage.sqlite.entries import SEPARATOR
from fhir_server.storage.sqlite.nodes import MANY, SAMPLE, Lead, Node, Row, Sql, joined, joined_union, marks

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects

TOP = "\U0010ffff"
_THROUGH = ("contains", "suffix")


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

    def lead(self, planner: Selects) -> Lead | None:
        if len(self.keys) == 1:
            limits = self._limits("d.")
            return Lead(Sql("posting d"), Sql(f"d.key = ?{limits.text}", (self.keys[0], *limits.args)), True, self.keys[0])
        keys, limits = marks(self.keys), self._limits("")
        source = f"(SELECT DISTINCT rid, sort FROM posting WHERE key IN ({keys.text}){limits.text}) d"
        return Lead(Sql(source, (*keys.args, *limits.args)), has_sort=True)

    def probe(self, planner: Selects, row: Row) -> Sql:
        keys = marks(self.keys)
        if len(self.keys) > MANY:
            return Sql(f"{row.rid} IN (SELECT rid FROM posting WHERE key IN ({keys.text}))", keys.args)
        return Sql(
            f"EXISTS (SELECT 1 FROM posting q WHERE q.key IN ({keys.text}) AND q.sort = {row.sort} AND q.rid = {row.rid})", keys.args
        )

    def gathered(self, lead: int) -> int:
        return self.n if len(self.keys) > MANY else 0

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

    def lead(self, planner: Selects) -> Lead | None:
        inner = self._select("DISTINCT q.rid, q.sort")
        return Lead(Sql(f"({inner.text}) d", inner.args), has_sort=True)

    def probe(self, planner: Selects, row: Row) -> Sql:
        inner = self._select("q.rid")
        return Sql(f"{row.rid} IN ({inner.text})", inner.args)

    def gathered(self, lead: int) -> int:
        return self.n

    def describe(self) -> str:
        return f"all postings of a {'parameter' if self.space is None else 'system'}, about {self.n}"


class Texts(Node):
    """Resources with a string value of the parameter."""

    def __init__(self, planner: Selects, parameter: int, text: str, folded: str, mode: str) -> None:
        self._planner = planner
        self.parameter, self.text, self.folded, self.mode = parameter, text, folded, mode

    @cached_property
    def _sample(self) -> list[int]:
        """The first rows, all of them where they are few."""
        where = self._where("")
        return _rids(self._planner, Sql(f"SELECT rid FROM text WHERE {where.text} LIMIT {SAMPLE}", where.args))

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        """That of a sample; 'contains' and 'suffix' are guesses."""
        if self.mode in _THROUGH:
            return max(1, self._planner.type_term.n // 20)
        count = len(self._sample)
        return count if count < SAMPLE else max(SAMPLE, self._planner.type_term.n // 10)

    @property
    def cost(self) -> int:  # type: ignore[override]
        """'contains' and 'suffix' must look at each value of the parameter."""
        return self._planner.type_term.n if self.mode in _THROUGH else self.n

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
        if self.mode == "whole":
            return Sql(f"{alias}parameter = ? AND {alias}folded = ?", (self.parameter, self.folded))
        if self.mode == "suffix":
            return Sql(f"{alias}parameter = ? AND substr({alias}folded, -?) = ?", (self.parameter, len(self.folded), self.folded))
        if not self.folded:
            return Sql(f"{alias}parameter = ?", (self.parameter,))
        return Sql(f"{alias}parameter = ? AND {alias}folded >= ? AND {alias}folded < ?", (self.parameter, self.folded, self.folded + TOP))

    def lead(self, planner: Selects) -> Lead | None:
        if self.mode not in _THROUGH and len(self._sample) < SAMPLE:
            return _listed(self._sample)
        where = self._where("")
        return Lead(Sql(f"(SELECT DISTINCT rid FROM text WHERE {where.text}) d", where.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        where = self._where("q.")
        return Sql(f"EXISTS (SELECT 1 FROM text q WHERE q.rid = {row.rid} AND {where.text})", where.args)

    def describe(self) -> str:
        return f"text of parameter {self.parameter} ({self.mode}), about {self.n}"


class Beginnings(Node):
    """Resources with a string value that begins in one of several ways: a name, its pinyin, its initials."""

    def __init__(self, planner: Selects, wanted: Sequence[tuple[int, str]]) -> None:
        """`wanted`: (parameter, folded text), none of them empty."""
        self._planner = planner
        self._wanted = [(parameter, folded, folded + TOP) for parameter, folded in wanted]

    @cached_property
    def _sample(self) -> list[int]:
        """The first rows, all of them where they are few."""
        union = joined_union([Sql(f"SELECT rid FROM text WHERE {BEGINS}", wanted) for wanted in self._wanted])
        return _rids(self._planner, Sql(f"{union.text} LIMIT {SAMPLE}", union.args))

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        count = len(self._sample)
        return count if count < SAMPLE else max(SAMPLE, self._planner.type_term.n // 10 * len(self._wanted))

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self.n

    def lead(self, planner: Selects) -> Lead | None:
        if len(self._sample) < SAMPLE:
            return _listed(self._sample)
        union = joined_union([Sql(f"SELECT rid FROM text WHERE {BEGINS}", wanted) for wanted in self._wanted], "UNION")
        return Lead(Sql(f"({union.text}) d", union.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        tests = joined([Sql("q.parameter = ? AND q.folded >= ? AND q.folded < ?", wanted) for wanted in self._wanted], "OR")
        return Sql(f"EXISTS (SELECT 1 FROM text q WHERE q.rid = {row.rid} AND ({tests.text}))", tests.args)

    def describe(self) -> str:
        return f"beginnings of {len(self._wanted)} texts, about {self.n}"


def _rids(planner: Selects, sql: Sql) -> list[int]:
    return [rid for (rid,) in planner.db.execute(*sql)]


def _listed(rids: Sequence[int]) -> Lead:
    """Rows that are at hand, each once."""
    return Lead(Sql("(SELECT value AS rid FROM json_each(?)) d", (json.dumps(list(dict.fromkeys(rids))),)))


BEGINS = "parameter = ? AND folded >= ? AND folded < ?"
