"""Criteria bound to one database state: each node can lead a statement (deliver rows) or probe (test one row).

A lead delivers each resource once as `d.rid`, and as `d.sort` its clinical sort value where it has it at hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_server.storage.sqlite.schema import DELETED

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects

MANY = 32
"""From this number of keys on, a set is made once instead of probing each key per row."""
GROUP = 200
"""Most conditions side by side in a statement."""
EVERY = 1 << 62
"""Snapshot that sees all committed versions."""
SAMPLE = 400
"""Rows that an estimate may touch."""


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
    def known_sort(self) -> str | None:
        """The clinical sort value where it is at hand: in the lead, or in the version that is joined anyway."""
        return self.sort if self._sort is not None or self.joined else None

    @property
    def sort(self) -> str:
        return self._sort if self._sort is not None else self.column("clinical")


def joined(parts: Sequence[Sql], word: str) -> Sql:
    """Conditions joined by AND or OR; many of them in groups, as SQLite's expressions may be 1,000 deep and each word is one deeper."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) > GROUP:
        return joined([joined(parts[at : at + GROUP], word) for at in range(0, len(parts), GROUP)], word)
    return Sql("(" + f" {word} ".join(part.text for part in parts) + ")", tuple(arg for part in parts for arg in part.args))


def marks(values: Sequence[Any]) -> Sql:
    """A list for IN: placeholders, or one JSON argument when there are many."""
    if len(values) <= MANY:
        return Sql(",".join("?" * len(values)), tuple(values))
    return Sql("SELECT value FROM json_each(?)", (json.dumps(list(values)),))


def joined_union(parts: Sequence[Sql], word: str = "UNION ALL") -> Sql:
    """SELECTs as one, duplicates kept unless `word` is UNION; many of them in groups, as SQLite takes 500 side by side."""
    if len(parts) > GROUP:
        groups = [joined_union(parts[at : at + GROUP], word) for at in range(0, len(parts), GROUP)]
        return joined_union([Sql(f"SELECT * FROM ({group.text})", group.args) for group in groups], word)
    return Sql(f" {word} ".join(part.text for part in parts), tuple(arg for part in parts for arg in part.args))


class Node:
    """`n`: about how many resources match; `cost`: rows touched when it leads."""

    n: int = 0
    cost: int = 0

    def gathered(self, lead: int) -> int:
        """Rows touched beside the probes themselves when it probes `lead` rows: a set that is made once, or joins from each row."""
        return 0

    def lead(self, planner: Selects) -> Lead | None:
        """How it delivers rows, or None when it cannot."""
        return None

    def probe(self, planner: Selects, row: Row) -> Sql:
        """A condition that is true for the rows that match."""
        raise NotImplementedError

    def describe(self) -> str:
        return f"{type(self).__name__} (about {self.n})"


class Nobody(Node):
    """No resource."""

    def lead(self, planner: Selects) -> Lead | None:
        return Lead(Sql("(SELECT 0 AS rid, 0 AS sort WHERE 0) d"), has_sort=True)

    def probe(self, planner: Selects, row: Row) -> Sql:
        return Sql("0")

    def describe(self) -> str:
        return "nothing"


class Everybody(Node):
    """Each resource of the type."""

    def __init__(self, planner: Selects) -> None:
        self._planner = planner

    @property
    def n(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    def lead(self, planner: Selects) -> Lead | None:
        return planner.type_lead()

    def probe(self, planner: Selects, row: Row) -> Sql:
        return Sql("1")

    def describe(self) -> str:
        return f"all {self.n} of the type"


@dataclass
class Rids(Node):
    """Versions with a sequence number within [low, high]: what `_lastUpdated` comes to."""

    low: int
    high: int
    n: int = 0
    cost: int = 0

    def lead(self, planner: Selects) -> Lead | None:
        lead = planner.type_lead()
        where = Sql(f"{lead.where.text} AND d.rid BETWEEN ? AND ?", (*lead.where.args, self.low, self.high))
        return Lead(lead.source, where)

    def probe(self, planner: Selects, row: Row) -> Sql:
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

    def lead(self, planner: Selects) -> Lead | None:
        ids = marks(self.ids)
        number = planner.type_number
        source = (
            f"(SELECT rid FROM resource WHERE type = ? AND id IN ({ids.text}) UNION ALL "
            f"SELECT o.rid FROM old o CROSS JOIN superseded s ON s.rid = o.rid WHERE o.type = ? AND o.id IN ({ids.text})) d"
        )
        where = Sql(f"(SELECT method FROM version WHERE rid = d.rid) <> {DELETED}")
        return Lead(Sql(source, (number, *ids.args, number, *ids.args)), where)

    def probe(self, planner: Selects, row: Row) -> Sql:
        ids = marks(self.ids)
        return Sql(f"{row.column('id')} IN ({ids.text})", ids.args)

    def describe(self) -> str:
        return f"{len(self.ids)} id(s)"


class All(Node):
    """All parts match."""

    def __init__(self, planner: Selects, parts: tuple[Node, ...]) -> None:
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

    def lead(self, planner: Selects) -> Lead | None:
        select = planner.select_rids(self, visible=False)
        return Lead(Sql(f"({select.text}) d", select.args))

    def probe(self, planner: Selects, row: Row) -> Sql:
        return joined([part.probe(planner, row) for part in self.parts], "AND")

    def describe(self) -> str:
        return "all of: " + "; ".join(part.describe() for part in self.parts)

    def gathered(self, lead: int) -> int:
        return sum(part.gathered(lead) for part in self.parts)


@dataclass
class Any_(Node):
    """Some part matches."""

    parts: tuple[Node, ...]
    n: int = 0
    cost: int = 0

    def __post_init__(self) -> None:
        self.n = sum(part.n for part in self.parts)
        self.cost = sum(part.cost for part in self.parts)

    def lead(self, planner: Selects) -> Lead | None:
        return planner.union_lead(self.parts)

    def probe(self, planner: Selects, row: Row) -> Sql:
        return joined([part.probe(planner, row) for part in self.parts], "OR")

    def describe(self) -> str:
        return "any of: " + "; ".join(part.describe() for part in self.parts)

    def gathered(self, lead: int) -> int:
        return sum(part.gathered(lead) for part in self.parts)


class Without(Node):
    """The part does not match. Cannot lead."""

    def __init__(self, planner: Selects, part: Node) -> None:
        self._planner = planner
        self.part = part

    @property
    def n(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self._planner.type_term.n

    def probe(self, planner: Selects, row: Row) -> Sql:
        inner = self.part.probe(planner, row)
        return Sql(f"NOT ({inner.text})", inner.args)

    def describe(self) -> str:
        return f"not: {self.part.describe()}"

    def gathered(self, lead: int) -> int:
        return self.part.gathered(lead)
