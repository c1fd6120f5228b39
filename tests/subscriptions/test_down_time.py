"""Hours in which an endpoint is down lose no notification: known failure 11 of others. conformance.md K9, K14, K19, K24

The clock is virtual. Whatever the endpoint does meanwhile, it ends with what was written, in order, and what it got twice is the same.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.storage.port import Unit, Write
from subscriptions.jobs.clock import HOUR, MINUTE, VirtualClock, at
from tests.subscriptions.receiver import Hit, Receiver, receiver
from tests.subscriptions.test_topic_subscriptions import GUIDE, asked, begin, encounter, told, topical
from tests.subscriptions.world import World, subscription, world

Json = dict[str, Any]
NOW = at("2026-03-02T08:00:00+08:00")
PAYLOAD = {"payload": "application/fhir+json"}
DOWN = {"hangs": 0, "closes the connection": -1, "answers 500": 500, "answers 404": 404, "redirects": 302}


class Written:
    """What was written while the Subscriptions were there: (interaction, id, version), in order."""

    def __init__(self, w: World, draw: random.Random) -> None:
        self.world, self.draw, self.rows = w, draw, list[tuple[str, str, int]]()
        self.versions: dict[str, int] = {}
        self.there: set[str] = set()

    async def some(self, number: int) -> None:
        """Finished Encounters that are new, that are written again, and that are deleted."""
        for _ in range(number):
            id = f"e{self.draw.randrange(12)}" if self.draw.random() < 0.5 else f"e{len(self.versions) + 12}"
            self.versions[id] = version = self.versions.get(id, 0) + 1
            if id in self.there and self.draw.random() < 0.4:
                await self.world.store.transact(Unit.of(Write("DELETE", "Encounter", id)))
                self.there.discard(id)
                self.rows.append(("delete", id, version))
            else:
                await self.world.put(encounter(id, length={"value": version}))
                self.rows.append(("update" if id in self.there else "create", id, version))
                self.there.add(id)

    @property
    def of_search(self) -> list[tuple[str, int]]:
        """New versions: what a search is told."""
        return [(id, version) for interaction, id, version in self.rows if interaction != "delete"]

    @property
    def of_topic(self) -> list[tuple[str, str]]:
        """What becomes finished, and deletions: what the topic tells."""
        return [(interaction, id) for interaction, id, _ in self.rows if interaction != "update"]


def searched(hits: Iterable[Hit]) -> list[tuple[tuple[str, int], bytes]]:
    return [
        ((hit.path.rpartition("/")[2], int(json.loads(hit.body)["meta"]["versionId"])), hit.body) for hit in hits if hit.method == "PUT"
    ]


def numbered(hits: Iterable[Hit]) -> list[tuple[int, tuple[str, str]]]:
    """(event number, (interaction, id)) of a topic, in the order of arrival."""
    found = []
    for hit in hits:
        bundle = json.loads(hit.body) if hit.method == "POST" else None
        if bundle and told(bundle)["type"] == "event-notification":
            assert len(bundle["entry"]) == 1 + len(told(bundle)["events"])
            for event, entry in zip(told(bundle)["events"], bundle["entry"][1:], strict=True):
                assert event["focus"]["reference"] == entry["fullUrl"]
                interaction = {"POST": "create", "PUT": "update", "DELETE": "delete"}[entry["request"]["method"]]
                found.append((int(event["event-number"]), (interaction, entry["fullUrl"].rpartition("/")[2])))
    return found


def once(rows: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Each number once, in the order of its first arrival; that which came again is the same."""
    first: dict[Any, Any] = {}
    for key, content in rows:
        assert first.setdefault(key, content) == content, f"{key} came again with another content"
    return list(first.items())


def complete(there: Receiver, written: Written) -> None:
    """The receiver has taken what was written."""
    taken = [hit for hit in there.hits if hit.taken]
    for hits in (there.hits, taken):
        assert [key for key, _ in once(searched(hits))] == written.of_search
        assert once(numbered(hits)) == list(enumerate(written.of_topic, 1)), "1 … n without a gap, each number its event"


async def subscribe(w: World, url: str) -> None:
    await w.put(subscription(url, "search", "Encounter?status=finished", channel=PAYLOAD))
    await begin(w, asked(url, id="topic"))
    await w.settle()


async def until_quiet(w: World, clock: VirtualClock) -> None:
    for _ in range(50):
        clock.advance(90_000)
        await w.settle()
        if not [row for row in await w.store.list_jobs("open") if row["kind"] == "subscription.deliver"]:
            return
    raise AssertionError("deliveries are left")


async def states(w: World) -> set[str]:
    return {str((await w.read("Subscription", id))["status"]) for id in ("search", "topic")}


@pytest.mark.parametrize("how", DOWN)
async def test_an_endpoint_that_is_down_for_hours(tmp_path: Path, how: str) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        w.room._caller._timeout = 0.1
        await subscribe(w, there.url)
        written = Written(w, random.Random(how))
        await written.some(3)
        await w.settle()
        there.status, there.location = DOWN[how], "http://127.0.0.1:9/elsewhere"
        up = len(there.hits)
        for _ in range(9):  # three hours
            await written.some(4)
            await w.settle()
            clock.advance(20 * MINUTE)
        down = there.hits[up:]
        assert len({hit.body for hit in down if hit.method == "PUT"}) == 1, "what comes behind waits for its turn"
        assert len({number for number, _ in numbered(down)}) == 1
        assert await states(w) == {"error"}
        there.status = 200
        await until_quiet(w, clock)
        complete(there, written)
        assert await states(w) == {"error"}, "only the client makes it active again"


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_endpoint_that_refuses_connections_for_hours(tmp_path: Path, restarted: bool) -> None:
    """The server may be started anew meanwhile."""
    clock = VirtualClock(NOW)
    async with receiver() as there:
        async with topical(tmp_path, clock=clock) as w:
            await subscribe(w, there.url)
            written = Written(w, random.Random(5))
            await written.some(2)
            await w.settle()
        port, before = there.port, there.hits
    for _ in range(3):
        async with world(tmp_path, clock=clock) as w:
            for _ in range(1 if restarted else 3):
                written.world = w
                await written.some(5)
                await w.settle()
                clock.advance(HOUR)
        if not restarted:
            break
    async with receiver(port=port) as again, world(tmp_path, clock=clock) as w:
        await until_quiet(w, clock)
        again.hits[:0] = before
        complete(again, written)


