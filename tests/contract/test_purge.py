"""`purge`: what is named and what belongs to it vanishes as of the unit; what is shared stays; records of the server itself go too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fhir_server.search import query as q
from fhir_server.storage.port import Purge, Record, Store, Unit, Write
from tests.contract import support as s


def of(id: str, audited: str = "audit", **more: Any) -> Purge:
    """All Observations of a patient with it; the record of it is an Organization here."""

    def audit(resources: Mapping[str, int]) -> Write:
        return s.post({"resourceType": "Organization", "id": audited, "told": dict(resources)})

    def belongs(resource: dict[str, Any]) -> bool:
        return [s.OBS_SUBJECT, "Patient", id] in resource["index"]["keys"]

    members = q.Query(("Observation",), q.KeyMatch(s.OBS_SUBJECT, "Patient", id))
    return Purge([("Patient", id)], audit, members, belongs=belongs, clue=id.encode(), **more)


async def test_members_that_come_and_go_while_it_waits_are_erased_too(store: Store) -> None:
    await s.save(store, s.patient("p1", "Long"), *(s.observation(f"o{n}", "p1") for n in range(30)), s.observation("x", "p2"))
    await store.transact(Unit.of(s.delete("Observation", "o0")))

    async def busy() -> None:
        for n in range(1, 20):
            await store.transact(Unit.of(s.delete("Observation", f"o{n}"), s.put(s.observation(f"new{n}", "p1"))))

    purged, _ = await asyncio.gather(store.purge(of("p1")), busy())
    again = await store.purge(of("p1", "audit2"))
    there = {f"o{n}" for n in range(30)} | {f"new{n}" for n in range(1, 20)}
    assert purged.resources["Observation"] >= 30
    for id in there:
        assert await store.read_version("Observation", id, 1) is None, id
        current = await store.read("Observation", id)
        assert current is not None and current.deleted
    assert again.wiped and await store.count(q.Query(("Observation",))) == 1
    audit = await store.read("Organization", "audit")
    assert audit is not None and s.content(audit)["told"] == dict(purged.resources)


async def test_spared_members_stay_and_records_go(store: Store) -> None:
    await s.save(store, s.patient("p1", "Long"), s.observation("o1", "p1"), s.observation("shared", "p1", shared=True))
    records = [Record("inbox", str(n), {"text": "Dear Long"}, {"patient": f"Patient/p{n}"}) for n in (1, 2)]
    await store.transact(Unit.of(records=records))
    purged = await store.purge(of("p1", spared=lambda resource: "shared" in resource, records=[("inbox", "patient", "Patient/p1")]))
    assert list(purged.spared) == [("Observation", "shared")] and dict(purged.resources) == {"Patient": 1, "Observation": 1}
    assert not (await store.read("Observation", "shared")).deleted  # type: ignore[union-attr]
    assert [one.key for one in await store.records("inbox")] == ["2"]
