"""The readers of the change feed and the product's own triggers, as people see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_server.console.feed_readers import STILL, Readers
from fhir_server.storage.port import Effects, JobCount, Stored
from subscriptions.jobs.feed import FeedReader, Trigger
from tests.subscriptions.world import observation, subscription, world

NOT_OF_THE_FEED = {"retention", "async.request", "async.forget"}


class Seen:
    """A console over a room: what `Readers` asks for."""

    def __init__(self, store: Any, room: Any) -> None:
        self.store, self._room = store, room

    def part(self, name: str) -> Any:
        assert name == "jobs"
        return self._room


class Watchless:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def _nothing(changes: list[Stored]) -> Effects:
    return Effects()


def _by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


async def test_a_reader_that_nobody_drives_waits_with_its_lag(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(observation("o1"), observation("o2"))
        (one, two) = await Readers(Seen(w.store, w.room)).look([])  # type: ignore[arg-type]
        last = await w.store.last_rid()
        assert {one["name"], two["name"]} == {"subscriptions", "followup"}
        assert [(row["state"], row["position"], row["lag"]) for row in (one, two)] == [("waits", 0, last)] * 2


async def test_a_reader_that_has_read_all_works(tmp_path: Path) -> None:
    async with world(tmp_path, running=True) as w:
        await w.put(observation("o1"))
        await w.settle()
        rows = await Readers(Seen(w.store, w.room)).look([])  # type: ignore[arg-type]
        assert [(row["state"], row["lag"], row["position"]) for row in rows] == [("works", 0, await w.store.last_rid())] * 2


async def test_a_reader_that_is_behind_and_does_not_move_is_said_to_wait(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.store.acquire_lease("jobs", "another process", 60_000)
        clock = Watchless()
        readers = Readers(Seen(w.store, w.room), clock)  # type: ignore[arg-type]
        await w.put(observation("o1"))
        assert _by_name(await readers.look([]))["followup"]["state"] == "works", "it may just be about to read"
        clock.now += STILL
        assert _by_name(await readers.look([]))["followup"]["state"] == "waits"
        await w.settle()  # moves the positions that are written down
        assert _by_name(await readers.look([]))["followup"]["state"] == "works"


async def test_versions_that_a_reader_could_not_digest_make_it_stumble(tmp_path: Path) -> None:
    async with world(tmp_path, running=True) as w:
        counts = [JobCount("followup.change", "open", 1, 0), JobCount("followup.change", "dead", 2, 0)]
        rows = _by_name(await Readers(Seen(w.store, w.room)).look(counts))  # type: ignore[arg-type]
        assert (rows["followup"]["state"], rows["followup"]["stumbled"]) == ("stumbles", 3)
        assert (rows["subscriptions"]["state"], rows["subscriptions"]["stumbled"]) == ("works", 0)


async def test_a_trigger_is_told_with_open_and_dead_jobs_of_its_kinds() -> None:
    class Store:
        async def last_rid(self) -> int:
            return 9

        async def lease_holder(self, name: str) -> str:
            return "x"

        async def position(self, name: str) -> int:
            return 4

    class Room:
        class jobs:
            leading = False

        readers = (FeedReader("r", _nothing, triggers=(Trigger("t", ("Patient",), ("a", "b"), "english", "中文"),)),)

    counts = [JobCount("a", "dead", 2, 0), JobCount("b", "dead", 1, 0), JobCount("b", "open", 5, 0), JobCount("c", "dead", 7, 0)]
    (row,) = await Readers(Seen(Store(), Room())).look(counts)  # type: ignore[arg-type]
    assert (row["position"], row["lag"]) == (4, 5)
    assert row["triggers"] == [{"name": "t", "types": ["Patient"], "en": "english", "zh": "中文", "open": 5, "dead": 3}]


async def test_every_kind_of_job_follows_from_a_trigger_that_is_shown(tmp_path: Path) -> None:
    """The list of system subscriptions is complete: only what is asked for by a request or by the day follows from no version."""
    async with world(tmp_path) as w:
        shown = {kind for reader in w.room.readers for trigger in reader.triggers for kind in trigger.kinds}
        stumbles = {reader.stumble for reader in w.room.readers}
        assert {kind.name for kind in w.room.jobs.kinds} - stumbles - NOT_OF_THE_FEED == shown


async def test_what_the_reader_of_subscriptions_makes_is_named_by_its_triggers(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(subscription("http://127.0.0.1:9/x", end="2099-01-01T00:00:00Z"))
        await w.put(observation("o1"))
        (reader,) = [reader for reader in w.room.readers if reader.name == "subscriptions"]
        await reader.prepare(0)
        effects = await reader.react(await w.store.changes(0))
        by_type = {trigger.types: trigger.kinds for trigger in reader.triggers}
        assert {job.kind for job in effects.jobs} <= {*by_type[()], *by_type[("Subscription",)]}
        assert len({job.kind for job in effects.jobs}) == 3  # activation, end, delivery
