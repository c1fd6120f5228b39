"""What is asked: query, operation name and variables, from the address, a JSON body, a Parameters resource or plain GraphQL.

Specification: https://hl7.org/fhir/R4/graphql.html#invoking, https://graphql.org/learn/serving-over-http/
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphql import GraphQLError, OperationType
from graphql.language import ast, parse

from fhir_server.errors import FhirError
from fhir_server.interactions.http import Request
from fhir_server.interactions.query_string import FORMATTING, pairs
from fhir_server.model import json_codec
from fhir_server.operations.graphql.limits import MOST_TOKENS, Fragments, refuse
from fhir_server.operations.graphql.rules import invalid

_NAMES = ("query", "operationName", "variables")
_JSON = ("application/json", "application/fhir+json", "text/json")


class Question(NamedTuple):
    """A request to $graphql."""

    query: str
    operation: str | None
    variables: dict[str, Any]


def _from_address(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs(request.query) if request.query else ():
        if name in FORMATTING:
            continue
        if name not in _NAMES:
            raise refuse(
                f"$graphql has no parameter '{name[:80]}'; it has {', '.join(_NAMES)}",
                f"$graphql 没有参数“{name[:80]}”；可用：{'、'.join(_NAMES)}",
                "not-supported",
            )
        if name in found:
            raise refuse(f"$graphql takes one '{name}'", f"$graphql 只接受一个“{name}”")
        found[name] = value
    if found.get("variables"):
        found["variables"] = json_codec.loads_any(found["variables"].encode())
    return found


def _from_parameters(resource: dict[str, Any]) -> dict[str, Any]:
    """The operation's parameters as a resource; variables are JSON in a string."""
    found: dict[str, Any] = {}
    for part in resource.get("parameter") or ():
        name = part.get("name") if isinstance(part, dict) else None
        if name not in _NAMES or not isinstance(part.get("valueString"), str):
            raise refuse(
                f"The parameters of $graphql are {', '.join(_NAMES)}, each a valueString",
                f"$graphql 的参数为 {'、'.join(_NAMES)}，每一个都是 valueString",
                "not-supported",
            )
        found[name] = json_codec.loads_any(part["valueString"].encode()) if name == "variables" else part["valueString"]
    return found


def _from_json(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise refuse(
            "$graphql is sent a JSON object with query, operationName and variables",
            "$graphql 的请求体应为 JSON 对象，含 query、operationName 和 variables",
        )
    if content.get("resourceType") == "Parameters":
        return _from_parameters(content)
    if "resourceType" in content:
        raise refuse(
            "$graphql is sent a JSON object with query, operationName and variables, or a Parameters resource",
            "$graphql 的请求体应为含 query、operationName 和 variables 的 JSON 对象，或 Parameters 资源",
        )
    unknown = [name for name in content if name not in (*_NAMES, "extensions")]
    if unknown:
        raise refuse(
            f"$graphql has no member '{unknown[0][:80]}'; it has {', '.join(_NAMES)}",
            f"$graphql 没有成员“{unknown[0][:80]}”；可用：{'、'.join(_NAMES)}",
            "not-supported",
        )
    return {name: content[name] for name in _NAMES if name in content}


def _from_body(request: Request) -> dict[str, Any]:
    if request.resource is not None:
        return _from_json(request.resource)
    if not request.body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/graphql":
        try:
            return {"query": request.body.decode("utf-8")}
        except UnicodeDecodeError:
            raise refuse("The query is not UTF-8", "查询不是 UTF-8 编码") from None
    if kind in _JSON:
        return _from_json(json_codec.loads_any(request.body))
    text = f"Content-Type '{kind[:80]}' is not supported; send application/json or application/graphql"
    raise FhirError.of(415, "not-supported", text, zh=f"不支持 Content-Type “{kind[:80]}”；请使用 application/json 或 application/graphql")


def question_of(request: Request) -> Question:
    """The question of a request. Raises FhirError 400, 415."""
    found = _from_address(request)
    if request.method == "POST":
        found |= _from_body(request)
    query, name, variables = found.get("query"), found.get("operationName"), found.get("variables")
    if not isinstance(query, str) or not query.strip():
        raise refuse("$graphql needs a query", "$graphql 需要 query", "required")
    if not isinstance(name, str | None) or not isinstance(variables or {}, dict):
        raise refuse("operationName is a string, variables an object", "operationName 应为字符串，variables 应为对象")
    return Question(query, name or None, variables or {})


def document_of(query: str) -> ast.DocumentNode:
    """The parsed query. Raises FhirError 400."""
    try:
        return parse(query, max_tokens=MOST_TOKENS)
    except GraphQLError as fault:
        raise invalid([fault]) from None
    except RecursionError:
        raise refuse("The query is nested too deeply", "查询嵌套过深", "too-costly") from None


def operation_of(document: ast.DocumentNode, name: str | None) -> ast.OperationDefinitionNode:
    """The operation that is meant. Raises FhirError 400, 501 (a subscription)."""
    operations = [one for one in document.definitions if isinstance(one, ast.OperationDefinitionNode)]
    chosen = [one for one in operations if name is None or (one.name and one.name.value == name)]
    if len(chosen) != 1:
        if name:
            raise refuse(f"No operation is named '{name[:80]}'", f"没有名为“{name[:80]}”的操作")
        raise refuse(
            "operationName must say which operation of the query is meant" if operations else "The query has no operation",
            "必须用 operationName 指明所要的是查询中的哪个操作" if operations else "查询中没有操作",
        )
    if chosen[0].operation is OperationType.SUBSCRIPTION:
        raise FhirError.of(
            501,
            "not-supported",
            "A GraphQL subscription is not served; FHIR has Subscription resources",
            zh="不提供 GraphQL 订阅；FHIR 有 Subscription 资源",
        )
    return chosen[0]


def fragments_of(document: ast.DocumentNode) -> Fragments:
    """The fragments by name."""
    return {one.name.value: one for one in document.definitions if isinstance(one, ast.FragmentDefinitionNode)}
