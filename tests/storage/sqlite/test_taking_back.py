"""A store as of an earlier moment: what it answers is what it answered then. docs/decisions/0098-backup-restore-purge.md"""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search import query as q
from fhir_server.storage.port import Effects, Job, Record, Unit, Write
from fhir_server.storage.sqlite.backing_up import BackupError
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.taking_back import take_back
from tests.storage.sqlite import site
from tests.storage.sqlite.invariants import faults


class Clock:
    """One millisecond for each look."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


async def answers(store: SqliteStore, registry: Any) -> dict[str, Any]:
    """All that clients can ask of the people: reads, histories, searches."""
    found: dict[str, Any] = {"last": None}
    for number in range(site.PEOPLE):
        found[f"p{number}"] = await store.read("Patient", f"p{number}")
    found["history"] = (await store.history(limit=100_000)).items
    gender, family = registry.get("Patient", "gender").number, registry.get("Patient", "family").number
    for value in ("male", "female"):
        page = await store.search(q.Query(("Patient",), q.KeyMatch(gender, None, value), limit=1000, total="accurate"))
        found[value] = sorted((one.id, one.version) for one in page.items), page.total
    for word in site.WORDS:
        page = await store.search(q.Query(("Patient",), q.TextMatch(family, word), limit=1000, total="accurate"))
        found[word] = sorted((one.id, one.version) for one in page.items), page.total
    return found


async def writes(store: SqliteStore, rnd: random.Random, units: int) -> None:
    for _ in range(units):
        numbers = rnd.sample(range(site.PEOPLE), rnd.choice((1, 2, 9)))
        made = [Write("DELETE", "Patient", f"p{n}") if rnd.random() < 0.2 else site.person(rnd, n) for n in numbers]
        await store.transact(Unit.of(*made))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("by", ["rid", "time"])
async def test_every_answer_is_that_of_the_moment(tmp_path: Path, seed: int, by: str) -> None:
    rnd, clock = random.Random(seed), Clock()
    store, registry = site.opened(tmp_path, clock=clock)
    await store.open()
    await store.transact(Unit.of(site.parameter("mood", 0), site.parameter("alias", 0)))
    await writes(store, rnd, 40)
    await site.quiet(store)
    then = await answers(store, registry)
    rid, moment = await store.last_rid(), clock()
    # Later: definitions change, come and go; people are changed, made and deleted.
    await store.transact(Unit.of(site.parameter("mood", 1), site.parameter("likes", 0), Write("DELETE", "SearchParameter", "alias")))
    await writes(store, rnd, 60)
    await site.quiet(store)
    end = await store.last_rid()
    assert await answers(store, registry) != then
    await store.close()
    told = take_back(tmp_path / "fhir.db", rid=rid) if by == "rid" else take_back(tmp_path / "fhir.db", time=moment)
    assert told.rid == rid and told.versions == end - rid
    store, registry = site.opened(tmp_path, clock=clock)
    await store.open()
    await site.quiet(store)
    assert await answers(store, registry) == then
    assert await site.differences(store, registry) == []
    assert registry.get("Patient", "likes") is None and registry.get("Patient", "alias") is not None
    # No sequence number is given twice, and links from before lead nowhere.
    (made,) = (await store.transact(Unit.of(site.person(rnd, 1)))).outcomes
    assert made.stored is not None and made.stored.rid > end
    await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_a_number_amid_a_transaction_means_all_of_it(tmp_path: Path) -> None:
    store, _ = site.opened(tmp_path, clock=Clock())
    await store.open()
    rnd = random.Random(1)
    await store.transact(Unit.of(*(site.person(rnd, n) for n in range(5))))
    await store.transact(Unit.of(*(site.person(rnd, n) for n in range(5, 8))))
    await store.close()
    told = take_back(tmp_path / "fhir.db", rid=2)
    assert (told.rid, told.versions) == (5, 3)
    with pytest.raises(BackupError, match="empty") as refused:
        take_back(tmp_path / "fhir.db", time=1)
    assert "尚无内容" in refused.value.zh
    assert take_back(tmp_path / "fhir.db", rid=99).versions == 0


async def test_jobs_records_and_readers_follow_their_rule(tmp_path: Path) -> None:
    clock = Clock()
    store, _ = site.opened(tmp_path, clock=clock)
    await store.open()
    rnd = random.Random(1)

    async def done(kind: str) -> None:
        for job in await store.claim_jobs(1 << 60, kinds=[kind], limit=1):
            mark = Effects(done_jobs=[(job.id, job.lease)])
            await store.transact(Unit(lambda facts, mark=mark: mark))

    jobs = [Job(kind, "k", {"n": n}, 0, f"{kind}{n}") for kind in ("timer", "send") for n in range(3)]
    claim = Record("claim", "before", {}, {"a": "1"})
    reading = Effects([site.person(rnd, 1)], jobs, [claim, Record("log", "before", {})], positions={"late": (0, 0), "ahead": (0, 1)})
    await store.transact(Unit(lambda facts: reading))
    await done("timer")
    await done("send")
    then = await store.last_rid()
    later = Effects(
        [site.person(rnd, 2)], records=[Record("claim", "after", {}, {"a": "1"}), Record("log", "after", {})], positions={"ahead": (1, 2)}
    )
    await store.transact(Unit(lambda facts: later))
    await done("timer")
    await done("send")
    await store.close()
    told = take_back(tmp_path / "fhir.db", rid=then, again=["timer"], taken_in=["claim"])
    assert (told.jobs, told.records, told.forgotten) == (1, 1, False)
    store, _ = site.opened(tmp_path, clock=clock)
    await store.open()
    states = [(job["kind"], job["payload"]["n"], job["state"]) for job in await store.list_jobs()]
    # What was done later is done again where it only wrote to the store; what was sent stays sent.
    assert states == [
        ("timer", 0, "done"),
        ("timer", 1, "open"),
        ("timer", 2, "open"),
        ("send", 0, "done"),
        ("send", 1, "done"),
        ("send", 2, "open"),
    ]
    assert [job.payload["n"] for job in await store.claim_jobs(1 << 60, kinds=["timer"], train=3)] == [1, 2]
    assert [one.key for one in await store.records("claim", {"a": "1"})] == ["before"]
    assert [one.key for one in await store.records("log")] == ["before", "after"]
    assert (await store.position("late"), await store.position("ahead")) == (0, then)
    # A name that was used by what is gone does not keep away what takes its place.
    await store.transact(Unit.of(jobs=[Job("timer", "k", {"n": 9}, 0, "timer2")]))
    assert len(await store.list_jobs(kind="timer")) == 4
    await store.close()
    assert faults(tmp_path / "fhir.db") == []
    db = sqlite3.connect(tmp_path / "fhir.db")
    assert json.loads(db.execute("SELECT attributes FROM record WHERE key = 'before' AND collection = 'claim'").fetchone()[0]) == {"a": "1"}
    assert db.execute("SELECT count(*) FROM record_attribute").fetchone() == (1,)
    db.close()
