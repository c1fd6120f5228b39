"""Gives the selected fields of a resource their values by FHIR's rules, and the form that the directives ask for.

Specification: https://hl7.org/fhir/R4/graphql.html#fields, #list, #references, #flattening
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_server.fhirpath import FhirPathError, focus
from fhir_server.operations.graphql.limits import Budget, refuse
from fhir_server.operations.graphql.plan import Planner, Selections, Step
from fhir_server.operations.graphql.reading import Place, Reader, contained_in, unresolved
from fhir_server.operations.graphql.types import FhirType

if TYPE_CHECKING:
    from fhir_server.operations.graphql.searches import Searches


class Output(dict[str, Any]):
    """An object of the answer. `types`: FHIR type of what is under a name, to see that flattening collates like with like."""

    __slots__ = ("types",)

    def __init__(self) -> None:
        self.types: dict[str, str] = {}


class Where(NamedTuple):
    """Where a value stands. `container`: the resource that `#id` is looked for in; `own`: whether it is stored by itself.

    `many`: it is below a list that is flattened; `suffix`: what @slice appends to the names.
    """

    container: dict[str, Any]
    own: bool = True
    many: bool = False
    suffix: str = ""


class Execution:
    """Answers selections. Raises FhirError 400 (wrong query), 404 (broken reference), 422 (too much)."""

    def __init__(self, planner: Planner, reader: Reader, budget: Budget) -> None:
        self.planner, self.reader, self.budget = planner, reader, budget
        self.searches: Searches | None = None
        self.meta: Callable[[Step, Output], Awaitable[bool]] | None = None
        """Answers `__schema` and `__type` where the resource is the root."""

    def type_of(self, content: dict[str, Any], otherwise: str = "") -> FhirType:
        """The object type of a value: a resource says itself what it is (`resourceType` of other types is an element like any other)."""
        return self.planner.schema.types.of(content["resourceType"] if otherwise in ("", "Resource") else otherwise)

    # --- references, loaded before they are needed

    async def prefetch(self, contents: Sequence[dict[str, Any]], selections: Selections) -> None:
        """Load what the selection resolves, one read for each level of references."""
        level = [(content, selections) for content in contents]
        while level:
            found = [one for content, wanted in level for one in self._referred(self.type_of(content), content, wanted)]
            await self.budget.pause()
            await self.reader.load([place for place, _ in found])
            loaded = [(self.reader.known(place), wanted) for place, wanted in found]
            level = [(content, wanted) for content, wanted in loaded if content is not None]

    def _referred(self, type: FhirType, content: Any, selections: Selections) -> Iterator[tuple[Place, Selections]]:
        """References whose `resource` is selected, with what is selected of it."""
        for step in self.planner.steps(type, selections):
            self.budget.step()
            if step.role.kind == "resource":
                place = self.reader.place_of(content)
                if place is not None and place.type in (step.arguments.get("type") or (place.type,)):
                    yield place, step.selections
            elif step.role.kind == "complex":
                values = content.get(step.name)
                for one in values if isinstance(values, list) else [values]:
                    if isinstance(one, dict):
                        yield from self._referred(self.type_of(one, step.role.fhir), one, step.selections)

    # --- fields

    async def select(self, type: FhirType, content: dict[str, Any], selections: Selections, out: Output, where: Where) -> None:
        """Put the selected fields of a value into `out`."""
        for step in self.planner.steps(type, selections):
            self.budget.step()
            kind = step.role.kind
            if kind == "primitive":
                self._primitives(step, content.get(step.name), out, where)
            elif kind == "complex":
                await self._complex(step, content.get(step.name), out, where)
            elif kind == "resource":
                await self._resolve(step, content, out, where)
            elif kind in ("list", "connection"):
                await self._searched(step, type, content, out, where)
            elif step.name in ("resourceType", "__typename"):
                self.put(step, out, where, type.fhir if kind == "type" else type.name, "code", where.many)
            elif self.meta is None or not await self.meta(step, out):
                raise refuse(f"'{step.name}' can only be asked for at the root of a query", f"“{step.name}”只能在查询的根级使用")

    def _primitives(self, step: Step, given: Any, out: Output, where: Where) -> None:
        values = given if isinstance(given, list) else [given]
        values = [one for one in values if one is not None]
        for number, value in enumerate(values[:1] if step.shape.first else values):
            self.budget.step()
            self.budget.text(value)
            here = self.sliced(step, step.role.fhir, value, number, where)
            self.put(step, out, here, value, step.role.fhir, step.role.many or where.many)

    async def _complex(self, step: Step, given: Any, out: Output, where: Where) -> None:
        values = given if isinstance(given, list) else [given]
        values = [one for one in values if isinstance(one, dict)]
        if values:
            await self.values(step, self._filtered(step, values, where), out, where, step.role.many)

    async def values(self, step: Step, values: Sequence[dict[str, Any]], out: Output, where: Where, many: bool) -> None:
        """Objects under a step: each as an object of its own, or (@flatten) its fields in its place."""
        many = many or where.many
        for number, value in enumerate(values[:1] if step.shape.first else values):
            self.budget.step()
            await self.budget.pause()
            type = self.type_of(value, step.role.fhir)
            here = self.sliced(step, type.fhir, value, number, where)
            if step.shape.flatten:
                await self.select(type, value, step.selections, out, self._within(step, value, here)._replace(many=many))
                continue
            inner = Output()
            await self.select(type, value, step.selections, inner, self._within(step, value, here)._replace(many=False, suffix=""))
            if inner:
                self.put(step, out, here, inner, step.role.fhir or "Resource", many)

    def _within(self, step: Step, value: dict[str, Any], where: Where) -> Where:
        """A resource within a resource: what is contained shares its container, an entry of a Bundle has its own contained ones."""
        if step.role.fhir != "Resource" or step.role.kind != "complex":
            return where
        return where._replace(own=False, container=where.container if step.name == "contained" else value)

    def put(self, step: Step, out: Output, where: Where, value: Any, type: str, many: bool) -> None:
        """Add a value to the answer. Raises FhirError 400 where a single one is there already, or one of another type."""
        name = step.key + where.suffix
        if out.types.setdefault(name, type) != type:
            raise refuse(
                f"Flattening collates {out.types[name]} and {type} under the name {name}; use an alias for one of them",
                f"展平使 {out.types[name]} 和 {type} 同用名称 {name}；请给其中一个起别名",
            )
        if many and not step.shape.singleton:
            there = out.setdefault(name, [])
            if not isinstance(there, list):
                raise refuse(f"The field {name} is asked for as a list and as a single value", f"字段 {name} 既作为列表又作为单个值被查询")
            there.append(value)
        elif name in out:
            raise refuse(f"The field {name} has more than one value, but is not a list here", f"字段 {name} 有多个值，但在这里不是列表")
        else:
            out[name] = value

    # --- which values, and under which names

    def _filtered(self, step: Step, values: list[Any], where: Where) -> list[Any]:
        for name, wanted in step.filters:
            values = [one for one in values if wanted in _texts(one.get(name))]
        if step.where is not None and values:
            items = [focus(one, self._focus_type(step, one)) for one in values]
            kept = {id(item.value) for item in self._evaluated(step.where, items, where, "fhirpath")}
            values = [one for one in values if id(one) in kept]
        offset, count = step.arguments.get("_offset") or 0, step.arguments.get("_count")
        return values[offset:] if count is None else values[offset : offset + count]

    def _focus_type(self, step: Step, value: dict[str, Any]) -> str:
        return value.get("resourceType", step.role.fhir) if step.role.fhir == "Resource" else step.role.fhir

    def _evaluated(self, expression: Any, items: Any, where: Where, what: str) -> list[Any]:
        self.budget.check_time()
        try:
            return expression.evaluate(where.container, context=items)
        except FhirPathError as fault:
            raise refuse(
                f"{what}: '{expression.text.strip()[:200]}' cannot be evaluated: {fault}",
                zh=f"{what}：“{expression.text.strip()[:200]}”无法求值：{fault.zh}",
            ) from None

    def sliced(self, step: Step, type: str, value: Any, number: int, where: Where) -> Where:
        how = step.shape.slice
        if how is None:
            return where
        if isinstance(how, str):
            ending = str(number)
        else:
            found = self._evaluated(how, focus(value, type), where, "@slice(path:)")
            ending = "".join("true" if one.value is True else "false" if one.value is False else str(one.value) for one in found)
        return where._replace(suffix=f"{where.suffix}.{ending[:200]}")

    # --- other resources

    async def _resolve(self, step: Step, reference: dict[str, Any], out: Output, where: Where) -> None:
        text = str(reference.get("reference") or "")
        types = step.arguments.get("type")
        optional = step.arguments.get("optional") is True
        if text.startswith("#"):
            found = contained_in(where.container, text)
            inside = Where(where.container, found is where.container and where.own, where.many, where.suffix)
        else:
            place = self.reader.place_of(reference)
            if place is not None and types and place.type not in types:
                return
            found = await self.reader.get(place) if place is not None else None
            inside = Where(found or {}, True, where.many, where.suffix)
        if found is None:
            if optional:
                return
            raise unresolved(reference)
        if not types or found.get("resourceType") in types:
            await self.values(step, [found], out, inside, False)

    async def _searched(self, step: Step, type: FhirType, content: dict[str, Any], out: Output, where: Where) -> None:
        if self.searches is None or not step.role.reverse:
            raise refuse(f"'{step.name}' can only be asked for at the root of a query", f"“{step.name}”只能在查询的根级使用")
        # What is contained has no address of its own, so nothing refers to it.
        focused = f"{type.fhir}/{content['id']}" if where.own and "id" in content else None
        await self.searches.within(step, focused, out, where)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values if one is not None]
