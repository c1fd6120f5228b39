"""The websocket endpoint: `bind-with-token <token>` for topics, `bind <id>` for searches; answers are text frames.

Specification: https://hl7.org/fhir/R4/subscription.html#channels (websocket), conformance.md K20
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from subscriptions.sockets.hub import Connection, Hub
from subscriptions.sockets.tokens import opened

PATH = "/fhir/ws"
MOST_BOUND = 200
"""Subscriptions on one connection."""
LONGEST = 16_384
"""Characters of a frame that a client sends."""
REFUSED, TOO_SLOW, GOING = 1008, 1013, 1001
"""Close codes (RFC 6455 section 7.4.1)."""
Message = MutableMapping[str, Any]


class Endpoint:
    """An ASGI application for websockets. `welcome(origin)`: whether a page of an origin may connect ('' = no page)."""

    def __init__(self, hub: Hub, secret: Callable[[], Awaitable[bytes]], clock: Callable[[], int], welcome: Callable[[str], bool]) -> None:
        self._hub, self._secret, self._clock, self._welcome = hub, secret, clock, welcome

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        await receive()  # websocket.connect
        origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "")
        if not self._welcome(origin):
            await send({"type": "websocket.close", "code": REFUSED})  # before it is accepted: 403
            return
        await send({"type": "websocket.accept"})
        connection = Connection()
        writing = asyncio.get_running_loop().create_task(self._write(connection, send))
        try:
            while (message := await receive())["type"] == "websocket.receive" and not writing.done():
                fault = await self._said(connection, str(message.get("text") or ""))
                if fault:
                    connection.tell(f"error {fault}")
        finally:
            self._hub.leave(connection)
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing

    async def _write(self, connection: Connection, send: Callable[[Message], Awaitable[None]]) -> None:
        """Frames in their order; a client that is too slow, or a server that ends, closes the connection."""
        with contextlib.suppress(OSError, RuntimeError):
            while not connection.behind:
                frame = await connection.frames.get()
                if frame is None:
                    await send({"type": "websocket.close", "code": GOING})
                    return
                await send({"type": "websocket.send", "text": frame})
            self._hub.leave(connection)
            await send({"type": "websocket.close", "code": TOO_SLOW, "reason": "too slow: ask for $events and bind again"})

    async def _said(self, connection: Connection, text: str) -> str:
        """What a client asks for; '' or why not."""
        word, _, rest = text.strip().partition(" ")
        rest = rest.strip()
        if len(text) > LONGEST or word not in ("bind", "bind-with-token") or not rest:
            return "a frame reads bind <Subscription id> or bind-with-token <token>"
        if word == "bind":
            ids: list[str] | None = [rest]
        else:
            ids = opened(rest, self._clock(), await self._secret())
            if ids is None:
                return "the token is not valid, or no longer"
        faults = []
        for id in ids or ():
            if id not in connection.bound and len(connection.bound) >= MOST_BOUND:
                faults.append(f"a connection binds {MOST_BOUND} Subscriptions at most")
                break
            if fault := await self._hub.bind(connection, id, topic=word != "bind"):
                faults.append(fault)  # those behind it are bound all the same
        return "; ".join(faults)
