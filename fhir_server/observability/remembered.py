"""What is costly to find out, shared by all who look: pages that many have open, metrics that are scraped."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

_FRESH = 2.0
"""Seconds for which what is costly to count is shown again as it was."""
_SHARE = 20
"""What took a second to count is counted again after so many seconds at the earliest: a page left open costs little."""


class Remembered:
    """Found out at most every `_FRESH` seconds, less often where it takes long."""

    def __init__(self, find: Callable[[], Awaitable[Any]]) -> None:
        self._find = find
        self._found: Any = None
        self._until = 0.0

    async def __call__(self) -> Any:
        began = time.monotonic()
        if began >= self._until:
            # Those who ask meanwhile see what was known, or find out for themselves where nothing was.
            self._until = began + _FRESH if self._found is not None else 0.0
            self._found = await self._find()
            ended = time.monotonic()
            self._until = ended + max(_FRESH, _SHARE * (ended - began))
        return self._found

    def forget(self) -> None:
        """Look anew the next time: something was done."""
        self._until = 0.0
