"""Expressions of search parameters as functions over plain dicts, typed before anything is evaluated.

Paths, unions, casts, `where(...)`, `extension(url)` and `[n]` become straight Python code, made once; what is left of the language
goes through the general engine. Source of the forms: the expressions of the official search parameters,
https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fhir_server.fhirpath import Item, compile_expression
from fhir_server.fhirpath.compiler import Compiler
from fhir_server.fhirpath.evaluation import Env
from fhir_server.fhirpath.kinds import Field, kind_of
from fhir_server.fhirpath.parser import Binary, Call, Chain, Index, Join, Literal, Name, Node, TypeTest, Variable, parse
from fhir_server.fhirpath.references import reference_type
from fhir_server.fhirpath.typenames import known_type
from fhir_server.model.definitions import definitions
from fhir_server.model.references import parse_reference

Raw = Any
Values = Callable[[dict[str, Any]], list[Raw]]


class TypedPath(NamedTuple):
    """`type`: FHIR type of the values (None: `values` gives Items that say it themselves). `values`: resource → raw JSON values.

    `targets`: resource types that a Reference must point to by `where(resolve() is X)`; else empty.
    `roots`: the JSON members of the resource without which there is no value; None where that is not known.
    `reads`: the members on which the values depend (`contained` aside); None where that is not known.
    """

    type: str | None
    values: Values
    targets: tuple[str, ...] = ()
    roots: frozenset[str] | None = None
    reads: frozenset[str] | None = None


class _General(Exception):
    """This expression needs the general engine."""


@dataclass(frozen=True)
class _Step:
    """kind: get (a single element), each (a list), equal (a child equals a text), test (a predicate), nth (item of a list)."""

    kind: str
    name: str = ""
    text: str = ""
    test: Callable[[Any, dict[str, Any]], bool] | None = None
    number: int = 0


@dataclass(frozen=True)
class _Branch:
    type: str
    steps: tuple[_Step, ...] = ()
    targets: tuple[str, ...] = ()

    def then(self, step: _Step, type: str = "") -> _Branch:
        return replace(self, type=type or self.type, steps=(*self.steps, step))


def typed_paths(expression: str, root_type: str, start: str | None = None) -> list[TypedPath]:
    """The branches of an expression that concern `root_type`, one for each type of value (and reference target).

    With `start`, paths begin at that type instead (components of composites are relative to such an element).
    Raises FhirPathSyntaxError.
    """
    origin = start or root_type
    found: dict[tuple[str, tuple[str, ...]], list[_Branch]] = {}
    for part in _operands(parse(expression)):
        if start is None and _of_another_type(part, root_type):
            continue
        try:
            for branch in _branches(part, [_Branch(origin)], origin):
                found.setdefault((branch.type, branch.targets), []).append(branch)
        except _General:
            # A part that has no static type: then the whole union goes one way, for its order and duplicates.
            return [_general(expression, origin)]
    return [_path(kind, targets, branches) for (kind, targets), branches in found.items()]


def _path(kind: str, targets: tuple[str, ...], branches: list[_Branch]) -> TypedPath:
    roots = _roots(branches)
    return TypedPath(kind, _function(branches), targets, roots, roots)


def _roots(branches: list[_Branch]) -> frozenset[str] | None:
    """The members of the resource that the branches begin with."""
    first = [branch.steps[0] if branch.steps else None for branch in branches]
    if any(step is None or step.kind not in ("get", "each", "equal") for step in first):
        return None
    return frozenset(step.name for step in first if step is not None)


def _operands(node: Node) -> tuple[Node, ...]:
    return node.operands if isinstance(node, Chain) and node.operator == "|" else (node,)


def _of_another_type(node: Node, root_type: str) -> bool:
    """Whether a path starts with the name of a type that the resource is not of."""
    while not isinstance(node, Name):
        if isinstance(node, Join | Index | TypeTest | Binary):
            node = node.left
        else:
            return False
    return node.name in definitions().types and node.name[:1].isupper() and not definitions().is_subtype(root_type, node.name)


def _branches(node: Node, roots: list[_Branch], root_type: str) -> list[_Branch]:
    if isinstance(node, Name):
        return _named(node.name, roots, root_type)
    if isinstance(node, Join):
        return _branches(node.right, _branches(node.left, roots, root_type), root_type)
    if isinstance(node, TypeTest) and node.operator == "as":
        return _cast(_branches(node.left, roots, root_type), node.type)
    if isinstance(node, Call):
        return [found for branch in roots for found in _call(node, branch)]
    if isinstance(node, Index) and isinstance(node.index, Literal) and node.index.kind == "integer":
        inner = _branches(node.left, roots, root_type)
        if len(inner) != 1:
            raise _General
        return [inner[0].then(_Step("nth", number=int(node.index.text)))]
    if isinstance(node, Chain) and node.operator == "|":
        return [found for operand in node.operands for found in _branches(operand, roots, root_type)]
    raise _General


def _named(name: str, roots: list[_Branch], root_type: str) -> list[_Branch]:
    if name[:1].isupper() and name in definitions().types and all(not branch.steps for branch in roots):
        return roots if definitions().is_subtype(root_type, name) else []
    return [found for branch in roots for found in _member(branch, name)]


def _member(branch: _Branch, name: str) -> list[_Branch]:
    kind = kind_of(branch.type)
    if kind.name not in definitions().types or kind.name in ("Resource", "DomainResource") or kind.primitive:
        raise _General
    field = kind.load().get(name)
    if field is None:
        return []
    return [branch.then(_step(one), one.kind.name if one.kind else "Resource") for one in (field.choices or {name: field}).values()]


def _step(field: Field) -> _Step:
    return _Step("each" if field.many else "get", field.json)


def _cast(branches: list[_Branch], name: str) -> list[_Branch]:
    full = known_type(name) or ""
    bare = full.removeprefix("FHIR.")
    if any(branch.type in ("Resource", "DomainResource") for branch in branches):
        raise _General
    if full.startswith("System."):
        return []
    return [
        branch for branch in branches if branch.type == bare or (not kind_of(branch.type).primitive and bare in kind_of(branch.type).bases)
    ]


def _call(node: Call, branch: _Branch) -> list[_Branch]:
    arguments = node.arguments
    if node.name in ("as", "ofType") and len(arguments) == 1 and isinstance(arguments[0], Name):
        return _cast([branch], arguments[0].name)
    if node.name == "where" and len(arguments) == 1:
        return [_where(branch, arguments[0])]
    if (
        node.name == "first"
        and not arguments
        and sum(step.kind == "each" for step in branch.steps) == 1
        and branch.steps[-1].kind == "each"
    ):
        return [branch.then(_Step("nth"))]
    if node.name == "extension" and len(arguments) == 1 and isinstance(arguments[0], Literal) and not kind_of(branch.type).primitive:
        extensions = branch.then(_Step("each", "extension"), "Extension")
        return [extensions.then(_Step("equal", "url", text=arguments[0].text))]
    raise _General


def _where(branch: _Branch, test: Node) -> _Branch:
    kind = kind_of(branch.type)
    if isinstance(test, TypeTest) and test.operator == "is" and isinstance(test.left, Call) and test.left.name == "resolve":
        if branch.type != "Reference":
            raise _General
        return replace(branch.then(_Step("test", test=_points_to(test.type))), targets=(test.type,))
    if isinstance(test, Binary) and test.operator == "=" and isinstance(test.left, Name) and isinstance(test.right, Literal):
        field = kind.load().get(test.left.name)
        if (
            field
            and field.choices is None
            and not field.many
            and field.kind
            and field.kind.system == "String"
            and test.right.kind == "string"
        ):
            return branch.then(_Step("equal", field.json, text=test.right.text))
    if _mentions_surroundings(test):
        raise _General
    condition = Compiler().code(test).condition("where()")

    def meets(value: Any, resource: dict[str, Any]) -> bool:
        here = [Item(value, kind)]
        return condition(here, Env(None, None, here, {})) is True

    return branch.then(_Step("test", test=meets))


def _is_text(field: Field | None) -> bool:
    """Whether a child is a single string (code, uri …)."""
    return field is not None and field.choices is None and not field.many and field.kind is not None and field.kind.system == "String"


def _mentions_surroundings(node: Any) -> bool:
    """Whether a criterion looks at more than the element itself."""
    if isinstance(node, Variable) or (isinstance(node, Call) and node.name in ("resolve", "memberOf", "conformsTo", "trace")):
        return True
    if isinstance(node, tuple):
        return any(_mentions_surroundings(one) for one in node)
    return isinstance(node, Node) and any(_mentions_surroundings(getattr(node, name)) for name in node.__dataclass_fields__)


def _points_to(type_name: str) -> Callable[[Any, dict[str, Any]], bool]:
    """`resolve() is T`, from the reference's own text, its `type`, or the contained resource; nothing is loaded."""
    prefix = type_name + "/"

    def test(value: Any, resource: dict[str, Any]) -> bool:
        text = value.get("reference")
        if text.__class__ is str:
            if text.startswith(prefix):
                return True
            if text.startswith("#"):
                return any(
                    one.get("id") == text[1:] and one.get("resourceType") == type_name
                    for one in resource.get("contained") or ()
                    if one.__class__ is dict
                )
        return reference_type(value) == type_name

    return test


