"""An index that was made by other rules is made anew while the store works: until it is whole, searches are refused.

Decision: docs/decisions/0047-index-fingerprint.md
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.search.values import IndexValues, Key, Range, Text
from fhir_server.storage.port import Effects, Unit, Write
from fhir_server.storage.sqlite import filling
from fhir_server.storage.sqlite.store import SqliteStore
from tests.conftest import Server
from tests.storage.sqlite.invariants import faults

Index = Callable[[dict[str, Any]], IndexValues]
MANY = 1300


def rules(shift: int, fails_at: str = "") -> Index:
    """Index rules: each parameter's number grows by `shift`."""

    def index(resource: dict[str, Any]) -> IndexValues:
        if resource["id"] == fails_at:
            raise RuntimeError("no")
        keys = [Key(1 + shift, "urn:s", resource["code"]), Key(2 + shift, "Patient", resource["of"])]
        day = Range(4 + shift, "", "", resource["day"], resource["day"] + 86_399_999)
        return IndexValues(keys, [Text(3 + shift, resource["note"], resource["note"])], [day], resource["day"])

    return index


def opened(folder: Path, shift: int, fails_at: str = "") -> SqliteStore:
    types = ("Observation", "Patient")
    return SqliteStore(
        folder, index=rules(shift, fails_at), type_names=types, clinical={"Observation": 4 + shift}, fingerprint=f"rules {shift}"
    )


async def filled(folder: Path) -> None:
    store = opened(folder, 0)
    await store.open()
    for start in range(0, MANY, 100):
        made = [
            Write("PUT", "Observation", f"o{n}", resource={
                "resourceType": "Observation", "code": f"c{n % 7}", "of": f"p{n % 50}", "note": f"note {n}", "day": n * 86_400_000,
            })
            for n in range(start, start + 100)
        ]  # fmt: skip
        await store.transact(Unit.of(*made))
    changed = {"resourceType": "Observation", "code": "changed", "of": "p1", "note": "other", "day": 0}
    await store.transact(Unit.of(Write("PUT", "Observation", "o1", resource=changed), Write("DELETE", "Observation", "o2")))
    await store.close()


async def whole(store: SqliteStore, total: int = MANY - 1) -> None:
    """Wait until searches are answered; before, each is refused with the progress."""
    while True:
        try:
            await store.count(q.Query(("Observation",)))
            return
        except FhirError as refusal:
            assert refusal.status == 503 and f"of {total} resources indexed" in str(refusal), refusal
            assert ("Retry-After", "5") in refusal.headers
            await asyncio.sleep(0.01)


async def check(store: SqliteStore, shift: int) -> None:
    async def ids(where: q.Criterion, *sort: q.SortKey) -> list[str]:
        page = await store.search(q.Query(("Observation",), where, sort, limit=1000, total="accurate"))
        assert page.total == len(page.items)
        return [one.id for one in page.items]

    assert await ids(q.KeyMatch(1 + shift, "urn:s", "changed")) == ["o1"]
    assert len(await ids(q.KeyMatch(1 + shift, "urn:s", "c3"))) == len(range(3, MANY, 7))
    assert "o2" not in await ids(q.KeyMatch(1 + shift, "urn:s", "c2"))
    assert await ids(q.TextMatch(3 + shift, "note 77")) == [f"o{n}" for n in (*range(779, 769, -1), 77)]
    by_day = q.SortKey(4 + shift, "range")
    assert await ids(q.KeyMatch(2 + shift, "Patient", "p7"), by_day) == [f"o{n}" for n in range(7, MANY, 50)]
    assert (await store.read_version("Observation", "o1", 1)) is not None


@pytest.mark.parametrize("shift", [1, 3000])
async def test_new_rules_are_applied_to_everything(tmp_path: Path, shift: int) -> None:
    await filled(tmp_path)
    store = opened(tmp_path, shift)
    await store.open()
    await whole(store)
    await check(store, shift)
    more = {"resourceType": "Observation", "code": "new", "of": "p1", "note": "n", "day": 5}
    await store.transact(Unit.of(Write("PUT", "Observation", "o2", resource=more), Write("PUT", "Observation", "o1", resource=more)))
    await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_the_same_rules_leave_the_index_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path)
    monkeypatch.setattr(filling, "begin_whole", lambda *_: pytest.fail("there was no need"))
    store = opened(tmp_path, 0)
    await store.open()
    await check(store, 0)
    await store.close()


