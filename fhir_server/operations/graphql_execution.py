"""Executes a GraphQL query on resources by FHIR's rules: no schema is built, fields are checked against the definitions.

Specification: https://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from graphql.language import ast

from fhir_server.errors import FhirError
from fhir_server.fhirpath import FhirPathError, FhirPathSyntaxError, compile_expression, focus
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.http import Request
from fhir_server.model import json_codec
from fhir_server.model.references import ID, parse_reference
from fhir_server.storage.port import Stored

MOST_STEPS = 200_000
"""Most fields and values that one query may visit; it bounds aliases, fragments and lists alike."""
MOST_RESOURCES = 2000
MOST_DEPTH = 30
_SHAPING = frozenset({"flatten", "singleton", "first", "slice"})
_DIRECTIVES = _SHAPING | {"skip", "include"}


def refuse(message: str, code: str = "invalid") -> FhirError:
    """400 with one issue."""
    return FhirError.of(400, code, message)


class Execution:
    """One query being answered. Raises FhirError 400 (wrong query), 404, 410, 422 (too large)."""

    def __init__(
        self, context: Context, request: Request, fragments: dict[str, ast.FragmentDefinitionNode], variables: dict[str, Any]
    ) -> None:
        self._context, self._request = context, request
        self._fragments, self._variables = fragments, variables
        self._steps = self._resources = 0
        self._cache: dict[tuple[str, str], dict[str, Any] | None] = {}

    # --- bounds and values

    def _step(self, depth: int) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise FhirError.of(422, "too-costly", f"The query visits more than {MOST_STEPS} fields and values")
        if depth > MOST_DEPTH:
            raise FhirError.of(422, "too-costly", f"The query is nested deeper than {MOST_DEPTH} levels")

    def _counted(self, more: int) -> None:
        self._resources += more
        if self._resources > MOST_RESOURCES:
            raise FhirError.of(422, "too-costly", f"The query asks for more than {MOST_RESOURCES} resources")

    def value(self, node: ast.ValueNode) -> Any:
        """The plain value of an argument. Raises FhirError 400 for an unknown variable."""
        if isinstance(node, ast.VariableNode):
            if node.name.value not in self._variables:
                raise refuse(f"The variable ${node.name.value[:80]} is not declared by the operation")
            return self._variables[node.name.value]
        if isinstance(node, ast.ListValueNode):
            return [self.value(one) for one in node.values]
        if isinstance(node, ast.BooleanValueNode):
            return node.value
        if isinstance(node, ast.StringValueNode | ast.EnumValueNode | ast.IntValueNode | ast.FloatValueNode):
            return node.value
        if isinstance(node, ast.NullValueNode):
            return None
        raise refuse("An argument is a scalar or a list of them, not an object")

    def _arguments(self, node: ast.FieldNode) -> dict[str, Any]:
        return {one.name.value: self.value(one.value) for one in node.arguments or ()}

    def _wanted(self, node: ast.SelectionNode) -> bool:
        """What @skip and @include say. Raises FhirError 400 for directives that are not known."""
        wanted = True
        for one in node.directives or ():
            name = one.name.value
            if name not in _DIRECTIVES:
                raise refuse(f"The directive @{name[:80]} is not known", "not-supported")
            if name in ("skip", "include"):
                found = {argument.name.value: self.value(argument.value) for argument in one.arguments or ()}
                if set(found) != {"if"} or not isinstance(found["if"], bool):
                    raise refuse(f"@{name} needs the argument 'if', a Boolean")
                wanted = wanted and found["if"] == (name == "include")
        return wanted

    def _fields(self, selections: Sequence[ast.SelectionNode], type: str, depth: int) -> Iterator[ast.FieldNode]:
        """The fields that are selected on a type, fragments opened."""
        for one in selections:
            self._step(depth)
            if not self._wanted(one):
                continue
            if isinstance(one, ast.FieldNode):
                yield one
                continue
            if isinstance(one, ast.FragmentSpreadNode):
                fragment: Any = self._fragments.get(one.name.value)
                if fragment is None:
                    raise refuse(f"The fragment {one.name.value[:80]} is not defined")
            else:
                fragment = one
            condition = fragment.type_condition
            if condition is None or condition.name.value in (type, "Resource", "DomainResource", "Element"):
                yield from self._fields(fragment.selection_set.selections, type, depth + 1)

    # --- resources

    async def _load(self, places: Sequence[tuple[str, str]]) -> None:
        wanted = [place for place in dict.fromkeys(places) if place not in self._cache]
        if not wanted:
            return
        self._counted(len(wanted))
        self._cache |= dict.fromkeys(wanted)
        for stored in await self._context.gate.read_many(self._request.principal, wanted):
            if not stored.deleted:
                self._cache[(stored.type, stored.id)] = json_codec.loads(stored.body)

    def _place(self, reference: Any) -> tuple[str, str] | None:
        to = parse_reference(str(reference.get("reference", "")))
        local = to.form == "relative" or (to.form == "absolute" and to.base in (self._request.base, *self._context.own_bases))
        return (to.type, to.id) if local and to.type in self._context.types else None

    def _referred(
        self, type: str, content: Any, selections: Sequence[ast.SelectionNode], depth: int
    ) -> Iterator[tuple[tuple[str, str], Any]]:
        """References whose `resource` is selected, with what is selected of it."""
        known = self._context.definitions.types.get(type)
        for field in self._fields(selections, type, depth):
            inner = field.selection_set.selections if field.selection_set else ()
            name = field.name.value
            if type == "Reference" and name == "resource":
                place = self._place(content)
                if place is not None:
                    yield place, inner
            elif inner and known is not None and name in known.by_json:
                values = content.get(name)
                for one in values if isinstance(values, list) else [values]:
                    if isinstance(one, dict):
                        yield from self._referred(one.get("resourceType") or known.by_json[name][1], one, inner, depth + 1)

    async def prefetch(self, contents: Sequence[dict[str, Any]], selections: Sequence[ast.SelectionNode]) -> None:
        """Load what the selection resolves, one read for each level of references."""
        level = [(content, selections) for content in contents]
        for depth in range(MOST_DEPTH):
            found = [pair for content, inner in level for pair in self._referred(content["resourceType"], content, inner, depth)]
            if not found:
                return
            await self._load([place for place, _ in found])
            loaded = [(self._cache[place], inner) for place, inner in found]
            level = [(content, inner) for content, inner in loaded if content is not None]

    # --- fields

    def _put(self, out: dict[str, Any], node: ast.FieldNode, suffix: str, many: bool, value: Any) -> None:
        """Add a value. Raises FhirError 400 where a single one is there already."""
        name = (node.alias or node.name).value + suffix
        if any(one.name.value == "singleton" for one in node.directives or ()):
            many = False
        if many:
            there = out.setdefault(name, [])
            if not isinstance(there, list):
                raise refuse(f"The field {name} is asked for as a list and as a single value")
            there.append(value)
        elif name in out and out[name] != value:
            raise refuse(f"The field {name} has more than one value, but is not a list here")
        else:
            out[name] = value

    def _filtered(self, type: str, parent: str, node: ast.FieldNode, values: list[Any], resource: Any) -> list[Any]:
        arguments = self._arguments(node)
        known = self._context.definitions.types.get(type)
        offset, count = 0, len(values)
        for name, wanted in arguments.items():
            where = f"{parent}.{node.name.value}({name[:80]}:)"
            if name in ("_offset", "_count"):
                if not (str(wanted).isascii() and str(wanted).isdigit()) or len(str(wanted)) > 9:
                    raise refuse(f"{where} must be a whole number, not '{str(wanted)[:80]}'", "value")
                offset, count = (int(wanted), count) if name == "_offset" else (offset, int(wanted))
            elif name == "fhirpath":
                values = [one for one in values if self._holds(type, one, str(wanted), resource, where)]
            elif known is None or known.kind == "primitive" or name not in known.by_json:
                raise refuse(f"{where}: {type} has no element '{name[:80]}'")
            else:
                text = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
                values = [one for one in values if text in _texts(one.get(name) if isinstance(one, dict) else None)]
        return values[offset : offset + count]

    def _evaluated(self, type: str, value: Any, expression: str, resource: Any, where: str) -> list[Any]:
        try:
            return compile_expression(expression).evaluate(resource, context=focus(value, type))
        except (FhirPathError, FhirPathSyntaxError) as fault:
            raise refuse(f"{where}: '{expression[:200]}' cannot be evaluated: {fault}") from None

    def _holds(self, type: str, value: Any, expression: str, resource: Any, where: str) -> bool:
        found = self._evaluated(type, value, expression, resource, where)
        return len(found) == 1 and found[0].value is True

    async def select(
        self,
        type: str,
        content: dict[str, Any],
        selections: Sequence[ast.SelectionNode],
        out: dict[str, Any],
        depth: int = 0,
        resource: Any = None,
        inherited: bool = False,
        suffix: str = "",
    ) -> None:
        """Put the selected fields of a value into `out`; `inherited`: below a flattened list; `resource`: what it stands in."""
        resource = resource or content
        known = self._context.definitions.types[type]
        for node in self._fields(selections, type, depth):
            name = node.name.value
            if name in ("resourceType", "__typename"):
                self._put(out, node, suffix, inherited, type)
            elif type == "Reference" and name == "resource":
                await self._resolve(content, node, out, depth, resource, inherited, suffix)
            elif name.endswith("List") and name[:-4] in self._context.types and "resourceType" in content and "id" in content:
                await self.listed(name[:-4], node, out, depth, f"{type}/{content['id']}")
            elif name.removeprefix("_") not in known.by_json:
                raise refuse(f"{type} has no element '{name[:80]}'")
            else:
                element, inner = known.by_json[name.removeprefix("_")]
                inner = "Element" if name.startswith("_") else inner
                given = content.get(name)
                values = given if isinstance(given, list) else [] if given is None else [given]
                values = self._filtered(inner, type, node, [one for one in values if one is not None], resource)
                await self._values(inner, node, values, out, depth, resource, (element.max != 1, inherited), suffix)

    async def _values(
        self,
        type: str,
        node: ast.FieldNode,
        values: list[Any],
        out: dict[str, Any],
        depth: int,
        resource: Any,
        lists: tuple[bool, bool],
        suffix: str,
    ) -> None:
        shaped = {one.name.value: one for one in node.directives or () if one.name.value in _SHAPING}
        many, inherited = lists
        if "first" in shaped:
            values, many = values[:1], False
        for number, value in enumerate(values):
            self._step(depth)
            ending = suffix
            if "slice" in shaped:
                path = next((self.value(one.value) for one in shaped["slice"].arguments or () if one.name.value == "path"), None)
                if not isinstance(path, str):
                    raise refuse("@slice needs the argument 'path', a FHIRPath expression")
                found = [] if path == "$index" else self._evaluated(type, value, path, resource, "@slice")
                ending += f".{number}" if path == "$index" else "." + "".join(str(one.value) for one in found)
            keeps_list = (many and "slice" not in shaped) or inherited
            if not isinstance(value, dict):
                if node.selection_set is not None:
                    raise refuse(f"{node.name.value} is a primitive ({type}): nothing can be selected of it")
                self._put(out, node, ending, keeps_list, value)
                continue
            if node.selection_set is None:
                raise refuse(f"{node.name.value} is an object ({type}): say which of its fields are wanted")
            inner = value.get("resourceType") or type
            flat = "flatten" in shaped
            target: dict[str, Any] = out if flat else {}
            below = (inherited or many, ending) if flat else (False, "")
            await self.select(inner, value, node.selection_set.selections, target, depth + 1, resource, *below)
            if not flat and target:
                self._put(out, node, ending, keeps_list, target)

    async def _resolve(
        self, reference: Any, node: ast.FieldNode, out: Any, depth: int, resource: Any, inherited: bool, suffix: str
    ) -> None:
        arguments = self._arguments(node)
        if unknown := set(arguments) - {"optional", "type"}:
            raise refuse(f"resource has no argument '{min(unknown)[:80]}'; it has optional and type")
        text = str(reference.get("reference", ""))
        if text.startswith("#"):
            found = next((one for one in resource.get("contained") or () if one.get("id") == text[1:]), None)
        else:
            place = self._place(reference)
            await self._load([place] if place else [])
            found = self._cache[place] if place else None
        if found is None:
            if arguments.get("optional") is True:
                return
            raise FhirError.of(
                404, "not-found", f"The reference '{text[:200]}' leads to no resource here; resource(optional: true) leaves it out"
            )
        if arguments.get("type") in (None, found["resourceType"]):
            await self._values(found["resourceType"], node, [found], out, depth, found, (False, inherited), suffix)

    # --- searches

    async def single(self, type: str, node: ast.FieldNode, out: dict[str, Any], depth: int) -> None:
        """`Patient(id: ...)`. Raises FhirError 404."""
        arguments = self._arguments(node)
        id = str(arguments.get("id", ""))
        if set(arguments) != {"id"} or not ID.match(id):
            raise refuse(f"{type} needs the argument id, and no other")
        await self._load([(type, id)])
        content = self._cache[(type, id)]
        if content is None:
            raise FhirError.of(404, "not-found", f"{type}/{id} is not known")
        await self._shown(type, node, [content], out, depth, False)

    async def listed(self, type: str, node: ast.FieldNode, out: dict[str, Any], depth: int, focus_of: str | None = None) -> None:
        """`PatientList(...)`; `focus_of`: the resource that the parameter `_reference` leads to."""
        asked: list[tuple[str, str]] = []
        for name, value in self._arguments(node).items():
            if name == "_reference":
                if focus_of is None:
                    raise refuse("_reference is for lists within a resource")
                asked.append((str(value), focus_of))
                continue
            code = name[:1] + name[1:].replace("_", "-")
            asked += [
                (code, str(one).lower() if isinstance(one, bool) else str(one)) for one in (value if isinstance(value, list) else [value])
            ]
        if focus_of is not None and all(name != "_reference" for name in self._arguments(node)):
            raise refuse(f"{type}List within a resource needs the argument _reference")
        self._step(depth)
        parsed = parser_of(self._context, self._request).search((type,), asked)
        page = await self._context.gate.search(self._request.principal, parsed.query)
        found: list[Stored] = page.items
        self._counted(len(found) + 1)
        await self._shown(type, node, [json_codec.loads(one.body) for one in found], out, depth, True)

    async def _shown(self, type: str, node: ast.FieldNode, contents: list[Any], out: dict[str, Any], depth: int, many: bool) -> None:
        if node.selection_set is not None:
            await self.prefetch(contents, node.selection_set.selections)
        if many and not any(one.name.value in _SHAPING for one in node.directives or ()):
            out.setdefault((node.alias or node.name).value, [])
        for content in contents[:1] if any(one.name.value == "first" for one in node.directives or ()) else contents:
            await self._values(type, node, [content], out, depth, content, (many, False), "")

    async def system(self, selections: Sequence[ast.SelectionNode], out: dict[str, Any]) -> None:
        """The fields of a query on the whole system."""
        for node in self._fields(selections, "Query", 0):
            name = node.name.value
            if name in self._context.types:
                await self.single(name, node, out, 0)
            elif name.endswith("List") and name[:-4] in self._context.types:
                await self.listed(name[:-4], node, out, 0)
            elif name.endswith("Connection") and name[:-10] in self._context.types:
                raise FhirError.of(501, "not-supported", f"{name}: connections are not served; ask for {name[:-10]}List")
            else:
                raise refuse(f"A query on the system has no field '{name[:80]}', but Patient(id:), PatientList(...) and so on")


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values if one is not None]
