"""What the console's pages share: the parts of the server they look at, how they are drawn, how they answer and refuse.

Data and actions go through the gate. An action wants the header `X-Requested-With: console`, which no form of another site can send.
A refusal says `detail` (English) and `zh` (Chinese).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.templating import Jinja2Templates

from fhir_server.auth.audit import Entry, Trail, trail_of
from fhir_server.auth.gate import Gate, Principal
from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.observability.remembered import Remembered
from fhir_server.storage.port import Store

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_BODY = 10_000
"""Bytes that the body of an action may have."""


@dataclass(frozen=True, slots=True)
class Console:
    """The server as the pages see it, in the name of `principal`."""

    context: Context
    principal: Principal
    templates: Jinja2Templates = field(default_factory=lambda: Jinja2Templates(_HERE / "templates"))

    @property
    def gate(self) -> Gate:
        return self.context.gate

    @property
    def store(self) -> Store:
        store: Store = self.context.parts["store"]
        return store

    def taking(self, action: str, what: str) -> AbstractAsyncContextManager[Entry]:
        """Around an action, which leaves its line in the trail of administrative actions."""
        return self.trail.taking(self.principal.name, action, what)

    @property
    def trail(self) -> Trail:
        return trail_of(self.context.parts, self.context.clock)

    def require(self) -> None:
        """Raise FhirError 403 unless the principal may use the console."""
        self.gate.require(self.principal, "console")

    def page(self, request: Request, name: str, **more: Any) -> Response:
        """A page, from the template of that name."""
        known = {"page": name, "zone": self.context.settings.time_zone, **more}
        return self.templates.TemplateResponse(request, f"{name}.html", known, headers=HEADERS)

    def part(self, name: str) -> Any:
        """Something that another room has hung in. Raises FhirError 503 where it is not there."""
        part = self.context.parts.get(name)
        if part is None:
            raise FhirError.of(503, "transient", f"this process has no part '{name}'", zh=f"本进程没有部件“{name}”")
        return part

    def timers(self) -> frozenset[str]:
        """Kinds of jobs that wait for a day of their own."""
        return frozenset(kind.name for kind in self.part("jobs").jobs.kinds if kind.timer)


def answer(content: Any, status: int = 200) -> Response:
    """JSON for the page's script."""
    return Response(orjson.dumps(content), status, media_type="application/json", headers=HEADERS)


def refusal(fault: FhirError) -> Response:
    """What went wrong, in both languages."""
    english = "; ".join(issue.diagnostics for issue in fault.issues)
    chinese = "；".join(issue.zh or issue.diagnostics for issue in fault.issues)
    said = answer({"detail": english, "zh": chinese}, fault.status)
    for name, value in fault.headers:
        said.headers.append(name, value)
    return said


class ConsoleRoute(APIRoute):
    """A route of the console: refuses actions of other sites, and says what went wrong in both languages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        serve = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                if request.method != "GET" and request.headers.get("x-requested-with") != "console":
                    what = "only the console's own pages may do this (header X-Requested-With: console)"
                    raise FhirError.of(403, "forbidden", what, zh="只有控制台自己的页面可以执行此操作（请求头 X-Requested-With: console）")
                return await serve(request)
            except FhirError as fault:
                return refusal(fault)
            except RequestValidationError as fault:
                names = ", ".join(str(row["loc"][-1]) for row in fault.errors())
                return refusal(wrong(names, "has no value of the right kind", "的值无效"))

        return handle


def wrong(name: str, english: str, chinese: str) -> FhirError:
    """A parameter or field that cannot be used."""
    return FhirError.of(400, "value", f"{name} {english}", name, zh=f"{name} {chinese}")


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that an action carries; empty without a body. Raises FhirError 400, 413."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > _BODY:
            raise FhirError.of(413, "too-long", f"the body is longer than {_BODY} bytes", zh=f"请求体超过 {_BODY} 字节")
    try:
        found = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise FhirError.of(400, "structure", "the body is no JSON object", zh="请求体不是 JSON 对象")
    return found


__all__ = ["STATIC", "Console", "ConsoleRoute", "Remembered", "answer", "body_of", "refusal", "wrong"]
