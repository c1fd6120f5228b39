"""The FHIR base as a raw ASGI application: bytes in, bytes out.

Specification: https://hl7.org/fhir/R4/http.html; https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from time import perf_counter
from typing import Any, TypeAlias

from fhir_server.errors import FhirError
from fhir_server.interactions import errors
from fhir_server.interactions.binary import wants_raw
from fhir_server.interactions.body import Disconnected, Receive, drain, read_body
from fhir_server.interactions.content import UNLIMITED
from fhir_server.interactions.context import Context
from fhir_server.interactions.dispatch import interact
from fhir_server.interactions.encoding import COMPRESS_ABOVE, decoded, encoded
from fhir_server.interactions.http import FHIR_JSON, FHIR_XML, Request, Response
from fhir_server.interactions.negotiate import Form, acceptable, coding, form_of
from fhir_server.interactions.origin import Origins
from fhir_server.interactions.present import check_pretty
from fhir_server.interactions.query_string import pairs
from fhir_server.interactions.route import Route, route
from fhir_server.model import json_codec
from fhir_server.model.xml_writing import to_xml
from fhir_server.observability.logs import AccessLog, log
from fhir_server.observability.metrics import RequestMetrics

Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Message: TypeAlias = Coroutine[Any, Any, tuple[bytes, bytes]]

PREFIX = "/fhir"
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}", re.ASCII)
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_NO_ROUTE = Route("unknown")
_OWN_FORMATS = frozenset({"operation", "options"})
"""Interactions that may answer something else than resources."""
_AT_ONCE = frozenset({"read", "vread", "history", "search"})


class FhirApplication:
    """Serves everything below /fhir: as an ASGI application, and by two shorter ways (`at_once`, `whole`) that give whole messages."""

    def __init__(self, context: Context, origins: Origins, metrics: RequestMetrics, access: AccessLog) -> None:
        self._context, self._origins = context, origins
        self._metrics, self._access = metrics, access
        self._limit = context.settings.max_body_mb * 1_000_000
        self._single = context.settings.max_resource_mb * 1_000_000
        self._body_seconds = context.settings.body_seconds
        self._prefix = os.urandom(4).hex()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        started = perf_counter()
        method: str = scope["method"]
        headers = _named(scope["headers"])
        request = self._request(method, scope["path"][len(PREFIX) :].lstrip("/"), scope["query_string"].decode("latin-1"), headers)
        unread = receive if method not in _BODILESS else None
        to = _NO_ROUTE
        try:
            to = route(method, request.path, self._context.types)
            if unread is not None:
                request.body = await read_body(headers, receive, self._most(to), self._body_seconds)
                unread = None
            response = await self._answer(request, to)
        except Disconnected:
            return
        except Exception as fault:
            response = self._failure(fault, request, to)
        request_id = self._request_id(headers)
        size = await self._send(request, response, request_id, send, unread)
        self._note(to, method, response.status, perf_counter() - started, size, request_id)

    def at_once(self, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> Message | None:
        """For a GET of a read, history or search: a coroutine that gives status line with headers, and body; None for all else."""
        try:
            to = route("GET", path, self._context.types)
        except FhirError:
            return None
        if to.interaction not in _AT_ONCE or to.type == "Binary":
            return None
        return self._message(self._request("GET", path, query, _named(headers)), to)

    def whole(self, method: str, path: str, query: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Message:
        """For a request whose body is there: a coroutine that gives status line with headers, and body."""
        request = self._request(method, path, query, _named(headers))
        request.body = body
        return self._message(request)

    async def _message(self, request: Request, to: Route = _NO_ROUTE) -> tuple[bytes, bytes]:
        started = perf_counter()
        try:
            if to is _NO_ROUTE:
                to = route(request.method, request.path, self._context.types)
            if "content-encoding" in request.headers and request.body:
                request.body = decoded(request.body, request.headers["content-encoding"], self._most(to))
            response = await self._answer(request, to)
        except Exception as fault:
            response = self._failure(fault, request, to)
        if response.stream is not None:
            response.body = b"".join([part async for part in response.stream])
            response.stream = None
        request_id = self._request_id(request.headers)
        headers, body = self._headers(request, response, request_id)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if lines.count("\n") != len(headers):
            raise ValueError("a header value with a line break")
        self._note(to, request.method, response.status, perf_counter() - started, len(body), request_id)
        return STATUS_LINES[response.status] + lines.encode("latin-1", "replace"), body

    def _request(self, method: str, path: str, query: str, headers: dict[str, str]) -> Request:
        request = Request(method, path, query, headers)
        request.base = self._origins.base_of(headers.get("host", ""))
        return request

    def _most(self, to: Route) -> int:
        """The limit, in bytes, of a request's body: lower where a single resource is expected."""
        single = to.interaction in ("create", "update", "patch") and to.type not in UNLIMITED
        return min(self._limit, self._single) if single else self._limit

    def _request_id(self, headers: dict[str, str]) -> str:
        sent = headers.get("x-request-id")
        return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else f"{self._prefix}-{next(self._numbers):x}"

    def _note(self, to: Route, method: str, status: int, seconds: float, size: int, request_id: str) -> None:
        self._metrics.observe(to.interaction, to.type, status, seconds)
        self._access.add(to.interaction, to.type, method if method.isalpha() else "-", status, seconds, size, request_id)

    def _failure(self, fault: Exception, request: Request, to: Route) -> Response:
        """The answer to an error; what nobody foresaw is logged under a reference that the client gets too."""
        if request.form == "json":
            request.form = acceptable(_format(request) or request.headers.get("accept", "")) or "json"
        if isinstance(fault, FhirError):
            return self._in_form(request, errors.render(fault, request.headers))
        reference = f"{self._prefix}-{next(self._numbers):x}"
        self._metrics.event("unexpected_errors")
        log().error("request failed", reference=reference, interaction=to.interaction, type=to.type, exc_info=fault)
        return self._in_form(request, errors.render(errors.unexpected(reference), request.headers))

    def _gives_resources(self, to: Route) -> bool:
        """Whether an interaction of `_OWN_FORMATS` answers a resource all the same: most operations do."""
        operation = self._context.operations.operations.get(to.operation)
        return operation is not None and not operation.own_formats

    async def _answer(self, request: Request, to: Route) -> Response:
        if to.interaction not in _OWN_FORMATS or self._gives_resources(to):
            format, accept = _format(request), request.headers.get("accept")
            request.form = form_of(accept, format) if to.type != "Binary" else _binary_form(request, format or accept or "")
        if to.interaction == "options":
            return Response(204, b"", [("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])
        if "_pretty=" in request.query and to.interaction != "search":
            check_pretty(pairs(request.query))
        response = await interact(self._context, request, to)
        if request.form == "xml" and response.stream is not None and response.media_type == FHIR_JSON:
            response.body, response.stream = b"".join([part async for part in response.stream]), None
        return self._in_form(request, response)

    def _in_form(self, request: Request, response: Response) -> Response:
        """The answer as XML where that is wanted, and indented where that is."""
        if not response.body or response.stream is not None:
            return response
        pretty = "_pretty=" in request.query and ("_pretty", "true") in pairs(request.query)
        if request.form == "xml" and response.media_type == FHIR_JSON:
            response.body, response.media_type = to_xml(json_codec.loads(response.body), pretty=pretty), FHIR_XML
        elif pretty and "json" in response.media_type:
            response.body = json_codec.pretty(response.body)
        return response

    async def _send(self, request: Request, response: Response, request_id: str, send: Send, unread: Receive | None) -> int:
        """Send the answer; the number of its bytes. `unread`: where a rest of the request may still come; it is thrown away."""
        headers, body = self._headers(request, response, request_id)
        if unread is not None:
            headers.append(("connection", "close"))
        lines = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        await send({"type": "http.response.start", "status": response.status, "headers": lines})
        if request.method == "HEAD":
            body = b""
        elif response.stream is not None:
            return await _stream(response, send)
        if unread is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await drain(unread)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": body})
        return len(body)

    def _headers(self, request: Request, response: Response, request_id: str) -> tuple[list[tuple[str, str]], bytes]:
        """All header lines, and the body in its content coding."""
        sent, body, headers = request.headers, response.body, response.headers
        cache = "private, no-cache" if headers and headers[0][0] == "ETag" else "no-store"
        headers += (("x-request-id", request_id), ("cache-control", cache))
        if "origin" in sent:
            headers += self._origins.cors(sent["origin"], request.path, request.method == "OPTIONS")
        if len(body) > COMPRESS_ABOVE and "accept-encoding" in sent and (how := coding(sent["accept-encoding"])):
            body = encoded(body, how)
            headers += (("content-encoding", how), ("vary", "Accept-Encoding"))
        if response.status in (204, 304):
            return headers, b""
        if body or response.stream is not None:
            headers.append(("content-type", response.media_type))
        if response.stream is None:
            headers.append(("content-length", str(len(body))))
        return headers, body


def _format(request: Request) -> str | None:
    """The parameter `_format` of the address."""
    return next((value for name, value in pairs(request.query) if name == "_format"), None) if "_format=" in request.query else None


def _binary_form(request: Request, wanted: str) -> Form:
    """Binaries have the form of their content, unless a FHIR form is asked for."""
    return "json" if wants_raw(request) else acceptable(wanted) or "json"


def _named(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


async def _stream(response: Response, send: Send) -> int:
    assert response.stream is not None
    size = 0
    async for part in response.stream:
        size += len(part)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return size
