"""Single resources, lists and connections, at the root of a query and within a resource.

Specification: https://hl7.org/fhir/R4/graphql.html#searching, #list, #reverse
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.fhirpath import FhirPathError
from fhir_server.interactions.criteria import parser_of
from fhir_server.model import json_codec
from fhir_server.model.references import ID
from fhir_server.operations.graphql.arguments import CURSORS, pairs_of
from fhir_server.operations.graphql.cursors import Leaf, cursor_of, leaf_of
from fhir_server.operations.graphql.execution import Execution, Output, Where
from fhir_server.operations.graphql.limits import MOST_RESOURCES, refuse, too_costly
from fhir_server.operations.graphql.plan import Step, compiled
from fhir_server.operations.graphql.reading import Place
from fhir_server.operations.graphql.types import FhirType
from fhir_server.search.parser import DEFAULT_COUNT, MAX_COUNT
from fhir_server.search.query import Position, Query
from fhir_server.storage.port import Page, Stored

_NOWHERE = Where({})


class Searches:
    """What finds resources, for one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._reader, self._budget = execution.reader, execution.budget
        self._context, self._request = execution.reader.context, execution.reader.request
        execution.searches = self

    async def root(self, step: Step, out: Output) -> None:
        """A field of the root. Raises FhirError."""
        if step.role.kind == "single":
            await self._single(step, out)
        elif step.role.kind == "list":
            await self._list(step, self._asked(step, None), out, _NOWHERE)
        else:
            await self._connection(step, out, _NOWHERE, None)

    async def within(self, step: Step, focus: str | None, out: Output, where: Where) -> None:
        """A list or connection of what refers to the resource `focus` (None: nothing can)."""
        if focus is None:
            if step.role.kind == "list":
                self._empty(step, out, where)
        elif step.role.kind == "list":
            await self._list(step, self._asked(step, focus), out, where)
        else:
            await self._connection(step, out, where, focus)

    # --- one resource

    async def _single(self, step: Step, out: Output) -> None:
        type, id = step.role.fhir, step.arguments["id"]
        if not ID.match(id):
            raise refuse(f"{type}(id:): '{id[:80]}' is not an id", f"{type}(id:)：“{id[:80]}”不是合法的 id", "value")
        content = await self._reader.get(Place(type, id))
        if content is None:
            raise FhirError.of(404, "not-found", f"{type}/{id} is not known", zh=f"没有 {type}/{id}")
        await self._execution.prefetch([content], step.selections)
        await self._execution.values(step, [content], out, Where(content), False)

    # --- lists

    def _asked(self, step: Step, focus: str | None) -> list[tuple[str, str]]:
        return pairs_of(self._context.search, step.role.fhir, step.arguments, focus)

    def _query(self, type: str, asked: Sequence[tuple[str, str]]) -> Query:
        self._context.gate.require(self._request.principal, "search")
        return parser_of(self._context, self._request).search((type,), asked).query

    async def _search(self, query: Query, after: Position | None = None, snapshot: int = 0) -> Page:
        await self._budget.pause()
        gate = self._context.gate.at(snapshot) if snapshot and after is None else self._context.gate
        return await gate.search(self._request.principal, query, after)

    async def _list(self, step: Step, asked: Sequence[tuple[str, str]], out: Output, where: Where) -> None:
        """Everything that matches, or an error: a list is never cut off silently."""
        self._budget.step()
        self._budget.resources(1)
        count = step.arguments.get("_count")
        query = self._query(step.role.fhir, asked)
        found: list[Stored] = []
        after: Position | None = None
        while count is None or len(found) < count:
            room = self._budget.resources_left + 1
            wanted = room if count is None else min(count - len(found), room)
            page = await self._search(replace(query, limit=min(wanted, MAX_COUNT)), after)
            self._budget.resources(len(page.items))
            found += page.items
            after = page.next
            if after is None:
                break
            if count is None and self._budget.resources_left <= 0:
                raise too_costly(
                    f"More than {MOST_RESOURCES} resources match {step.name}; narrow it, or ask for {step.role.fhir}Connection",
                    f"符合 {step.name} 的资源超过 {MOST_RESOURCES} 个；请缩小范围，或使用 {step.role.fhir}Connection",
                )
        contents = self._passing(step.test, [json_codec.loads(one.body) for one in found])
        self._empty(step, out, where)
        await self._execution.prefetch(contents, step.selections)
        for number, content in enumerate(contents[:1] if step.shape.first else contents):
            await self._one_of_list(step, content, number, out, where)

    async def _one_of_list(self, step: Step, content: dict[str, Any], number: int, out: Output, where: Where) -> None:
        here = self._execution.sliced(step, step.role.fhir, content, number, Where(content, True, where.many, where.suffix))
        await self._execution.values(replace(step, shape=step.shape._replace(slice=None)), [content], out, here, True)

    def _empty(self, step: Step, out: Output, where: Where) -> None:
        """A list without members is there all the same."""
        shape = step.shape
        if not (shape.flatten or shape.singleton or shape.slice):
            out.setdefault(step.key + where.suffix, [])

    def _passing(self, test: Any, contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What meets the `fhirpath` argument."""
        if test is None:
            return contents
        kept = []
        for content in contents:
            self._budget.check_time()
            try:
                if test.test(content) is True:
                    kept.append(content)
            except FhirPathError as fault:
                raise refuse(
                    f"fhirpath: '{test.text[:200]}' cannot be evaluated: {fault}", zh=f"fhirpath：“{test.text[:200]}”无法求值：{fault.zh}"
                ) from None
        return kept

    # --- connections

    def _leaf(self, step: Step, focus: str | None) -> Leaf:
        """The page that is asked for. Raises FhirError 400."""
        cursors = [step.arguments[name] for name in CURSORS if step.arguments.get(name)]
        if not cursors:
            count = step.arguments.get("_count")
            size = DEFAULT_COUNT if count is None else min(count, MAX_COUNT)
            return Leaf(tuple(self._asked(step, focus)), size, step.arguments.get("fhirpath"))
        if len(cursors) > 1 or any(value is not None for name, value in step.arguments.items() if name not in CURSORS):
            raise refuse(
                f"{step.name}(_cursor:) stands alone: the cursor holds the parameters of its search",
                f"{step.name}(_cursor:) 只能单独使用：游标中已有其检索的参数",
            )
        return leaf_of(self._context, step.role.fhir, cursors[0])

    async def _connection(self, step: Step, out: Output, where: Where, focus: str | None) -> None:
        self._budget.step()
        self._budget.resources(1)
        type = self._execution.planner.schema.types[f"{step.role.fhir}Connection"]
        assert isinstance(type, FhirType)
        wanted = self._execution.planner.steps(type, step.selections)
        leaf = self._leaf(step, focus)
        counts = leaf.total is None and any(one.name in ("count", "last") for one in wanted)
        query = replace(self._query(step.role.fhir, leaf.pairs), limit=leaf.size, total="accurate" if counts else "none")
        leaf, page = await self._page(query, leaf)
        self._budget.resources(len(page.items))
        inner = Output()
        facts = self._facts(step.role.fhir, leaf, page)
        for one in wanted:
            self._budget.step()
            if one.name == "__typename":
                self._execution.put(one, inner, _NOWHERE, type.name, "code", False)
            elif one.name == "edges":
                await self._edges(one, step, leaf, page, inner)
            else:
                self._execution.put(one, inner, _NOWHERE, facts[one.name], one.name, False)
        if step.shape.flatten:
            for name, value in inner.items():
                out.setdefault(name, value)
        else:
            self._execution.put(step, out, where, inner, type.name, where.many)

    async def _page(self, query: Query, leaf: Leaf) -> tuple[Leaf, Page]:
        """The page itself; the leaf then knows the state that it shows, and the total. Raises FhirError 410."""
        snapshot = leaf.snapshot or await self._context.gate.snapshot()
        start = leaf.start or await self._walked(query, leaf.offset, snapshot)
        if leaf.offset and start is None:
            return replace(leaf, snapshot=snapshot), Page([], None, leaf.total)
        if leaf.size == 0:
            total = await self._context.gate.count(self._request.principal, query) if query.total == "accurate" else leaf.total
            return replace(leaf, snapshot=snapshot, total=total), Page([], None, total)
        page = await self._search(query, start, leaf.snapshot)
        if page.next is not None:
            snapshot = page.next.snapshot
        return replace(leaf, snapshot=snapshot, start=start, total=page.total if leaf.total is None else leaf.total), page

    async def _walked(self, query: Query, offset: int, snapshot: int) -> Position | None:
        """The position behind the first `offset` matches; None where there are no more, or none is needed."""
        start: Position | None = None
        walked = 0
        while walked < offset:
            stride = min(offset - walked, MAX_COUNT)
            start = (await self._search(replace(query, limit=stride, total="none"), start, snapshot)).next
            walked += stride
            if start is None:
                break
        return start

    def _facts(self, type: str, leaf: Leaf, page: Page) -> dict[str, Any]:
        """What a connection says of itself; None where it cannot be said."""
        last = leaf if page.next is None else leaf.last()
        links = {"first": leaf.first(), "previous": leaf.previous(), "last": last}
        links["next"] = leaf.following(page.next) if page.next is not None else None
        known: dict[str, Any] = {"count": leaf.total, "offset": leaf.offset, "pagesize": leaf.size}
        return known | {name: None if one is None else cursor_of(self._context, type, one) for name, one in links.items()}

    async def _edges(self, step: Step, connection: Step, leaf: Leaf, page: Page, out: Output) -> None:
        planner = self._execution.planner
        edge = planner.schema.types[f"{connection.role.fhir}Edge"]
        assert isinstance(edge, FhirType)
        wanted = planner.steps(edge, step.selections)
        test = compiled(leaf.path, f"{connection.name}(fhirpath:)") if leaf.path else None
        contents = self._passing(test, [json_codec.loads(one.body) for one in page.items])
        for one in wanted:
            if one.name == "resource":
                await self._execution.prefetch(contents, one.selections)
        edges: list[Output] = out.setdefault(step.key, [])
        for content in contents[:1] if step.shape.first else contents:
            made = Output()
            for one in wanted:
                self._budget.step()
                if one.name == "resource":
                    await self._execution.values(one, [content], made, Where(content), False)
                else:
                    value = {"mode": "match", "__typename": edge.name}.get(one.name)  # nothing is scored: score is null
                    self._execution.put(one, made, _NOWHERE, value, "code", False)
            edges.append(made)
