"""After a commit: a line of the log. The feed: how many versions there are of each type, exact also after a crash."""

from __future__ import annotations

from collections import Counter as Numbers
from collections.abc import Sequence

import structlog

from fhir_server.storage.port import Effects, Record, Stored
from subscriptions.jobs.feed import FeedReader

COLLECTION = "example_count"


class Counter:
    """Counts in the log what this process commits, and in records of the store what all have committed."""

    def __init__(self) -> None:
        self._since_start = 0

    def count(self, versions: Sequence[Stored]) -> None:
        """Say how many versions this process has committed since its start; never whose."""
        self._since_start += len(versions)
        types = sorted({stored.type for stored in versions})
        structlog.get_logger().info("example: committed", versions=len(versions), types=types, since_start=self._since_start)

    def reader(self) -> FeedReader:
        """A record for each batch of versions: a version that is read again after a crash falls into the same record."""

        async def react(versions: list[Stored]) -> Effects:
            numbers = Numbers(stored.type for stored in versions)
            key = f"{versions[0].rid}-{versions[-1].rid}"
            return Effects(records=[Record(COLLECTION, key, dict(numbers))])

        return FeedReader("example_count", react)
