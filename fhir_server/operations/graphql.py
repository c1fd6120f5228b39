"""$graphql: a GraphQL query on one resource or on the whole system.

Faults are answered as GraphQL errors with the OperationOutcome as their extension.
Specification: https://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

from typing import Any

import orjson
from graphql import GraphQLError
from graphql.language import OperationType, ast, parse

from fhir_server.errors import FhirError, operation_outcome
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.query_string import pairs
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.graphql_execution import Execution, refuse

_JSON = "application/json; charset=utf-8"
_TOKENS = 10_000
_SCALARS: dict[str, Any] = {"Boolean": bool, "Int": int, "Float": (int, float), "String": str, "ID": (str, int)}


def _question(request: Request) -> tuple[str, str | None, dict[str, Any]]:
    """Query, operationName, variables. Raises FhirError 400, 415."""
    found: dict[str, Any] = dict(pairs(request.query)) if request.query else {}
    if request.method == "POST" and request.resource is None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/graphql":
            try:
                found["query"] = request.body.decode("utf-8")
            except UnicodeDecodeError:
                raise refuse("The query is not UTF-8") from None
        elif kind in ("application/json", "application/fhir+json"):
            content = json_codec.loads_any(request.body)
            if not isinstance(content, dict):
                raise refuse("$graphql is sent a JSON object with query, operationName and variables")
            found |= content
        else:
            raise FhirError.of(
                415, "not-supported", f"Content-Type '{kind[:80]}' is not supported; send application/json or application/graphql"
            )
    query, name, variables = found.get("query"), found.get("operationName"), found.get("variables")
    if isinstance(variables, str) and variables:
        variables = json_codec.loads_any(variables.encode())
    if not isinstance(query, str) or not query:
        raise refuse("$graphql needs a query", "required")
    if not isinstance(name, str | None) or not isinstance(variables or {}, dict):
        raise refuse("operationName is a string, variables an object")
    return query, name or None, variables or {}


def _cycle(fragments: dict[str, ast.FragmentDefinitionNode]) -> None:
    """Raise FhirError 400 where a fragment leads back to itself."""
    uses: dict[str, set[str]] = {}
    for name, fragment in fragments.items():
        uses[name], waiting = set(), list(fragment.selection_set.selections)
        while waiting:
            one = waiting.pop()
            if isinstance(one, ast.FragmentSpreadNode):
                uses[name].add(one.name.value)
            elif isinstance(one, ast.FieldNode | ast.InlineFragmentNode) and one.selection_set:
                waiting += one.selection_set.selections
    while leaves := [name for name, used in uses.items() if not used & set(uses)]:
        for name in leaves:
            del uses[name]
    if uses:
        raise refuse(f"The fragment {min(uses)[:80]} leads back to itself, or to one that does")


def _variables(execution: Execution, operation: ast.OperationDefinitionNode, given: dict[str, Any]) -> dict[str, Any]:
    """The values of declared variables. Raises FhirError 400 for one that is absent or of another type."""
    values: dict[str, Any] = {}
    for declared in operation.variable_definitions or ():
        name, type = declared.variable.name.value, declared.type
        required = isinstance(type, ast.NonNullTypeNode)
        value = given.get(name)
        if name not in given and declared.default_value is not None:
            values[name] = execution.value(declared.default_value)
            continue
        if value is None and required:
            raise refuse(f"The variable ${name[:80]} is required", "required")
        inner = type.type if isinstance(type, ast.NonNullTypeNode) else type
        if value is not None and isinstance(inner, ast.NamedTypeNode):
            wanted = _SCALARS.get(inner.name.value)
            wrong = isinstance(value, dict | list) if wanted is None else not isinstance(value, wanted)
            if wrong or (isinstance(value, bool) and wanted not in (None, bool)):
                raise refuse(f"The variable ${name[:80]} must be of the type {inner.name.value[:80]}, not {str(value)[:80]}", "value")
        values[name] = value
    return values


def _operation(document: ast.DocumentNode, name: str | None) -> ast.OperationDefinitionNode:
    operations = [one for one in document.definitions if isinstance(one, ast.OperationDefinitionNode)]
    chosen = [one for one in operations if name is None or (one.name and one.name.value == name)]
    if len(chosen) != 1:
        raise refuse(f"No operation is named '{name[:80]}'" if name else "operationName must say which operation of the query is meant")
    if chosen[0].operation is not OperationType.QUERY:
        raise FhirError.of(501, "not-supported", f"A {chosen[0].operation.value} is not served by $graphql; use the REST interactions")
    return chosen[0]


async def _data(context: Context, request: Request, type: str | None, id: str | None) -> dict[str, Any]:
    query, name, given = _question(request)
    try:
        document = parse(query, no_location=True, max_tokens=_TOKENS)
    except GraphQLError as fault:
        raise refuse(f"The query is no valid GraphQL: {fault.message}") from None
    except RecursionError:
        raise refuse("The query is nested too deeply", "too-costly") from None
    operation = _operation(document, name)
    fragments = {one.name.value: one for one in document.definitions if isinstance(one, ast.FragmentDefinitionNode)}
    _cycle(fragments)
    variables: dict[str, Any] = {}
    execution = Execution(context, request, fragments, variables)
    variables |= _variables(execution, operation, given)
    out: dict[str, Any] = {}
    selections = operation.selection_set.selections
    if type is None or id is None:
        await execution.system(selections, out)
        return out
    stored = await context.gate.read(request.principal, type, id)
    if stored is None:
        raise unknown(type, id)
    if stored.deleted:
        raise gone(stored)
    content = json_codec.loads(stored.body)
    await execution.prefetch([content], selections)
    await execution.select(type, content, selections, out)
    return out


async def graphql(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `data`; a fault is `errors` under its own status."""
    try:
        return Response(200, json_codec.dumps({"data": await _data(context, request, type, id)}), media_type=_JSON)
    except FhirError as fault:
        extensions = {"resource": operation_outcome(fault.issues)}
        message = "; ".join(issue.diagnostics for issue in fault.issues)
        return Response(
            fault.status, orjson.dumps({"errors": [{"message": message, "extensions": extensions}]}), fault.headers, media_type=_JSON
        )


OPERATION = Operation(
    name="graphql",
    handler=graphql,
    policy="graphql",
    levels=frozenset({"system", "instance"}),
    types=("", "*"),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-graphql",
    title="A GraphQL query",
)
