"""The log of slow searches: type, names of parameters, time, rows, and how the store goes about it; never a value.

The plan is made behind the answer, by running the search's first page once more, and for a few searches a minute only: a server that is
slow already must not be made slower by telling so. Specification: docs/observability.md (slow searches)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fhir_server.observability import tracing
from fhir_server.observability.logs import log
from fhir_server.observability.metrics import RequestMetrics

PLANS = 4
"""Plans that are made within a minute."""
_MINUTE = 60.0


class SlowSearches:
    """`threshold` in milliseconds; `now` in seconds, of a clock that never goes back."""

    def __init__(self, threshold: int, metrics: RequestMetrics, now: Callable[[], float] = time.monotonic) -> None:
        self._threshold, self._metrics, self._now = threshold / 1000, metrics, now
        self._made: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def note(
        self, type: str, names: Iterable[str], seconds: float, rows: int | None, explain: Callable[[], Awaitable[Mapping[str, Any]]] | None
    ) -> None:
        """A search has ended: log it if it was slow. `rows`: of this page, None where it was ended before its time.

        `names`: of its parameters as they were understood; `explain` makes its plan, None where none is to be made.
        """
        if seconds < self._threshold:
            return
        self._metrics.count("fhir_slow_searches", (type,))
        line: dict[str, Any] = {"type": type, "parameters": sorted(set(names)), "ms": round(seconds * 1000, 2), "rows": rows}
        if trace := tracing.trace_id():
            line["trace_id"] = trace
        if explain is None or not self._may_explain():
            log().warning("slow search", **line)
            return
        task = asyncio.get_running_loop().create_task(self._explained(line, explain))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _may_explain(self) -> bool:
        now = self._now()
        self._made = [at for at in self._made if at > now - _MINUTE]
        if len(self._made) >= PLANS or self._tasks:  # one at a time
            return False
        self._made.append(now)
        return True

    async def _explained(self, line: dict[str, Any], explain: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        try:
            line["plan"] = (await explain()).get("plan")
        except Exception as fault:  # the line stands without a plan, whatever the store has against it
            line["plan"] = f"not made: {fault.__class__.__name__}"
        log().warning("slow search", **line)

    async def start(self) -> SlowSearches:
        """Nothing is to be started; gives itself, to be stopped."""
        return self

    async def stop(self) -> None:
        """Give up the plans that are being made."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
