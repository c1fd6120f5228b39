"""Liveness and readiness for orchestrators and load balancers: plain ASGI, there from the first moment on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from fhir_server import __version__
from fhir_server.errors import FhirError

LIVE, READY = "/health/live", "/health/ready"
_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Health:
    """`check` is the store's own readiness; raises FhirError where it cannot write."""

    def __init__(self, check: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._check = check

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        status, content = (
            (405, {"status": "only GET is served here"}) if scope["method"] not in ("GET", "HEAD") else await self._state(scope)
        )
        body = orjson.dumps(content)
        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _state(self, scope: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if scope["path"] == LIVE:
            return 200, {"status": "live"}
        try:
            facts = await self._check()
        except FhirError as fault:
            return 503, {"status": "not ready", "reason": str(fault)}
        return 200, {"status": "ready", "version": __version__, "store": facts}
