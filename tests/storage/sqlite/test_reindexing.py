"""The index is filled while others write: afterwards each search finds what a look at every resource finds, and all counts are right.

Specification: rest-search.md section 4, failure 21 ("$reindex stuck, lost on restart, or completed with nothing indexed").
Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite import filling, schema
from tests.storage.sqlite import site
from tests.storage.sqlite.invariants import faults

ROOT = Path(__file__).resolve().parents[3]


async def doctors(store) -> None:
    await store.transact(
        Unit.of(*(Write("PUT", "Practitioner", f"d{n}", {"resourceType": "Practitioner", "id": f"d{n}"}) for n in range(3)))
    )


async def random_work(folder: Path, seed: int, turns: int, stores: int) -> None:
    rnd = random.Random(seed)
    pairs = [site.opened(folder, cursor_seconds=1) for _ in range(stores)]
    for store, _ in pairs:
        await store.open()
    await doctors(pairs[0][0])
    await site.some_writes(pairs[0][0], rnd, 60)
    answered = 0
    for _ in range(turns):
        store, registry = rnd.choice(pairs)
        await site.some_writes(store, rnd, rnd.randrange(4))
        chance = rnd.random()
        if chance < 0.3:
            code = rnd.choice(tuple(site.EXPRESSIONS))
            await store.transact(Unit.of(site.parameter(code, rnd.randrange(2), rnd.choice(("active", "active", "active", "retired")))))
        elif chance < 0.4:
            await store.transact(Unit.of(Write("DELETE", "SearchParameter", rnd.choice(tuple(site.EXPRESSIONS)))))
        elif chance < 0.45:
            await store.reindex(rnd.choice(([], ["Patient"], ["Patient", "Practitioner"])))
        elif chance < 0.5:
            await store.erase("SearchParameter", rnd.choice(tuple(site.EXPRESSIONS)))
        answered += await site.never_partly(*rnd.choice(pairs))
        if chance > 0.8:
            await site.quiet(store)
    await site.quiet(pairs[0][0])
    for store, registry in pairs:
        assert await site.differences(store, registry) == []
    assert answered
    for store, _ in pairs:
        await store.close()
    assert faults(folder / "fhir.db") == []


@pytest.mark.parametrize(("seed", "stores"), [(1, 1), (2, 1), (3, 2), (4, 3)])
async def test_random_work_while_the_index_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, stores: int) -> None:
    monkeypatch.setattr(filling, "SLICE", 7)
    monkeypatch.setattr(filling, "BUDGET", 0.001)
    await random_work(tmp_path, seed, 40, stores)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
async def test_much_random_work_while_the_index_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(filling, "SLICE", seed % 9 + 1)
    monkeypatch.setattr(filling, "BUDGET", 0.0005)
    await random_work(tmp_path, seed, 150, seed % 3 + 1)


async def kills(tmp_path: Path, number: int, seed: int, processes: int) -> None:
    rnd = random.Random(seed)
    folder = tmp_path / "store"
    store, _ = site.opened(folder)
    await store.open()
    await doctors(store)
    await store.transact(Unit.of(site.parameter("mood", 0), site.parameter("likes", 1)))
    await store.close()
    for turn in range(number):
        outputs = [tmp_path / f"out-{turn}-{n}" for n in range(processes)]
        running = []
        for n, output in enumerate(outputs):
            with output.open("wb") as file:
                line = [sys.executable, "-m", "tests.storage.sqlite.reindex_process", str(folder), f"{seed}-{turn}-{n}"]
                running.append(subprocess.Popen(line, cwd=ROOT, stdout=file, stderr=subprocess.PIPE))
        deadline = time.monotonic() + 30
        while not all(output.stat().st_size for output in outputs) and time.monotonic() < deadline:
            time.sleep(0.02)
            assert all(one.poll() is None for one in running), [one.stderr.read().decode() for one in running if one.poll() is not None]
        time.sleep(rnd.uniform(0, 0.8))
        for one in running:
            assert one.poll() is None, one.stderr.read().decode()
            os.kill(one.pid, signal.SIGKILL)
            one.wait(10)
        if rnd.random() < 0.5:
            continue  # the next processes find it as it is
        store, registry = site.opened(folder)
        await store.open()
        await site.never_partly(store, registry)
        await site.quiet(store)
        assert await site.differences(store, registry) == []
        await store.close()
        assert faults(folder / "fhir.db") == []
    store, registry = site.opened(folder)
    await store.open()
    await site.quiet(store)
    assert await site.differences(store, registry) == []
    assert all(one.faults == 0 for one in await store.reindexing())
    await store.close()
    assert faults(folder / "fhir.db") == []


@pytest.mark.parametrize("processes", [1, 2])
async def test_kills_at_any_moment_cost_nothing(tmp_path: Path, processes: int) -> None:
    await kills(tmp_path, 4, processes, processes)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 3])
async def test_many_kills_at_any_moment_cost_nothing(tmp_path: Path, processes: int) -> None:
    await kills(tmp_path, 80, 50 + processes, processes)


async def test_work_that_another_process_left_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that began it is gone without a word; one that has been there all the time goes on when its lease has run out."""
    monkeypatch.setattr(filling, "BUDGET", 0.0)  # nobody gets anywhere
    first, _ = site.opened(tmp_path)
    other, registry = site.opened(tmp_path)
    await first.open()
    await other.open()
    await site.some_writes(first, random.Random(1), 30)
    await first.transact(Unit.of(site.parameter("mood", 0)))
    first._reindexer._task.cancel()
    monkeypatch.setattr(filling, "BUDGET", 0.01)
    other.renew()
    with pytest.raises(FhirError, match="0 of"):
        registry.get("Patient", "mood")
    await site.quiet(other, 15)
    assert await site.differences(other, registry) == []
    await first.close()
    await other.close()