def _function(branches: list[_Branch]) -> Values:
    """A function for all branches of one type. Its source is made of the definitions' element names; texts come in as constants."""
    scope: dict[str, Any] = {"slow": _slow(branches)}
    if len(branches) == 1 and [step.kind for step in branches[0].steps] == ["get"]:
        return _single(branches[0].steps[0].name)
    lines = ["def values(resource):", " out = []", " try:"]
    for number, branch in enumerate(branches):
        if any(step.kind == "nth" for step in branch.steps):
            scope[f"walk{number}"] = _walker(branch.steps)
            lines.append(f"  out += walk{number}(resource)")
        else:
            lines += _lines(branch, f"{number}_", scope)
    lines += [" except (AttributeError, TypeError):", "  return slow(resource)", " return out"]
    exec("\n".join(lines), scope)
    return scope["values"]


def _single(name: str) -> Values:
    def values(resource: dict[str, Any]) -> list[Raw]:
        value = resource.get(name)
        return [] if value is None else [value]

    return values


def _lines(branch: _Branch, number: str, scope: dict[str, Any]) -> list[str]:
    """The source of one branch: nested ifs and loops, the innermost appends."""
    lines: list[str] = []
    pad, current = "  ", "resource"
    primitive = kind_of(branch.type).primitive
    for place, step in enumerate(branch.steps):
        value, last = f"v{number}{place}", place == len(branch.steps) - 1
        if step.kind == "equal":
            scope[f"text{number}{place}"] = step.text
            lines.append(f"{pad}if {current}.get({step.name!r}) == text{number}{place}:")
            pad += " "
        elif step.kind == "test":
            scope[f"test{number}{place}"] = step.test
            lines.append(f"{pad}if test{number}{place}({current}, resource):")
            pad += " "
        else:
            lines.append(f"{pad}{value} = {current}.get({step.name!r})")
            current = value
            if step.kind == "get":
                lines.append(f"{pad}if {value} is not None:")
                pad += " "
            elif last and primitive:
                lines += [f"{pad}if {value}:", f"{pad} if {value}.__class__ is not list: raise TypeError"]
                lines.append(f"{pad} out += {value} if None not in {value} else [x for x in {value} if x is not None]")
                return lines
            else:
                lines += [f"{pad}if {value}:", f"{pad} for {value} in {value}:"]
                pad += "  "
    return [*lines, f"{pad}out.append({current})"]


