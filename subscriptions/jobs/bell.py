"""Waiting for commits: an event that the store rings from whatever thread, and a rest that ends with it or after a while."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


def ringing(bell: asyncio.Event) -> Callable[[], None]:
    """What the store calls after each commit, from whatever thread; made in the thread of the loop that waits."""
    loop, own = asyncio.get_running_loop(), threading.get_ident()

    def ring() -> None:
        if threading.get_ident() == own:
            bell.set()
        else:
            loop.call_soon_threadsafe(bell.set)

    return ring


async def rest(bell: asyncio.Event, seconds: float) -> None:
    """Until the bell rings, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.001, seconds)):
            await bell.wait()
