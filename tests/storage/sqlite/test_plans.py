"""Every way the planner may take gives the same answer: thresholds are moved so that small data goes each of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fhir_server.search import query as q
from fhir_server.storage.port import Position, Store, Unit
from fhir_server.storage.sqlite import joins, planner, searching, selects, store, text_searches
from tests.contract import support as s
from tests.contract.test_search_differential import World, populate, random_criterion
from tests.contract.test_search_order import KEYS, down
from tests.storage.sqlite.invariants import faults

WAYS = {
    "chains in the statement, forward": {(planner, "SMALL_CHAIN"): -1, (joins, "REFS_COST"): 0},
    "chains in the statement, as a set": {(planner, "SMALL_CHAIN"): -1, (joins, "REFS_COST"): 10**9, (joins, "FEW_ROWS"): -1},
    "windows of rid": {(searching, "GATHER"): -1, (searching, "WINDOW"): 3, (selects, "FEW"): -1},
    "texts planned": {(text_searches, "MOST"): 0},
    "texts in threads": {(store, "HEAVY"): 3, (text_searches, "FEW"): 5},
    "in threads": {(store, "HEAVY"): -1, (searching, "HEAVY"): -1},
    "dates bound keys": {(selects, "FEW"): -1},
    "without patient-code keys": {(planner, "COMPOSITES"): 0},
    "all together": {
        (planner, "SMALL_CHAIN"): 2,
        (searching, "GATHER"): 5,
        (searching, "WINDOW"): 2,
        (selects, "FEW"): 3,
        (store, "HEAVY"): 30,
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(2))
async def test_each_way_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, seed: int) -> None:
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    rnd = random.Random(f"{way}{seed}")
    clock = [1000]
    opened = s.sqlite_store(tmp_path / "store", clock=lambda: clock[0])
    await opened.open()
    world = World()
    for _ in range(3):
        await populate(opened, rnd, world, 25, clock)
        world.changed()
        for _ in range(60):
            type = rnd.choice(s.TYPES)
            where = random_criterion(rnd, type, 3)
            wanted = world.matches(type, where)
            found = await all_ids(opened, q.Query((type,), where, limit=rnd.choice([1, 7, 50])))
            assert found == sorted(wanted, key=lambda id: -world.live[type, id][0]), where
            assert await opened.count(q.Query((type,), where)) == len(wanted), where
            if type == "Observation":
                sort = rnd.choice([KEYS["date"], down(KEYS["date"])])
                by_date = await all_ids(opened, q.Query((type,), where, (sort,), limit=rnd.choice([1, 7, 50])))
                assert sorted(by_date) == sorted(wanted) and len(set(by_date)) == len(by_date), where
                assert by_date == sorted(wanted, key=lambda id: by_clinical(world, id, sort.descending)), where
    await opened.close()
    assert faults(tmp_path / "store" / "fhir.db") == []


def by_clinical(world: World, id: str, descending: bool) -> tuple[int, int, int]:
    rid, _, values = world.live["Observation", id]
    sign = -1 if descending else 1
    dated = values.clinical > -(2**62)
    # Dates before the year 1 (an open start) count as the earliest there is.
    return (0, sign * max(values.clinical, -(2**46) + 1), sign * rid) if dated else (1, 0, sign * rid)


async def all_ids(opened: Store, query: q.Query) -> list[str]:
    found: list[str] = []
    after: Position | None = None
    while True:
        page = await opened.search(query, after)
        found += s.ids(page.items)
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_keeps_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Chains and _has at an older snapshot see the versions of then on both sides."""
    for (module, name), value in WAYS[way].items():
        monkeypatch.setattr(module, name, value)
    rnd = random.Random(way)
    clock = [1000]
    opened = s.sqlite_store(tmp_path / "store", clock=lambda: clock[0])
    await opened.open()
    world = World()
    await populate(opened, rnd, world, 60, clock)
    checked = 0
    for _ in range(40):
        type = rnd.choice(["Observation", "Patient", "Condition"])
        where = random_criterion(rnd, type, 3)
        sort = rnd.choice([(), (q.SortKey("_id", "id"),), (down(KEYS["date"]),) if type == "Observation" else ()])
        whole = await all_ids(opened, q.Query((type,), where, sort, limit=1000))
        first = await opened.search(q.Query((type,), where, sort, limit=2, total="accurate"))
        assert first.total == len(whole)
        found, page = s.ids(first.items), first
        while page.next is not None:
            await populate(opened, rnd, world, 1, clock)
            page = await opened.search(q.Query((type,), where, sort, limit=2), page.next._replace(total=None))
            found += s.ids(page.items)
        assert found == whole, where
        checked += len(whole)
    assert checked > 100
    await opened.close()


