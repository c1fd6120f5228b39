"""A purge sees the store as of its unit: what comes and goes meanwhile, what is shared, and records of the server itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.port import Purge, Record, Unit, Write
from fhir_server.storage.sqlite import purging
from tests.contract import support as s
from tests.storage.sqlite.invariants import faults


def of(id: str, audited: str = "audit", **more: Any) -> Purge:
    """All Observations of a patient with it; the record of it is an Organization here."""

    def audit(resources: Mapping[str, int]) -> Write:
        return s.post({"resourceType": "Organization", "id": audited, "told": dict(resources)})

    def belongs(resource: dict[str, Any]) -> bool:
        return [s.OBS_SUBJECT, "Patient", id] in resource["index"]["keys"]

    members = q.Query(("Observation",), q.KeyMatch(s.OBS_SUBJECT, "Patient", id))
    return Purge([("Patient", id)], audit, members, belongs=belongs, clue=id.encode(), **more)


async def test_members_that_come_and_go_while_it_waits_are_erased_too(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path)
    await store.open()
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
    await store.close()
    assert not [one for one in faults(tmp_path / "fhir.db") if not one.startswith("a gap")]


async def test_what_is_refused_leaves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = s.sqlite_store(tmp_path)
    await store.open()
    await s.save(store, s.patient("p1", "Long"), *(s.observation(f"o{n}", "p1") for n in range(5)))
    monkeypatch.setattr(purging, "MOST", 4)
    with pytest.raises(FhirError) as refused:
        await store.purge(of("p1"))
    assert refused.value.status == 422 and refused.value.issues[0].zh
    monkeypatch.setattr(purging, "MOST", 5)
    await s.save(store, {"resourceType": "Organization", "id": "audit"})
    with pytest.raises(FhirError) as refused:  # the record cannot be written
        await store.purge(of("p1"))
    assert refused.value.status == 409
    assert await store.count(q.Query(("Observation",))) == 5 and await store.read_version("Patient", "p1", 1) is not None
    await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_spared_members_stay_and_records_go(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path)
    await store.open()
    await s.save(store, s.patient("p1", "Long"), s.observation("o1", "p1"), s.observation("shared", "p1", shared=True))
    records = [Record("inbox", str(n), {"text": "Dear Long"}, {"patient": f"Patient/p{n}"}) for n in (1, 2)]
    await store.transact(Unit.of(records=records))
    purged = await store.purge(of("p1", spared=lambda resource: "shared" in resource, records=[("inbox", "patient", "Patient/p1")]))
    assert list(purged.spared) == [("Observation", "shared")] and dict(purged.resources) == {"Patient": 1, "Observation": 1}
    assert not (await store.read("Observation", "shared")).deleted  # type: ignore[union-attr]
    assert [one.key for one in await store.records("inbox")] == ["2"]
    await store.close()


async def test_an_earlier_index_that_is_being_cleared_away_keeps_nothing_of_it(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path)
    await store.open()
    await s.save(store, s.patient("p1", "Unmistakable"), *(s.patient(f"x{n}", f"Other{n}") for n in range(3000)))
    await store.reindex()
    with pytest.raises(FhirError, match="503"):  # nobody can say now what belongs to it
        await store.purge(of("p1"))
    assert b"nmistakable" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    await store.purge(replace(of("p1"), members=None))
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"nmistakable" not in files
    await store.close()
    db = sqlite3.connect(tmp_path / "fhir.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
