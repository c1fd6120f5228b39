"""The FHIR base with a span for each request; it takes the place of `FhirApplication` where traces are made, and costs nothing where not.

Specification: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (without `url.path`, which holds ids)
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.asgi import _NO_ROUTE, FhirApplication, Message, Send
from fhir_server.interactions.body import Receive
from fhir_server.interactions.http import Request
from fhir_server.interactions.route import Route
from fhir_server.observability import tracing

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_INSTANCE = frozenset({"read", "update", "patch", "delete", "history"})
_WORDS = {"batch": "/", "capabilities": "metadata", "openapi": "openapi.json", "async-status": "$async-status/{id}"}


class TracedApplication(FhirApplication):
    """Each request has a span, which goes on with the caller's trace (`traceparent`)."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), "")
        with self._span(scope["method"], sent):
            await super().__call__(scope, receive, send)

    def at_once(self, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> Message | None:
        """None: what is current within a task must not be within the connection, whose callbacks serve many requests."""
        return None

    async def _message(self, request: Request, to: Route = _NO_ROUTE) -> tuple[bytes, bytes]:
        with self._span(request.method, request.headers.get("traceparent", "")):
            return await super()._message(request, to)

    def _span(self, method: str, traceparent: str) -> Any:
        shown = method if method in _METHODS else "_OTHER"
        return tracing.span(shown, {"http.request.method": shown}, kind="SERVER", parent=traceparent)

    def _note(self, to: Route, method: str, status: int, seconds: float, size: int, request_id: str) -> None:
        super()._note(to, method, status, seconds, size, request_id)
        span = tracing.here()
        span.set({"fhir.interaction": to.interaction, "http.response.body.size": size})
        if template := self._template(to):
            span.set({"http.route": template})
            span.name(f"{method if method in _METHODS else '_OTHER'} {template}")
        span.answered(status)

    def _template(self, to: Route) -> str:
        """The address without ids and values; '' where it is none of ours."""
        if to.interaction in _WORDS:
            return _WORDS[to.interaction]
        id = "{id}" if to.id else ""
        if to.interaction == "operation":
            known = to.operation in self._context.operations.operations
            return "/".join(filter(None, (to.type, id, f"${to.operation}" if known else "$…")))
        target = to.target if to.target in self._context.types or to.target == "*" else ""
        place = "/".join(filter(None, (to.type, id, target)))
        if to.interaction == "search":
            return f"{place}?…"
        if to.interaction == "vread":
            return f"{place}/_history/{{vid}}"
        if to.interaction == "history":
            return f"{place}/_history" if place else "_history"
        if to.interaction in _INSTANCE:
            return place if id else f"{place}?…"
        return place if to.interaction == "create" else ""
