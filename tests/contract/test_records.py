"""Records of the server itself: by key, by attributes, in the order of insertion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.storage.port import Commit, Effects, Record, RecordExists, Store, Unit
from tests.contract import support as s


async def put(store: Store, *records: Record) -> None:
    await store.transact(Unit.of(records=records))


async def test_a_record_is_found_by_its_key(store: Store) -> None:
    await put(store, Record("inbox", "a", {"text": "你好", "n": 1.5, "raw": b"\x00\xff"}, {"user": "u1"}))
    found = await store.record("inbox", "a")
    assert (
        found is not None
        and found.key == "a"
        and found.data == {"text": "你好", "n": 1.5, "raw": b"\x00\xff"}
        and found.attributes == {"user": "u1"}
    )
    assert await store.record("inbox", "b") is None and await store.record("other", "a") is None


async def test_a_second_of_the_same_key_replaces_and_keeps_its_number(store: Store) -> None:
    await put(store, Record("c", "a", {"n": 1}, {"state": "new", "user": "u"}))
    await put(store, Record("c", "b", {"n": 2}, {"state": "new"}))
    before = await store.record("c", "a")
    await put(store, Record("c", "a", {"n": 3}, {"state": "done", "user": "u"}))
    after = await store.record("c", "a")
    assert before is not None and after is not None and after.seq == before.seq and after.data == {"n": 3}
    assert [item.key for item in await store.records("c", {"state": "new"})] == ["b"]
    assert [item.key for item in await store.records("c", {"state": "done", "user": "u"})] == ["a"]


async def test_a_record_that_must_be_new_refuses_the_unit(store: Store) -> None:
    await put(store, Record("journal", "m1", {}, only_new=True))
    with pytest.raises(RecordExists) as error:
        await store.transact(Unit.of(s.put(s.patient("a")), records=[Record("journal", "m1", {}, only_new=True)]))
    assert (error.value.collection, error.value.key) == ("journal", "m1")
    assert await store.read("Patient", "a") is None


async def test_of_parallel_new_records_one_is_written(open_store: Any) -> None:
    stores = [await open_store(), await open_store()]
    unit = Unit(lambda facts: Effects(records=[Record("journal", "m1", {}, only_new=True)]))
    results = await asyncio.gather(*(stores[n % 2].transact(unit) for n in range(12)), return_exceptions=True)
    assert sum(isinstance(result, RecordExists) for result in results) == 11


async def test_listing_is_in_the_order_of_insertion_and_pages(store: Store) -> None:
    await put(store, *(Record("c", f"k{n}", {"n": n}, {"parity": str(n % 2), "all": "x"}) for n in range(10)), Record("d", "k0", {}))
    everything = await store.records("c")
    assert [item.data["n"] for item in everything] == list(range(10))
    odd = await store.records("c", {"parity": "1"}, limit=2)
    assert [item.data["n"] for item in odd] == [1, 3]
    assert [item.data["n"] for item in await store.records("c", {"parity": "1", "all": "x"}, after=odd[-1].seq)] == [5, 7, 9]
    newest = await store.records("c", {"parity": "0"}, limit=2, newest_first=True)
    assert [item.data["n"] for item in newest] == [8, 6]
    assert [item.data["n"] for item in await store.records("c", {"parity": "0"}, after=newest[-1].seq, newest_first=True)] == [4, 2, 0]
    assert [item.data["n"] for item in await store.records("c", newest_first=True, limit=1)] == [9]


async def test_a_deleted_record_is_gone_from_every_list(store: Store) -> None:
    await put(store, Record("c", "a", {}, {"x": "1"}))
    assert await store.delete_record("c", "a") and not await store.delete_record("c", "a")
    assert await store.record("c", "a") is None and await store.records("c", {"x": "1"}) == [] and await store.records("c") == []


async def test_old_records_of_a_collection_are_removed(store: Store) -> None:
    await put(store, Record("log", "a", {"n": 1}, {"of": "x"}), Record("log", "b", {"n": 2}, {"of": "x"}), Record("other", "a", {}))
    assert await store.prune_records("log", 1) == 0, "nothing is so old"
    assert await store.prune_records("log", 2**60) == 2
    assert await store.records("log") == [] and await store.records("log", {"of": "x"}) == []
    assert await store.record("other", "a") is not None


def _concluding(writes: list[Any], conclude: Callable[[Commit], list[Record]]) -> Unit:
    def steps(commit: Commit) -> Any:
        yield
        return conclude(commit)

    return Unit(lambda facts: Effects(list(writes), conclude=steps))


def _told(commit: Commit) -> list[Record]:
    outcomes = [[outcome.result, outcome.stored.version if outcome.stored else 0] for outcome in commit.outcomes]
    return [Record("told", "u", {"outcomes": outcomes, "rid": commit.rid}, only_new=True)]


@pytest.mark.parametrize("more", [0, 300], ids=["small unit", "large unit"])
async def test_a_record_made_of_the_outcomes_is_part_of_the_unit(store: Store, more: int) -> None:
    await s.save(store, s.patient("a"))
    writes = [s.put(s.patient("a", "Li")), s.put(s.patient("b")), *(s.put(s.patient(f"m{n}")) for n in range(more))]
    commit = await store.transact(_concluding(writes, _told))
    found = await store.record("told", "u")
    assert found is not None and found.data["outcomes"][:2] == [["updated", 2], ["created", 1]]
    assert len(found.data["outcomes"]) == more + 2 and found.data["rid"] == commit.rid == await store.last_rid()


@pytest.mark.parametrize("more", [0, 300], ids=["small unit", "large unit"])
async def test_a_unit_is_refused_as_a_whole_by_what_is_made_of_its_outcomes(store: Store, more: int) -> None:
    await put(store, Record("told", "u", {}))
    writes = [s.put(s.patient(f"m{n}")) for n in range(more + 1)]
    with pytest.raises(RecordExists):
        await store.transact(_concluding(writes, _told))

    def refuse(commit: Commit) -> list[Record]:
        raise FhirError.of(422, "processing", "no")

    with pytest.raises(FhirError):
        await store.transact(_concluding(writes, refuse))
    good = asyncio.create_task(store.transact(Unit.of(s.put(s.patient("good")))))
    with pytest.raises(RecordExists):
        await store.transact(_concluding(writes, _told))
    await good
    assert [stored.id for stored in await store.changes(0)] == ["good"]
