"""Chains that lead to a resource contained in the referring one itself: it is tested where it lies, in the body.

"A chained condition will be evaluated inside contained resources": https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fhir_server.search.match import JoinNeeded, matches
from fhir_server.search.query import Criterion
from fhir_server.search.values import FRAGMENT, IndexValues
from fhir_server.storage.body import BodyCodec
from fhir_server.storage.sqlite.nodes import Lead, Node, Row, Sql

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects

BODY_COST = 40
"""Cost of a look into a body, in rows."""
REMEMBERED = 1000
"""Questions that a store remembers; a statement runs at once after it was made."""


@dataclass(frozen=True, slots=True)
class Inside(Criterion):
    """The reference parameter leads to a contained resource of type `target` that meets `part`."""

    parameter: int
    target: str
    part: Criterion


class Insides:
    """The questions of a store's statements about contained resources, by numbers that SQL can hold."""

    def __init__(self, index: Callable[[dict[str, Any]], IndexValues], loads: Callable[[bytes], dict[str, Any]]) -> None:
        self._index, self._loads = index, loads
        self._numbers: dict[Inside, int] = {}
        self._asked: dict[int, Inside] = {}
        self._next = 0

    def number(self, question: Inside) -> int:
        """What stands for the question in a statement."""
        known = self._numbers.get(question)
        if known is None:
            self._next += 1
            known = self._numbers[question] = self._next
            self._asked[known] = question
            if len(self._numbers) > REMEMBERED:
                oldest = next(iter(self._numbers))
                self._asked.pop(self._numbers.pop(oldest), None)
        return known

    def register(self, db: sqlite3.Connection) -> None:
        """Make `inside(number, body)` known to a connection."""
        unpack = BodyCodec().unpack
        db.create_function("inside", 2, lambda number, body: self._meets(self._asked[number], self._loads(unpack(body))))

    def _meets(self, question: Inside, container: Mapping[str, Any]) -> bool:
        there = {key.value for key in self._index(dict(container)).keys if key.parameter == question.parameter and key.space == FRAGMENT}
        for inner in _held(container):
            id = inner.get("id") or ""
            if id in there and inner["resourceType"] == question.target:
                try:
                    if matches(question.part, id, 0, self._index(inner)):
                        return True
                except JoinNeeded:
                    # A chain goes one link into what is contained, and no further.
                    continue
        return False


def _held(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a resource contains; of a Bundle the first entry, to which `composition` and `message` lead."""
    if container["resourceType"] == "Bundle":
        return [entry["resource"] for entry in (container.get("entry") or ())[:1] if "resource" in entry]
    return container.get("contained") or []


class InsideNode(Node):
    """`key`, `n`: the posting of all references of the parameter to contained resources of the type."""

    def __init__(self, question: Inside, number: int, key: int, n: int) -> None:
        self._question, self._number, self._key = question, number, key
        self.n = n
        self.cost = n * BODY_COST

    def lead(self, planner: Selects) -> Lead | None:
        test = "d.key = ? AND inside(?, (SELECT body FROM version WHERE rid = d.rid))"
        return Lead(Sql("posting d"), Sql(test, (self._key, self._number)), has_sort=True)

    def probe(self, planner: Selects, row: Row) -> Sql:
        there = f"EXISTS (SELECT 1 FROM posting q WHERE q.key = ? AND q.sort = {row.sort} AND q.rid = {row.rid})"
        return Sql(f"({there} AND inside(?, {row.column('body')}))", (self._key, self._number))

    def gathered(self, lead: int) -> int:
        return min(self.n, lead) * BODY_COST

    def describe(self) -> str:
        return f"reference {self._question.parameter} to a contained {self._question.target}, in {self.n} resource(s)"
