"""An OpenAPI 3.1 description of the REST interface, made from what is registered.

Specification: https://spec.openapis.org/oas/v3.1.0; the interactions: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from fhir_server import __version__
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import INTERACTIONS, PATCH_FORMATS, Interaction, Operation
from fhir_server.interactions.route import ASYNC_STATUS

_JSON = "application/fhir+json"
_STATUS = {"create": "201", "delete": "204"}
_BODIES = frozenset({"create", "update", "transaction", "batch"})
_PREFER = "return=minimal|representation|OperationOutcome, handling=strict|lenient; respond-async for searches, histories and Bundles"
_SHARED_PARAMETERS = {
    "id": ("path", "id", "Logical id", {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}),
    "vid": ("path", "vid", "Version", {"type": "string"}),
    "summary": ("query", "_summary", "How much of each resource", {"enum": ["true", "text", "data", "count", "false"]}),
    "elements": ("query", "_elements", "Elements to show", {"type": "string"}),
    "pretty": ("query", "_pretty", "Indented JSON", {"type": "boolean"}),
    "count": ("query", "_count", "Entries per page, at most 1000", {"type": "integer", "minimum": 0}),
    "since": ("query", "_since", "Only versions since this instant", {"type": "string", "format": "date-time"}),
    "at": ("query", "_at", "Only versions that were current then", {"type": "string"}),
    "ifMatch": ("header", "If-Match", "Only if this is the current version", {"type": "string", "examples": ['W/"1"']}),
    "ifNoneMatch": ("header", "If-None-Match", "304 if this is the current version", {"type": "string"}),
    "ifNoneExist": ("header", "If-None-Exist", "Create only if nothing meets these criteria", {"type": "string"}),
    "prefer": ("header", "Prefer", _PREFER, {"type": "string"}),
}
_USES = {
    "read": ("summary", "elements", "pretty", "ifNoneMatch"),
    "vread": ("summary", "elements", "pretty", "ifNoneMatch"),
    "update": ("ifMatch", "prefer"),
    "patch": ("ifMatch", "prefer"),
    "delete": ("ifMatch", "prefer"),
    "create": ("ifNoneExist", "prefer"),
    "history-instance": ("count", "since", "at", "prefer"),
    "history-type": ("count", "since", "at", "prefer"),
    "history-system": ("count", "since", "at", "prefer"),
    "search-type": ("prefer",),
    "search-system": ("prefer",),
    "transaction": ("prefer",),
}


_DEFERRED = frozenset({"search-type", "search-system", "history-instance", "history-type", "history-system", "transaction"})


def _content(schema: str) -> dict[str, Any]:
    return {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _call(interaction: Interaction, type: str) -> dict[str, Any]:
    """One OpenAPI operation for an interaction on a resource type ('' = system)."""
    code = interaction.code
    bundle = code.startswith(("history", "search")) or (code in _BODIES and not type)
    uses = [name for name in ("id", "vid") if "{" + name + "}" in interaction.path] + list(_USES.get(code, ()))
    answer = {"description": interaction.title}
    status = _STATUS.get(code, "200")
    if status != "204":
        answer["content"] = _content("Bundle" if bundle else "Resource")  # type: ignore[assignment]
    call: dict[str, Any] = {
        "operationId": f"{code}-{type}" if type else code,
        "summary": f"{interaction.title}" + (f": {type}" if type else ""),
        "tags": [type or "System"],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in uses],
        "responses": {status: answer, "default": {"$ref": "#/components/responses/Outcome"}},
    }
    if code in _DEFERRED:
        call["responses"]["202"] = {"description": "Accepted (Prefer: respond-async); Content-Location names the status address"}
    if code in _BODIES:
        call["requestBody"] = {"required": True, "content": _content("Resource" if type else "Bundle")}
    elif code == "patch":
        call["requestBody"] = {"required": True, "content": {kind: {"schema": {}} for kind in PATCH_FORMATS}}
    return call


def _search_parameters(context: Context, type: str) -> list[dict[str, Any]]:
    return [
        {"name": parameter.code, "in": "query", "description": f"{parameter.type} parameter", "schema": {"type": "string"}}
        for parameter in sorted(context.search.of(type), key=lambda parameter: parameter.code)
    ]


def _operation_paths(operation: Operation) -> list[tuple[str, str]]:
    """(path, tag) of every place where an operation is defined."""
    name = f"${operation.name}"
    paths = [(f"/{name}", "System")] if "system" in operation.levels else []
    for type in operation.types:
        if type:
            place = "/{type}" if type == "*" else f"/{type}"
            tag = "Every type" if type == "*" else type
            paths += [(f"{place}/{name}", tag)] if "type" in operation.levels else []
            paths += [(f"{place}/{{id}}/{name}", tag)] if "instance" in operation.levels else []
    return paths


def _status_path() -> dict[str, Any]:
    """The status address of asynchronous requests."""
    outcome = {"$ref": "#/components/responses/Outcome"}
    shared = {"tags": ["System"], "parameters": [{"$ref": "#/components/parameters/id"}]}
    finished = {"description": "Finished: a batch-response Bundle of one entry", "content": _content("Bundle")}
    return {
        "get": {
            "operationId": "async-status",
            "summary": "State or result of an asynchronous request",
            **shared,
            "responses": {"200": finished, "202": {"description": "Under way, with X-Progress and Retry-After"}, "default": outcome},
        },
        "delete": {
            "operationId": "async-cancel",
            "summary": "Cancel an asynchronous request, or delete its result",
            **shared,
            "responses": {"202": {"description": "Nothing more is begun"}, "default": outcome},
        },
    }


def document(context: Context, base: str) -> dict[str, Any]:
    """The OpenAPI document for the server under `base`."""
    paths: dict[str, dict[str, Any]] = {
        "/metadata": {"get": _call(Interaction("capabilities", "system", "GET", "metadata", "CapabilityStatement"), "")}
    }
    paths[f"/{ASYNC_STATUS}/{{id}}"] = _status_path()
    for interaction in INTERACTIONS:
        for type in context.definitions.resource_types if interaction.level != "system" else ("",):
            path = "/" + interaction.path.replace("{type}", type)
            if interaction.code == "batch":  # the same address as a transaction; Bundle.type decides
                continue
            call = _call(interaction, type)
            if interaction.code == "search-type":
                call["parameters"] += _search_parameters(context, type)
            paths.setdefault(path, {})[interaction.method.lower()] = call
    for operation in context.operations.operations.values():
        for path, tag in _operation_paths(operation):
            variables = [variable for variable in ("type", "id") if "{" + variable + "}" in path]
            name = re.sub("[{}$]", "", path.strip("/")).replace("/", "-")
            for method in operation.methods:
                paths.setdefault(path, {})[method.lower()] = {
                    "operationId": f"{method.lower()}-{operation.name}-{name}",
                    "summary": operation.title or f"${operation.name}",
                    "tags": [tag],
                    "parameters": [
                        {"name": variable, "in": "path", "required": True, "schema": {"type": "string"}} for variable in variables
                    ],
                    "responses": {
                        "200": {"description": "Result", "content": _content("Resource")},
                        "default": {"$ref": "#/components/responses/Outcome"},
                    },
                }
    parameters = {
        key: {"name": name, "in": place, "description": text, "schema": schema, **({"required": True} if place == "path" else {})}
        for key, (place, name, text, schema) in _SHARED_PARAMETERS.items()
    }
    resource = {
        "type": "object",
        "required": ["resourceType"],
        "properties": {"resourceType": {"type": "string"}, "id": {"type": "string"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "FHIR R4 server", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {
            "parameters": parameters,
            "responses": {"Outcome": {"description": "What went wrong", "content": _content("Resource")}},
            "schemas": {"Resource": resource, "Bundle": resource},
        },
    }


async def openapi(context: Context, request: Request) -> Response:
    """The document as JSON."""
    key = f"openapi {request.base}"
    body = context.parts.get(key)
    if body is None:
        body = context.parts[key] = orjson.dumps(document(context, request.base))
    return Response(200, body, media_type="application/json")
