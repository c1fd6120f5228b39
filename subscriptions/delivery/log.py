"""The delivery log: a line for each attempt to reach an endpoint, and how many were taken and failed in each minute.

Lines are kept for a while (FHIR_SERVER_DELIVERY_LOG_DAYS); they hold no content, no header and no query of a URL.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.storage.port import Record
from subscriptions.jobs.kinds import Services

LOG, MINUTES = "subscription-delivery", "delivery-minute"
"""Collections of records."""
_MINUTE = 60_000


class Attempt(NamedTuple):
    """A line of the delivery log. Times in milliseconds; `first` and `last` are the numbers of the events told (0: none)."""

    time: int
    kind: str
    """event-notification, handshake, heartbeat, test or dropped."""
    first: int
    last: int
    taken: bool
    status: str
    """What was answered (`HTTP 200`), or what went wrong; without secrets."""
    took: int
    """How long the call took."""
    lag: int
    """From the commit of the first event to the end of the call; 0 where no event was told."""


class Minute(NamedTuple):
    """How many deliveries of all Subscriptions were taken and failed in a minute. `start`: milliseconds since 1970."""

    start: int
    taken: int
    failed: int


class DeliveryLog:
    """Writes lines. Counts of the current minute are kept here and written with the lines that follow."""

    def __init__(self) -> None:
        self._own = os.urandom(4).hex()
        self._numbers = itertools.count()
        self._minute = Minute(0, 0, 0)
        self.counts: Counter[tuple[str, str]] = Counter()
        """(kind of attempt, taken, failed or dropped) -> how many of this process."""

    def lines(self, id: str, attempt: Attempt) -> list[Record]:
        """The records that keep an attempt of a Subscription, to be written in the unit of what follows from it."""
        self.counts[attempt.kind, "dropped" if attempt.kind == "dropped" else "taken" if attempt.taken else "failed"] += 1
        line = Record(LOG, f"{id}/{self._own}/{next(self._numbers)}", attempt._asdict(), {"subscription": id})
        return [line, self._count(attempt)] if attempt.kind != "dropped" else [line]

    def _count(self, attempt: Attempt) -> Record:
        start = attempt.time - attempt.time % _MINUTE
        before = self._minute if self._minute.start == start else Minute(start, 0, 0)
        self._minute = before._replace(taken=before.taken + attempt.taken, failed=before.failed + (not attempt.taken))
        return Record(MINUTES, f"{start:015d}/{self._own}", self._minute._asdict())


async def attempts_of(services: Services, id: str, limit: int) -> list[Attempt]:
    """The last lines of a Subscription, newest first."""
    records = await services.store.records(LOG, {"subscription": id}, limit=limit, newest_first=True)
    return [Attempt(**record.data) for record in records]


async def last_minutes(services: Services, number: int) -> Sequence[Minute]:
    """The last minutes in which anything was sent, oldest first; those of several processes are added up."""
    found: dict[int, Minute] = {}
    for record in await services.store.records(MINUTES, limit=2 * number, newest_first=True):
        one = Minute(**record.data)
        before = found.get(one.start, Minute(one.start, 0, 0))
        found[one.start] = Minute(one.start, before.taken + one.taken, before.failed + one.failed)
    return sorted(found.values())[-number:]
