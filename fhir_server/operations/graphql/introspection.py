"""`__schema` and `__type`: what the schema says of itself.

Each part is described once and then reused, for the whole schema has some 160,000 arguments, most of them shared.
Specification: https://spec.graphql.org/October2021/#sec-Introspection
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from graphql import GraphQLEnumType, GraphQLObjectType, GraphQLResolveInfo, get_named_type, get_nullable_type, is_list_type

from fhir_server.operations.graphql.limits import MOST_DESCRIBED, Budget, too_costly
from fhir_server.operations.graphql.plan import Planner, Selections, Step


class _Info(NamedTuple):
    """As much of GraphQLResolveInfo as the library's introspection asks for."""

    schema: Any
    parent_type: Any


class Introspection:
    """Answers `__schema` and `__type` for one query."""

    def __init__(self, planner: Planner, budget: Budget) -> None:
        self._planner, self._budget = planner, budget
        self._done: dict[tuple[Any, ...], tuple[Any, int]] = {}
        self._kept: list[Any] = []

    async def answer(self, step: Step) -> Any:
        """The value of one of the two fields. Raises FhirError 422 where it would be too large."""
        info = _Info(self._planner.schema, self._planner.schema.query_type)
        resolve = step.definition.resolve
        assert resolve is not None
        found = resolve(None, cast(GraphQLResolveInfo, info), **step.arguments)
        if step.name == "__schema":
            return await self._whole(step, found)
        value, size = self._value(step.definition.type, found, step.selections)
        self._check(size)
        return value

    async def _whole(self, step: Step, schema: Any) -> dict[str, Any]:
        """The schema; with pauses between its types, so that others have their turn."""
        out: dict[str, Any] = {}
        total = 0
        type = cast(GraphQLObjectType, get_named_type(step.definition.type))
        for inner in self._planner.steps(type, step.selections):
            if inner.name != "types":
                out[inner.key], size = self._field(type, inner, schema)
                total += size
                continue
            described = out[inner.key] = []
            for one in schema.type_map.values():
                value, size = self._value(get_named_type(inner.definition.type), one, inner.selections)
                described.append(value)
                total += size
                self._check(total)
                self._budget.step(10)
                await self._budget.pause()
        self._check(total)
        return out

    @staticmethod
    def _check(size: int) -> None:
        if size > MOST_DESCRIBED:
            raise too_costly(
                f"The description has more than {MOST_DESCRIBED} names and values; ask for less of the schema",
                f"架构的描述超过 {MOST_DESCRIBED} 个名称和值；请减少所要的架构内容",
            )

    def _field(self, type: GraphQLObjectType, step: Step, source: Any) -> tuple[Any, int]:
        if step.name == "__typename":
            return type.name, 1
        resolve = step.definition.resolve
        assert resolve is not None
        found = resolve(source, cast(GraphQLResolveInfo, _Info(self._planner.schema, type)), **step.arguments)
        return self._value(step.definition.type, found, step.selections)

    def _value(self, type: Any, found: Any, selections: Selections) -> tuple[Any, int]:
        """A value of the description, and how many names and values it has."""
        if found is None:
            return None, 1
        inner = get_nullable_type(type)
        if is_list_type(inner):
            parts = [self._value(inner.of_type, one, selections) for one in found]
            return [value for value, _ in parts], 1 + sum(size for _, size in parts)
        if not isinstance(inner, GraphQLObjectType):
            return (inner.coerce_output_value(found) if isinstance(inner, GraphQLEnumType) else found), 1
        at = (inner.name, *_identity(found), *map(id, selections))
        done = self._done.get(at)
        if done is None:
            out: dict[str, Any] = {}
            total = 1
            for step in self._planner.steps(inner, selections):
                out[step.key], size = self._field(inner, step, found)
                total += size
                self._check(total)
            done = self._done[at] = (out, total)
            self._kept.append((found, selections))  # so that no other object gets its id
        return done


def _identity(found: Any) -> tuple[Any, ...]:
    """Fields and arguments come as (name, definition), made anew each time."""
    return (found[0], id(found[1])) if isinstance(found, tuple) else (id(found),)