async def test_each_resource_is_visited_and_counted_once(tmp_path: Path) -> None:
    store, _ = site.opened(tmp_path)
    await store.open()
    await site.some_writes(store, random.Random(5), 40)
    live = await store.count(q.Query(("Patient",)))
    for types in ([], ["Patient"]):
        # Asked for together: so few resources may be indexed before a second question that comes later.
        id, again = await asyncio.gather(store.reindex(types), store.reindex(types))
        assert again == id  # it joins
        await site.quiet(store)
        (work,) = await store.reindexing(id)
        assert work.ended and work.done == work.total == live and work.faults == 0
    left = store._writing.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%aside%'").fetchall()
    assert left == []
    await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_rows_that_were_lost_are_written_again(tmp_path: Path) -> None:
    store, registry = site.opened(tmp_path)
    await store.open()
    await site.some_writes(store, random.Random(5), 40)
    await store.transact(Unit.of(site.parameter("mood", 0), site.parameter("seen", 0), site.parameter("alias", 0)))
    await site.quiet(store)
    for damage in ("DELETE FROM text", "DELETE FROM range", "DELETE FROM posting WHERE sort <> 0 OR key < 0"):
        store._writing.execute(damage)
    assert await site.differences(store, registry) != []
    await store.reindex(["Patient"])
    await site.quiet(store)
    assert await site.differences(store, registry) == []
    await store.close()


async def test_a_store_of_the_earlier_layout_is_brought_to_the_present_one(tmp_path: Path) -> None:
    """What was stored as a SearchParameter then, without effect, is served now."""
    store, _ = site.opened(tmp_path)
    store._customs = None
    await store.open()
    await site.some_writes(store, random.Random(5), 10)
    await store.transact(Unit.of(site.parameter("seen", 1)))
    await store.close()
    db = sqlite3.connect(tmp_path / "fhir.db")
    for column in ("generation", "building", "origin"):
        db.execute(f"ALTER TABLE state DROP COLUMN {column}")
    db.execute("DROP TABLE parameter")
    db.execute("DROP TABLE reindexing")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    stores = [site.opened(tmp_path) for _ in range(3)]
    await asyncio.gather(*(store.open() for store, _ in stores))
    await stores[0][0].transact(Unit.of(site.parameter("mood", 0)))
    await site.quiet(stores[1][0])
    for store, registry in stores:
        assert await site.differences(store, registry) == []
        assert registry.get("Patient", "seen") is not None
        await store.close()
    db = sqlite3.connect(tmp_path / "fhir.db")
    assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    db.close()
    assert faults(tmp_path / "fhir.db") == []
