"""What the metrics page tells of jobs and Subscriptions: readers' lag, lanes, dead letters, deliveries, circuits.

Labels are names that the server itself declares (readers, lanes, kinds of jobs): their number does not grow with the data.
Specification: docs/observability.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from fhir_server.observability.metrics import Gauge, Labels
from fhir_server.observability.remembered import Remembered
from fhir_server.storage.port import JobCount
from subscriptions.delivery.circuits import Circuits
from subscriptions.delivery.log import DeliveryLog
from subscriptions.jobs.runner import Jobs

UNKNOWN = "unknown"
"""The lane of jobs whose kind this server does not know."""
PATIENCE = 1.0
"""Seconds after which the page shows the jobs as they were last counted: it must be there when the store is busy."""


class Observed:
    """Numbers of one process (`counted`), and of the store that all processes share (`gauges`)."""

    def __init__(self, jobs: Jobs, lines: DeliveryLog, circuits: Circuits) -> None:
        self._jobs, self._lines, self._circuits = jobs, lines, circuits
        self._counts = Remembered(jobs.services.store.count_jobs)
        self._counting: asyncio.Task[Sequence[JobCount]] | None = None
        self._last: Sequence[JobCount] = ()

    def counted(self) -> Iterator[tuple[str, Labels, float]]:
        """What this process did."""
        for key, number in self._jobs.counts.items():
            yield "fhir_job_attempts", key, number
        for key, number in self._lines.counts.items():
            yield "fhir_subscription_deliveries", key, number
        yield "fhir_subscription_circuits_open", (), self._circuits.broken()

    async def gauges(self) -> list[Gauge]:
        """How it stands. Jobs are counted every two seconds at most, less often where that takes long."""
        jobs = self._jobs
        lags = await jobs.lag()
        help = "Versions that a reader has not read yet"
        rows = [Gauge(f"fhir_server_feed_lag_{name}", f"{help}: {name}", lag) for name, lag in lags.items()]
        rows += [Gauge("fhir_feed_lag", help, lag, {"reader": name}) for name, lag in lags.items()]
        for result in ("done", "retried", "dead"):
            number = sum(count for (_, kind), count in jobs.counts.items() if kind == result)
            rows.append(Gauge(f"fhir_server_jobs_{result}", f"Attempts at jobs that ended so in this process: {result}", number))
        counts = await self._known()
        dead = sum(row.number for row in counts if row.state == "dead")
        rows.append(Gauge("fhir_server_jobs_dead_letters", "Jobs that were given up and wait for a person", dead))
        rows.append(Gauge("fhir_server_jobs_leading", "Whether this process runs the jobs", jobs.leading))
        lanes = {kind.name: kind.lane.name for kind in jobs.kinds}
        return rows + by_lane(counts, lanes, jobs.services.clock())

    async def _known(self) -> Sequence[JobCount]:
        if self._counting is None:
            self._counting = asyncio.ensure_future(self._counts())
        await asyncio.wait({self._counting}, timeout=PATIENCE)
        if self._counting.done():
            counting, self._counting = self._counting, None
            self._last = counting.result()
        return self._last


def by_lane(counts: Sequence[JobCount], lanes: dict[str, str], now: int) -> list[Gauge]:
    """Open, running, waiting and dead jobs of each lane, and for how long the oldest one has been due. Pure.

    `lanes`: kind of job -> its lane. `now`: milliseconds since 1970 of the product clock.
    """
    sums = {lane: {"open": 0, "running": 0, "waiting": 0, "dead": 0, "due": now} for lane in [*lanes.values(), UNKNOWN]}
    for row in counts:
        lane = sums[lanes.get(row.kind, UNKNOWN)]
        lane[row.state] += row.number
        if row.state == "open":
            lane["running"] += row.running
            lane["waiting"] += row.waiting
            lane["due"] = min(lane["due"], row.due)
    told = {
        "open": "Jobs that are to be done, now or later",
        "running": "Jobs that somebody works at now",
        "waiting": "Jobs that failed and wait for their next attempt",
        "dead": "Jobs that were given up and wait for a person",
    }
    rows = [Gauge(f"fhir_jobs_{name}", help, sums[lane][name], {"lane": lane}) for name, help in told.items() for lane in sums]
    help = "For how long the oldest open job has been due"
    return rows + [Gauge("fhir_jobs_overdue_seconds", help, (now - sums[lane]["due"]) / 1000, {"lane": lane}) for lane in sums]
