"""The queue of later work: leases, order per key, uniqueness, dead letters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.storage.port import ClaimedJob, Effects, Job, LeaseLost, Store, Unit
from tests.contract import support as s


async def add(store: Store, *jobs: Job) -> None:
    await store.transact(Unit.of(jobs=jobs))


async def done(store: Store, *jobs: ClaimedJob) -> None:
    await store.transact(Unit(lambda facts: Effects(done_jobs=[(job.id, job.lease) for job in jobs])))


async def claim(store: Store, now: int = 1000, *kinds: str, **options: Any) -> list[ClaimedJob]:
    return await store.claim_jobs(now, kinds=kinds or ("k",), **options)


async def test_a_due_job_is_claimed_once(store: Store) -> None:
    await add(store, Job("k", "a", {"x": [1, "二"]}, due=500), Job("k", "b", {}, due=2000), Job("other", "a", {}))
    (job,) = await claim(store)
    assert (job.kind, job.key, job.payload, job.due, job.attempts) == ("k", "a", {"x": [1, "二"]}, 500, 1)
    assert await claim(store) == []
    await done(store, job)
    assert await claim(store) == [] and len(await claim(store, 2000)) == 1


async def test_oldest_due_first_and_no_more_than_asked(store: Store) -> None:
    await add(store, *(Job("k", f"key{n}", {"n": n}, due=100 - n) for n in range(10)))
    assert [job.payload["n"] for job in await claim(store, limit=3)] == [9, 8, 7]


async def test_jobs_of_one_key_run_one_after_the_other(store: Store) -> None:
    await add(store, *(Job("k", key, {"n": n}) for n in range(3) for key in ("a", "b")), Job("k2", "a", {"n": 9}))
    order: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(3):
        jobs = await claim(store)
        assert sorted(job.key for job in jobs) == ["a", "b"]
        for job in jobs:
            order[job.key].append(job.payload["n"])
        assert await claim(store) == []
        assert len(await claim(store, 1000, "k2")) == (1 if order["a"] == [0] else 0)
        await done(store, *jobs)
    assert order == {"a": [0, 1, 2], "b": [0, 1, 2]}


async def test_an_earlier_job_that_waits_holds_up_its_key(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}, due=5000), Job("k", "a", {"n": 1}, due=10))
    assert await claim(store) == []
    assert [job.payload["n"] for job in await claim(store, 5000)] == [0]


async def test_a_retry_waits_until_due_and_keeps_its_place(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}), Job("k", "a", {"n": 1}))
    (job,) = await claim(store)
    await store.retry_job(job.id, job.lease, 3000, "no answer")
    assert await claim(store) == []
    (again,) = await claim(store, 3000)
    assert again.id == job.id and again.attempts == 2 and again.lease != job.lease
    (listed,) = [item for item in await store.list_jobs("open", "k") if item["id"] == job.id]
    assert listed["error"] == "no answer" and listed["attempts"] == 2


async def test_an_expired_lease_is_taken_over_and_the_first_holder_refused(store: Store) -> None:
    await add(store, Job("k", "a", {}))
    (first,) = await claim(store, lease=1)
    await asyncio.sleep(0.02)
    (second,) = await claim(store)
    for attempt in (done(store, first), store.retry_job(first.id, first.lease, 0, "x"), store.bury_job(first.id, first.lease, "x")):
        with pytest.raises(LeaseLost):
            await attempt
    await done(store, second)
    with pytest.raises(LeaseLost):
        await done(store, second)


async def test_a_unit_with_a_lost_lease_writes_nothing(store: Store) -> None:
    await add(store, Job("k", "a", {}))
    (job,) = await claim(store)
    await done(store, job)
    with pytest.raises(LeaseLost):
        await store.transact(
            Unit(lambda facts: Effects([s.put(s.patient("a"))], jobs=[Job("k", "z", {})], done_jobs=[(job.id, job.lease)]))
        )
    assert await store.read("Patient", "a") is None and await store.list_jobs("open") == []


async def test_a_job_and_its_effect_are_one(store: Store) -> None:
    await add(store, Job("k", "a", {}))
    (job,) = await claim(store)
    unit = Unit(lambda facts: Effects([s.put(s.patient("a"))], jobs=[Job("k", "a", {"n": 2})], done_jobs=[(job.id, job.lease)]))
    await store.transact(unit)
    assert await store.read("Patient", "a") is not None
    assert [item["state"] for item in await store.list_jobs()] == ["done", "open"]
    assert [item.payload for item in await claim(store)] == [{"n": 2}]


async def test_a_unique_job_is_added_once_also_after_it_is_done_and_pruned(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 1}, unique="u"))
    await add(store, Job("k", "a", {"n": 2}, unique="u"), Job("k2", "a", {"n": 3}, unique="u"), Job("k", "b", {"n": 4}, unique="v"))
    assert sorted(item["payload"]["n"] for item in await store.list_jobs()) == [1, 3, 4]
    for job in await claim(store):
        await done(store, job)
    await add(store, Job("k", "a", {"n": 5}, unique="u"))
    assert await store.prune_jobs(2**60) == 2
    await add(store, Job("k", "a", {"n": 6}, unique="u"))
    assert [item["payload"]["n"] for item in await store.list_jobs()] == [3]


async def test_a_dead_letter_frees_its_key_and_can_be_revived(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}), Job("k", "a", {"n": 1}), Job("k", "a", {"n": 2}))
    (job,) = await claim(store)
    await store.bury_job(job.id, job.lease, "refused for good")
    (dead,) = await store.list_jobs("dead")
    assert dead["error"] == "refused for good" and dead["id"] == job.id
    (following,) = await claim(store)
    assert following.payload == {"n": 1}
    assert await store.revive_job(job.id, 500) and not await store.revive_job(job.id, 500)
    assert await claim(store) == [], "a job of the key still runs"
    await done(store, following)
    (revived,) = await claim(store)
    assert revived.id == job.id and revived.attempts == 1
    await done(store, revived)
    assert [item.payload["n"] for item in await claim(store)] == [2]


async def test_next_due_is_the_earliest_of_the_open_jobs(store: Store) -> None:
    assert await store.next_due(("k",)) is None
    await add(store, Job("k", "a", {}, due=300), Job("k", "b", {}, due=200), Job("other", "a", {}, due=1))
    assert await store.next_due(("k",)) == 200 and await store.next_due(("k", "other")) == 1
    (job,) = await claim(store, 250)
    assert await store.next_due(("k",)) == 300
    await store.retry_job(job.id, job.lease, 250, "later")
    assert await store.next_due(("k",)) == 250


async def test_listing_pages_by_number(store: Store) -> None:
    await add(store, *(Job("k", str(n), {"n": n}) for n in range(5)))
    first = await store.list_jobs("open", "k", limit=3)
    rest = await store.list_jobs("open", "k", after=first[-1]["id"], limit=3)
    assert [item["payload"]["n"] for item in first + rest] == [0, 1, 2, 3, 4]
    assert set(first[0]) >= {"id", "kind", "key", "due", "attempts", "state", "error", "payload"}


async def test_two_stores_share_the_queue_without_doing_a_job_twice(open_store: Any) -> None:
    stores = [await open_store(), await open_store()]
    await add(stores[0], *(Job("k", f"key{n % 7}", {"n": n}) for n in range(70)))
    ran: list[int] = []

    async def runner(store: Store) -> None:
        while len(ran) < 70:
            for job in await claim(store, limit=2):
                ran.append(job.payload["n"])
                await done(store, job)
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*(runner(store) for store in stores)), 30)
    assert sorted(ran) == list(range(70))
    for key in range(7):
        assert [n for n in ran if n % 7 == key] == list(range(key, 70, 7))


async def test_a_lease_has_one_holder_until_it_ends(open_store: Any) -> None:
    one, two = await open_store(), await open_store()
    assert await one.acquire_lease("clock", "one", 60)
    assert not await two.acquire_lease("clock", "two", 60)
    assert await one.acquire_lease("clock", "one", 60) and await two.acquire_lease("another", "two", 60)
    await asyncio.sleep(0.08)
    assert await two.acquire_lease("clock", "two", 60_000) and not await one.acquire_lease("clock", "one", 60)


async def test_a_revived_job_carries_what_it_is_given(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}))
    (job,) = await claim(store)
    await store.bury_job(job.id, job.lease, "refused")
    assert await store.revive_job(job.id, 0, {"n": 0, "again": True})
    assert [item.payload for item in await claim(store)] == [{"n": 0, "again": True}]


async def test_a_waiting_job_can_be_set_aside_and_the_next_of_its_key_follows(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}), Job("k", "a", {"n": 1}))
    first = (await store.list_jobs("open"))[0]
    assert await store.set_aside_job(first["id"], "taken out by hand")
    assert [(item["payload"]["n"], item["error"]) for item in await store.list_jobs("dead")] == [(0, "taken out by hand")]
    assert not await store.set_aside_job(first["id"], "again"), "it is no open job any more"
    (following,) = await claim(store)
    assert following.payload == {"n": 1}


async def test_a_job_that_runs_is_not_set_aside(store: Store) -> None:
    await add(store, Job("k", "a", {}))
    (job,) = await claim(store)
    assert (await store.list_jobs())[0]["running"] is True
    assert not await store.set_aside_job(job.id, "by hand") and not await store.set_aside_job(job.id + 1, "unknown")
    await done(store, job)
    assert [(item["state"], item["running"]) for item in await store.list_jobs()] == [("done", False)]


async def test_the_waiting_jobs_of_a_key_can_be_made_due(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}, due=9_000), Job("k", "a", {"n": 1}, due=100), Job("k", "b", {"n": 2}, due=9_000))
    assert await claim(store, 500) == []
    assert await store.hasten_jobs("k", "a", 400) == 2
    assert [item["due"] for item in await store.list_jobs(key="a")] == [400, 100], "what is due earlier stays so"
    assert [item.payload["n"] for item in await claim(store, 500)] == [0]
    assert await store.next_due(("k",)) == 9_000


async def test_one_waiting_job_can_be_made_due(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 0}, due=9_000), Job("k", "a", {"n": 1}, due=9_000))
    first, second = await store.list_jobs("open")
    assert await store.hasten_job(first["id"], 400)
    assert [item["due"] for item in await store.list_jobs("open")] == [400, 9_000]
    (job,) = await claim(store, 500)
    assert not await store.hasten_job(job.id, 300) and not await store.hasten_job(second["id"] + 1, 300)


async def test_jobs_are_counted_by_kind_and_state(store: Store) -> None:
    await add(store, Job("k", "a", {}, due=7), Job("k", "b", {}, due=5), Job("l", "a", {}, due=9), Job("m", "a", {}, due=1))
    (job,) = await claim(store, 2, "m")
    await store.bury_job(job.id, job.lease, "no")
    assert [row[:4] for row in await store.count_jobs()] == [("k", "open", 2, 5), ("l", "open", 1, 9), ("m", "dead", 1, 1)]


async def test_running_jobs_and_those_that_failed_before_are_counted(store: Store) -> None:
    await add(store, *(Job("k", key, {}) for key in "abc"))
    first, *_ = await claim(store, limit=2)
    await store.retry_job(first.id, first.lease, 9_000, "refused")
    assert [(row.number, row.running, row.waiting) for row in await store.count_jobs()] == [(3, 1, 1)]
    assert [job["key"] for job in await store.list_jobs("open", tried=True)] == [first.key], "neither the running nor the fresh one"


async def test_a_job_is_found_by_its_number(store: Store) -> None:
    await add(store, Job("k", "a", {"n": 1}))
    (listed,) = await store.list_jobs()
    assert await store.job(listed["id"]) == listed
    assert await store.job(listed["id"] + 1) is None


async def test_the_holder_of_a_lease_is_known_until_it_ends(store: Store) -> None:
    assert await store.lease_holder("clock") is None
    await store.acquire_lease("clock", "one", 60_000)
    assert await store.lease_holder("clock") == "one"
    await store.acquire_lease("clock", "one", 0)
    assert await store.lease_holder("clock") is None
