"""Order, pages and totals of searches: stable under concurrent writes, missing values last, ties in the order of versions."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fhir_server.search import query as q
from fhir_server.search.values import MIN_INSTANT
from fhir_server.storage.port import Position, Store, Stored, Unit
from tests.contract import support as s

KEYS = {
    "date": q.SortKey(s.OBS_DATE, "range"),
    "value": q.SortKey(s.OBS_VALUE, "range"),
    "code": q.SortKey(s.OBS_CODE, "key"),
    "updated": q.SortKey("_lastUpdated", "updated"),
    "id": q.SortKey("_id", "id"),
}


def down(key: q.SortKey) -> q.SortKey:
    return q.SortKey(key.parameter, key.kind, True)


async def all_pages(store: Store, query: q.Query) -> list[Stored]:
    found: list[Stored] = []
    after: Position | None = None
    while True:
        page = await store.search(query, after)
        assert len(page.items) <= query.limit
        found += page.items
        after = page.next
        if after is None:
            return found


async def test_without_sort_the_last_updated_come_first(store: Store) -> None:
    for id in ("c", "a", "b"):
        await s.save(store, s.patient(id))
    await s.save(store, s.patient("c", n=2))
    assert s.ids((await store.search(q.Query(("Patient",)))).items) == ["c", "b", "a"]


async def test_a_search_over_types_is_one_order(store: Store) -> None:
    await s.save(store, s.patient("p1"), s.observation("o1"), s.patient("p2"), s.observation("o2"))
    for limit in (1, 3, 10):
        assert s.ids(await all_pages(store, q.Query(("Patient", "Observation"), limit=limit))) == ["o2", "p2", "o1", "p1"]
    by_id = q.Query(("Patient", "Observation"), sort=(KEYS["id"],), limit=3)
    assert s.ids(await all_pages(store, by_id)) == ["o1", "o2", "p1", "p2"]
    both = q.Or((q.KeyMatch(s.OBS_SUBJECT, "Patient", "p1"), q.Ids(("p2",))))
    assert s.ids(await all_pages(store, q.Query(("Patient", "Observation"), both))) == ["o2", "p2", "o1"]
    assert await store.count(q.Query(("Patient", "Observation"), both)) == 3
    assert await store.count(q.Query(("Patient", "Observation", "Encounter"))) == 4


async def test_a_resource_without_the_value_comes_last_in_both_directions(store: Store) -> None:
    await s.save(store, s.patient("none"), s.patient("b", "B"), s.patient("a", "A"), s.patient("none2"))
    for key, wanted in (
        (q.SortKey(s.PAT_FAMILY, "text"), ["a", "b", "none", "none2"]),
        (q.SortKey(s.PAT_FAMILY, "text", True), ["b", "a", "none2", "none"]),
    ):
        for limit in (1, 2, 9):
            assert s.ids(await all_pages(store, q.Query(("Patient",), sort=(key,), limit=limit))) == wanted
    await s.save(
        store,
        s.observation("late", at=9),
        s.observation("undated", at=None),
        s.observation("early", at=5),
        s.observation("undated2", at=None),
    )
    for key, wanted in (
        (KEYS["date"], ["early", "late", "undated", "undated2"]),
        (down(KEYS["date"]), ["late", "early", "undated2", "undated"]),
    ):
        for where in (q.Everything(), q.KeyMatch(s.OBS_CODE, s.LOINC, "8480-6"), q.Not(q.Nothing()), q.TextMatch(1, "x", "prefix")):
            for limit in (1, 2, 9):
                found = s.ids(await all_pages(store, q.Query(("Observation",), where, (key,), limit)))
                assert found == ([] if isinstance(where, q.TextMatch) else wanted)


async def test_several_values_sort_by_the_lowest_or_the_highest(store: Store) -> None:
    def named(id: str, *names: str) -> dict[str, Any]:
        return s.patient(id, given=names)

    await s.save(store, named("ad", "a", "d"), named("bc", "b", "c"))
    assert s.ids(await all_pages(store, q.Query(("Patient",), sort=(q.SortKey(s.PAT_GIVEN, "text"),)))) == ["ad", "bc"]
    assert s.ids(await all_pages(store, q.Query(("Patient",), sort=(q.SortKey(s.PAT_GIVEN, "text", True),)))) == ["ad", "bc"]


async def test_numbers_of_different_precision_sort_by_their_value(store: Store) -> None:
    def scored(id: str, low: float, high: float) -> dict[str, Any]:
        made = s.patient(id)
        made["index"]["ranges"].append([s.PAT_SCORE, "", "", low, high])
        return made

    # 5.4, 5.38, 5.400
    await s.save(store, scored("5.4", 5.35, 5.45), scored("5.38", 5.375, 5.385), scored("5.41", 5.4095, 5.4105))
    assert s.ids(await all_pages(store, q.Query(("Patient",), sort=(q.SortKey(s.PAT_SCORE, "range"),)))) == ["5.38", "5.4", "5.41"]


def sort_value(item: dict[str, Any], key: q.SortKey, rid: int) -> Any:
    pick = max if key.descending else min
    if key.kind == "updated":
        return rid
    if key.kind == "id":
        return item["id"].encode()
    if key.kind == "key":
        values = [k[2].encode() for k in item["index"]["keys"] if k[0] == key.parameter]
    elif key.parameter == s.OBS_DATE:
        values = [item["index"]["clinical"]] if "clinical" in item["index"] else []
    else:
        values = [(r[3] + r[4]) / 2 for r in item["index"]["ranges"] if r[0] == key.parameter]
    return pick(values) if values else None


@pytest.mark.parametrize("seed", range(4))
async def test_any_sort_pages_like_a_sorted_list(store: Store, seed: int) -> None:
    rnd = random.Random(seed)
    made = {}
    for number in range(120):
        options: dict[str, Any] = {"value": float(rnd.randrange(5))} if rnd.random() < 0.7 else {}
        at = rnd.choice([None, *range(0, 40 * s.DAY, 5 * s.DAY)])
        resource = s.observation(
            f"o{rnd.randrange(10**6)}", f"p{number % 3}", rnd.choice("ab王"), at, rnd.choice([0, s.DAY, 400 * s.DAY]), **options
        )
        (stored,) = await s.save(store, resource)
        made[stored.id] = (resource, stored.rid)
    for _ in range(25):
        names = rnd.sample(sorted(KEYS), rnd.choice([1, 1, 2, 3]))
        sort = tuple(down(KEYS[name]) if rnd.random() < 0.5 else KEYS[name] for name in names)
        where = rnd.choice(
            [
                q.Everything(),
                q.KeyMatch(s.OBS_CODE, s.LOINC, "a"),
                q.Or((q.KeyMatch(s.OBS_CODE, s.LOINC, "a"), q.KeyMatch(s.OBS_CODE, s.LOINC, "b"))),
                q.KeyMatch(s.OBS_SUBJECT, "Patient", "p1"),
                q.And((q.KeyMatch(s.OBS_SUBJECT, "Patient", "p1"), q.KeyMatch(s.OBS_CODE, s.LOINC, "王"))),
                q.RangeMatch(s.OBS_DATE, high_min=20 * s.DAY),
            ]
        )
        found = s.ids(await all_pages(store, q.Query(("Observation",), where, sort, rnd.choice([1, 4, 50]))))
        members = s.ids(await all_pages(store, q.Query(("Observation",), where, limit=1000)))

        def order(id: str, sort: tuple[q.SortKey, ...] = sort) -> list[Any]:
            resource, rid = made[id]
            parts: list[Any] = []
            for key in sort:
                value = sort_value(resource, key, rid)
                parts.append(Reverse(value) if value is not None and key.descending else Placed(value))
            return [*parts, -rid if sort[0].descending else rid]

        assert found == sorted(members, key=order), sort


class Placed:
    """None after everything."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placed) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __lt__(self, other: Placed) -> bool:
        if self.value is None or other.value is None:
            return self.value is not None and other.value is None
        return self.value < other.value