@pytest.mark.parametrize("seed", range(4))
async def test_an_endpoint_that_comes_and_goes(tmp_path: Path, seed: int) -> None:
    clock, draw = VirtualClock(NOW), random.Random(seed)
    async with receiver() as there, receiver() as steady, topical(tmp_path, clock=clock) as w:
        await subscribe(w, there.url)
        await w.put(subscription(steady.url, "steady", "Encounter?status=finished", channel=PAYLOAD))
        await w.settle()
        written = Written(w, draw)
        for _ in range(40):
            there.status = draw.choice([200, 200, -1, 500, 404, 302])
            await written.some(draw.randrange(4))
            await w.settle()
            assert [key for key, _ in searched(steady.hits)] == written.of_search, f"seed {seed}: one that is up is told at once, and once"
            clock.advance(draw.choice([1_000, 30_000, 10 * MINUTE]))
        there.status = 200
        await until_quiet(w, clock)
        complete(there, written)


async def test_k19_numbers_grow_and_status_answers_while_the_endpoint_is_down(tmp_path: Path) -> None:
    """What was missed arrives before what is new, and after the client's `requested` comes a handshake."""
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await subscribe(w, there.url)
        there.status = 500
        written = Written(w, random.Random(3))
        for _ in range(6):
            await written.some(2)
            await w.settle()
            clock.advance(10 * MINUTE)
        failed = await w.read("Subscription", "topic")
        assert failed["status"] == "error" and "HTTP 500" in failed["error"]
        there.status, before = 200, len(there.hits)
        await w.put({**failed, "status": "requested", "meta": {}})
        await until_quiet(w, clock)
        again = await w.read("Subscription", "topic")
        assert again["status"] == "active" and "error" not in again
        kinds = [told(json.loads(hit.body))["type"] for hit in there.hits[before:] if hit.method == "POST"]
        assert kinds == ["handshake"] + ["event-notification"] * len(written.of_topic)
        complete(there, written)


async def test_k19_pauses_double_up_to_a_minute(tmp_path: Path) -> None:
    """1, 2, 4 … 60 s, each ± 20 % (docs/subscriptions.md)."""
    clock = VirtualClock(NOW)
    async with receiver(500) as there, world(tmp_path, clock=clock) as w:
        await w.put(subscription(there.url, "search", "Encounter?status=finished", channel=PAYLOAD))
        await w.put(encounter("e1"))
        await w.settle()
        for attempt in range(10):
            assert len(there.hits) == attempt + 1
            due = await w.store.next_due(["subscription.deliver"])
            assert due is not None
            pause, step = due - clock(), min(60_000, 1000 * 2**attempt)
            assert 0.8 * step <= pause <= 1.2 * step
            clock.advance(pause - 1)
            await w.settle()
            assert len(there.hits) == attempt + 1, "not before its time"
            clock.advance(1)
            await w.settle()


async def test_k9_heartbeats_keep_their_period_by_half(tmp_path: Path) -> None:
    """Each comes 0.5 to 1.5 periods after the sign of life before it, as long as the endpoint answers."""
    clock = VirtualClock(NOW)
    period = [{"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 600}]
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url, id="topic", channel={"extension": period}))
        times: list[tuple[int, str]] = []
        for minute in range(120):
            clock.advance(MINUTE)
            if minute == 34:
                await w.put(encounter("e1"))
            await w.settle()
            for hit in there.hits[len(times) :]:
                times.append((clock(), str(told(json.loads(hit.body))["type"])))
        assert [kind for _, kind in times].count("event-notification") == 1 and len(times) >= 10
        gaps = [(after - before) / 600_000 for (before, _), (after, kind) in itertools.pairwise(times) if kind == "heartbeat"]
        assert all(0.5 <= gap <= 1.5 for gap in gaps), gaps


async def test_slow_endpoints_never_delay_another(tmp_path: Path) -> None:
    """Twenty that hang and one that answers, searches and topics: what is told to the one arrives while the others still hang."""
    async with receiver() as slow, receiver() as quick, topical(tmp_path, running=True) as w:
        for n in range(10):
            await w.put(subscription(slow.url, f"search{n}", "Encounter?status=finished", channel=PAYLOAD), asked(slow.url, id=f"topic{n}"))
        await w.put(subscription(quick.url, "search", "Encounter?status=finished", channel=PAYLOAD), asked(quick.url, id="topic"))
        async with asyncio.timeout(20):
            while {str((await w.read("Subscription", f"topic{n}"))["status"]) for n in range(10)} != {"active"}:
                await asyncio.sleep(0.02)
            while await states(w) != {"active"}:
                await asyncio.sleep(0.02)
        shaken = len(slow.hits)
        slow.open = asyncio.Event()  # whoever calls waits
        written = Written(w, random.Random(8))
        for _ in range(10):
            await written.some(3)
        await quick.wait(1 + len(written.of_search) + len(written.of_topic), 8)
        complete(quick, written)
        assert len(slow.hits) - shaken <= 20, "each of those that hang has one call under way"
        slow.open.set()
