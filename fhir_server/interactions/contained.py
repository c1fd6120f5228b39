"""`_contained` and `_containedType`: resources inside of others, found by their own parameters.

The containers are known by the types of what they contain; each contained resource is then tested for itself.
Specification: https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.bundles import search_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.cursors import position_of, token_for
from fhir_server.interactions.http import Request
from fhir_server.interactions.include import included
from fhir_server.interactions.present import Presentation, present
from fhir_server.model.json_codec import dumps, loads
from fhir_server.search.indexer import Indexer
from fhir_server.search.match import JoinNeeded, matches
from fhir_server.search.parameters import CONTAINED
from fhir_server.search.parser import ParsedSearch
from fhir_server.search.query import And, KeyMatch, OfType, Or, Position, Query
from fhir_server.storage.port import Stored

_PAGE = 200
"""Containers that are read at once."""


@dataclass(slots=True)
class _Match:
    """A result: a stored resource, or, with `inner`, one that it contains. The order is that of the stored resource's rid."""

    stored: Stored
    inner: dict[str, Any] | None = None


@dataclass(slots=True)
class Found:
    """Rendered entries of a page, the `_cursor` of the next one, and the total where it was asked."""

    entries: list[bytes]
    cursor: str | None
    total: int | None


class Contained:
    """One search for resources of one type inside others, and with `_contained=both` of those that stand for themselves, too."""

    def __init__(self, context: Context, request: Request, parsed: ParsedSearch, types: tuple[str, ...]) -> None:
        """Raises FhirError 400 for what such a search cannot do."""
        sort = parsed.query.sort
        if len(types) != 1:
            raise FhirError.of(
                400,
                "invalid",
                "_contained: name the one type that is searched for inside of others",
                zh="_contained：请指明要在其他资源内部检索的那一种类型",
            )
        if sort and (len(sort) > 1 or sort[0].kind != "updated"):
            raise FhirError.of(
                400,
                "not-supported",
                "_sort: with _contained the order is that of _lastUpdated (of the containers)",
                zh="_sort：使用 _contained 时，只能按（容器资源的）_lastUpdated 排序",
            )
        if parsed.includes and parsed.contained_type == "contained":
            raise FhirError.of(
                400,
                "not-supported",
                "_include and _revinclude need _containedType=container",
                zh="_include 和 _revinclude 需要 _containedType=container",
            )
        self._context, self._request, self._parsed, self._type = context, request, parsed, types[0]
        self._ascending = bool(sort) and not sort[0].descending
        self._itself = parsed.contained_type == "contained"
        self._until = monotonic() + context.settings.search_seconds
        indexer = context.parts.get("indexer")
        self._indexer: Indexer = indexer if indexer is not None else Indexer(context.search, context.zone)

    async def answer(self, how: Presentation, scope: str) -> Found:
        """The page after the request's `_cursor`; `scope` is what the cursor belongs to."""
        parsed, gate = self._parsed, self._context.gate
        self._query = await gate.closed(parsed.query)
        after = position_of(self._context, scope, parsed.cursor) if parsed.cursor is not None else None
        counting = parsed.query.limit == 0 or how.summary == "count"
        total = after.total if after else None
        snapshot = after.snapshot if after else await gate.snapshot()
        if counting or (parsed.query.total == "accurate" and after is None):
            total = 0
            async for _ in self._merged(snapshot, None):
                total += 1
        if counting:
            return Found([], None, total)
        page: list[_Match] = []
        skip = int(after.values[0]) if after else 0
        more = False
        async for match in self._merged(snapshot, after):
            if skip and after and match.stored.rid == after.rid:
                skip -= 1
                continue
            if len(page) == parsed.query.limit:
                more = True
                break
            page.append(match)
        cursor = None
        if more:
            last = page[-1].stored.rid
            given = sum(match.stored.rid == last for match in page) + (int(after.values[0]) if after and after.rid == last else 0)
            cursor = token_for(self._context, scope, Position(snapshot, last, (given,), total))
        entries = [self._entry(match, how) for match in page]
        if parsed.includes and page:
            beside = await included(self._context, self._request, parsed.includes, [match.stored for match in page])
            entries += [search_entry(self._request.base, one, present(self._context, one.body, how), "include") for one in beside]
        return Found(entries, cursor, total)

    # --- results in order
    async def _merged(self, snapshot: int, after: Position | None) -> AsyncIterator[_Match]:
        """All results from the position's resource on, in the order of rid."""
        start = None
        if after is not None:
            start = Position(snapshot, after.rid - 1 if self._ascending else after.rid + 1)
        inner = self._inner(snapshot, start)
        if self._parsed.contained == "true":
            async for match in inner:
                yield match
            return
        outer = self._stored(self._query, snapshot, start)
        one, other = await anext(outer, None), await anext(inner, None)
        shown = 0
        while one is not None or other is not None:
            if other is None or (one is not None and self._before(one, other)):
                assert one is not None
                yield one
                shown = one.stored.rid
                one = await anext(outer, None)
            else:
                # A container that was a match itself stands there once.
                if other.inner is not None or other.stored.rid != shown:
                    yield other
                other = await anext(inner, None)

    def _before(self, one: _Match, other: _Match) -> bool:
        return one.stored.rid <= other.stored.rid if self._ascending else one.stored.rid >= other.stored.rid

    async def _stored(self, query: Query, snapshot: int, start: Position | None) -> AsyncIterator[_Match]:
        query = replace(query, limit=_PAGE, total="none")
        page = await self._context.gate.at(snapshot).search(self._request.principal, query, start)
        while True:
            for stored in page.items:
                yield _Match(stored)
            if monotonic() > self._until:
                what = "Too many resources contain such ones; narrow the search, or leave out _total and _summary=count"
                raise FhirError.of(
                    503,
                    "too-costly",
                    what,
                    headers=[("Retry-After", "1")],
                    zh="包含此类资源的资源过多；请缩小检索范围，或去掉 _total 和 _summary=count",
                )
            if page.next is None:
                return
            page = await self._context.gate.search(self._request.principal, query, page.next)

    async def _inner(self, snapshot: int, start: Position | None) -> AsyncIterator[_Match]:
        """What is contained and matches."""
        types = self._context.definitions.resource_types
        where = Or(tuple(And((OfType(one), KeyMatch(CONTAINED, "", f"{one}/{self._type}"))) for one in types))
        async for match in self._stored(replace(self._query, types=types, where=where, words=False, open=False), snapshot, start):
            stored = match.stored
            found = [inner for inner in loads(stored.body)["contained"] if self._meets(inner, stored)]
            if found and not self._itself:
                yield _Match(stored)
            elif found:
                for inner in found:
                    yield _Match(stored, inner)

    def _meets(self, inner: dict[str, Any], container: Stored) -> bool:
        if inner["resourceType"] != self._type:
            return False
        try:
            return matches(self._query.where, inner.get("id", ""), container.updated, self._indexer.index(inner))
        except JoinNeeded:
            what = "With _contained only parameters of the contained resource itself can be asked: no chains, _has, _list or words"
            raise FhirError.of(
                400, "not-supported", what, zh="使用 _contained 时只能用被包含资源自身的参数：不能用链式参数、_has、_list 或全文检索"
            ) from None

    def _entry(self, match: _Match, how: Presentation) -> bytes:
        base, stored = self._request.base, match.stored
        if match.inner is None:
            return search_entry(base, stored, present(self._context, stored.body, how) if not how.whole else stored.body, "match")
        body = dumps(match.inner)
        address = f"{base}/{stored.type}/{stored.id}#{match.inner.get('id', '')}"
        return b"".join((
            b'{"fullUrl":', orjson.dumps(address), b',"resource":', body if how.whole else present(self._context, body, how),
            b',"search":{"mode":"match"}}',
        ))  # fmt: skip