class Reverse(Placed):
    def __lt__(self, other: Placed) -> bool:
        return other.value is None or other.value < self.value


@pytest.mark.parametrize("sort", [(), (down(KEYS["date"]),), (KEYS["date"],), (KEYS["value"],), (down(KEYS["code"]), KEYS["id"])], ids=str)
@pytest.mark.parametrize("all_of_type", [True, False], ids=["all", "by key"])
async def test_a_cursor_is_stable_under_writes(store: Store, sort: tuple[q.SortKey, ...], all_of_type: bool) -> None:
    """Between the pages hits are created, updated out of the result, deleted and re-created: the pages together are the first instant."""
    rnd = random.Random(5)

    def hit(number: int) -> dict[str, Any]:
        return s.observation(f"o{number}", f"p{number % 20}", "hit", rnd.randrange(100) * s.DAY, value=float(number % 9), n=rnd.random())

    await s.save(store, *(hit(number) for number in range(600)))
    await s.save(store, *(hit(number) for number in range(0, 600, 3)))
    where = q.Everything() if all_of_type else q.KeyMatch(s.OBS_CODE, s.LOINC, "hit")
    query = q.Query(("Observation",), where, sort, limit=40, total="accurate")
    expected = await store.search(q.Query(("Observation",), where, sort, limit=1000))
    page = await store.search(query)
    found, totals = list(page.items), {page.total}
    while page.next is not None:
        for _ in range(30):
            number = rnd.randrange(700)
            change = rnd.random()
            if change < 0.3:
                await store.transact(Unit.of(s.delete("Observation", f"o{number}")))
            elif change < 0.6:
                await s.save(store, s.observation(f"o{number}", "p1", "other", rnd.randrange(100)))
            else:
                await s.save(store, hit(number))
        page = await store.search(query, page.next)
        found += page.items
        totals.add(page.total)
    assert [(item.id, item.version) for item in found] == [(item.id, item.version) for item in expected.items]
    assert totals == {600}


