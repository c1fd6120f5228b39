"""An update counts only the index values that its changed members decide; the store is the same as if it had looked at all of them.

Decision: docs/decisions/0045-updates-count-what-changed.md
"""

from __future__ import annotations

import json
import random
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.storage.body import changed_members
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.sqlite.invariants import faults

Resource = dict[str, Any]
REGISTRY = Registry(definitions())
TYPES = ("Patient", "Observation", "Encounter", "CarePlan", "Location", "Substance", "PlanDefinition", "DiagnosticReport", "AuditEvent")


@pytest.fixture(scope="module")
def pool(corpus: Path) -> dict[str, list[Resource]]:
    """The official examples of some types."""
    found: dict[str, list[Resource]] = defaultdict(list)
    with tarfile.open(corpus / "r4" / "examples-json.tar.gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not Path(member.name).name.lower().startswith(tuple(type.lower() for type in TYPES)):
                continue
            content = json.load(file)
            if content.get("resourceType") in TYPES:
                found[content["resourceType"]].append(content)
    assert set(found) == set(TYPES)
    return found


def mixed(rnd: random.Random, pool: list[Resource], before: Resource | None) -> Resource:
    """Some members of the version before are taken from other examples, dropped, or reduced; which makes sense of nothing but the index."""
    made = dict(before or rnd.choice(pool))
    for _ in range(rnd.randint(1, 3)):
        donor = rnd.choice(pool)
        name = rnd.choice([name for name in donor if name not in ("resourceType", "id")])
        action = rnd.random()
        if action < 0.6:
            made[name] = donor[name]
        elif action < 0.8:
            made.pop(name, None)
        elif isinstance(made.get(name), list):
            made[name] = made[name][: rnd.randint(0, 1)] or donor[name]
    return made


@pytest.mark.parametrize("seed", range(3))
async def test_counts_stay_those_of_the_postings(tmp_path: Path, pool: dict[str, list[Resource]], seed: int) -> None:
    rnd = random.Random(seed)
    indexer = Indexer(REGISTRY, ZoneInfo("Asia/Shanghai"))
    kinds = {"clinical": REGISTRY.clinical, "patient_code": REGISTRY.patient_code}
    store = SqliteStore(tmp_path / "s", index=indexer.index, part=indexer.part, type_names=definitions().resource_types, **kinds)
    await store.open()
    live: dict[tuple[str, str], Resource] = {}
    for _ in range(60):
        writes = []
        for _ in range(rnd.randint(1, 8)):
            type = rnd.choice(TYPES)
            at = (type, f"r{rnd.randrange(3)}")
            if at in live and rnd.random() < 0.1:
                del live[at]
                writes.append(Write("DELETE", *at))
            else:
                live[at] = mixed(rnd, pool[type], live.get(at))
                writes.append(Write("PUT", *at, resource=live[at]))
        for write in writes:
            await store.transact(Unit.of(write))
    await store.close()
    assert faults(tmp_path / "s" / "fhir.db") == []


def test_members_that_stay_decide_nothing_that_changes(pool: dict[str, list[Resource]]) -> None:
    rnd = random.Random(7)
    indexer = Indexer(REGISTRY, ZoneInfo("Asia/Shanghai"))
    derived = {numbers[2] for numbers in REGISTRY.patient_code.values()}
    for _ in range(1500):
        type = rnd.choice(TYPES)
        old = rnd.choice(pool[type])
        new = mixed(rnd, pool[type], old)
        part = indexer.part(type, changed_members(old, new))
        for version in (old, new):
            whole, partial = indexer.index(version), part.values(version)
            for all_values, of_part in ((whole.keys, partial.keys), (whole.texts, partial.texts), (whole.ranges, partial.ranges)):
                assert [one for one in all_values if one[0] in part.parameters and one[0] not in derived] == list(of_part)
        before, after = indexer.index(old), indexer.index(new)
        for side in ("keys", "texts", "ranges"):
            unlike = set(getattr(before, side)) ^ set(getattr(after, side))
            assert {one[0] for one in unlike} - derived <= part.parameters, changed_members(old, new)


def test_what_differs_is_seen_and_what_the_store_sets_is_not() -> None:
    old = {"resourceType": "Patient", "id": "a", "meta": {"versionId": "1", "lastUpdated": "x"}, "active": True, "gender": "male"}
    assert changed_members(old, {"resourceType": "Patient", "active": True, "gender": "male"}) == frozenset()
    assert changed_members(old, {"resourceType": "Patient", "active": False, "birthDate": "1990"}) == {"active", "gender", "birthDate"}
    assert changed_members(old, {"resourceType": "Patient", "meta": {"tag": []}, "active": True, "gender": "male"}) == {"meta"}
