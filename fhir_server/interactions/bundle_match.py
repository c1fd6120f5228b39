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
from fhir_server.search.match import JoinNeeded, matches
from fhir_server.search.query import And, Criterion, KeyMatch, Or, Query
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import Write

Address = tuple[str, str]
_Form = tuple[str, int, str | None, str | None]


class Fresh:
    """The resources that a transaction writes, as far as criteria ask for their types."""

    def __init__(self, context: Context, searched: frozenset[str]) -> None:
        self._context = context
        self._searched = searched
        self._now = context.clock()
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
                found += [address for address in candidates if self._meets(query.where, address)]
        return found

    def _meets(self, where: Criterion, address: Address) -> bool:
        try:
            return matches(where, address[1], self._now, self._values[address])
        except JoinNeeded:
            return False

    def _candidates(self, type: str, where: Criterion) -> Iterable[Address]:
        """Fewer than all where a key leads to them: 5,000 conditional creates in one Bundle stay cheap."""
        for part in where.parts if isinstance(where, And) else (where,):
            if isinstance(part, KeyMatch):
                return self._by_key.get((type, part.parameter, part.space, part.value), ())
            if isinstance(part, Or) and all(isinstance(choice, KeyMatch) for choice in part.parts):
                keys = [(type, choice.parameter, choice.space, choice.value) for choice in part.parts if isinstance(choice, KeyMatch)]
                return dict.fromkeys(address for key in keys for address in self._by_key.get(key, ()))
        return self._by_type[type]
