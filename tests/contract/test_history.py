"""History of instance, type and store: https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.storage.port import Position, Store, Stored, Unit
from tests.contract import support as s


async def all_pages(store: Store, *scope: str, **options: Any) -> list[Stored]:
    found: list[Stored] = []
    after: Position | None = None
    while True:
        page = await store.history(*scope, after=after, **options)
        found += page.items
        after = page.next
        if after is None:
            return found


async def test_versions_come_newest_first_deletions_included(store: Store) -> None:
    await s.save(store, s.patient("a", n=1), s.patient("b"), s.observation("o"))
    await s.save(store, s.patient("a", n=2))
    await store.transact(Unit.of(s.delete("Patient", "a")))
    page = await store.history("Patient", "a", total=True)
    assert [(item.version, item.deleted) for item in page.items] == [(3, True), (2, False), (1, False)]
    assert page.total == 3 and page.next is None
    assert [item.rid for item in (await store.history("Patient")).items] == [5, 4, 2, 1]
    assert [item.rid for item in (await store.history()).items] == [5, 4, 3, 2, 1]
    assert (await store.history("Patient", total=True)).total == 4 and (await store.history(total=True)).total == 5


async def test_history_of_what_never_was_is_empty(store: Store) -> None:
    page = await store.history("Patient", "x", total=True)
    assert page.items == [] and page.total == 0 and page.next is None
    assert (await store.history("Nonsense", total=True)).total == 0


@pytest.mark.parametrize(("scope", "size"), [(("Patient", "a"), 25), (("Patient",), 50), ((), 50)], ids=["instance", "type", "store"])
async def test_pages_keep_the_snapshot_of_the_first(store: Store, scope: tuple[str, ...], size: int) -> None:
    for number in range(25):
        await s.save(store, s.patient("a", n=number), s.patient(f"b{number}"))
    page = await store.history(*scope, limit=7, total=True)
    assert page.total == size
    found = list(page.items)
    while page.next is not None:
        await s.save(store, s.patient("a", n=f"later{len(found)}"), s.observation(f"o{len(found)}"))
        page = await store.history(*scope, limit=7, after=page.next, total=True)
        assert page.total == size
        found += page.items
    rids = [item.rid for item in found]
    assert len(rids) == size and rids == sorted(rids, reverse=True)


async def test_since_and_at_limit_by_time(open_store: Any) -> None:
    now = [1000]
    store = await open_store(clock=lambda: now[0])
    for time, resource in (
        (1000, s.patient("a", n=1)),
        (2000, s.patient("b", n=1)),
        (3000, s.patient("a", n=2)),
        (4000, s.patient("a", n=3)),
    ):
        now[0] = time
        await s.save(store, resource)
    now[0] = 5000
    await store.transact(Unit.of(s.delete("Patient", "b")))

    async def rids(*scope: str, **options: Any) -> list[int]:
        page = await store.history(*scope, total=True, **options)
        found = [item.rid for item in page.items]
        assert page.total == len(found)
        assert [item.rid for item in await all_pages(store, *scope, limit=1, **options)] == found
        return found

    assert await rids(since=3000) == [5, 4, 3] and await rids(since=3001) == [5, 4] and await rids(since=9000) == []
    assert await rids("Patient", "a", since=2000) == [4, 3]
    # At an instant exactly one version of each resource that existed was current.
    assert await rids(at=(2500, 2500)) == [2, 1] and await rids(at=(999, 999)) == []
    assert await rids(at=(3000, 3000)) == [3, 2] and await rids("Patient", "b", at=(6000, 7000)) == [5]
    assert await rids("Patient", at=(2500, 4500)) == [4, 3, 2, 1] and await rids("Patient", "a", at=(3500, 9000)) == [4, 3]
