"""A store with search parameters of a site: random work on it, and what its searches must find, from the stored bodies alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.errors import FhirError
from fhir_server.model.definitions import definitions
from fhir_server.search import query as q
from fhir_server.search.custom import Customs
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite import filling
from fhir_server.storage.sqlite.store import SqliteStore

MOOD, LIKES, SEEN = "urn:mood", "urn:likes", "urn:seen"
WORDS = ("glad", "sad", "calm", "cross")
PEOPLE = 150
EXPRESSIONS = {
    "mood": ("token", [f"Patient.extension('{MOOD}').value.as(code)", "Patient.gender"]),
    "likes": ("reference", [f"Patient.extension('{LIKES}').value.as(Reference)", "Patient.generalPractitioner"]),
    "seen": ("date", [f"Patient.extension('{SEEN}').value.as(date)", "Patient.birthDate"]),
    "alias": ("string", ["Patient.name.family", "Patient.name.text"]),
}
"""code -> kind, and the expressions between which its definition changes."""


def opened(folder: Path, **more: Any) -> tuple[SqliteStore, Registry]:
    registry = Registry(definitions())
    indexer = Indexer(registry, ZoneInfo("UTC"))
    store = SqliteStore(
        folder, index=indexer.index, part=indexer.part, type_names=definitions().resource_types, clinical=registry.clinical,
        patient_code=registry.patient_code, fingerprint=indexer.fingerprint, customs=Customs(registry, indexer), **more,
    )  # fmt: skip
    return store, registry


def parameter(code: str, which: int, status: str = "active") -> Write:
    kind, expressions = EXPRESSIONS[code]
    resource = {
        "resourceType": "SearchParameter", "id": code, "url": f"urn:{code}", "name": code, "status": status, "description": code,
        "code": code,
        "base": ["Patient"], "type": kind, "expression": expressions[which],
    }  # fmt: skip
    return Write("PUT", "SearchParameter", code, resource)


def person(rnd: random.Random, number: int) -> Write:
    resource: dict[str, Any] = {"resourceType": "Patient", "id": f"p{number}"}
    if rnd.random() < 0.8:
        word = rnd.choice(WORDS)
        resource["extension"] = [
            {"url": MOOD, "valueCode": word},
            {"url": LIKES, "valueReference": {"reference": f"Practitioner/d{rnd.randrange(4)}"}},
            {"url": SEEN, "valueDate": f"2026-0{rnd.randrange(1, 5)}-01"},
        ]
    resource["gender"] = rnd.choice(("male", "female"))
    resource["birthDate"] = f"199{rnd.randrange(4)}-01-01"
    resource["name"] = [{"family": rnd.choice(WORDS), "text": rnd.choice(("x", "y"))}]
    resource["generalPractitioner"] = [{"reference": f"Practitioner/d{rnd.randrange(4)}"}]
    return Write("PUT", "Patient", resource["id"], resource)


async def some_writes(store: SqliteStore, rnd: random.Random, units: int) -> int:
    """Units of new versions and deletions; how many writes."""
    done = 0
    for _ in range(units):
        writes = {}
        for _ in range(rnd.choice((1, 1, 2, 8))):
            number = rnd.randrange(PEOPLE)
            writes[number] = Write("DELETE", "Patient", f"p{number}") if rnd.random() < 0.15 else person(rnd, number)
        if rnd.random() < 0.05:
            await store.erase("Patient", f"p{rnd.randrange(PEOPLE)}")
        await store.transact(Unit.of(*writes.values()))
        done += len(writes)
    return done


async def quiet(store: SqliteStore, seconds: float = 60) -> None:
    """Until nothing is left to do."""
    async with asyncio.timeout(seconds):
        while filling.is_work(store._db):
            await asyncio.sleep(0.01)


def _values(code: str, which: int, resource: dict[str, Any]) -> set[str]:
    """What the expressions above mean, without FHIRPath."""
    extensions = {one["url"]: one for one in resource.get("extension", ())}
    if code == "mood":
        return {extensions[MOOD]["valueCode"]} if not which and MOOD in extensions else {resource["gender"]} if which else set()
    if code == "likes":
        if which:
            return {resource["generalPractitioner"][0]["reference"]}
        return {extensions[LIKES]["valueReference"]["reference"]} if LIKES in extensions else set()
    if code == "seen":
        return {resource["birthDate"]} if which else {extensions[SEEN]["valueDate"]} if SEEN in extensions else set()
    return {resource["name"][0]["text" if which else "family"]}


def _criterion(code: str, number: int, value: str) -> q.Criterion:
    if code == "mood":
        return q.KeyMatch(number, None, value)
    if code == "likes":
        return q.KeyMatch(number, *value.split("/"))
    if code == "seen":
        day = int(__import__("datetime").datetime.fromisoformat(value + "T00:00:00+00:00").timestamp() * 1000)
        return q.RangeMatch(number, low_min=day, high_max=day + 86_399_999)
    return q.TextMatch(number, value)


async def differences(store: SqliteStore, registry: Registry) -> list[str]:
    """What the parameters that are served find otherwise than a look at every resource; empty when all is right."""
    store.renew()
    definition = {one.id: json.loads(one.body) for one in await store.read_many([("SearchParameter", code) for code in EXPRESSIONS])}
    people = [json.loads(one.body) for one in await store.read_many([("Patient", f"p{n}") for n in range(PEOPLE)])]
    found: list[str] = []
    for code, (_, expressions) in EXPRESSIONS.items():
        known = registry.get("Patient", code)
        active = code in definition and definition[code]["status"] == "active"
        if (known is not None) != active:
            found.append(f"{code}: known {known is not None}, active {active}")
        if known is None:
            continue
        wanted: dict[str, set[str]] = defaultdict(set)
        for resource in people:
            for value in _values(code, expressions.index(definition[code]["expression"]), resource):
                wanted[value].add(resource["id"])
        for value, ids in wanted.items():
            page = await store.search(q.Query(("Patient",), _criterion(code, known.number, value), limit=1000, total="accurate"))
            if {one.id for one in page.items} != ids or page.total != len(ids) or len(page.items) != len(ids):
                found.append(f"{code}={value}: {len(page.items)} of {len(ids)}, total {page.total}")
        missing = q.Not(q.Present(known.number))
        if await store.count(q.Query(("Patient",), missing)) != len(people) - len(set().union(*wanted.values()) if wanted else ()):
            found.append(f"{code}:missing=true")
        if code == "likes":
            for value, ids in wanted.items():
                chain = q.Chain(known.number, (("Practitioner", q.Ids((value.split("/")[1],))),))
                there = await store.read(*value.split("/"))
                if {one.id for one in (await store.search(q.Query(("Patient",), chain, limit=1000))).items} != (ids if there else set()):
                    found.append(f"{code}.{value}")
                if there and await store.count(q.Query(("Practitioner",), q.Has("Patient", known.number, q.Ids(tuple(ids))))) < 1:
                    found.append(f"_has {code}.{value}")
    if await store.count(q.Query(("Patient",))) != len(people):
        found.append("all patients")
    return found


async def never_partly(store: SqliteStore, registry: Registry) -> bool:
    """Whether the parameters answer: wholly where they do, with 503 where they do not."""
    try:
        wrong = await differences(store, registry)
    except FhirError as refusal:
        assert refusal.status == 503, refusal
        return False
    assert wrong == []
    return True
