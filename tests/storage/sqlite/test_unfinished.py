"""A unit that fails while its rows are made leaves nothing behind, and the others of its group are written all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.search.indexer import Indexer
from fhir_server.search.query import Everything, Query
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.writer import Unfinished
from tests.storage.sqlite.invariants import faults
from tests.storage.sqlite.test_partial_updates import REGISTRY, TYPES


def patient(id: str, family: str) -> Write:
    return Write("PUT", "Patient", id, {"resourceType": "Patient", "id": id, "name": [{"family": family}]})


@pytest.mark.parametrize(("method", "fault"), [("DELETE", Unfinished), ("PUT", FhirError)])
async def test_what_fails_half_way_leaves_nothing(tmp_path: Path, method: str, fault: type[Exception]) -> None:
    def loads(raw: bytes) -> dict[str, Any]:
        if b"unreadable" in raw:
            raise FhirError.of(400, "structure", "it cannot be read")
        return json_codec.loads(raw)

    indexer = Indexer(REGISTRY, ZoneInfo("UTC"))
    store = SqliteStore(tmp_path, index=indexer.index, part=indexer.part, type_names=TYPES, loads=loads)
    await store.open()
    try:
        await store.transact(Unit.of(patient("a", "unreadable"), patient("b", "x")))
        spoilt = Write("DELETE", "Patient", "a") if method == "DELETE" else patient("a", "new")
        units = [Unit.of(patient("b", "y")), Unit.of(spoilt), Unit.of(patient("c", "z"))]
        results = await asyncio.gather(*(store.transact(unit) for unit in units), return_exceptions=True)
        assert [type(one) for one in results if isinstance(one, BaseException)] == [fault]
        page = await store.search(Query(("Patient",), Everything(), limit=10, total="accurate"))
        assert (sorted(one.id for one in page.items), page.total) == (["a", "b", "c"], 3)
        history = await store.history("Patient", "a", limit=10)
        assert [one.version for one in history.items] == [1]
    finally:
        await store.close()
    assert faults(tmp_path / "fhir.db") == []


async def test_what_would_no_longer_be_taken_can_be_changed_and_deleted(tmp_path: Path) -> None:
    """A number that no double holds came in by XML once."""
    indexer = Indexer(REGISTRY, ZoneInfo("UTC"))
    store = SqliteStore(tmp_path, index=indexer.index, part=indexer.part, type_names=TYPES)
    await store.open()
    huge = {"resourceType": "Patient", "id": "a", "extension": [{"url": "http://x.org", "valueDecimal": json_codec.Number("1" * 400)}]}
    try:
        await store.transact(Unit.of(Write("PUT", "Patient", "a", huge), Write("PUT", "Patient", "b", huge | {"id": "b"})))
        await store.transact(Unit.of(Write("DELETE", "Patient", "a"), patient("b", "x")))
        page = await store.search(Query(("Patient",), Everything(), limit=10, total="accurate"))
        assert [(one.id, one.version) for one in page.items] == [("b", 2)]
    finally:
        await store.close()
    assert faults(tmp_path / "fhir.db") == []
