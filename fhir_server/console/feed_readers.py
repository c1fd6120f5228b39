"""The readers of the change feed as people see them: where each stands, how far it is behind, what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.console.site import Console
from fhir_server.storage.port import JobCount
from subscriptions.jobs.feed import FeedReader

STILL = 5.0
"""Seconds after which a reader that has versions to read, and does not move, is said to wait."""


class Readers:
    """`now` in seconds, of a clock that never goes back."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console, self._now = console, now
        self._seen: dict[str, tuple[int, float]] = {}
        """Reader -> its position, and since when it has been seen there."""

    async def look(self, counts: Sequence[JobCount]) -> list[dict[str, Any]]:
        """Each reader with name, state (works, waits, stumbles), position, lag, versions it stumbled over, and its triggers.

        The lag is in sequence numbers; `dead` of a trigger: dead letters of its kinds.
        """
        store, room = self._console.store, self._console.part("jobs")
        last = await store.last_rid()
        led = await store.lease_holder("jobs") is not None
        # A process that does not lead knows only what the leading one has written down.
        lags = await room.jobs.lag() if room.jobs.leading else {}
        shown = []
        for reader in room.readers:
            lag = lags.get(reader.name)
            if lag is None:
                lag = max(0, last - await store.position(reader.name))
            stumbled = sum(row.number for row in counts if row.kind == reader.stumble)
            state = self._state(reader.name, last - lag, lag, led=led, stumbled=stumbled)
            shown.append(
                {
                    "name": reader.name,
                    "state": state,
                    "position": last - lag,
                    "lag": lag,
                    "stumbled": stumbled,
                    "triggers": _triggers(reader, counts),
                }
            )
        return shown

    def _state(self, name: str, position: int, lag: int, *, led: bool, stumbled: int) -> str:
        now = self._now()
        before, since = self._seen.get(name, (-1, now))
        if position != before:
            since = now
        self._seen[name] = (position, since)
        if stumbled:
            return "stumbles"
        return "waits" if not led or (lag and now - since >= STILL) else "works"


def _triggers(reader: FeedReader, counts: Sequence[JobCount]) -> list[dict[str, Any]]:
    dead = {row.kind: row.number for row in counts if row.state == "dead"}
    open = {row.kind: row.number for row in counts if row.state == "open"}
    return [
        {
            "name": one.name,
            "types": list(one.types),
            "en": one.english,
            "zh": one.chinese,
            "open": sum(open.get(kind, 0) for kind in one.kinds),
            "dead": sum(dead.get(kind, 0) for kind in one.kinds),
        }
        for one in reader.triggers
    ]
