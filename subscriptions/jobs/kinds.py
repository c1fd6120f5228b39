"""The registry of job kinds: what is done for each, how often, how many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.auth.gate import ALL_SEEING, Gate, Principal
from fhir_server.observability import tracing
from fhir_server.storage.port import ClaimedJob, Effects, Facts, Record, Store, Unit
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.clock import Clock


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers and feed readers work with. Resources are reached through the gate in the name of `principal`.

    `subscriber`: in whose name a Subscription's notifications are read at the moment of sending.
    """

    gate: Gate
    store: Store
    clock: Clock
    principal: Principal = ALL_SEEING
    subscriber: Callable[[Mapping[str, Any]], Principal] = lambda subscription: ALL_SEEING


class Later(Exception):
    """A handler's wish to be run again `pause` milliseconds from now; `pause` None = by the kind's back-off. Nothing was done for good."""

    def __init__(self, reason: str, pause: int | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Hopeless(Exception):
    """A handler's finding that no further attempt can succeed: the job goes to the dead letters at once."""


Handler = Callable[[ClaimedJob, Services], Awaitable[Unit | Effects | None]]
"""Performs a job. What it returns is committed in one unit with the done mark. Raises Later, Hopeless, or anything else for a retry."""
TrainHandler = Callable[[Sequence[ClaimedJob], Services], Awaitable[tuple[int, Effects]]]
"""Performs the first of some waiting jobs of one key, or several of them at once: how many it has done, and what is committed with them.

Raises as a Handler does; the exception is about the first job."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Kinds that share a number of places, so that slow ones hold up only their own lane.

    `train`: how many waiting jobs of one key are taken at once and done one behind the other; those that succeed without effects in the
    store are marked done together (a crash repeats up to a quarter of a second of them).
    """

    name: str
    places: int = 8
    train: int = 1


CARE = Lane("care", 8)
PATIENT = Backoff((60_000, 300_000, 900_000, 3_600_000, 14_400_000))
"""1, 5, 15, 60 and 240 minutes (followup.md Annex B)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job, done by `handler` one after the other, or by `train`. `limit`: attempts before the dead letters (None: never).

    `timeout`: seconds for one attempt.
    `timer`: runs only in the tick when the clock is a test clock. `poison`: attempts that end with an error that nobody foresaw before the
    dead letters, also where there is no limit: it must not hold up those behind it for ever.
    """

    name: str
    handler: Handler | None
    lane: Lane = CARE
    backoff: Backoff = PATIENT
    limit: int | None = 5
    timeout: float = 20.0
    timer: bool = False
    poison: int = 20
    train: TrainHandler | None = None

    async def attempt(self, jobs: Sequence[ClaimedJob], services: Services) -> tuple[int, Unit | Effects | None]:
        """Do the first of some jobs of one key, or several at once: how many, and what is to be committed."""
        causes = [str(job.payload.get(tracing.HEADER, "")) for job in jobs]
        with tracing.attempt(self.name, jobs[0].attempts, causes[0], linked=self.timer) as span:
            if self.train is not None:
                number, result = await self.train(jobs, services)
                span.caused_by([cause for cause in causes[1:number] if cause != causes[0]])
                return number, result
            assert self.handler is not None
            return 1, await self.handler(jobs[0], services)


class Kinds:
    """All kinds that this server knows; each is declared once."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds: dict[str, Kind] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Declare a kind; a second one of the same name is a programming error."""
        if kind.name in self._kinds:
            raise ValueError(f"job kind {kind.name} is declared twice")
        self._kinds[kind.name] = kind

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def lanes(self) -> dict[Lane, list[Kind]]:
        """The kinds by lane."""
        lanes: dict[Lane, list[Kind]] = {}
        for kind in self:
            lanes.setdefault(kind.lane, []).append(kind)
        return lanes


def finishing(jobs: Sequence[ClaimedJob], result: Unit | Effects | None, records: Sequence[Record] = ()) -> Unit:
    """The unit that commits a handler's effects, the done marks of its job and of those before it, and the `records` that these left."""
    marks = [(job.id, job.lease) for job in jobs]
    inner = result if isinstance(result, Unit) else Unit(lambda facts: result or Effects())

    def decide(facts: Facts) -> Effects:
        effects = inner.decide(facts)
        return replace(effects, done_jobs=[*effects.done_jobs, *marks], records=[*records, *effects.records])

    return Unit(decide, inner.criteria, inner.targets)
