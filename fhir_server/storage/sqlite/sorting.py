"""Orders that no table lies in: sort values as SQL, and what lies behind a position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.search.han import INITIALS
from fhir_server.search.query import SortKey
from fhir_server.search.values import FRAGMENT
from fhir_server.storage.port import Position
from fhir_server.storage.sqlite.entries import NO_DATE
from fhir_server.storage.sqlite.keys import parameter_bounds
from fhir_server.storage.sqlite.nodes import Sql, joined


class Placed:
    """A sort value in the order of a page: missing last, else by value and direction. Texts compare as SQLite does, by their UTF-8."""

    __slots__ = ("descending", "value")

    def __init__(self, value: Any, descending: bool) -> None:
        self.value = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        self.descending = descending

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placed) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: Placed) -> bool:
        if self.value is None or other.value is None:
            return self.value is not None and other.value is None
        return other.value < self.value if self.descending else self.value < other.value


def sort_value(key: SortKey, clinical: int | None) -> Sql:
    """The lowest (ascending) or highest (descending) value of a sort key for version row `v`; NULL when it has none.

    The clinical date sorts by its start, as it does where the rows are met in that order: a page may come either way.
    """
    pick = "max" if key.descending else "min"
    if key.kind == "updated" or key.parameter == "_lastUpdated":
        return Sql("v.rid")
    if key.kind == "id" or key.parameter == "_id":
        return Sql("v.id")
    assert isinstance(key.parameter, int)
    if key.kind == "range" and key.parameter == clinical and not key.others:
        return Sql("nullif(v.clinical, ?)", (NO_DATE,))
    numbers = (key.parameter, *key.others)
    if key.kind == "text":
        plain = f"(SELECT {pick}(folded) FROM text WHERE rid = v.rid AND parameter IN ({','.join('?' * len(numbers))}))"
        if not key.spelling:
            return Sql(plain, numbers)
        spelled = f"(SELECT {pick}(folded) FROM text WHERE rid = v.rid AND parameter = ? AND folded < ?)"
        return Sql(f"coalesce({spelled}, {plain})", (key.spelling, INITIALS, *numbers))
    where = _in_keys("key", [bound for number in numbers for bound in ((number << 3, number << 3 | 7), parameter_bounds(number))])
    middle = "CASE typeof(low) WHEN 'integer' THEN low ELSE (max(low, -1e300) + min(high, 1e300)) / 2 END"
    return Sql(f"(SELECT {pick}({middle}) FROM range WHERE rid = v.rid AND {where.text})", where.args)


def _in_keys(column: str, bounds: Sequence[tuple[int, int]]) -> Sql:
    """That a key lies in one of the stretches."""
    text = " OR ".join([f"{column} BETWEEN ? AND ?"] * len(bounds))
    return Sql(f"({text})", tuple(bound for pair in bounds for bound in pair))


def key_values(key: SortKey, at: int) -> Sql:
    """The lowest or highest code (id, uri) of each resource, as joined rows `k<at>`. A canonical is its own space; a value without a
    code, or inside of the resource, has no place in the order."""
    assert isinstance(key.parameter, int)
    code = f"CASE WHEN t.value <> '' AND t.space <> '{FRAGMENT}' THEN t.value WHEN instr(t.space, ':') THEN t.space END"
    value = f"{'max' if key.descending else 'min'}({code})"
    where = _in_keys("q.key", [parameter_bounds(number) for number in (key.parameter, *key.others)])
    target = Sql(" AND t.space = ?", (key.target,)) if key.target else Sql("")
    text = (
        f" LEFT JOIN (SELECT q.rid AS rid, {value} AS value FROM posting q CROSS JOIN term t ON t.key = q.key "
        f"WHERE {where.text}{target.text} GROUP BY q.rid) k{at} ON k{at}.rid = v.rid"
    )
    return Sql(text, (*where.args, *target.args))


def behind(sort: Sequence[SortKey], after: Position, first_down: bool) -> Sql:
    """Rows strictly behind a position, in lexical order of the keys with missing values last."""
    alternatives: list[Sql] = []
    equal: list[Sql] = []
    for at, (key, value) in enumerate(zip(sort, after.values, strict=True)):
        if value is not None:
            compare = "<" if key.descending else ">"
            alternatives.append(joined([*equal, Sql(f"(s{at} {compare} ? OR s{at} IS NULL)", (value,))], "AND"))
            equal.append(Sql(f"s{at} = ?", (value,)))
        else:
            equal.append(Sql(f"s{at} IS NULL"))
    alternatives.append(joined([*equal, Sql(f"rid {'<' if first_down else '>'} ?", (after.rid,))], "AND"))
    return joined(alternatives, "OR")
