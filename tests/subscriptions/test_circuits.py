"""Circuit breakers of endpoints: docs/decisions/0079-circuits-of-endpoints.md."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from subscriptions.delivery import circuits as module
from subscriptions.delivery.circuits import DOUBTFUL, DOUBTFUL_PER_HOST, OPEN_AFTER, PER_ENDPOINT, PER_HOST, Circuits, TurnedAway
from subscriptions.jobs.clock import MINUTE, SECOND, VirtualClock, at
from tests.subscriptions.receiver import receiver
from tests.subscriptions.world import observation, subscription, world

NOW = at("2026-03-02T08:00:00+08:00")
THERE = "http://a.example/hook"


def fail(circuits: Circuits, endpoint: str = THERE, now: int = NOW, times: int = 1) -> None:
    for _ in range(times):
        with circuits.place(endpoint, now) as circuit:
            circuits.settled(circuit, now, "HTTP 503")


def test_the_circuit_opens_after_failures_in_a_row_and_says_why() -> None:
    circuits = Circuits(1)
    fail(circuits, times=OPEN_AFTER - 1)
    assert circuits.state(THERE, NOW) == "closed"
    fail(circuits)
    assert circuits.state(THERE, NOW) == "open"
    with pytest.raises(TurnedAway, match="HTTP 503") as away, circuits.place(THERE, NOW):
        pass
    assert away.value.down and 0 < away.value.pause <= 2 * SECOND
    assert circuits.state("http://a.example/other", NOW) == "closed", "another endpoint of the same host is another circuit"


def test_a_success_between_failures_keeps_it_closed() -> None:
    circuits = Circuits(1)
    for _ in range(3):
        fail(circuits, times=OPEN_AFTER - 1)
        with circuits.place(THERE, NOW) as circuit:
            circuits.settled(circuit, NOW)
    assert circuits.state(THERE, NOW) == "closed"


def test_after_the_pause_one_call_tries_and_the_others_wait() -> None:
    circuits = Circuits(1)
    fail(circuits, times=OPEN_AFTER)
    later = NOW + 2 * SECOND
    assert circuits.state(THERE, later) == "half-open"
    with circuits.place(THERE, later) as circuit:
        with pytest.raises(TurnedAway), circuits.place(THERE, later):
            pass
        circuits.settled(circuit, later)
    assert circuits.state(THERE, later) == "closed"
    fail(circuits, now=later, times=OPEN_AFTER - 1)
    assert circuits.state(THERE, later) == "closed", "it counts from 0 again"


def test_the_pauses_grow_up_to_about_a_minute() -> None:
    circuits, now, pauses = Circuits(1), NOW, []
    fail(circuits, times=OPEN_AFTER)
    for _ in range(10):
        with pytest.raises(TurnedAway) as away, circuits.place(THERE, now):
            pass
        pauses.append(away.value.pause)
        now += away.value.pause
        fail(circuits, now=now)
    assert all(b > a for a, b in pairwise(pauses[:6])) and max(pauses) <= 1.2 * MINUTE


def test_a_call_that_a_person_asks_for_goes_out_also_when_the_circuit_is_open() -> None:
    circuits = Circuits(1)
    fail(circuits, times=OPEN_AFTER)
    with circuits.place(THERE, NOW, asked=True) as circuit:
        circuits.settled(circuit, NOW)
    assert circuits.state(THERE, NOW) == "closed"


def test_places_are_shared_out_per_endpoint_host_and_among_the_doubtful() -> None:
    circuits = Circuits(1)
    with ExitStack() as held:
        for _ in range(PER_ENDPOINT):
            held.enter_context(circuits.place(THERE + "?token=1", NOW))
        with pytest.raises(TurnedAway) as away, circuits.place(THERE + "?token=2", NOW):
            pass
        assert not away.value.down and away.value.pause < 5 * SECOND
        for n in range(PER_HOST - PER_ENDPOINT):
            held.enter_context(circuits.place(f"http://a.example/{n}", NOW))
        with pytest.raises(TurnedAway), circuits.place("http://a.example/one-more", NOW):
            pass
        with circuits.place("http://b.example/", NOW):
            pass
    with circuits.place(THERE, NOW):
        pass
    for n in range(DOUBTFUL + 1):
        fail(circuits, f"http://{n}.example/")
    with ExitStack() as held:
        for n in range(DOUBTFUL):
            held.enter_context(circuits.place(f"http://{n}.example/", NOW))
        with pytest.raises(TurnedAway), circuits.place(f"http://{DOUBTFUL}.example/", NOW):
            pass
        with circuits.place("http://never-failed.example/", NOW):
            pass


def test_slow_endpoints_leave_places_to_quick_ones_of_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    circuits, now = Circuits(1), [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    with ExitStack() as held:
        for n in range(PER_HOST):
            held.enter_context(circuits.place(f"http://a.example/{n}", NOW))
        with pytest.raises(TurnedAway), circuits.place("http://a.example/quick", NOW):
            pass
        now[0] += 1  # they are slow: they do not count among the quick ones any more
        with circuits.place("http://a.example/quick", NOW):
            pass
    with ExitStack() as held:
        for n in range(DOUBTFUL_PER_HOST):
            held.enter_context(circuits.place(f"http://a.example/{n}", NOW))
        with pytest.raises(TurnedAway), circuits.place(f"http://a.example/{DOUBTFUL_PER_HOST}", NOW):
            pass
        with circuits.place("http://a.example/quick", NOW), circuits.place("http://b.example/", NOW):
            pass


# --- in the server


async def test_an_endpoint_that_is_down_is_called_a_few_times_however_many_subscribe(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver(503) as there, world(tmp_path, clock=clock) as w:
        await w.put(*(subscription(there.url, f"s{n}", channel={"payload": "application/json"}) for n in range(40)))
        await w.settle()
        await w.put(observation("o1"))
        await w.settle()
        assert OPEN_AFTER <= len(there.hits) <= OPEN_AFTER + PER_ENDPOINT
        for _ in range(12):
            clock.advance(20 * SECOND)
            await w.settle()
        said = [await w.read("Subscription", f"s{n}") for n in range(40)]
        assert sum("Observation/o1" in one["error"] for one in said) < 40, "who was turned away is not told what another was to be sent"
        states = {one["status"] for one in said}
        assert states == {"error"}, "also those who were turned away learn that their endpoint is down"
        calls = len(there.hits)
        assert calls <= OPEN_AFTER + PER_ENDPOINT + 12
        there.status = 200
        for _ in range(6):
            clock.advance(MINUTE + 20 * SECOND)
            await w.settle()
        assert len(there.hits) - calls >= 40 and not await w.store.list_jobs("open", "subscription.deliver")


async def test_many_subscriptions_on_a_hanging_endpoint_do_not_delay_another(tmp_path: Path) -> None:
    async with receiver(0) as slow, receiver() as quick, world(tmp_path, running=True) as w:
        await w.put(*(subscription(slow.url, f"slow{n}") for n in range(100)))
        await w.put(subscription(quick.url, "quick", channel={"payload": "application/json"}))
        begin = time.monotonic()
        for n in range(10):
            await w.put(observation(f"o{n}"))
        await quick.wait(10, 60)
        rounds = 1 + (time.monotonic() - begin) // 10
        assert len(slow.hits) <= PER_ENDPOINT * rounds, "each call hangs for ten seconds"


async def test_slow_endpoints_that_answer_do_not_delay_another_path_of_their_host(tmp_path: Path) -> None:
    """Five of them with eight Subscriptions each, more than a host has places."""
    async with receiver() as there, world(tmp_path, running=True) as w:
        there.slow = {f"/slow{n}": 2.0 for n in range(5)}
        root = there.url.removesuffix("/hook")
        await w.put(*(subscription(f"{root}/slow{n % 5}", f"slow{n}") for n in range(40)))
        await w.put(subscription(f"{root}/quick", "quick", channel={"payload": "application/json"}))
        for n in range(20):
            await w.put(observation(f"o{n}"))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            while sum(hit.path.startswith("/quick") for hit in there.hits) < 20:
                await asyncio.sleep(0.05)
        quick = [hit.path for hit in there.hits if hit.path.startswith("/quick")]
        assert quick == [f"/quick/Observation/o{n}" for n in range(20)]
        slow = sum(hit.path.startswith("/slow") for hit in there.hits)
        assert slow < 20 * 40, "it did not wait until the slow ones were through"


async def test_a_refusal_of_one_notification_is_not_a_failure_of_the_endpoint(tmp_path: Path) -> None:
    """HTTP 4xx: the endpoint works, and other Subscriptions on it are served."""
    clock = VirtualClock(NOW)
    async with receiver(422) as there, world(tmp_path, clock=clock) as w:
        await w.put(subscription(there.url))
        await w.settle()
        await w.put(observation("o1"))
        for _ in range(OPEN_AFTER + 2):
            await w.settle()
            clock.advance(2 * MINUTE)
        desk_circuit = w.desk.circuit(await w.read("Subscription", "s1"))
        assert desk_circuit == "closed" and (await w.read("Subscription", "s1"))["status"] == "error"


async def test_retry_after_of_the_endpoint_is_kept_to(tmp_path: Path) -> None:
    """https://www.rfc-editor.org/rfc/rfc9110#name-retry-after"""
    clock = VirtualClock(NOW)
    async with receiver(503) as there, world(tmp_path, clock=clock) as w:
        there.retry_after = 600
        await w.put(subscription(there.url, channel={"payload": "application/json"}))
        await w.settle()
        await w.put(observation("o1"))
        await w.settle()
        assert len(there.hits) == 1
        clock.advance(9 * MINUTE)
        await w.settle()
        assert len(there.hits) == 1
        there.status = 200
        clock.advance(2 * MINUTE)
        await w.settle()
        assert len(there.hits) == 2


async def test_a_client_that_switches_on_again_is_greeted_at_once_and_gets_what_waits(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver(503) as there, world(tmp_path, clock=clock) as w:
        asked = subscription(there.url, channel={"payload": "application/json"})
        await w.put(asked)
        await w.settle()
        await w.put(observation("o1"))
        for _ in range(12):
            await w.settle()
            clock.advance(MINUTE)
        assert (await w.read("Subscription", "s1"))["status"] == "error"
        there.status, before = 200, len(there.hits)
        await w.put({**asked, "status": "requested"})
        await w.settle()
        clock.advance(2 * MINUTE)
        await w.settle()
        assert (await w.read("Subscription", "s1"))["status"] == "active"
        assert [hit.path for hit in there.hits[before:]] == ["/hook/Observation/o1"]
