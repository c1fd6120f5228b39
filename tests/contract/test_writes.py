"""What one unit of writes does: versions, preconditions, no-op updates, atomicity.

Rules: https://hl7.org/fhir/R4/http.html#update, #versioning, #concurrency; guarantees in `fhir_server/storage/port.py`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.port import Effects, Facts, Job, Record, Store, Unit, Write
from tests.contract import support as s


async def test_a_create_makes_version_1_and_is_read_at_once(store: Store) -> None:
    commit = await store.transact(Unit.of(s.post(s.patient("a", "Li"))))
    outcome = commit.outcomes[0]
    assert (outcome.result, outcome.stored.version, outcome.stored.method) == ("created", 1, "POST")
    assert await store.read("Patient", "a") == outcome.stored
    assert commit.rid == outcome.stored.rid == await store.last_rid()


async def test_the_body_begins_with_type_id_and_the_stores_meta(store: Store) -> None:
    sent = {"active": True, "meta": {"profile": ["http://x"], "versionId": "77", "lastUpdated": "1999-01-01T00:00:00Z"}, **s.patient("a")}
    (stored,) = await s.save(store, sent)
    assert re.match(
        rb'{"resourceType":"Patient","id":"a","meta":{"versionId":"1","lastUpdated":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","profile":\["http://x"\]},'
        rb'"active":true,',
        stored.body,
    )


async def test_last_updated_in_the_body_is_the_time_of_the_version(open_store: Any) -> None:
    store = await open_store(clock=lambda: 1_700_000_000_123)
    (stored,) = await s.save(store, s.patient("a"))
    assert stored.updated == 1_700_000_000_123
    assert s.content(stored)["meta"]["lastUpdated"] == "2023-11-14T22:13:20.123Z"


async def test_the_given_resource_is_not_changed(store: Store) -> None:
    resource = s.patient("a", "Li")
    before = repr(resource)
    await s.save(store, resource)
    assert repr(resource) == before


async def test_a_create_with_a_used_id_is_409(store: Store) -> None:
    await s.save(store, s.patient("a"))
    with pytest.raises(FhirError) as error:
        await store.transact(Unit.of(s.post(s.patient("a", "Other"))))
    assert error.value.status == 409
    assert "Patient/a" in error.value.issues[0].diagnostics


async def test_updates_count_versions_up_and_keep_the_old_ones(store: Store) -> None:
    for number in range(1, 6):
        (stored,) = await s.save(store, s.patient("a", n=number))
        assert stored.version == number
    for number in range(1, 6):
        old = await store.read_version("Patient", "a", number)
        assert old is not None and s.content(old)["n"] == number and s.content(old)["meta"]["versionId"] == str(number)
    assert await store.read_version("Patient", "a", 6) is None
    assert await store.read_version("Patient", "a", 0) is None


async def test_an_update_with_equal_content_makes_no_version(store: Store) -> None:
    await s.save(store, s.patient("a", "Li", meta={"profile": ["http://x"]}))
    rid = await store.last_rid()
    commit = await store.transact(Unit.of(s.put(s.patient("a", "Li", meta={"profile": ["http://x"], "versionId": "9"}))))
    assert commit.outcomes[0].result == "unchanged" and commit.outcomes[0].stored.version == 1
    assert await store.last_rid() == rid


async def test_the_order_of_members_is_no_content(store: Store) -> None:
    await s.save(store, {**s.patient("a"), "x": 1, "y": [{"p": 1, "q": 2}]})
    commit = await store.transact(Unit.of(s.put({"y": [{"q": 2, "p": 1}], "x": 1, **s.patient("a")})))
    assert commit.outcomes[0].result == "unchanged"


@pytest.mark.parametrize(("before", "after"), [(1, 1.0), (1, True), ([1, 2], [2, 1]), ("1", 1), ({"a": 1}, {"a": 1, "b": None})])
async def test_other_digits_types_or_order_of_items_are_other_content(store: Store, before: object, after: object) -> None:
    await s.save(store, {**s.patient("a"), "x": before})
    commit = await store.transact(Unit.of(s.put({**s.patient("a"), "x": after})))
    assert commit.outcomes[0].result == "updated" and commit.outcomes[0].stored.version == 2


async def test_a_patch_is_recorded_as_such(store: Store) -> None:
    await s.save(store, s.patient("a"))
    commit = await store.transact(Unit.of(Write("PATCH", "Patient", "a", s.patient("a", "New"))))
    assert commit.outcomes[0].stored.method == "PATCH"


async def test_a_deletion_is_a_version_without_content(store: Store) -> None:
    await s.save(store, s.patient("a", "Li"))
    commit = await store.transact(Unit.of(s.delete("Patient", "a")))
    assert commit.outcomes[0].result == "deleted"
    gone = await store.read("Patient", "a")
    assert gone is not None and gone.deleted and gone.version == 2 and gone.body == b""
    old = await store.read_version("Patient", "a", 1)
    assert old is not None and not old.deleted
    assert (await store.search(q.Query(("Patient",)))).items == []


async def test_deleting_what_is_not_there_changes_nothing(store: Store) -> None:
    commit = await store.transact(Unit.of(s.delete("Patient", "nobody")))
    assert commit.outcomes[0].result == "unchanged"
    await s.save(store, s.patient("a"))
    await store.transact(Unit.of(s.delete("Patient", "a")))
    rid = await store.last_rid()
    assert (await store.transact(Unit.of(s.delete("Patient", "a")))).outcomes[0].result == "unchanged"
    assert await store.last_rid() == rid


async def test_a_re_create_continues_the_version_count(store: Store) -> None:
    await s.save(store, s.patient("a", "Li"))
    await store.transact(Unit.of(s.delete("Patient", "a")))
    commit = await store.transact(Unit.of(s.put(s.patient("a", "Li"))))
    assert commit.outcomes[0].result == "created" and commit.outcomes[0].stored.version == 3
    assert s.ids((await store.search(q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, "li")))).items) == ["a"]


@pytest.mark.parametrize("if_match", [1, 3, 99])
async def test_if_match_of_another_version_is_412_and_changes_nothing(store: Store, if_match: int) -> None:
    await s.save(store, s.patient("a", n=1))
    await s.save(store, s.patient("a", n=2))
    for write in (s.put(s.patient("a", n=3), if_match), s.delete("Patient", "a", if_match)):
        with pytest.raises(FhirError) as error:
            await store.transact(Unit.of(write))
        assert error.value.status == 412
    current = await store.read("Patient", "a")
    assert current is not None and current.version == 2


async def test_if_match_of_the_current_version_passes(store: Store) -> None:
    await s.save(store, s.patient("a", n=1))
    commit = await store.transact(Unit.of(s.put(s.patient("a", n=2), 1)))
    assert commit.outcomes[0].stored.version == 2
    assert (await store.transact(Unit.of(s.delete("Patient", "a", 2)))).outcomes[0].result == "deleted"


async def test_if_match_on_a_resource_that_is_not_there_is_412(store: Store) -> None:
    with pytest.raises(FhirError) as error:
        await store.transact(Unit.of(s.put(s.patient("a"), 1)))
    assert error.value.status == 412


async def test_if_match_0_demands_that_nothing_is_there(store: Store) -> None:
    await store.transact(Unit.of(s.put(s.patient("a"), 0)))
    with pytest.raises(FhirError) as error:
        await store.transact(Unit.of(s.put(s.patient("a", "New"), 0)))
    assert error.value.status == 412
    await store.transact(Unit.of(s.delete("Patient", "a")))
    assert (await store.transact(Unit.of(s.put(s.patient("a"), 0)))).outcomes[0].result == "created"


async def test_a_refused_unit_leaves_nothing(store: Store) -> None:
    await s.save(store, s.patient("a", "Li"))
    rid = await store.last_rid()
    unit = Unit.of(
        s.put(s.patient("b", "Wang")),
        s.put(s.patient("a", "Changed")),
        s.put(s.patient("c"), 7),
        jobs=[Job("k", "x", {})],
        records=[Record("c", "r", {"a": 1})],
    )
    with pytest.raises(FhirError):
        await store.transact(unit)
    assert await store.last_rid() == rid
    assert await store.read("Patient", "b") is None
    assert s.ids((await store.search(q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, "wang")))).items) == []
    assert (await store.search(q.Query(("Patient",)))).total == 1
    assert await store.list_jobs() == [] and await store.record("c", "r") is None
    assert (await store.history(total=True)).total == 1


async def test_entry_500_of_500_failing_leaves_no_trace(store: Store) -> None:
    writes = [s.put(s.patient(f"p{n}", "Li", identifier=[("s", str(n))])) for n in range(499)]
    with pytest.raises(FhirError):
        await store.transact(Unit.of(*writes, s.put(s.patient("last"), 5)))
    assert await store.last_rid() == 0
    assert (await store.search(q.Query(("Patient",), total="accurate"))).total == 0
    assert (await store.search(q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, "li")))).items == []
    commit = await store.transact(Unit.of(*writes))
    assert [outcome.stored.rid for outcome in commit.outcomes] == list(range(1, 500))
    assert await store.count(q.Query(("Patient",), q.KeyMatch(s.PAT_IDENTIFIER, "s", "498"))) == 1


async def test_a_refused_unit_does_not_disturb_those_beside_it(store: Store) -> None:
    import asyncio

    units = [Unit.of(s.put(s.patient(f"p{n}"), 3 if n % 3 == 0 else None)) for n in range(30)]
    results = await asyncio.gather(*(store.transact(unit) for unit in units), return_exceptions=True)
    for number, result in enumerate(results):
        assert isinstance(result, FhirError) == (number % 3 == 0), result
    assert await store.count(q.Query(("Patient",))) == 20


async def test_an_unexpected_fault_of_one_unit_does_not_disturb_those_beside_it(store: Store) -> None:
    import asyncio

    def broken(facts: Facts) -> Effects:
        raise ZeroDivisionError

    units = [Unit(broken) if n == 4 else Unit.of(s.put(s.patient(f"p{n}"))) for n in range(9)]
    results = await asyncio.gather(*(store.transact(unit) for unit in units), return_exceptions=True)
    assert [isinstance(result, ZeroDivisionError) for result in results] == [n == 4 for n in range(9)]
    assert await store.count(q.Query(("Patient",))) == 8


async def test_one_unit_may_write_a_resource_twice(store: Store) -> None:
    commit = await store.transact(
        Unit.of(s.put(s.patient("a", n=1)), s.put(s.patient("a", n=2), 1), s.delete("Patient", "a"), s.put(s.patient("a", n=4)))
    )
    assert [outcome.stored.version for outcome in commit.outcomes] == [1, 2, 3, 4]
    assert [outcome.result for outcome in commit.outcomes] == ["created", "updated", "deleted", "created"]
    assert (await store.search(q.Query(("Patient",), total="accurate"))).total == 1
    assert [item.version for item in (await store.history("Patient", "a")).items] == [4, 3, 2, 1]


async def test_decide_sees_matches_and_current_versions(store: Store) -> None:
    await s.save(store, s.patient("a", "Li"), s.patient("b", "Li"), s.patient("c", "Li"), s.patient("d", "Wang"))
    await store.transact(Unit.of(s.delete("Patient", "d")))
    seen: list[Facts] = []

    def decide(facts: Facts) -> Effects:
        seen.append(facts)
        return Effects()

    criteria = [q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, name)) for name in ("li", "wang")]
    criteria.append(q.Query(("Patient",), q.Ids(("b",))))
    await store.transact(Unit(decide, criteria, [("Patient", "a"), ("Patient", "d"), ("Patient", "x"), ("Observation", "a")]))
    facts = seen[-1]
    assert len(facts.matches[0]) == 2 and set(facts.matches[0]) < {("Patient", "a"), ("Patient", "b"), ("Patient", "c")}
    assert facts.matches[1] == [] and facts.matches[2] == [("Patient", "b")]
    assert facts.current[("Patient", "a")].version == 1 and facts.current[("Patient", "d")].deleted
    assert facts.current[("Patient", "x")] is None and facts.current[("Observation", "a")] is None
    assert all(facts.current[at] is not None for at in facts.matches[0])


async def test_last_updated_never_goes_back(open_store: Any) -> None:
    now = [5000]
    store = await open_store(clock=lambda: now[0])
    await s.save(store, s.patient("a"))
    now[0] = 1000
    await s.save(store, s.patient("b"))
    now[0] = 6000
    await s.save(store, s.patient("c"))
    assert [item.updated for item in await store.changes(0)] == [5000, 5000, 6000]


async def test_an_unknown_resource_type_is_refused(store: Store) -> None:
    with pytest.raises(FhirError) as error:
        await store.transact(Unit.of(Write("PUT", "Nonsense", "a", {"resourceType": "Nonsense", "id": "a"})))
    assert error.value.status == 404
    assert await store.read("Nonsense", "a") is None


async def test_what_was_written_is_there_after_reopening(open_store: Any) -> None:
    store = await open_store()
    stored = await s.save(store, s.patient("a", "Li"), s.observation("o", "a"))
    await store.close()
    again = await open_store()
    assert await again.read("Patient", "a") == stored[0]
    assert s.ids((await again.search(q.Query(("Observation",), q.KeyMatch(s.OBS_SUBJECT, "Patient", "a")))).items) == ["o"]
    (more,) = await s.save(again, s.patient("b"))
    assert more.rid == 3


async def test_an_erased_resource_leaves_nothing(store: Store) -> None:
    await s.save(store, s.patient("a", "Li", identifier=[("s", "secret-number")]), s.patient("b", "Li"))
    await s.save(store, s.patient("a", "Li", identifier=[("s", "secret-number")], n=2))
    rid = await store.last_rid()
    assert await store.erase("Patient", "a") == 2
    assert await store.read("Patient", "a") is None and await store.read_version("Patient", "a", 1) is None
    assert s.ids((await store.search(q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, "li"), total="accurate"))).items) == ["b"]
    assert (await store.search(q.Query(("Patient",), q.KeyMatch(s.PAT_IDENTIFIER, "s", "secret-number")))).items == []
    assert (await store.search(q.Query(("Patient",)))).total == 1
    assert s.ids(await store.changes(0)) == ["b"]
    assert await store.last_rid() == rid
    assert await store.erase("Patient", "a") == 0
    (stored,) = await s.save(store, s.patient("a", "Li", identifier=[("s", "secret-number")]))
    assert stored.rid == rid + 1 and stored.version == 1
    assert await store.count(q.Query(("Patient",), q.KeyMatch(s.PAT_IDENTIFIER, "s", "secret-number"))) == 1


async def test_a_rid_is_not_given_again_after_erasing_the_newest(store: Store) -> None:
    await s.save(store, s.patient("a"))
    await s.save(store, s.patient("b"))
    await store.erase("Patient", "b")
    assert await store.last_rid() == 2
    (stored,) = await s.save(store, s.patient("c"))
    assert stored.rid == 3


async def test_a_body_of_several_megabytes_is_kept(store: Store) -> None:
    text = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(700_000))
    (stored,) = await s.save(store, {**s.patient("a"), "big": text})
    read = await store.read("Patient", "a")
    assert read is not None and read.body == stored.body and s.content(read)["big"] == text
