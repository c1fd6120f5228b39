"""Expressions of search parameters as generated functions over plain dicts, typed before anything is evaluated.

Paths, unions, casts, `where(resolve() is X)`, `where(name = 'text')`, `extension(url)` and `[n]` become straight Python code; what is
left of the language goes through the general engine. Source of the forms: the expressions of the official search parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_server.fhirpath import Expression, Item
from fhir_server.fhirpath.parser import Binary, Call, Index, Join, Literal, Name, Node, TypeTest, parse
from fhir_server.fhirpath.typing import known_type
from fhir_server.model.definitions import definitions
from fhir_server.model.references import parse_reference

Raw = Any


class TypedPath(NamedTuple):
    """`type`: FHIR type of the values (None: `values` gives Items that say it themselves). `values`: resource → raw JSON values.

    `targets`: resource types that a Reference may point to by an explicit `where(resolve() is X)`; else empty.
    """

    type: str | None
    values: Callable[[dict[str, Any]], list[Any]]
    targets: tuple[str, ...] = ()


class _General(Exception):
    """This expression needs the general engine."""


@dataclass(frozen=True)
class _Step:
    """kind: get (a single element), each (a list), filter (test on the value), nth (item of a list)."""

    kind: str
    name: str = ""
    test: Callable[[Any], bool] | None = None
    number: int = 0


@dataclass(frozen=True)
class _Branch:
    type: str
    steps: tuple[_Step, ...] = ()
    targets: tuple[str, ...] = ()
    start: bool = field(default=False)

    def then(self, step: _Step, type: str | None = None, targets: tuple[str, ...] | None = None) -> _Branch:
        return _Branch(type or self.type, (*self.steps, step), self.targets if targets is None else targets)


def reference_type(reference: Any) -> str:
    """The resource type that a Reference points to, as far as its text says ('' = unknown)."""
    if not isinstance(reference, dict):
        return ""
    text = reference.get("reference")
    if isinstance(text, str) and (found := parse_reference(text).type):
        return found
    kind = reference.get("type")
    return kind if isinstance(kind, str) else ""


def _points_to(type_name: str) -> Callable[[Any], bool]:
    return lambda value: reference_type(value) == type_name


def _branches(node: Node, roots: list[_Branch], root_type: str) -> list[_Branch]:
    if isinstance(node, Name):
        if all(not branch.steps for branch in roots) and node.name in definitions().types and node.name[0].isupper():
            if definitions().is_subtype(root_type, node.name):
                return roots
            return []
        return [found for branch in roots for found in _member(branch, node.name)]
    if isinstance(node, Join):
        return _branches(node.right, _branches(node.left, roots, root_type), root_type)
    if isinstance(node, TypeTest) and node.operator == "as":
        return _cast(_branches(node.left, roots, root_type), node.type)
    if isinstance(node, Call):
        return _call(node, roots)
    if isinstance(node, Index) and isinstance(node.index, Literal) and node.index.kind == "integer":
        inner = _branches(node.left, roots, root_type)
        return [branch.then(_Step("nth", number=int(node.index.text))) for branch in inner]
    if isinstance(node, Binary) and node.operator == "|":
        return _branches(node.left, roots, root_type) + _branches(node.right, roots, root_type)
    raise _General


def _member(branch: _Branch, name: str) -> list[_Branch]:
    types = definitions().types
    if branch.type not in types:
        raise _General
    element = types[branch.type].elements.get(name)
    if element is None:
        return []
    kind = "get" if element.max == 1 else "each"
    return [branch.then(_Step(kind, json_name), types[branch.type].by_json[json_name][1]) for json_name in element.json_names]


def _cast(branches: list[_Branch], name: str) -> list[_Branch]:
    bare = (known_type(name) or "").removeprefix("FHIR.")
    kept = [branch for branch in branches if branch.type == bare]
    if any(branch.type in ("Resource", "DomainResource") for branch in branches):
        raise _General
    return kept


def _call(node: Call, branches: list[_Branch]) -> list[_Branch]:
    if node.name in ("as", "ofType") and len(node.arguments) == 1 and isinstance(node.arguments[0], Name):
        return _cast(branches, node.arguments[0].name)
    if node.name == "where" and len(node.arguments) == 1:
        return [found for branch in branches for found in _where(branch, node.arguments[0])]
    if node.name == "extension" and len(node.arguments) == 1 and isinstance(node.arguments[0], Literal):
        url = node.arguments[0].text
        return [
            branch.then(_Step("each", "extension"), "Extension").then(_Step("filter", test=lambda value, url=url: value.get("url") == url))
            for branch in branches
            if definitions().types.kind(branch.type) != "primitive"
        ]
    raise _General


def _where(branch: _Branch, test: Node) -> list[_Branch]:
    if isinstance(test, TypeTest) and test.operator == "is" and isinstance(test.left, Call) and test.left.name == "resolve":
        return [branch.then(_Step("filter", test=_points_to(test.type)), targets=(test.type,))] if branch.type == "Reference" else []
    if (
        isinstance(test, Binary)
        and test.operator == "="
        and isinstance(test.left, Name)
        and isinstance(test.right, Literal)
        and test.right.kind == "string"
    ):
        name, wanted = test.left.name, test.right.text
        element = definitions().types[branch.type].elements.get(name)
        if element is None or element.max != 1 or element.choice:
            raise _General
        return [branch.then(_Step("filter", test=lambda value: isinstance(value, dict) and value.get(name) == wanted))]
    raise _General


def _function(branches: list[_Branch]) -> Callable[[dict[str, Any]], list[Raw]]:
    """Python source for all branches of one type, compiled."""
    lines = ["def values(v0):", " out = []"]
    scope: dict[str, Any] = {}
    for number, branch in enumerate(branches):
        indent, current = 1, "v0"
        nth = [k for k, step in enumerate(branch.steps) if step.kind == "nth"]
        if nth:
            scope[f"walk{number}"] = _walker(branch.steps)
            lines.append(f" out += walk{number}(v0)")
            continue
        for k, step in enumerate(branch.steps):
            following = f"v{number}_{k}"
            pad = " " * indent
            if step.kind == "filter":
                scope[f"test{number}_{k}"] = step.test
                lines.append(f"{pad}if test{number}_{k}({current}):")
                indent += 1
                continue
            lines.append(f"{pad}{following} = {current}.get({step.name!r})")
            if step.kind == "each":
                lines.append(f"{pad}if {following}:")
                lines.append(f"{pad} for {following} in {following}:")
                lines.append(f"{pad}  if {following} is not None:")
                indent += 3
            else:
                lines.append(f"{pad}if {following} is not None:")
                indent += 1
            current = following
        lines.append(" " * indent + f"out.append({current})")
    lines.append(" return out")
    exec("\n".join(lines), scope)  # the source is ours, made of element names of the definitions
    return scope["values"]


def _walker(steps: tuple[_Step, ...]) -> Callable[[dict[str, Any]], list[Raw]]:
    def walk(resource: dict[str, Any]) -> list[Raw]:
        values: list[Any] = [resource]
        for step in steps:
            if step.kind == "nth":
                values = values[step.number : step.number + 1]
            elif step.kind == "filter" and step.test:
                values = [value for value in values if step.test(value)]
            else:
                found: list[Any] = []
                for value in values:
                    inner = value.get(step.name) if isinstance(value, dict) else None
                    found += inner if isinstance(inner, list) else [] if inner is None else [inner]
                values = [value for value in found if value is not None]
        return values

    return walk


def _general(expression: str, part: Node) -> Callable[[dict[str, Any]], list[Item]]:
    compiled = Expression(expression, part)

    def values(resource: dict[str, Any]) -> list[Item]:
        return [item for item in compiled.evaluate(resource, resolve=_stub) if item.value is not None]

    return values


def _stub(reference: str) -> dict[str, Any] | None:
    """A stand-in for what a reference points to: only its type, which is all that `resolve() is X` asks for."""
    found = parse_reference(reference)
    return {"resourceType": found.type, "id": found.id} if found.type else None


def _split_union(node: Node) -> list[Node]:
    if isinstance(node, Binary) and node.operator == "|":
        return [*_split_union(node.left), *_split_union(node.right)]
    return [node]


def _first_type(node: Node) -> str | None:
    """The type name at the very start of a path, if any."""
    while not isinstance(node, Name):
        if isinstance(node, Join | Index | TypeTest | Binary):
            node = node.left
        else:
            return None
    return node.name if node.name[0].isupper() else None


def typed_paths(expression: str, root_type: str, start: str | None = None) -> list[TypedPath]:
    """The branches of an expression that concern `root_type`, one for each type of value (and reference target).

    With `start`, paths begin at that type instead (components of composites are relative to such an element).
    Raises FhirPathSyntaxError.
    """
    origin = start or root_type
    found: dict[tuple[str, tuple[str, ...]], list[_Branch]] = {}
    general: list[TypedPath] = []
    for part in _split_union(parse(expression)):
        first = _first_type(part)
        if first and start is None and first in definitions().types and not definitions().is_subtype(root_type, first):
            continue
        try:
            for branch in _branches(part, [_Branch(origin)], origin):
                found.setdefault((branch.type, branch.targets), []).append(branch)
        except _General:
            general.append(TypedPath(None, _general(expression, part)))
    return [TypedPath(kind, _function(branches), targets) for (kind, targets), branches in found.items()] + general
