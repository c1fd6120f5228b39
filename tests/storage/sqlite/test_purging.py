"""What a purge refuses, and what it leaves in the files of the embedded store."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.sqlite import purging
from tests.contract import support as s
from tests.contract.test_purge import of
from tests.storage.sqlite.invariants import faults


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
