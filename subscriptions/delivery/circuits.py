"""Circuit breakers and places of endpoints: one that is slow or down neither takes the places of others nor is called all the time.

After some failures in a row an endpoint's circuit opens: nothing is sent until its pause is over, then one call tries. The states are this
process's own; another one that takes over begins with closed circuits.
Decision: docs/decisions/0079-circuits-of-endpoints.md
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

from subscriptions.jobs.backoff import Backoff

OPEN_AFTER = 5
"""Failures in a row, of whatever Subscriptions, after which nothing but a try now and then goes to an endpoint."""
PER_ENDPOINT, PER_HOST = 8, 32
"""Calls under way at once to one endpoint, and to all endpoints of a host that are quick."""
DOUBTFUL_PER_HOST, DOUBTFUL = 12, 24
"""Calls under way at once to endpoints that are slow or whose last call failed: of one host, and of all. They have places of their own."""
SLOW = 0.5
"""Seconds from which on a call counts as slow, also while it is under way."""
PAUSES = Backoff.exponential(1_000, 60_000, jitter=0.2)
_BUSY = Backoff.exponential(100, 5_000, jitter=0.3)
_MOST = 10_000


class TurnedAway(Exception):
    """Nothing was sent, come again in `pause` milliseconds. `down`: because the endpoint does not answer; else because it is busy."""

    def __init__(self, reason: str, pause: int, *, down: bool) -> None:
        super().__init__(reason)
        self.pause, self.down = pause, down


@dataclass(slots=True)
class Circuit:
    """What is known of one endpoint. `until`: when it may be tried again, milliseconds since 1970; 0 = closed."""

    failures: int = 0
    until: int = 0
    busy: int = 0
    slow: bool = False
    """Whether its last call took long."""
    turned: int = 0
    """How many were turned away since a place was free."""
    said: str = ""
    """What it failed with last."""

    @property
    def doubtful(self) -> bool:
        return self.slow or self.failures > 0


@dataclass(eq=False, slots=True)
class _Call:
    """One call under way. `began`: by the monotonic clock, which no test stops."""

    host: str
    began: float
    doubtful: bool


class Circuits:
    """The circuits of one process, by endpoint without query, which may hold a secret."""

    def __init__(self, seed: int | None = None) -> None:
        self._circuits: dict[str, Circuit] = {}
        self._calls: set[_Call] = set()
        self._random = random.Random(seed)

    def state(self, endpoint: str, now: int) -> str:
        """closed, open (nothing is sent) or half-open (the next call tries)."""
        circuit = self._circuits.get(_place(endpoint))
        if circuit is None or not circuit.until:
            return "closed"
        return "open" if now < circuit.until else "half-open"

    def broken(self) -> int:
        """How many circuits are not closed."""
        return sum(1 for circuit in self._circuits.values() if circuit.until)

    @contextmanager
    def place(self, endpoint: str, now: int, *, asked: bool = False) -> Iterator[Circuit]:
        """A place for one call; tell by `settled` how it went. `asked`: a person wants it now, open or not. Raises TurnedAway."""
        where, host = _place(endpoint), urlsplit(endpoint).netloc
        circuit = self._circuits.get(where)
        if circuit is None:
            self._forget_idle()
            circuit = self._circuits[where] = Circuit()
        self._admit(circuit, host, now, asked)
        call = _Call(host, monotonic(), circuit.doubtful)
        circuit.busy += 1
        circuit.turned = 0
        self._calls.add(call)
        try:
            yield circuit
        finally:
            circuit.busy -= 1
            circuit.slow = monotonic() - call.began >= SLOW
            self._calls.discard(call)

    def _admit(self, circuit: Circuit, host: str, now: int, asked: bool) -> None:
        if circuit.until > now and not asked:
            raise TurnedAway(f"{circuit.said}; tried again at intervals", circuit.until - now, down=True)
        if circuit.until and circuit.busy and not asked:
            raise TurnedAway(f"{circuit.said}; being tried", 1_000, down=True)
        if circuit.busy >= PER_ENDPOINT or self._full(circuit, host):
            circuit.turned += 1
            waves = 1 + circuit.turned // PER_ENDPOINT
            raise TurnedAway("the endpoint is busy with earlier notifications", _BUSY.pause(waves, self._random), down=False)

    def _full(self, circuit: Circuit, host: str) -> bool:
        """Whether the places that an endpoint like this shares with others are taken."""
        late = monotonic() - SLOW
        slow = [call for call in self._calls if call.doubtful or call.began <= late]
        if circuit.doubtful:
            return len(slow) >= DOUBTFUL or sum(call.host == host for call in slow) >= DOUBTFUL_PER_HOST
        return sum(call.host == host for call in self._calls) - sum(call.host == host for call in slow) >= PER_HOST

    def settled(self, circuit: Circuit, now: int, fault: str = "") -> None:
        """How a call went: `fault` says what was wrong with the endpoint, '' that it answered as it should, if only with a refusal."""
        if not fault:
            circuit.failures, circuit.until, circuit.said = 0, 0, ""
            return
        circuit.failures += 1
        circuit.said = fault
        if circuit.failures >= OPEN_AFTER:
            circuit.until = now + PAUSES.pause(circuit.failures - OPEN_AFTER + 1, self._random)

    def _forget_idle(self) -> None:
        if len(self._circuits) >= _MOST:
            self._circuits = {where: one for where, one in self._circuits.items() if one.busy or one.failures}


def _place(endpoint: str) -> str:
    return endpoint.partition("?")[0]
