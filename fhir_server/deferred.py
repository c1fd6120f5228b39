"""An ASGI application that is imported and built behind the start: what few requests need must not delay the first of all others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Deferred:
    """`build()` runs once, in a thread: at the first request, or when `ready` is awaited."""

    def __init__(self, build: Callable[[], Asgi]) -> None:
        self._build = build
        self._building: asyncio.Future[Asgi] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await (await self.ready())(scope, receive, send)

    async def ready(self) -> Asgi:
        """The application, built if it was not."""
        if self._building is None:
            self._building = asyncio.ensure_future(asyncio.to_thread(self._build))
        return await asyncio.shield(self._building)
