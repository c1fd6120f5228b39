"""How long to wait before a failed job is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing pauses in milliseconds: `steps` as they stand, the last one for all further attempts; `jitter` is a share of the pause.

    The jitter keeps many jobs that failed together from coming back together.
    """

    steps: tuple[int, ...]
    jitter: float = 0.1

    @classmethod
    def exponential(cls, first: int, cap: int, factor: float = 2.0, jitter: float = 0.1) -> Backoff:
        """first, first·factor, first·factor² ... up to `cap`."""
        steps = [first]
        while steps[-1] < cap:
            steps.append(min(cap, round(steps[-1] * factor)))
        return cls(tuple(steps), jitter)

    def pause(self, attempts: int, random: Random) -> int:
        """The pause after the `attempts`-th attempt (from 1) failed."""
        step = self.steps[min(max(attempts, 1), len(self.steps)) - 1]
        return max(1, round(step * (1 + random.uniform(-self.jitter, self.jitter))))
