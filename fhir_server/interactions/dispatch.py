"""From a request to its interaction; used for HTTP requests and for Bundle entries alike.

Specification: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions import async_kickoff, binary, read, vread
from fhir_server.interactions.async_status import async_status
from fhir_server.interactions.batch import batch
from fhir_server.interactions.capabilities import capabilities
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import create, plan_create
from fhir_server.interactions.delete import delete, plan_delete
from fhir_server.interactions.history import history
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.openapi import openapi
from fhir_server.interactions.patch import patch, plan_patch
from fhir_server.interactions.plan import PlannedWrite
from fhir_server.interactions.preconditions import not_modified
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.read import read as read_interaction
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.route import Route, route
from fhir_server.interactions.search import search
from fhir_server.interactions.update import plan_update, update

_WRITES = frozenset({"create", "update", "patch", "batch", "operation"})
_FRESH = frozenset({"batch", "capabilities"})
"""Interactions that ask first which search parameters there are: Bundles are taken apart as they are read, and cannot be done again.

So do lenient searches, which would leave out what they do not know yet."""


async def dispatch(context: Context, request: Request) -> Response:
    """The answer to a request. Raises FhirError."""
    return await interact(context, request, route(request.method, request.path, context.types))


async def interact(context: Context, request: Request, to: Route) -> Response:
    """The answer of the interaction that `to` names. Raises FhirError.

    What is refused for search parameters that another process has changed meanwhile is tried once more with them.
    """
    search = context.search
    known = search.generation
    if to.interaction in _FRESH or (to.interaction == "search" and "lenient" in request.headers.get("prefer", "")):
        search.look()
    try:
        return await _interact(context, request, to)
    except FhirError as fault:
        if fault.status not in (400, 503) or to.interaction in _FRESH:
            raise
        search.look()
        if search.generation == known:
            raise
    return await _interact(context, request, to)


async def _interact(context: Context, request: Request, to: Route) -> Response:
    interaction = to.interaction
    if preferences(request).respond_async and async_kickoff.serves(request, to):
        return await async_kickoff.kick_off(context, request, to)
    if interaction in _WRITES and context.settings.validation == "profiles":
        await context.parts["validating"].fresh()
    if interaction in _WRITES and (to.type == "Subscription" or (not to.type and b'"Subscription"' in request.body)):
        await context.parts["topics"].fresh()
    context.gate.require(request.principal, interaction)
    if interaction == "read":
        if to.type == "Binary" and not request.entry and binary.wants_raw(request):
            return await _raw(context, request, to)
        return await read_interaction(context, request, to.type, to.id)
    if interaction == "search":
        return await search(context, request, to)
    if interaction == "create":
        return await create(context, request, to.type)
    if interaction == "update":
        return await update(context, request, to.type, to.id or None)
    if interaction == "vread":
        return await vread.vread(context, request, to.type, to.id, to.version)
    if interaction == "delete":
        return await delete(context, request, to.type, to.id or None)
    if interaction == "patch":
        return await patch(context, request, to.type, to.id or None)
    if interaction == "history":
        return await history(context, request, to.type or None, to.id or None)
    if interaction == "operation":
        return await _operation(context, request, to)
    if interaction == "batch":
        return await batch(context, request)
    if interaction == "async-status":
        return await async_status(context, request, to.id)
    if interaction == "capabilities":
        return await capabilities(context, request)
    if interaction == "openapi":
        return await openapi(context, request)
    raise FhirError.of(
        405,
        "not-supported",
        f"{request.method} is not supported at [base]/{request.path}",
        zh=f"[base]/{request.path} 不支持 {request.method}",
    )


async def plan(context: Context, request: Request, to: Route) -> PlannedWrite:
    """The planned form of a write (create, update, patch, delete). Raises FhirError."""
    context.gate.require(request.principal, to.interaction)
    if to.interaction == "create":
        return await plan_create(context, request, to.type)
    if to.interaction == "update":
        return await plan_update(context, request, to.type, to.id or None)
    if to.interaction == "patch":
        return await plan_patch(context, request, to.type, to.id or None)
    if to.interaction == "delete":
        return await plan_delete(context, request, to.type, to.id or None)
    raise ValueError(f"{to.interaction} is not a write")


async def _raw(context: Context, request: Request, to: Route) -> Response:
    stored = await context.gate.read(request.principal, to.type, to.id)
    if stored is None:
        raise read.unknown(to.type, to.id)
    if stored.deleted:
        raise read.gone(stored)
    if not_modified(request, stored):
        return read.answer(context, request, stored)
    return binary.raw(stored)


def _find_operation(context: Context, to: Route) -> Operation:
    """The operation that a path names, on its level and type. Raises FhirError 404, 400."""
    operation = context.operations.operations.get(to.operation)
    if operation is None:
        said = f"Operation ${to.operation[:80]} is not served here; the CapabilityStatement lists what is"
        raise FhirError.of(404, "not-supported", said, zh=f"本服务器不提供操作 ${to.operation[:80]}；可用的操作见 CapabilityStatement")
    level = "version" if to.version else "instance" if to.id else "type" if to.type else "system"
    if level not in operation.levels:
        levels = ", ".join(sorted(operation.levels))
        said = f"${operation.name} is not defined on {level} level, but on {levels}"
        raise FhirError.of(400, "not-supported", said, zh=f"${operation.name} 不能在 {level} 级别调用，只能在：{levels}")
    if to.type and "*" not in operation.types and to.type not in operation.types:
        types = ", ".join(sorted(filter(None, operation.types)))
        said = f"${operation.name} is not defined on {to.type}, but on {types}"
        raise FhirError.of(400, "not-supported", said, zh=f"${operation.name} 不适用于 {to.type}，只适用于：{types}")
    return operation


async def _operation(context: Context, request: Request, to: Route) -> Response:
    operation = _find_operation(context, to)
    method = "GET" if request.method == "HEAD" else request.method
    if method not in operation.methods:
        allowed = (*(("GET", "HEAD") if "GET" in operation.methods else ()), *(one for one in operation.methods if one != "GET"))
        raise FhirError.of(
            405,
            "not-supported",
            f"{request.method} is not supported by ${operation.name}; supported: {', '.join(allowed)}",
            zh=f"${operation.name} 不支持 {request.method}；可用：{', '.join(allowed)}",
            headers=[("Allow", ", ".join((*allowed, "OPTIONS")))],
        )
    context.gate.require(request.principal, operation.policy)
    return await operation.handler(context, request, to.type or None, to.id or None)
