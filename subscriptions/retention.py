"""Retention: once a day what is only kept for a while is removed (done jobs, the delivery log, events that can be asked for again).

Times are those of the store: what a test clock says does not make a record older.
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.observability.traced_store import COLLECTION as TRACES
from fhir_server.storage.port import ClaimedJob, Effects, Job, Unit
from subscriptions.delivery.log import LOG, MINUTES
from subscriptions.events import EVENTS
from subscriptions.jobs.clock import DAY, Clock, system_clock
from subscriptions.jobs.kinds import Kind, Lane, Services

RETENTION = "retention"
_MINUTES_KEPT = 7


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days what is kept."""

    done_jobs: int
    delivery_log: int
    events: int
    now: Clock = system_clock

    def kind(self) -> Kind:
        """The job that removes, and asks for its next day."""
        return Kind(RETENTION, self.sweep, Lane(RETENTION, 1), limit=None, timeout=3600.0, timer=True)

    def job(self, due: int, day: int) -> Job:
        """One for each day."""
        return Job(RETENTION, RETENTION, {"day": day}, due, f"day-{day}")

    async def begin(self, services: Services) -> None:
        """See to it that there is one for today."""
        await services.gate.transact(services.principal, Unit.of(jobs=[self.job(services.clock(), services.clock() // DAY)]))

    async def sweep(self, job: ClaimedJob, services: Services) -> Effects:
        """Remove what is old enough."""
        now, store = self.now(), services.store
        await store.prune_jobs(now - self.done_jobs * DAY)
        await store.prune_records(LOG, now - self.delivery_log * DAY)
        await store.prune_records(MINUTES, now - _MINUTES_KEPT * DAY)
        await store.prune_records(EVENTS, now - self.events * DAY)
        await store.prune_records(TRACES, now - DAY)
        day = max(int(job.payload["day"]) + 1, services.clock() // DAY)
        return Effects(jobs=[self.job(max(day * DAY, services.clock() + 1), day)])
