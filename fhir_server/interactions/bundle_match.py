"""Criteria of a transaction matched against what the transaction itself writes, before the store has it.

A conditional reference may name a resource that the same Bundle creates, and a conditional create must see what an earlier
entry made. Chains and `_has` are not followed through new resources: they see the store as it was.
Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.search.indexer import Indexer
from fhir_server.search.query import And, Criterion, Everything, Ids, KeyMatch, Not, Or, Present, Query, RangeMatch, TextMatch
from fhir_server.search.values import IndexValues, Range, Text
from fhir_server.storage.port import Write

Address = tuple[str, str]
_Form = tuple[str, int, str | None, str | None]


class Fresh:
    """The resources that a transaction writes, as far as criteria ask for their types."""

    def __init__(self, context: Context, searched: frozenset[str]) -> None:
        self._context = context
        self._searched = searched
        self._touched: set[Address] = set()
        self._values: dict[Address, IndexValues] = {}
        self._by_type: dict[str, list[Address]] = {}
        self._by_key: dict[_Form, list[Address]] = {}

    def add(self, write: Write) -> None:
        """Take a write into account."""
        if write.type not in self._searched:
            return
        address = (write.type, write.id)
        self._touched.add(address)
        if write.resource is None:
            return
        values = self._index(write.resource)
        self._values[address] = values
        self._by_type.setdefault(write.type, []).append(address)
        forms = {
            form
            for parameter, space, value in values.keys
            for form in ((write.type, parameter, space, value), (write.type, parameter, None, value), (write.type, parameter, space, None))
        }
        for form in forms:
            self._by_key.setdefault(form, []).append(address)

    def _index(self, resource: dict[str, Any]) -> IndexValues:
        indexer = self._context.parts.get("indexer")
        if indexer is None:
            indexer = self._context.parts["indexer"] = Indexer(self._context.search, self._context.zone)
        values: IndexValues = indexer.index(resource)
        return values

    def matches(self, query: Query, stored: Sequence[Address]) -> list[Address]:
        """What meets the query: of the store's answer `stored` what the transaction does not write, and of the new content what does."""
        found = [address for address in stored if address not in self._touched]
        for type in query.types:
            if type in self._by_type:
                candidates = self._candidates(type, query.where)
                found += [address for address in candidates if meets(query.where, address[1], self._values[address])]
        return found

    def _candidates(self, type: str, where: Criterion) -> Iterable[Address]:
        """Fewer than all where a key leads to them: 5,000 conditional creates in one Bundle stay cheap."""
        for part in where.parts if isinstance(where, And) else (where,):
            if isinstance(part, KeyMatch):
                return self._by_key.get((type, part.parameter, part.space, part.value), ())
            if isinstance(part, Or) and all(isinstance(choice, KeyMatch) for choice in part.parts):
                keys = [(type, choice.parameter, choice.space, choice.value) for choice in part.parts if isinstance(choice, KeyMatch)]
                return dict.fromkeys(address for key in keys for address in self._by_key.get(key, ()))
        return self._by_type[type]


def meets(where: Criterion, id: str, values: IndexValues) -> bool:
    """Whether a resource with these index values satisfies a criterion, as far as that can be told from the resource alone."""
    if isinstance(where, And):
        return all(meets(part, id, values) for part in where.parts)
    if isinstance(where, Or):
        return any(meets(part, id, values) for part in where.parts)
    if isinstance(where, Not):
        return not meets(where.part, id, values)
    if isinstance(where, Everything):
        return True
    if isinstance(where, Ids):
        return id in where.ids
    if isinstance(where, KeyMatch):
        return any(
            key.parameter == where.parameter and where.space in (None, key.space) and where.value in (None, key.value)
            for key in values.keys
        )
    if isinstance(where, TextMatch):
        return any(text.parameter == where.parameter and _text_meets(where, text) for text in values.texts)
    if isinstance(where, RangeMatch):
        return any(held.parameter == where.parameter and _range_meets(where, held) for held in values.ranges)
    if isinstance(where, Present):
        return any(value.parameter == where.parameter for value in (*values.keys, *values.texts, *values.ranges))
    # Nothing; and Chain, Has, Updated, which only the store can answer.
    return False


def _text_meets(where: TextMatch, text: Text) -> bool:
    if where.mode == "exact":
        return text.exact == where.text
    return where.text in text.folded if where.mode == "contains" else text.folded.startswith(where.text)


def _range_meets(where: RangeMatch, held: Range) -> bool:
    if where.space not in (None, held.space) or where.value not in (None, held.value):
        return False
    limits = (
        ("low_min", where.low_min, held.low, 1),
        ("low_max", where.low_max, held.low, -1),
        ("high_min", where.high_min, held.high, 1),
        ("high_max", where.high_max, held.high, -1),
    )
    for name, limit, bound, sign in limits:
        if limit is None:
            continue
        distance = (bound - limit) * sign
        if distance < 0 or (distance == 0 and name in where.strict):
            return False
    return True
