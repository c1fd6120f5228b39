"""Many clients, and several stores on the same data, at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.port import Effects, Facts, Store, Unit
from tests.contract import support as s


def conditional_create(number: int, value: str = "same") -> Unit:
    """If-None-Exist: identifier=s|value."""
    write = s.post(s.patient(f"p{number}", identifier=[("s", value)]))
    return Unit(
        lambda facts: Effects([] if facts.matches[0] else [write]), [q.Query(("Patient",), q.KeyMatch(s.PAT_IDENTIFIER, "s", value))]
    )


async def test_64_parallel_equal_conditional_creates_make_one_resource(store: Store) -> None:
    commits = await asyncio.gather(*(store.transact(conditional_create(n)) for n in range(64)))
    assert sum(len(commit.outcomes) for commit in commits) == 1
    assert await store.count(q.Query(("Patient",))) == 1


async def test_conditional_creates_through_two_stores_make_one_resource(open_store: Any) -> None:
    stores = [await open_store(), await open_store()]
    for round in range(5):
        units = [conditional_create(round * 100 + n, f"v{round}") for n in range(40)]
        commits = await asyncio.gather(*(stores[n % 2].transact(unit) for n, unit in enumerate(units)))
        assert sum(len(commit.outcomes) for commit in commits) == 1
    for store in stores:
        assert await store.count(q.Query(("Patient",))) == 5


@pytest.mark.parametrize("count", [1, 2], ids=["one store", "two stores"])
async def test_no_update_is_lost(open_store: Any, count: int) -> None:
    """Counters increased under If-Match by competing clients end at the number of increments."""
    stores = [await open_store() for _ in range(count)]
    await s.save(stores[0], s.patient("a", n=0))

    async def client(store: Store, times: int) -> None:
        for _ in range(times):
            while True:
                current = await store.read("Patient", "a")
                assert current is not None
                try:
                    await store.transact(Unit.of(s.put(s.patient("a", n=s.content(current)["n"] + 1), current.version)))
                    break
                except FhirError as error:
                    assert error.status == 412

    await asyncio.gather(*(client(stores[n % count], 10) for n in range(8)))
    for store in stores:
        final = await store.read("Patient", "a")
        assert final is not None and s.content(final)["n"] == 80 and final.version == 81


async def test_increments_decided_inside_the_unit_need_no_retry(store: Store) -> None:
    await s.save(store, s.patient("a", n=0))

    def decide(facts: Facts) -> Effects:
        current = facts.current[("Patient", "a")]
        assert current is not None
        return Effects([s.put(s.patient("a", n=s.content(current)["n"] + 1))])

    await asyncio.gather(*(store.transact(Unit(decide, (), [("Patient", "a")])) for _ in range(50)))
    final = await store.read("Patient", "a")
    assert final is not None and s.content(final)["n"] == 50


async def test_a_write_of_one_store_is_read_by_the_other_at_once(open_store: Any) -> None:
    one, two = await open_store(), await open_store()
    for number in range(30):
        await s.save(one, s.observation(f"o{number}", f"p{number}", code=f"c{number % 3}"))
        assert (await two.read("Observation", f"o{number}")) is not None
        found = await two.search(q.Query(("Observation",), q.KeyMatch(s.OBS_CODE, s.LOINC, f"c{number % 3}")))
        assert found.items[0].id == f"o{number}" and found.total == number // 3 + 1
        await s.save(two, s.observation(f"x{number}", f"p{number}", code="other"))
        assert (await one.search(q.Query(("Observation",), q.KeyMatch(s.OBS_CODE, s.LOINC, "other")))).total == number + 1


async def test_versions_of_competing_stores_are_one_sequence(open_store: Any) -> None:
    stores = [await open_store(), await open_store(), await open_store()]
    seen: list[int] = []

    async def writer(store: Store, name: str) -> None:
        for number in range(30):
            commit = await store.transact(Unit.of(s.put(s.patient(f"{name}{number}")), s.put(s.patient("shared", n=f"{name}{number}"))))
            seen.extend(outcome.stored.rid for outcome in commit.outcomes if outcome.stored)

    await asyncio.gather(*(writer(store, f"w{n}") for n, store in enumerate(stores)))
    assert sorted(seen) == list(range(1, 181))
    feed = await stores[0].changes(0)
    assert [item.rid for item in feed] == list(range(1, 181))
    shared = [item.version for item in feed if item.id == "shared"]
    assert shared == list(range(1, 91))


async def test_a_reader_of_the_feed_never_misses_a_version(open_store: Any) -> None:
    one, two = await open_store(), await open_store()
    read: list[int] = []
    done = False

    async def follow() -> None:
        after = 0
        while not (done and after == await one.last_rid()):
            for item in await one.changes(after, 7):
                read.append(item.rid)
                after = item.rid
            await asyncio.sleep(0)

    async def write(store: Store, name: str) -> None:
        for number in range(60):
            await s.save(store, *(s.patient(f"{name}{number}-{k}") for k in range(number % 4 + 1)))

    follower = asyncio.create_task(follow())
    await asyncio.gather(write(one, "a"), write(two, "b"))
    done = True
    await asyncio.wait_for(follower, 20)
    assert read == list(range(1, await one.last_rid() + 1))


async def test_reads_go_on_while_a_large_unit_is_written(store: Store) -> None:
    await s.save(store, s.patient("a"))
    writes = [s.put(s.observation(f"o{n}", f"p{n % 50}")) for n in range(3000)]
    task = asyncio.create_task(store.transact(Unit.of(*writes)))
    reads, longest = 0, 0.0
    loop = asyncio.get_running_loop()
    while not task.done():
        started = loop.time()
        assert await store.read("Patient", "a") is not None
        # The last first: the commit may come between the two reads.
        last, first = await store.read("Observation", "o2999"), await store.read("Observation", "o0")
        assert first is not None or last is None
        if first is not None:
            assert await store.read("Observation", "o2999") is not None
        await asyncio.sleep(0)
        longest = max(longest, loop.time() - started)
        reads += 1
    assert len((await task).outcomes) == 3000
    assert reads > 20
    assert longest < 1.0
