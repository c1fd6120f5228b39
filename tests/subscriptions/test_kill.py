"""kill -9 between commit and send: every committed event reaches the receiver, in order. conformance.md K14, K24.

Short form here; `make soak` runs more rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, SOAK, Server, start_server
from tests.subscriptions.busy import Busy, Moody
from tests.subscriptions.receiver import Hit, Receiver, receiver
from tests.subscriptions.test_topic_subscriptions import R5, TOPIC, asked, begin, told
from tests.subscriptions.test_write_paths import TOPIC as EVERYTHING
from tests.subscriptions.test_write_paths import WATCHED, everything
from tests.subscriptions.world import subscription, world

Json = dict[str, Any]
ROUNDS = 20 if SOAK else 3
WRITES, KILLS, LOADS = (10_000, 20, 6) if SOAK else (300, 2, 1)
SEED = int(os.environ.get("SEED", "0"))
"""Of the random choices of the longest test; a failure tells it."""


async def _life(folder: Path, first: int, seconds: float) -> list[int]:
    """Let a process write and deliver, kill -9 it; the numbers that it acknowledged."""
    command = [sys.executable, "-m", "tests.subscriptions.killed", str(folder), str(first)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    acknowledged: list[int] = []

    async def read() -> None:
        assert process.stdout
        while line := (await process.stdout.readline()).decode():
            if line.startswith("ack "):
                acknowledged.append(int(line[4:]))

    assert (await process.stdout.readline()).decode() == "ready\n"
    reading = asyncio.create_task(read())
    await asyncio.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await reading
    return acknowledged


async def _rest(folder: Path, there: Receiver) -> None:
    """A last process delivers what is left."""
    command = [sys.executable, "-m", "tests.subscriptions.killed", str(folder), "-1"]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    quiet, seen = 0, -1
    while quiet < 45:
        await asyncio.sleep(0.1)
        quiet, seen = (quiet + 1, seen) if len(there.hits) == seen else (0, len(there.hits))
    process.kill()
    await process.wait()


@pytest.mark.longer
async def test_kill_9_loses_no_notification_and_keeps_their_order(tmp_path: Path) -> None:
    draw = random.Random(11)
    async with receiver() as there:
        async with world(tmp_path) as w:
            await w.put(subscription(there.url, channel={"payload": "application/fhir+json"}))
        acknowledged: list[int] = []
        for round in range(ROUNDS):
            acknowledged += await _life(tmp_path, round * 10_000, draw.uniform(0.2, 0.9))
            there.status = draw.choice([200, 503])
        there.status = 200
        await _rest(tmp_path, there)
        async with world(tmp_path) as w:
            stored = {s.id: s.rid for s in await w.store.changes(0, 100_000) if s.type == "Observation"}
            assert not await w.store.list_jobs("dead")
        taken = [hit.path.rpartition("/")[2] for hit in there.hits]
        first = list(dict.fromkeys(taken))
        assert len(acknowledged) > 20 * ROUNDS
        assert {f"n{n}" for n in acknowledged} <= set(first)
        assert set(first) == set(stored)
        assert [stored[id] for id in first] == sorted(stored.values())


@pytest.mark.longer
async def test_kill_9_leaves_no_gap_in_the_numbers_of_a_topic(tmp_path: Path) -> None:
    """Whatever the receiver does meanwhile; a number that comes again is the same event."""
    draw = random.Random(12)
    topic = {
        "resourceType": "Basic", "id": "t", "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
        "modifierExtension": [{"url": R5 + "status", "valueCode": "active"}],
        "extension": [
            {"url": R5 + "url", "valueUri": TOPIC},
            {"url": R5 + "resourceTrigger", "extension": [{"url": "resource", "valueUri": "Observation"}]},
        ],
    }  # fmt: skip
    async with receiver() as there:
        async with world(tmp_path) as w:
            await w.put(topic)
            await w.settle()
            await begin(w, asked(there.url))
        acknowledged: list[int] = []
        for round in range(ROUNDS):
            acknowledged += await _life(tmp_path, round * 10_000, draw.uniform(0.3, 0.9))
            there.status = draw.choice([200, 500, -1])
        there.status = 200
        await _rest(tmp_path, there)
        async with world(tmp_path) as w:
            stored = [s.id for s in await w.store.changes(0, 100_000) if s.type == "Observation"]
    told_events: list[tuple[int, str]] = []
    for hit in there.hits:
        for event in told(json.loads(hit.body))["events"]:
            told_events.append((int(event["event-number"]), event["focus"]["reference"].rpartition("/")[2]))
    first = dict(reversed(told_events))
    assert all(first[number] == id for number, id in told_events), "the same number, the same event"
    in_order = list(dict.fromkeys(number for number, _ in told_events))
    assert in_order == list(range(1, len(stored) + 1))
    assert [first[number] for number in in_order] == stored
    assert len(acknowledged) > 20 * ROUNDS and {f"n{n}" for n in acknowledged} <= set(stored)


# --- a whole server, every way of writing, and a receiver with moods

SEARCHES = {"amended": "Observation?status=amended", "patients": "Patient"}


async def _subscribe(client: httpx.AsyncClient, url: str) -> None:
    """A topic on every change, and two searches; comes back when all are active."""
    (await client.put("Basic/everything", json=everything())).raise_for_status()
    asks = [asked(f"{url}/topic", "full-resource", id="topic", criteria=EVERYTHING)]
    payload = {"payload": "application/fhir+json"}
    asks += [subscription(f"{url}/{id}", id, criteria, channel=payload) for id, criteria in SEARCHES.items()]
    for one in asks:
        (await client.put(f"Subscription/{one['id']}", json=one)).raise_for_status()
    async with asyncio.timeout(20):
        for one in asks:
            while (await client.get(f"Subscription/{one['id']}")).json()["status"] != "active":
                await asyncio.sleep(0.05)


async def _history(client: httpx.AsyncClient) -> list[tuple[str, str, Json | None]]:
    """(resource, version, content) of every change of a watched type, oldest first; no content of a deletion."""
    found = []
    place: str | None = "_history?_count=500"
    while place:
        answer = await client.get(place)
        answer.raise_for_status()
        for row in answer.json()["entry"]:
            type, id, _, version = row["response"]["location"].split("/")
            if type in WATCHED:
                found.append((f"{type}/{id}", version, row.get("resource")))
        following = next((link["url"] for link in answer.json()["link"] if link["relation"] == "next"), None)
        place = following.rpartition("/")[2] if following else None
    return found[::-1]


def _told(hits: list[Hit]) -> list[tuple[int, tuple[str, Json | None]]]:
    """(event number, (resource, content)) of the topic, in the order of arrival."""
    found = []
    for hit in hits:
        bundle = json.loads(hit.body)
        if hit.path == "/topic" and told(bundle)["type"] == "event-notification":
            for event, row in zip(told(bundle)["events"], bundle["entry"][1:], strict=True):
                place = event["focus"]["reference"].partition("/fhir/")[2]
                assert event["focus"]["reference"] == row["fullUrl"] and ("resource" in row) is (row["request"]["method"] != "DELETE")
                found.append((int(event["event-number"]), (place, row.get("resource"))))
    return found


def _each_once(rows: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Each number once, in the order in which they came first; what came again must be the same."""
    first: dict[Any, Any] = {}
    for number, content in rows:
        assert first.setdefault(number, content) == content, f"{number} came again with another content"
    return list(first.items())