async def test_paging_5000_hits_under_2000_writes(store: Store) -> None:
    await s.save(store, *(s.observation(f"o{number}", f"p{number % 50}", "hit", number) for number in range(5000)))
    query = q.Query(("Observation",), q.KeyMatch(s.OBS_CODE, s.LOINC, "hit"), (down(KEYS["date"]),), limit=250, total="accurate")
    page = await store.search(query)
    found, rnd = list(page.items), random.Random(1)
    while page.next is not None:
        writes = {}
        for _ in range(105):
            id = f"o{rnd.randrange(6000)}"
            writes[id] = (
                s.delete("Observation", id)
                if rnd.random() < 0.4
                else s.put(s.observation(id, "p1", "hit", rnd.randrange(9000), n=rnd.random()))
            )
        await store.transact(Unit.of(*writes.values()))
        page = await store.search(query, page.next)
        assert page.total == 5000
        found += page.items
    assert [item.id for item in found] == [f"o{number}" for number in range(4999, -1, -1)]
    assert {item.version for item in found} == {1}


async def test_totals_count_what_lives(store: Store) -> None:
    await s.save(store, *(s.observation(f"o{n}", code="a") for n in range(30)))
    await s.save(store, *(s.observation(f"o{n}", code="b") for n in range(10)))
    await store.transact(Unit.of(*(s.delete("Observation", f"o{n}") for n in range(25, 30))))
    for code, number in (("a", 15), ("b", 10), ("c", 0)):
        where = q.KeyMatch(s.OBS_CODE, s.LOINC, code)
        assert await store.count(q.Query(("Observation",), where)) == number
        assert (await store.search(q.Query(("Observation",), where, limit=2, total="accurate"))).total == number
    assert (await store.search(q.Query(("Observation",), limit=2))).total in (None, 25)
    assert await store.count(q.Query(("Observation",), limit=0)) == 25


async def test_a_page_of_none_still_tells_the_total(store: Store) -> None:
    await s.save(store, s.patient("a"), s.patient("b"))
    page = await store.search(q.Query(("Patient",), limit=0, total="accurate"))
    assert page.items == [] and page.total == 2 and page.next is None


@pytest.mark.parametrize(
    "value", ["", "%", "_", "'", '"; DROP TABLE version; --', "\x00", "a\x1fb", "\U0001f600" * 50, "x" * 100_000, "\ud800", "$where", "[.*"]
)
async def test_values_are_literals(store: Store, value: str) -> None:
    await s.save(store, s.patient("a", "Li", given=["x"], identifier=[("s", "v")]))
    for where in (
        q.KeyMatch(s.PAT_IDENTIFIER, "s", value),
        q.KeyMatch(s.PAT_IDENTIFIER, None, value),
        q.KeyMatch(s.PAT_IDENTIFIER, value + "x", None),
        q.TextMatch(s.PAT_FAMILY, value, "exact"),
        q.TextMatch(s.PAT_FAMILY, value + "q", "contains"),
        q.TextMatch(s.PAT_FAMILY, value + "q", "prefix"),
        q.Ids((value,)),
    ):
        assert (await store.search(q.Query(("Patient",), where))).items == [], where


async def test_ten_thousand_alternatives_are_fine(store: Store) -> None:
    await s.save(store, *(s.patient(f"p{n}", identifier=[("s", str(n))]) for n in range(50)))
    many = q.Or(tuple(q.KeyMatch(s.PAT_IDENTIFIER, "s", str(n)) for n in range(10_000)))
    assert await store.count(q.Query(("Patient",), many)) == 50
    assert await store.count(q.Query(("Patient",), q.And((many, q.Ids(("p3", "x")))))) == 1
    assert await store.count(q.Query(("Patient",), q.Ids(tuple(f"p{n}" for n in range(10_000))))) == 50
    assert await store.count(q.Query(("Patient",), q.Not(many))) == 0


async def test_a_lower_bound_before_all_time_is_before_everything(store: Store) -> None:
    open_start = s.observation("o", at=None)
    open_start["index"]["clinical"] = MIN_INSTANT
    open_start["index"]["ranges"] = [[s.OBS_DATE, "", "", MIN_INSTANT, 5 * s.DAY]]
    await s.save(store, open_start, s.observation("later", at=9 * s.DAY))
    before = q.RangeMatch(s.OBS_DATE, low_max=s.DAY, strict=frozenset({"low_max"}))
    for where in (before, q.And((before, q.KeyMatch(s.OBS_CODE, s.LOINC, "8480-6")))):
        assert s.ids((await store.search(q.Query(("Observation",), where))).items) == ["o"]


async def test_explain_names_what_leads(store: Store) -> None:
    await s.save(store, s.observation("o"))
    facts = await store.explain(q.Query(("Observation",), q.KeyMatch(s.OBS_CODE, s.LOINC, "8480-6")))
    assert facts["rows"] == 1 and "leads" in facts["plan"][0] and facts["milliseconds"] >= 0
