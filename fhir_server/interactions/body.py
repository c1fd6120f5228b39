"""The body of a request as it comes off the wire: limited in size, in time, and after decompression.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html#request-receive-event
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fhir_server.errors import FhirError
from fhir_server.interactions.encoding import decoded, too_long

Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]

BYTES_PER_SECOND = 64_000
_DRAIN_SECONDS = 5.0


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def read_body(headers: dict[str, str], receive: Receive, limit: int, seconds: float) -> bytes:
    """The content, without its content coding, of at most `limit` bytes.

    `seconds`: patience beyond a second per 64 kB. Raises FhirError 400, 408, 413, 415, and Disconnected.
    """
    announced = headers.get("content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise too_long(limit)
    body = await _whole(receive, limit, seconds)
    if "content-encoding" in headers:
        return decoded(body, headers["content-encoding"], limit)
    return body


def _part(message: dict[str, Any]) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message.get("body", b""), message.get("more_body", False)


async def _whole(receive: Receive, limit: int, seconds: float) -> bytes:
    """All parts, against a deadline that grows with what has come. One timer serves them all: arming one costs some microseconds."""
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds) as patience:
            while more:
                part, more = _part(await receive())
                size += len(part)
                if size > limit:
                    raise too_long(limit)
                parts.append(part)
                if more:
                    patience.reschedule((patience.when() or 0.0) + len(part) / BYTES_PER_SECOND)
    except TimeoutError:
        raise FhirError.of(408, "timeout", "The request body came too slowly", zh="请求体传送得太慢") from None
    return b"".join(parts) if len(parts) > 1 else parts[0]


async def drain(receive: Receive) -> None:
    """Read and forget for a while, so that a client that is still sending gets to see the answer before the connection closes."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            more = True
            while more:
                _, more = _part(await receive())
    except (TimeoutError, Disconnected):
        return
