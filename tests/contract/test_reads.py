"""Reading many at a snapshot, previous versions, the change feed and its readers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.storage.port import Effects, LeaseLost, Store, Unit
from tests.contract import support as s


async def test_unknown_resources_are_none(store: Store) -> None:
    assert await store.read("Patient", "x") is None
    assert await store.read_version("Patient", "x", 1) is None
    assert await store.last_rid() == 0


async def test_read_many_gives_those_that_live_in_the_order_asked(store: Store) -> None:
    await s.save(store, s.patient("a"), s.patient("b"), s.observation("o"))
    await store.transact(Unit.of(s.delete("Patient", "b")))
    found = await store.read_many([("Observation", "o"), ("Patient", "b"), ("Patient", "x"), ("Patient", "a"), ("Observation", "o")])
    assert s.ids(found) == ["o", "a", "o"]


async def test_read_many_at_a_snapshot_gives_the_versions_of_then(store: Store) -> None:
    await s.save(store, s.patient("a", n=1), s.patient("b", n=1))
    await s.save(store, s.patient("a", n=2))
    then = await store.last_rid()
    await s.save(store, s.patient("a", n=3), s.patient("c", n=1))
    await store.transact(Unit.of(s.delete("Patient", "b")))
    found = await store.read_many([("Patient", "a"), ("Patient", "b"), ("Patient", "c")], then)
    assert [(item.id, s.content(item)["n"]) for item in found] == [("a", 2), ("b", 1)]


async def test_previous_is_the_version_before(store: Store) -> None:
    first, *_ = await s.save(store, s.patient("a", n=1))
    await store.transact(Unit.of(s.delete("Patient", "a")))
    (third,) = await s.save(store, s.patient("a", n=3))
    second = await store.previous(third)
    assert second is not None and second.deleted
    assert await store.previous(second) == first
    assert await store.previous(first) is None


async def test_the_feed_holds_every_version_in_order(store: Store) -> None:
    await s.save(store, s.patient("a"), s.patient("b"))
    await store.transact(Unit.of(s.delete("Patient", "a"), s.put(s.patient("b", n=2))))
    feed = await store.changes(0)
    assert [(item.rid, item.id, item.version, item.method) for item in feed] == [
        (1, "a", 1, "PUT"),
        (2, "b", 1, "PUT"),
        (3, "a", 2, "DELETE"),
        (4, "b", 2, "PUT"),
    ]
    assert [item.rid for item in await store.changes(2, 1)] == [3]
    assert await store.changes(4) == []


async def test_a_position_advances_only_from_where_it_is(store: Store) -> None:
    assert await store.position("reader") == 0
    await store.transact(Unit(lambda facts: Effects(positions={"reader": (0, 5)})))
    assert await store.position("reader") == 5
    with pytest.raises(LeaseLost):
        await store.transact(Unit(lambda facts: Effects([s.put(s.patient("a"))], positions={"reader": (0, 9)})))
    assert await store.position("reader") == 5 and await store.read("Patient", "a") is None


async def test_of_two_equal_advances_one_wins(store: Store) -> None:
    units = [Unit(lambda facts: Effects(positions={"reader": (0, 7)})) for _ in range(6)]
    results = await asyncio.gather(*(store.transact(unit) for unit in units), return_exceptions=True)
    assert sum(isinstance(result, LeaseLost) for result in results) == 5


async def test_subscribers_wake_after_a_commit_of_this_or_another_store(open_store: Any) -> None:
    one, two = await open_store(), await open_store()
    woken = asyncio.Event()
    end = one.subscribe(woken.set)
    await asyncio.sleep(0.12)
    for store in (one, two):
        woken.clear()
        await s.save(store, s.patient("a", n=id(store)))
        await asyncio.wait_for(woken.wait(), 1)
    end()
    await asyncio.sleep(0.12)
    woken.clear()
    await s.save(one, s.patient("a", n=3))
    await asyncio.sleep(0.12)
    assert not woken.is_set()


async def test_a_subscriber_that_fails_does_not_harm_the_write(store: Store) -> None:
    def broken() -> None:
        raise RuntimeError("subscriber")

    woken: list[int] = []
    store.subscribe(broken)
    store.subscribe(lambda: woken.append(1))
    await s.save(store, s.patient("a"))
    assert woken and await store.read("Patient", "a") is not None


async def test_a_secret_is_made_once_and_stays(open_store: Any) -> None:
    one, two = await open_store(), await open_store()
    secret = await one.secret("cursor")
    assert len(secret) == 32 and await two.secret("cursor") == secret and await one.secret("other") != secret


async def test_check_tells_facts(store: Store) -> None:
    await s.save(store, s.patient("a"))
    facts = await store.check()
    assert facts["last_rid"] == 1 and facts["free_bytes"] > 0
