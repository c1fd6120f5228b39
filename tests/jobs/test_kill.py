"""kill -9 at any point: no effect in the store is lost or doubled, none outside is lost, order within a key is kept.

Spec: architecture.md "Processes" (a job's claim, its effect and its done mark are safe against kill -9 at any point).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, SOAK
from tests.jobs.world import services, write

KEYS, ROUNDS = "abcd", 8 if SOAK else 3


def _count(outside: Path) -> int:
    return len(outside.read_bytes().splitlines()) if outside.exists() else 0


def _work(folder: Path, outside: Path, seconds: float | None, total: int) -> None:
    """Let a process work for a while, or (None) until every effect outside has been seen; then kill -9."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.killed", str(folder), str(outside)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        if seconds is not None:
            time.sleep(seconds)
            return
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if len(set(outside.read_text().splitlines() if outside.exists() else [])) == total:
                time.sleep(0.5)
                return
            time.sleep(0.05)
        raise AssertionError(f"only {_count(outside)} of {total} effects")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.longer
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path) -> None:
    folder, outside = tmp_path / "store", tmp_path / "outside"
    number = 60 * ROUNDS
    draw = random.Random(7)

    async def fill(part: int) -> None:
        async with services(folder) as world:
            for n in range(part * 60, (part + 1) * 60):
                await write(world, f"{KEYS[n % 4]}{n}")

    for part in range(ROUNDS):
        asyncio.run(fill(part))
        _work(folder, outside, draw.uniform(0.0, 0.15), number)
    _work(folder, outside, None, number)

    async def seen() -> list[str]:
        async with services(folder) as world:
            dead = await world.store.list_jobs("dead")
            assert not dead
            return [record.key for record in await world.store.records("seen", limit=10_000)]

    inside = asyncio.run(seen())
    assert sorted(inside) == sorted(f"{KEYS[n % 4]}{n}" for n in range(number))
    lines = [line.split() for line in outside.read_text().splitlines()]
    for key in KEYS:
        order = [int(n) for k, n in lines if k == key]
        assert sorted(set(order)) == [n for n in range(number) if KEYS[n % 4] == key]
        assert order == sorted(order), f"out of order for {key}"
