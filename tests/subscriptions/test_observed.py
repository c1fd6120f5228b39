"""What the metrics page tells of jobs, by lane; its labels are names that the server declares, however many jobs there are."""

from __future__ import annotations

import asyncio

from fhir_server.storage.port import JobCount
from subscriptions.delivery.circuits import OPEN_AFTER, Circuits
from subscriptions.delivery.log import Attempt, DeliveryLog
from subscriptions.jobs.kinds import Kind, Kinds, Lane
from subscriptions.jobs.runner import Jobs
from subscriptions.observed import UNKNOWN, Observed, by_lane
from tests.jobs.world import services

NOW = 1_000_000
LANES = {"a.one": "a", "a.two": "a", "b.one": "b"}


def told(counts, now=NOW):
    return {(row.name, row.labels["lane"]): row.value for row in by_lane(counts, LANES, now)}


def test_kinds_of_one_lane_are_added_up() -> None:
    found = told([JobCount("a.one", "open", 5, NOW, 2, 1), JobCount("a.two", "open", 7, NOW, 1, 3), JobCount("a.two", "dead", 4, 0)])
    assert [found[f"fhir_jobs_{name}", "a"] for name in ("open", "running", "waiting", "dead")] == [12, 3, 4, 4]
    assert [found[f"fhir_jobs_{name}", "b"] for name in ("open", "running", "waiting", "dead")] == [0, 0, 0, 0]


def test_the_oldest_due_job_tells_for_how_long_nothing_was_done() -> None:
    found = told(
        [JobCount("a.one", "open", 1, NOW - 90_000), JobCount("a.two", "open", 1, NOW - 30_000), JobCount("b.one", "open", 1, NOW + 5_000)]
    )
    assert found["fhir_jobs_overdue_seconds", "a"] == 90
    assert found["fhir_jobs_overdue_seconds", "b"] == 0, "what is due later is not late"


def test_dead_letters_do_not_make_a_lane_late() -> None:
    assert told([JobCount("a.one", "dead", 1, NOW - 90_000)])["fhir_jobs_overdue_seconds", "a"] == 0


def test_kinds_that_are_unknown_here_share_one_lane() -> None:
    found = told([JobCount(f"other.{n}", "open", 1, NOW) for n in range(500)])
    assert found["fhir_jobs_open", UNKNOWN] == 500
    assert {lane for _, lane in found} == {"a", "b", UNKNOWN}


def test_each_delivery_is_counted_by_how_it_ended() -> None:
    lines = DeliveryLog()
    for kind, taken in (("event-notification", True), ("event-notification", True), ("event-notification", False), ("dropped", False)):
        lines.lines("s1", Attempt(NOW, kind, 1, 1, taken, "HTTP 200", 3, 4))
    assert lines.counts == {("event-notification", "taken"): 2, ("event-notification", "failed"): 1, ("dropped", "dropped"): 1}


def test_circuits_that_are_open_are_counted_until_the_endpoint_answers() -> None:
    circuits = Circuits(seed=1)
    for _ in range(OPEN_AFTER):
        with circuits.place("http://127.0.0.1:1/down", NOW, asked=True) as circuit:
            circuits.settled(circuit, NOW, "HTTP 503")
    with circuits.place("http://127.0.0.1:1/up", NOW) as other:
        circuits.settled(other, NOW)
    assert circuits.broken() == 1
    with circuits.place("http://127.0.0.1:1/down", NOW, asked=True) as circuit:
        circuits.settled(circuit, NOW)
    assert circuits.broken() == 0


async def test_the_page_does_not_wait_for_a_store_that_is_busy(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("subscriptions.observed.PATIENCE", 0.05)
    async with services(tmp_path) as services_:
        free = asyncio.Event()

        async def busy() -> list[JobCount]:
            await free.wait()
            return [JobCount("a.one", "open", 3, 0)]

        services_.store.count_jobs = busy
        observed = Observed(Jobs(services_, Kinds([Kind("a.one", None, Lane("a"))])), DeliveryLog(), Circuits())

        async def open_jobs() -> float:
            return next(row.value for row in await observed.gauges() if row.name == "fhir_jobs_open" and row.labels["lane"] == "a")

        assert await open_jobs() == 0
        free.set()
        assert await open_jobs() == 3
