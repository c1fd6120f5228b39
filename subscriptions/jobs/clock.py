"""The product's clock: everything that happens later asks it, so that a year of care can play in seconds.

Clinical and product times (authoredOn, sent, due, windows) are the clock's; protocol and security times (leases, `meta.lastUpdated`,
log lines) are system time. Specification: followup.md section 2.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

Clock = Callable[[], int]
"""Gives *now* in milliseconds since 1970 UTC."""

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def system_clock() -> int:
    """The machine's time."""
    return time.time_ns() // 1_000_000


class VirtualClock:
    """A clock that stands still until it is set; it never goes back once it has been set."""

    def __init__(self, now: int | None = None) -> None:
        self._now = system_clock() if now is None else now
        self._free = now is None

    def __call__(self) -> int:
        return self._now

    def set(self, now: int) -> None:
        """Move to `now`. The first setting of a clock made without an instant may choose any; raises ValueError for a step back."""
        if not self._free and now < self._now:
            raise ValueError(f"the clock stands at {instant(self._now)} and only goes forward, not back to {instant(now)}")
        self._now, self._free = now, False

    def advance(self, milliseconds: int) -> None:
        """Move forward."""
        self.set(self._now + milliseconds)


def local(milliseconds: int, zone: dt.tzinfo) -> dt.datetime:
    """An instant on the wall clock of `zone`."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, zone)


def instant(milliseconds: int, zone: dt.tzinfo = dt.UTC) -> str:
    """FHIR text of an instant, to the second, with the offset of `zone` (https://hl7.org/fhir/R4/datatypes.html#dateTime)."""
    return local(milliseconds, zone).isoformat(timespec="seconds")


def at(text: str, zone: str = "Asia/Shanghai") -> int:
    """Milliseconds since 1970 of an ISO date and time; without an offset it is on the wall clock of `zone`."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return round(moment.timestamp() * 1000)
