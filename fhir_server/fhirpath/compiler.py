"""Syntax tree → closures. Nothing of the tree is walked while an expression is evaluated.

Specification: http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from fhir_server.fhirpath import operators
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSyntaxError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, integer
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.fhirpath.items import Item, child, of_resource, of_system, type_family
from fhir_server.fhirpath.parser import Binary, Call, Index, Join, Literal, Name, Node, Sign, Special, TypeTest, Variable
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import parse_temporal
from fhir_server.fhirpath.typing import is_of, known_type
from fhir_server.model.definitions import definitions

_FIXED = {"sct": "http://snomed.info/sct", "loinc": "http://loinc.org", "ucum": "http://unitsofmeasure.org"}


def build(node: Node) -> Evaluator:
    """The closure of a node; raises FhirPathError for unknown functions and wrong numbers of arguments."""
    return _BUILDERS[type(node)](node)  # type: ignore[arg-type]


def _literal(node: Literal) -> Evaluator:
    value = _literal_item(node)
    return lambda env, focus: list(value)


def _literal_item(node: Literal) -> Collection:
    kind, text = node.kind, node.text
    if kind == "empty":
        return []
    if kind == "string":
        return [of_system(text)]
    if kind == "boolean":
        return [of_system(text == "true")]
    if kind in ("integer", "long"):
        return [of_system(int(text))]
    if kind == "decimal":
        return [of_system(Decimal(text))]
    if kind == "quantity":
        return [of_system(Quantity.of_literal(text, node.unit))]
    value = parse_temporal(text, {"date": "Date", "datetime": "DateTime", "time": "Time"}[kind])
    if value is None:
        raise FhirPathSyntaxError(f"@{text} does not exist", node.position)
    return [of_system(value)]


def _name(node: Name) -> Evaluator:
    name = node.name

    def evaluate(env: Env, focus: Collection) -> Collection:
        if len(focus) == 1:
            return child(focus[0], name)
        return [found for item in focus for found in child(item, name)]

    return evaluate


def _first_name(node: Name) -> Evaluator:
    """A name at the start of a path: a type that the focus has to be of, else a child."""
    name, member = node.name, _name(node)
    if name not in definitions().types or not name[0].isupper():
        return member

    def evaluate(env: Env, focus: Collection) -> Collection:
        kept = [item for item in focus if name in type_family(item.type)]
        return kept if kept else member(env, focus)

    return evaluate


def _special(node: Special) -> Evaluator:
    if node.name == "$this":
        return lambda env, focus: env.this
    if node.name == "$index":
        return lambda env, focus: [] if env.index is None else [of_system(env.index)]
    return lambda env, focus: env.total or []


def _variable(node: Variable) -> Evaluator:
    name = node.name

    def evaluate(env: Env, focus: Collection) -> Collection:
        if name in env.defined:
            return env.defined[name]
        if name in env.variables:
            return as_collection(env.variables[name])
        if name == "context":
            return env.context
        if name == "resource":
            return [env.resource] if env.resource else []
        if name == "rootResource":
            return [env.root] if env.root else []
        if name in _FIXED:
            return [of_system(_FIXED[name])]
        if name.startswith("vs-"):
            return [of_system(f"http://hl7.org/fhir/ValueSet/{name[3:]}")]
        if name.startswith("ext-"):
            return [of_system(f"http://hl7.org/fhir/StructureDefinition/{name[4:]}")]
        raise FhirPathError(f"the variable %{name} is not defined")

    return evaluate


def as_collection(value: object) -> Collection:
    """A Python value from outside as a collection."""
    if value is None:
        return []
    if isinstance(value, list):
        return [item for one in value for item in as_collection(one)]
    if isinstance(value, Item):
        return [value]
    if isinstance(value, dict):
        return [of_resource(value)]
    if isinstance(value, float):
        return [of_system(Decimal(repr(value)))]
    return [of_system(value)]


def _call(node: Call) -> Evaluator:
    found = FUNCTIONS.get(node.name)
    if found is None:
        raise FhirPathSyntaxError(f"there is no function {node.name}()", node.position)
    if not found.least <= len(node.arguments) <= found.most:
        wanted = str(found.least) if found.least == found.most else f"{found.least} to {found.most}"
        raise FhirPathSyntaxError(f"{node.name}() takes {wanted} arguments, not {len(node.arguments)}", node.position)
    if found.takes_type:
        names = [type_argument(argument) for argument in node.arguments]
        for name in names:
            if known_type(name) is None:
                raise FhirPathSyntaxError(f"{name} is no type", node.position)
        return found.make(*names)
    return found.make(*(build_argument(argument) for argument in node.arguments))


def build_argument(node: Node) -> Evaluator:
    return build_start(node)


def type_argument(node: Node) -> str:
    """A type's name as the argument of is(), as() and ofType()."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Join) and isinstance(node.left, Name) and isinstance(node.right, Name):
        return f"{node.left.name}.{node.right.name}"
    if isinstance(node, Literal) and node.kind == "string":
        return node.text
    raise FhirPathSyntaxError("a type's name is expected", node.position)


def build_start(node: Node) -> Evaluator:
    """A node at the start of a path, where a name may be that of a type."""
    if isinstance(node, Name):
        return _first_name(node)
    return build(node)


def _join(node: Join) -> Evaluator:
    left, right = build_start(node.left), build(node.right)
    return lambda env, focus: right(env, left(env, focus))


def _index(node: Index) -> Evaluator:
    left, index = build_start(node.left), build_start(node.index)

    def evaluate(env: Env, focus: Collection) -> Collection:
        items = left(env, focus)
        position = integer(index(env, focus), "an index")
        return [items[position]] if position is not None and 0 <= position < len(items) else []

    return evaluate


def _sign(node: Sign) -> Evaluator:
    return operators.signed(node.sign, build_start(node.operand))


def _binary(node: Binary) -> Evaluator:
    return operators.BINARY[node.operator](build_start(node.left), build_start(node.right))


def _type_test(node: TypeTest) -> Evaluator:
    left, name = build_start(node.left), node.type
    if known_type(name) is None:
        raise FhirPathSyntaxError(f"{name} is no type", node.position)
    if node.operator == "is":

        def test(env: Env, focus: Collection) -> Collection:
            items = left(env, focus)
            if len(items) > 1:
                raise FhirPathError(f"'is' needs a single item, not {len(items)}")
            return [of_system(is_of(items[0], name))] if items else []

        return test

    def cast(env: Env, focus: Collection) -> Collection:
        return [item for item in left(env, focus) if is_of(item, name, exact=True)]

    return cast


_BUILDERS: dict[type, Callable[..., Evaluator]] = {
    Literal: _literal,
    Name: _name,
    Special: _special,
    Variable: _variable,
    Call: _call,
    Join: _join,
    Index: _index,
    Sign: _sign,
    Binary: _binary,
    TypeTest: _type_test,
}
