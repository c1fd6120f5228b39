"""The embedded runner. Spec: architecture.md "Jobs" and "Processes", followup.md section 2."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fhir_server.storage.port import Effects, Job, Record, Write
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.clock import DAY, SECOND
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Hopeless, Kind, Kinds, Lane, Later
from subscriptions.jobs.runner import Jobs
from tests.jobs.world import NOW, put, services, states, write

SHORT = Backoff((1_000, 2_000, 4_000), jitter=0.0)


async def wait_for(condition, seconds: float = 5.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if await condition() if asyncio.iscoroutinefunction(condition) else condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen in time")


async def test_effect_and_done_mark_are_one_unit(tmp_path: Path) -> None:
    async def record(job, services):
        return Effects(records=[Record("seen", job.key, {"n": job.payload["n"]}, only_new=True)])

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("record", record)]))
        await put(world, Job("record", "a", {"n": 1}, NOW), Job("record", "b", {"n": 2}, NOW))
        await jobs.settle()
        assert [r.data["n"] for r in await world.store.records("seen")] == [1, 2]
        assert set((await states(world)).values()) == {("done", 1)}


async def test_a_refused_effect_leaves_the_job_open(tmp_path: Path) -> None:
    async def conflicting(job, services):
        return Effects([Write("PUT", "Basic", "b1", {"resourceType": "Basic", "id": "b1", "code": {"text": "y"}}, if_match=7)])

    async with services(tmp_path) as world:
        await write(world, "b1")
        jobs = Jobs(world, Kinds([Kind("conflict", conflicting)]))
        await put(world, Job("conflict", "a", {}, NOW))
        await jobs.settle()
        assert list((await states(world)).values()) == [("open", 1)]
        assert (await world.store.read("Basic", "b1")).version == 1


async def test_jobs_of_one_key_run_in_order_and_a_failing_one_holds_up_only_its_key(tmp_path: Path) -> None:
    ran: list[tuple[str, int]] = []
    refused = {("a", 1): 2}

    async def handler(job, services):
        mark = (job.key, job.payload["n"])
        if refused.get(mark, 0) > 0:
            refused[mark] -= 1
            raise RuntimeError("down")
        ran.append(mark)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler, backoff=SHORT)]))
        await put(world, *(Job("k", key, {"n": n}, NOW) for n in (1, 2) for key in ("a", "b")))
        await jobs.settle()
        assert ran == [("b", 1), ("b", 2)]
        world.clock.advance(1 * SECOND)
        await jobs.settle()
        assert len(ran) == 2
        world.clock.advance(2 * SECOND)
        await jobs.settle()
        assert ran[2:] == [("a", 1), ("a", 2)]


async def test_pauses_grow_and_after_the_limit_comes_the_dead_letter(tmp_path: Path) -> None:
    async def failing(job, services):
        raise RuntimeError("down")

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", failing, backoff=SHORT, limit=3)]))
        await put(world, Job("k", "a", {}, NOW))
        dues = []
        for _ in range(4):
            await jobs.settle()
            (row,) = await world.store.list_jobs()
            dues.append(row["due"] - world.clock())
            if row["state"] == "dead":
                break
            world.clock.advance(row["due"] - world.clock())
        assert dues[:2] == [1_000, 2_000]
        assert (row["state"], row["attempts"]) == ("dead", 3)
        assert "down" in row["error"]
        assert await world.store.revive_job(row["id"], world.clock())
        await jobs.settle()
        assert list((await states(world)).values()) == [("open", 1)]


async def test_hopeless_is_buried_at_once_and_later_sets_its_own_pause(tmp_path: Path) -> None:
    async def hopeless(job, services):
        raise Hopeless("never")

    async def later(job, services):
        raise Later("not yet", 90_000)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("hopeless", hopeless), Kind("later", later)]))
        await put(world, Job("hopeless", "a", {}, NOW), Job("later", "a", {}, NOW))
        await jobs.settle()
        rows = {row["kind"]: row for row in await world.store.list_jobs()}
        assert rows["hopeless"]["state"] == "dead"
        assert rows["later"]["due"] == NOW + 90_000


async def test_a_handler_without_end_is_cut_off(tmp_path: Path) -> None:
    async def hanging(job, services):
        await asyncio.sleep(60)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", hanging, timeout=0.05, backoff=SHORT)]))
        await put(world, Job("k", "a", {}, NOW))
        await jobs.settle()
        (row,) = await world.store.list_jobs()
        assert row["state"] == "open" and row["due"] == NOW + 1_000 and "0.05 s" in row["error"]


async def test_timers_run_once_for_each_instant_in_due_order_when_the_clock_jumps(tmp_path: Path) -> None:
    ran: list[str] = []

    async def timer(job, services):
        day = job.payload["day"]
        ran.append(f"d{day}")
        if day < 4:
            return Effects(jobs=[Job("daily", "all", {"day": day + 1}, NOW + (day + 1) * DAY, f"d{day + 1}")])

    async def outbox(job, services):
        ran.append("outbox")

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("daily", timer, timer=True), Kind("out", outbox)]), manual_timers=True)
        await put(world, Job("daily", "all", {"day": 1}, NOW + DAY), Job("out", "x", {}, NOW + DAY))
        assert (await jobs.settle()).timers == 0
        world.clock.advance(10 * DAY)
        settled = await jobs.settle()
        assert ran == ["outbox", "d1", "d2", "d3", "d4"]
        assert (settled.timers, settled.outbox) == (4, 1)


async def test_a_unique_timer_is_not_doubled_even_after_it_ran(tmp_path: Path) -> None:
    ran: list[int] = []

    async def timer(job, services):
        ran.append(job.id)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("t", timer, timer=True)]))
        for _ in range(3):
            await put(world, Job("t", "p", {}, NOW, "t|2026-03-02"))
            await jobs.settle()
        assert len(ran) == 1


async def test_unknown_kinds_stay_in_the_queue_and_are_reported(tmp_path: Path) -> None:
    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds())
        await put(world, Job("from-the-future", "a", {}, NOW), Job("from-the-future", "b", {}, NOW))
        await jobs.settle()
        assert await jobs.unknown() == {"from-the-future": 2}
        assert set((await states(world)).values()) == {("open", 0)}


async def test_the_running_server_is_woken_by_a_commit(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def handler(job, services):
        done.set()

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler)]))
        await jobs.start()
        await put(world, Job("k", "a", {}, NOW))
        await asyncio.wait_for(done.wait(), 0.5)
        await jobs.stop()
        assert jobs.counts["k", "done"] == 1


async def test_a_full_lane_does_not_hold_up_another(tmp_path: Path) -> None:
    release, quick = asyncio.Event(), asyncio.Event()

    async def slow(job, services):
        await release.wait()

    async def fast(job, services):
        quick.set()

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("slow", slow, Lane("slow", 2)), Kind("fast", fast, Lane("fast", 1))]))
        await jobs.start()
        await put(world, *(Job("slow", str(n), {}, NOW) for n in range(5)), Job("fast", "a", {}, NOW))
        await asyncio.wait_for(quick.wait(), 1)
        assert jobs.counts["slow", "done"] == 0
        release.set()
        await wait_for(lambda: jobs.counts["slow", "done"] == 5)
        await jobs.stop()


async def test_stop_lets_running_work_end_and_puts_the_rest_back(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handler(job, services):
        begun.set()
        await asyncio.sleep(0.1 if job.key == "short" else 60)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler, timeout=90)]))
        await jobs.start()
        await put(world, Job("k", "short", {}, NOW), Job("k", "long", {}, NOW))
        await begun.wait()
        await asyncio.sleep(0.05)
        await jobs.stop(grace=0.3)
        assert sorted(state for state, _ in (await states(world)).values()) == ["done", "open"]
        again = await world.store.claim_jobs(NOW, kinds=["k"])
        assert [job.key for job in again] == ["long"]


async def test_of_two_runners_one_works_and_the_other_takes_over(tmp_path: Path) -> None:
    ran: list[str] = []

    def kinds(name: str) -> Kinds:
        async def handler(job, services):
            ran.append(name)

        return Kinds([Kind("k", handler)])

    async with services(tmp_path) as world:
        first, second = Jobs(world, kinds("first"), lease=300), Jobs(world, kinds("second"), lease=300)
        await first.start()
        await second.start()
        assert (first.leading, second.leading) == (True, False)
        await put(world, *(Job("k", str(n), {}, NOW) for n in range(20)))
        await wait_for(lambda: len(ran) == 20)
        assert set(ran) == {"first"}
        await first.stop()
        await put(world, Job("k", "x", {}, NOW))
        await wait_for(lambda: ran[-1] == "second")
        await second.stop()


async def test_two_runners_at_once_double_nothing(tmp_path: Path) -> None:
    """S24 of followup.md: two runners, 1,000 due timers, 1,000 effects (a third of them here)."""

    async def effect(job, services):
        await asyncio.sleep(0)
        return Effects(records=[Record("seen", str(job.payload["n"]), {}, only_new=True)])

    async with services(tmp_path) as world:
        first, second = Jobs(world, Kinds([Kind("k", effect, timer=True)])), Jobs(world, Kinds([Kind("k", effect, timer=True)]))
        await put(world, *(Job("k", str(n % 50), {"n": n}, NOW) for n in range(300)))
        await asyncio.gather(first.settle(), second.settle())
        assert len(await world.store.records("seen", limit=1000)) == 300
        assert first.counts["k", "done"] + second.counts["k", "done"] == 300


async def test_feed_reader_advances_with_what_it_made_and_goes_on_there(tmp_path: Path) -> None:
    async def react(changes):
        return Effects(records=[Record("read", f"{c.id}/{c.version}", {"rid": c.rid}, only_new=True) for c in changes])

    async with services(tmp_path) as world:
        for n in range(5):
            await write(world, f"b{n}")
        await Jobs(world, Kinds(), [FeedReader("r", react)]).settle()
        await write(world, "b9")
        jobs = Jobs(world, Kinds(), [FeedReader("r", react)])
        assert await jobs.lag() == {"r": 1}
        await jobs.settle()
        assert [r.key for r in await world.store.records("read")] == ["b0/1", "b1/1", "b2/1", "b3/1", "b4/1", "b9/1"]
        assert await jobs.lag() == {"r": 0}


async def test_a_change_that_a_reader_cannot_digest_becomes_a_dead_letter_and_the_feed_goes_on(tmp_path: Path) -> None:
    async def react(changes):
        if any(change.id == "bad" for change in changes):
            raise KeyError("bug")
        return Effects(records=[Record("read", change.id, {}) for change in changes])

    async with services(tmp_path) as world:
        for id in ("b1", "bad", "b2"):
            await write(world, id)
        jobs = Jobs(world, Kinds(), [FeedReader("r", react)])
        await jobs.settle()
        assert [r.key for r in await world.store.records("read")] == ["b1", "b2"]
        for _ in range(5):
            world.clock.advance(DAY)
            await jobs.settle()
        (row,) = await world.store.list_jobs("dead")
        assert (row["kind"], row["key"]) == ("r.change", "Basic/bad")


async def test_two_feeds_of_one_reader_make_each_effect_once(tmp_path: Path) -> None:
    async def react(changes):
        await asyncio.sleep(0)
        return Effects(jobs=[Job("later", change.id, {}, NOW) for change in changes])

    async with services(tmp_path) as world:
        first, second = (Jobs(world, Kinds(), [FeedReader("r", react)]) for _ in range(2))
        for n in range(30):
            await write(world, f"b{n}")
            if n % 5 == 0:
                await asyncio.gather(first.settle(), second.settle())
        await asyncio.gather(first.settle(), second.settle())
        assert len(await world.store.list_jobs()) == 30


async def test_versions_without_effects_are_passed_without_a_write_each(tmp_path: Path) -> None:
    async def react(changes):
        return Effects()

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds(), [FeedReader("r", react)])
        await write(world, "b0")
        await jobs.settle()
        await write(world, "b1")
        await jobs.settle()
        assert await world.store.position("r") == 1
        assert await jobs.lag() == {"r": 0}
        await jobs.stop()
        assert await world.store.position("r") == 2


@pytest.mark.parametrize(("attempts", "low", "high"), [(1, 900, 1_100), (3, 3_600, 4_400), (50, 54_000, 66_000)])
def test_exponential_pauses_grow_to_their_cap_with_jitter(attempts: int, low: int, high: int) -> None:
    from random import Random

    backoff = Backoff.exponential(1_000, 60_000)
    pauses = [backoff.pause(attempts, Random(seed)) for seed in range(50)]
    assert low <= min(pauses) and max(pauses) <= high and len(set(pauses)) > 10


async def test_a_train_keeps_its_order_and_marks_what_succeeded_when_one_fails(tmp_path: Path) -> None:
    ran: list[int] = []
    refuse = {2}

    async def handler(job, services):
        if job.payload["n"] in refuse:
            raise RuntimeError("down")
        ran.append(job.payload["n"])

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler, Lane("l", 2, train=5), SHORT)]))
        await put(world, *(Job("k", "a", {"n": n}, NOW) for n in range(9)), Job("k", "b", {"n": 100}, NOW))
        await jobs.start()
        await wait_for(lambda: jobs.counts["k", "retried"] == 1 and jobs.counts["k", "done"] == 3)
        assert [n for n in ran if n < 100] == [0, 1]
        rows = {row["payload"]["n"]: (row["state"], row["attempts"]) for row in await world.store.list_jobs()}
        assert rows[1] == ("done", 1) and rows[2] == ("open", 1)
        assert {rows[n] for n in range(3, 9)} == {("open", 0)}, "what was not begun has no attempt"
        refuse.clear()
        world.clock.advance(SECOND)
        await wait_for(lambda: jobs.counts["k", "done"] == 10)
        assert [n for n in ran if n < 100] == list(range(9))
        await jobs.stop()


async def test_a_train_with_effects_commits_each_with_its_mark(tmp_path: Path) -> None:
    async def handler(job, services):
        return Effects(records=[Record("seen", str(job.payload["n"]), {}, only_new=True)])

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler, Lane("l", 2, train=5))]))
        await put(world, *(Job("k", "a", {"n": n}, NOW) for n in range(12)))
        await jobs.start()
        await wait_for(lambda: jobs.counts["k", "done"] == 12)
        await jobs.stop()
        assert len(await world.store.records("seen")) == 12


async def test_stop_in_the_middle_of_a_train_gives_the_rest_back(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handler(job, services):
        if job.payload["n"] == 1:
            begun.set()
            await asyncio.sleep(60)

    async with services(tmp_path) as world:
        jobs = Jobs(world, Kinds([Kind("k", handler, Lane("l", 2, train=5), timeout=90)]))
        await put(world, *(Job("k", "a", {"n": n}, NOW) for n in range(4)))
        await jobs.start()
        await begun.wait()
        await jobs.stop(grace=0.05)
        rows = {row["payload"]["n"]: (row["state"], row["attempts"]) for row in await world.store.list_jobs()}
        assert rows == {0: ("done", 1), 1: ("open", 1), 2: ("open", 0), 3: ("open", 0)}
        assert len(await world.store.claim_jobs(NOW, kinds=["k"], train=10)) == 3
