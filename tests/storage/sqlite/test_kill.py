"""kill -9 at random moments: nothing acknowledged is missing, no unit is there in part, the file is whole.

Power loss is not simulated; what `synchronous=FULL` promises beyond this is SQLite's (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fhir_server.search import query as q
from tests.contract import support as s
from tests.storage.sqlite.invariants import faults

ROOT = Path(__file__).resolve().parents[3]


def start(folder: Path, name: str, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.storage.sqlite.writer_process", str(folder), name], cwd=ROOT, stdout=file, stderr=subprocess.PIPE
        )


def acknowledged(output: Path) -> list[tuple[str, int]]:
    text = output.read_bytes().decode()
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(unit, int(size)) for unit, size in (line.split() for line in lines)]


async def check(folder: Path, told: list[tuple[str, int]]) -> int:
    """Everything told is there; every unit is there whole or not at all. Returns the number of units."""
    store = s.sqlite_store(folder)
    await store.open()
    for unit, size in told:
        for k in range(size):
            assert await store.read("Observation", f"{unit}-{k}") is not None, (unit, k)
        assert await store.record("unit", unit) is not None
    units: dict[str, int] = {}
    after = 0
    while feed := await store.changes(after):
        for item in feed:
            if item.type == "Observation" and not item.deleted:
                units[s.content(item)["unit"]] = units.get(s.content(item)["unit"], 0) + 1
        after = feed[-1].rid
    jobs = {item["payload"]["unit"] for item in await store.list_jobs(limit=10**6)}
    for unit, found in units.items():
        record = await store.record("unit", unit)
        assert record is not None and record.data["size"] == found, unit
        assert unit in jobs
    assert len(jobs) == len(units) == len(await store.records("unit", limit=10**6))
    assert await store.count(q.Query(("Observation",))) == (await store.search(q.Query(("Observation",), limit=0))).total
    await store.close()
    assert faults(folder / "fhir.db") == []
    return len(units)


async def run(tmp_path: Path, kills: int, seed: int, processes: int) -> None:
    rnd = random.Random(seed)
    folder = tmp_path / "store"
    told: list[tuple[str, int]] = []
    for turn in range(kills):
        outputs = [tmp_path / f"out-{turn}-{n}" for n in range(processes)]
        writers = [start(folder, f"t{turn}w{n}x", output) for n, output in enumerate(outputs)]
        deadline = time.monotonic() + 20
        while not all(output.stat().st_size for output in outputs) and time.monotonic() < deadline:
            time.sleep(0.02)
            assert all(writer.poll() is None for writer in writers), writers[0].stderr and writers[0].stderr.read().decode()
        time.sleep(rnd.uniform(0, 0.4))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            writer.wait(10)
        for output in outputs:
            told += acknowledged(output)
        assert await check(folder, told) >= len(told)
    assert len(told) > kills


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path, processes: int) -> None:
    await run(tmp_path, 3, processes, processes)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 3])
async def test_many_kills_lose_nothing_acknowledged(tmp_path: Path, processes: int) -> None:
    await run(tmp_path, 100, 100 + processes, processes)