def _walker(steps: tuple[_Step, ...]) -> Values:
    """The same steps one by one, for `[n]` and for content that is not as the definitions say."""

    def walk(resource: dict[str, Any]) -> list[Raw]:
        values: list[Any] = [resource]
        for step in steps:
            if step.kind == "nth":
                values = values[step.number : step.number + 1]
            elif step.kind == "equal":
                values = [value for value in values if value.__class__ is dict and value.get(step.name) == step.text]
            elif step.kind == "test" and step.test:
                values = [value for value in values if value.__class__ is dict and step.test(value, resource)]
            else:
                found: list[Any] = []
                for value in values:
                    inner = value.get(step.name) if value.__class__ is dict else None
                    found += inner if inner.__class__ is list else [inner]
                values = [value for value in found if value is not None]
        return values

    return walk


def _slow(branches: list[_Branch]) -> Values:
    walkers = [_walker(branch.steps) for branch in branches]

    def values(resource: dict[str, Any]) -> list[Raw]:
        return [value for walk in walkers for value in walk(resource)]

    return values


def _general(expression: str, root_type: str) -> TypedPath:
    compiled = compile_expression(expression)
    if not compiled.is_condition:
        return TypedPath(None, lambda resource: [item for item in compiled.evaluate(resource, resolve=stand_in) if item.value is not None])
    reads = _reads(parse(expression), root_type)

    def condition(resource: dict[str, Any]) -> list[Raw]:
        if reads is not None and reads.isdisjoint(resource):
            return absent
        found = compiled.test(resource, resolve=stand_in)
        return [] if found is None else [found]

    # Without any of the members it is the same for all resources.
    empty = compiled.test({"resourceType": root_type}, resolve=stand_in) if reads is not None else None
    absent = [] if empty is None else [empty]
    return TypedPath("boolean", condition, reads=reads)


def _reads(node: Node, root_type: str) -> frozenset[str] | None:
    """The JSON members of the resource that an expression looks at; None where it may look at others."""
    if isinstance(node, Literal):
        return frozenset()
    if isinstance(node, Chain):
        return _all_read(node.operands, root_type)
    if isinstance(node, Binary):
        return _all_read((node.left, node.right), root_type)
    if isinstance(node, Join) and isinstance(node.left, Name):
        known = isinstance(node.right, Name) and node.left.name == root_type
        field = kind_of(root_type).load().get(node.right.name) if isinstance(node.right, Name) and known else None
        if field is None:
            return None
        names = [one.json for one in (field.choices or {"": field}).values()]
        return frozenset([*names, *(f"_{name}" for name in names)])
    if isinstance(node, Join) and (isinstance(node.right, Name) or (isinstance(node.right, Call) and not node.right.arguments)):
        return _reads(node.left, root_type)
    return None


def _all_read(nodes: Iterable[Node], root_type: str) -> frozenset[str] | None:
    found = [_reads(node, root_type) for node in nodes]
    return None if None in found else frozenset().union(*(one for one in found if one is not None))


def stand_in(reference: str) -> dict[str, Any] | None:
    """In place of what a reference points to: a resource of that type and id, which is all that `resolve() is X` asks for."""
    found = parse_reference(reference)
    return {"resourceType": found.type, "id": found.id} if found.type else None