async def test_what_cannot_be_indexed_is_told_and_found_by_its_type(tmp_path: Path) -> None:
    await filled(tmp_path)
    store = opened(tmp_path, 9, fails_at="o900")
    await store.open()
    await whole(store)
    (work,) = await store.reindexing()
    assert (work.done, work.total, work.faults) == (MANY - 1, MANY - 1, 1)
    assert "Observation/o900" in work.fault and work.ended
    assert await store.count(q.Query(("Observation",))) == MANY - 1
    assert [one.id for one in (await store.search(q.Query(("Observation",), q.Ids(("o900",))))).items] == ["o900"]
    await store.close()


async def test_reads_histories_and_writes_go_on_meanwhile(tmp_path: Path) -> None:
    """Writes before and after the version that was indexed last, deletions and erasures: afterwards all is as if nothing had happened."""
    await filled(tmp_path)
    store = opened(tmp_path, 5)
    await store.open()
    with pytest.raises(FhirError, match="being made anew"):
        await store.search(q.Query(("Observation",), q.KeyMatch(6, "urn:s", "c3")))
    with pytest.raises(FhirError, match="being made anew"):
        await store.transact(Unit(lambda facts: Effects(), criteria=(q.Query(("Observation",), q.KeyMatch(6, "urn:s", "c3")),)))
    rnd = random.Random(3)
    gone: set[str] = set()
    while (await store.reindexing())[0].ended is None:
        id = f"o{rnd.randrange(3, MANY)}"
        stored = await store.read("Observation", id)
        assert (stored is None) == (id in gone)
        assert (await store.history("Observation", id)).items or id in gone
        changed = {"resourceType": "Observation", "code": f"n{rnd.randrange(3)}", "of": "p1", "note": "new", "day": 86_400_000}
        action = rnd.random()
        if action < 0.1:
            await store.erase("Observation", id)
            gone.add(id)
        elif action < 0.3 and stored is not None:
            await store.transact(Unit.of(Write("DELETE", "Observation", id)))
        else:
            await store.transact(Unit.of(Write("PUT", "Observation", id, resource=changed)))
            gone.discard(id)
    total = await store.count(q.Query(("Observation",)))
    newer = [await store.count(q.Query(("Observation",), q.KeyMatch(6, "urn:s", f"n{n}"))) for n in range(3)]
    live = [one for one in await asyncio.gather(*(store.read("Observation", f"o{n}") for n in range(MANY))) if one and not one.deleted]
    assert total == len(live)
    assert newer == [len([one for one in live if f'"n{n}"'.encode() in one.body]) for n in range(3)]
    await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_a_process_of_other_rules_that_still_runs_asks_to_be_restarted(tmp_path: Path) -> None:
    await filled(tmp_path)
    old, new = opened(tmp_path, 0), opened(tmp_path, 5)
    await old.open()
    await check(old, 0)
    await new.open()
    for attempt in (
        old.search(q.Query(("Observation",), q.KeyMatch(1, "urn:s", "c3"))),
        old.transact(Unit.of(Write("DELETE", "Observation", "o9"))),
    ):
        with pytest.raises(FhirError, match="restart this process") as refusal:
            await attempt
        assert refusal.value.status == 503
    await whole(new)
    await check(new, 5)
    await old.close()
    await new.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_pages_of_a_list_from_before_end(tmp_path: Path) -> None:
    await filled(tmp_path)
    store = opened(tmp_path, 0)
    await store.open()
    page = await store.search(q.Query(("Observation",), limit=5))
    await store.transact(Unit.of(Write("DELETE", "Observation", "o1")))
    await store.reindex()
    await whole(store, MANY - 2)
    with pytest.raises(FhirError) as refusal:
        await store.search(q.Query(("Observation",), limit=5), page.next)
    assert refusal.value.status == 410
    await store.close()


async def test_several_that_open_at_once_agree(tmp_path: Path) -> None:
    await filled(tmp_path)
    stores = [opened(tmp_path, 5) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await whole(store)
        await check(store, 5)
    for store in stores:
        await store.close()
    assert faults(tmp_path / "fhir.db") == []


def test_another_time_zone_takes_effect_on_what_is_stored(start: Callable[..., Server]) -> None:
    server = start(env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    with server.client() as client:
        made = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "effectiveDateTime": "2026-03-01"}
        assert client.post("Observation", json=made).status_code == 201
        # 1 March in Shanghai begins at 16:00 UTC of the day before.
        before = {"date": "lt2026-03-01T00:00:00Z"}
        assert client.get("Observation", params=before).json()["total"] == 0
    server.stop()
    again = start(data_dir=server.data_dir, env={"FHIR_SERVER_TIME_ZONE": "Asia/Shanghai"})
    with again.client() as client:
        assert client.get("Observation", params=before).json()["total"] == 1