async def test_a_patient_and_code_are_answered_by_one_key(tmp_path: Path) -> None:
    opened = s.sqlite_store(tmp_path / "store")
    await opened.open()
    await s.save(opened, *(s.observation(f"o{n}", f"p{n % 3}", f"c{n % 2}", n) for n in range(30)))
    code, patient = q.KeyMatch(s.OBS_CODE, s.LOINC, "c1"), q.KeyMatch(s.OBS_SUBJECT, "Patient", "p2")
    facts = await opened.explain(q.Query(("Observation",), q.And((patient, code)), (down(KEYS["date"]),)))
    plan = facts["plan"][0]
    assert plan["leads"] == "postings of 1 key(s), 5 resource(s)" and plan["probes"] == []
    await opened.close()


async def test_a_search_over_the_time_limit_is_503_with_advice(tmp_path: Path) -> None:
    from fhir_server.errors import FhirError

    opened = s.sqlite_store(tmp_path / "store", search_seconds=0.0)
    await opened.open()
    await s.save(opened, *(s.observation(f"o{n}", f"p{n % 3}", f"c{n % 2}", n, 400 * s.DAY) for n in range(5000)))
    slow = q.Query(("Observation",), q.Not(q.RangeMatch(s.OBS_DATE, low_min=0)), (KEYS["value"],))
    with pytest.raises(FhirError) as error:
        await opened.search(slow)
    assert error.value.status == 503 and "Narrow it" in error.value.issues[0].diagnostics
    assert (await opened.search(q.Query(("Observation",), q.Ids(("o1",))))).total == 1
    await opened.close()


async def test_swept_versions_leave_no_entries(tmp_path: Path) -> None:
    now = [10_000_000]
    opened = s.sqlite_store(tmp_path / "store", clock=lambda: now[0], cursor_seconds=60)
    await opened.open()
    world, rnd = World(), random.Random(3)
    await populate(opened, rnd, world, 80, now)
    now[0] += 1_000_000
    await opened._sweeper.sweep(now[0] - 120_000)  # type: ignore[attr-defined]
    (left,) = opened._db.execute("SELECT count(*) FROM superseded").fetchone()  # type: ignore[attr-defined]
    assert left == 0
    for type in s.TYPES:
        assert set(await all_ids(opened, q.Query((type,)))) == world.matches(type, q.Everything())
    await opened.transact(Unit.of(s.put(s.patient("p1", "New"))))
    await opened.close()
    assert faults(tmp_path / "store" / "fhir.db") == []


async def test_a_set_that_a_probe_needs_counts_as_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One patient of a rare name, but all have a number of the system: gathering these must not hold up the event loop."""
    opened = s.sqlite_store(tmp_path / "store")
    await opened.open()
    await s.save(opened, *(s.patient(f"p{n}", f"Name{n}", identifier=[("urn:mrn", str(n))]) for n in range(500)))
    rare = q.TextMatch(s.PAT_FAMILY, "name77", "prefix")
    both = q.And((rare, q.KeyMatch(s.PAT_IDENTIFIER, "urn:mrn", None)))
    threads: list[object] = []
    lend = opened._readers.in_thread

    async def noted(work: object) -> object:
        threads.append(work)
        return await lend(work)

    monkeypatch.setattr(opened._readers, "in_thread", noted)
    monkeypatch.setattr(store, "HEAVY", 100)
    assert s.ids((await opened.search(q.Query(("Patient",), rare))).items) == ["p77"]
    assert threads == []
    assert s.ids((await opened.search(q.Query(("Patient",), both))).items) == ["p77"]
    assert len(threads) == 1
    await opened.close()
