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
from pathlib import Path

import pytest

from tests.conftest import ROOT, SOAK
from tests.subscriptions.receiver import Receiver, receiver
from tests.subscriptions.test_topic_subscriptions import R5, TOPIC, asked, begin, told
from tests.subscriptions.world import subscription, world

ROUNDS = 20 if SOAK else 3


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
