"""The scalar types: FHIR's primitives and the kinds of search parameters, as HL7's schema names them.

Where FHIR's page writes bare words for text (`use: official`, `id: example`), they are taken as such.
Specification: https://hl7.org/fhir/R4/graphql.html, https://spec.graphql.org/October2021/#sec-Scalars
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from graphql import GraphQLBoolean, GraphQLError, GraphQLFloat, GraphQLInt, GraphQLScalarType
from graphql.language import ast, print_ast

from fhir_server.model import json_codec

TEXTS = (
    "base64Binary", "canonical", "code", "date", "dateTime", "instant", "markdown", "oid", "time", "uri", "url", "uuid", "xhtml",
)  # fmt: skip
"""FHIR primitives that are text and have a scalar of their own name."""
SEARCHED = ("token", "reference", "composite", "quantity", "special", "number")
"""Kinds of search parameters that have a scalar; those of strings, dates and URIs use String, date and uri."""
_SHARED = {"boolean": "Boolean", "integer": "Int", "string": "String", "id": "ID"}


def plain_text(value: Any) -> str:
    """A value as the text that a search parameter or filter compares."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.text if isinstance(value, json_codec.Number) else str(value)


def _refused(name: str, value: object) -> GraphQLError:
    """`value`: a value of a variable, or a node of the query, whose place is told."""
    if isinstance(value, ast.Node):
        return GraphQLError(f"{name} cannot represent {print_ast(value)[:80]}", value)
    return GraphQLError(f"{name} cannot represent the value {str(value)[:80]}")


def _text(name: str, *others: type) -> GraphQLScalarType:
    """A scalar of text; `others`: further JSON types that are taken and become text."""
    nodes: tuple[type, ...] = (ast.StringValueNode, ast.EnumValueNode)
    nodes += (ast.IntValueNode,) if int in others else ()
    nodes += (ast.FloatValueNode, ast.BooleanValueNode) if bool in others else ()

    def of_value(value: Any) -> str:
        if isinstance(value, str) or (isinstance(value, others) and (bool in others or not isinstance(value, bool))):
            return plain_text(value)
        raise _refused(name, value)

    def of_literal(node: Any) -> str:
        if type(node) in nodes:
            return plain_text(node.value)
        raise _refused(name, node)

    # The library reserves the names of the built-in scalars for its own ones, which refuse bare words.
    made = GraphQLScalarType("text", coerce_input_value=of_value, coerce_input_literal=of_literal)
    made.name = name
    return made


def _whole(name: str, lowest: int) -> GraphQLScalarType:
    def of_value(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value < 1 << 31:
            return value
        raise _refused(name, value)

    def of_literal(node: Any) -> int:
        if isinstance(node, ast.IntValueNode) and len(node.value) <= 11:
            return of_value(int(node.value))
        raise _refused(name, node)

    return GraphQLScalarType(name, coerce_input_value=of_value, coerce_input_literal=of_literal)


def _decimal() -> GraphQLScalarType:
    """Numbers keep the digits in which they are sent."""

    def of_value(value: Any) -> Any:
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return value
        raise _refused("decimal", value)

    def of_literal(node: Any) -> Any:
        if isinstance(node, ast.IntValueNode | ast.FloatValueNode):
            return json_codec.loads_any(node.value.encode())
        raise _refused("decimal", node)

    return GraphQLScalarType("decimal", coerce_input_value=of_value, coerce_input_literal=of_literal)


def json_of(node: Any) -> Any:
    """A literal as JSON; digits of numbers are kept."""
    if isinstance(node, ast.ObjectValueNode):
        return {field.name.value: json_of(field.value) for field in node.fields}
    if isinstance(node, ast.ListValueNode):
        return [json_of(one) for one in node.values]
    if isinstance(node, ast.IntValueNode | ast.FloatValueNode):
        return json_codec.loads_any(node.value.encode())
    return None if isinstance(node, ast.NullValueNode) else getattr(node, "value", None)


def _resource() -> GraphQLScalarType:
    """GraphQL has no input unions: a resource within a resource is written as a whole, and checked when it is stored."""

    def checked(value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        raise _refused("ResourceInput", value)

    about = "A resource of any type, as an object with resourceType"
    return GraphQLScalarType(
        "ResourceInput", coerce_input_value=checked, coerce_input_literal=lambda node: checked(json_of(node)), description=about
    )


def scalars() -> dict[str, GraphQLScalarType]:
    """All scalars of the schema by name."""
    found = {"Boolean": GraphQLBoolean, "Int": GraphQLInt, "Float": GraphQLFloat}
    found |= {"String": _text("String"), "ID": _text("ID", int), "decimal": _decimal(), "ResourceInput": _resource()}
    found |= {"positiveInt": _whole("positiveInt", 1), "unsignedInt": _whole("unsignedInt", 0)}
    found |= {name: _text(name) for name in TEXTS}
    return found | {name: _text(name, int, float, Decimal, bool) for name in SEARCHED}


def scalar_of(primitive: str) -> str:
    """The name of the scalar of a FHIR primitive."""
    return _SHARED.get(primitive, primitive)


def family(name: str) -> str:
    """Scalars of one family can stand in for each other where a variable is used: text, number, boolean or (searches take all) any."""
    if name in ("Int", "Float", "decimal", "positiveInt", "unsignedInt"):
        return "number"
    if name in SEARCHED:
        return "any"
    return "text" if name in TEXTS or name in ("String", "ID") else name