async def _arrived(client: httpx.AsyncClient, there: Moody, seconds: float) -> list[tuple[str, str, Json | None]]:
    """The history, when as many events have arrived as there are changes, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        written = await _history(client)
        taken = [hit for hit in there.hits if hit.taken]
        numbers = {number for number, _ in _told(taken)}
        due = {id: sum(_meets(id, one) for one in written) for id in SEARCHES}
        here = {id: len({hit.body for hit in taken if hit.path.startswith(f"/{id}/")}) for id in SEARCHES}
        if (len(numbers) == len(written) and here == due) or time.monotonic() > deadline:
            return written
        await asyncio.sleep(0.5)


def _meets(id: str, change: tuple[str, str, Json | None]) -> bool:
    place, _, content = change
    if id == "patients":
        return place.startswith("Patient/") and content is not None
    return place.startswith("Observation/") and content is not None and content["status"] == "amended"


async def _lives(folder: Path, busy: Busy, there: Moody, draw: random.Random, servers: list[Server]) -> None:
    """A server that is killed again and again while it is written to; the last of `servers` stays."""

    def begin() -> Server:
        env = {"FHIR_SERVER_PUBLIC_URL": "http://fhir.example.org"}
        servers.append(start_server(folder / "data", "--mllp-port", "0", env=env))
        return servers[-1]

    ended = False
    server = await asyncio.to_thread(begin)
    async with httpx.AsyncClient(base_url=f"{server.base}/", timeout=20) as client:
        await there.begin()
        await _subscribe(client, f"http://127.0.0.1:{there.port}")
    async with asyncio.TaskGroup() as group:
        moods = group.create_task(there.change(draw))
        for _ in range(3):
            group.create_task(busy.work(lambda: ended))
        for life in range(KILLS + 1):
            busy.server = server
            if life * LOADS // (KILLS + 1) != (life + 1) * LOADS // (KILLS + 1):
                group.create_task(busy.load(20))
            while busy.writes < WRITES * (life + 1) // (KILLS + 1):
                await asyncio.sleep(0.01)
            if life < KILLS:
                await asyncio.sleep(draw.uniform(0, 0.3))
                busy.server = None
                await asyncio.to_thread(server.kill)
                server = await asyncio.to_thread(begin)
        ended = True
        moods.cancel()


@pytest.mark.longer
async def test_whatever_happens_the_receiver_ends_with_what_was_written(tmp_path: Path) -> None:
    """K14, K24: clients write over every path, the server is killed by -9, the receiver refuses, hangs, fails or is away.

    `SEED` chooses another course; 10,000 writes and 20 kills with SOAK=1.
    """
    print(f"SEED={SEED}")  # shown with any failure
    draw = random.Random(SEED)
    there, busy = Moody(), Busy(tmp_path, draw)
    servers: list[Server] = []
    try:
        await _lives(tmp_path, busy, there, draw, servers)
        await there.turn("answers")
        async with httpx.AsyncClient(base_url=f"{servers[-1].base}/", timeout=60) as client:
            written = await _arrived(client, there, 180)
            status = (await client.get("Subscription/topic/$status")).json()["entry"][0]["resource"]["parameter"]
    finally:
        for server in servers:
            server.kill()
        there.end()
    said = f"SEED={SEED} (with {busy.writes} writes: {busy.ways})"
    assert busy.acknowledged <= {(place, version) for place, version, _ in written}, f"what was acknowledged is there: {said}"
    # Content is compared over all that arrived, completeness and order over what the receiver has taken.
    for hits in (there.hits, [hit for hit in there.hits if hit.taken]):
        events = _each_once(_told(hits))
        assert [number for number, _ in events] == list(range(1, len(written) + 1)), f"1 … n, in order, without a gap: {said}"
        assert [event for _, event in events] == [(place, content) for place, _, content in written], f"each event is its change: {said}"
        for id in SEARCHES:
            rows = [json.loads(hit.body) for hit in hits if hit.path.startswith(f"/{id}/")]
            came = _each_once([((f"{row['resourceType']}/{row['id']}", row["meta"]["versionId"]), row) for row in rows])
            due = [((place, version), content) for place, version, content in written if _meets(id, (place, version, content))]
            assert came == due, f"{id}: each version that meets the search, in order: {said}"
    counted = next(row["valueString"] for row in status if row["name"] == "events-since-subscription-start")
    assert counted == str(len(written)), said
    assert set(busy.ways) == {*(way for way in dir(busy) if way.startswith("by_")), "load"} or not SOAK, said
