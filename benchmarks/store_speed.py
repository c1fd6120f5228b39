"""Micro benchmark of the embedded store alone: `python -m benchmarks.store_speed [patients] [--dir DIR] [--durability FULL|NORMAL]`.

Resources and index values are those of everyday vital signs; index values are prepared beforehand, so the figures are the store's own.
Prints CPU and wall time per operation beside the budget (docs/decisions/0042-group-commit.md, 0043-planner.md).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from fhir_server.search import query as q
from fhir_server.search.values import IndexValues, Key, Range, Text
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite import SqliteStore

TYPES = ("Condition", "Encounter", "MedicationRequest", "Observation", "Patient")
DAY = 86_400_000
EPOCH = 1_700_000_000_000
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
CODES = ["8867-4", "8310-5", "29463-7", "8302-2", "59408-5", "9279-1", "39156-5", "2339-0", "4548-4", "85354-9"]
FAMILIES = [f"Family{n}" for n in range(400)]
(O_CODE, O_SUBJECT, O_DATE, O_VALUE, O_BOTH, O_STATUS, O_CATEGORY, O_ENCOUNTER, O_IDENTIFIER) = range(100, 109)
(P_FAMILY, P_GIVEN, P_NAME, P_IDENTIFIER, P_BIRTH, P_GENDER, P_PHONE, P_CITY, P_ACTIVE) = range(200, 209)
(C_CODE, C_SUBJECT, C_ONSET, C_BOTH, C_STATUS) = range(300, 305)
CLINICAL = {"Observation": O_DATE, "Condition": C_ONSET}
PATIENT_CODE = {"Observation": (O_SUBJECT, O_CODE, O_BOTH), "Condition": (C_SUBJECT, C_CODE, C_BOTH)}
INDEX: dict[str, IndexValues] = {}


def patient(rnd: random.Random, number: int) -> tuple[dict[str, Any], IndexValues]:
    id, family, given = str(uuid.UUID(int=rnd.getrandbits(128), version=4)), FAMILIES[number % 400], f"Given{number % 50}"
    birth = rnd.randrange(-1_000_000, 1_000_000) * 1000
    body = {
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"use": "usual", "system": "http://hospital.example.org/mrn", "value": f"M{number}"}],
        "active": True,
        "name": [{"use": "official", "text": f"{given} {family}", "family": family, "given": [given]}],
        "telecom": [{"system": "phone", "value": f"138{number:08d}", "use": "mobile"}],
        "gender": "female",
        "birthDate": "1970-01-01",
        "address": [{"use": "home", "line": ["1 Renmin Road"], "city": "Shanghai", "postalCode": "200000", "country": "CN"}],
    }
    keys = [
        Key(P_IDENTIFIER, "http://hospital.example.org/mrn", f"M{number}"),
        Key(P_GENDER, "http://hl7.org/fhir/administrative-gender", "female"),
        Key(P_PHONE, "phone", f"138{number:08d}"),
        Key(P_ACTIVE, "http://hl7.org/fhir/special-values", "true"),
    ]
    texts = [Text(P_FAMILY, family.lower(), family), Text(P_GIVEN, given.lower(), given), Text(P_CITY, "shanghai", "Shanghai")]
    texts += [Text(P_NAME, family.lower(), family), Text(P_NAME, given.lower(), given)]
    return body, IndexValues(keys, texts, [Range(P_BIRTH, "", "", birth, birth + DAY - 1)])


def observation(rnd: random.Random, patient_id: str, code: str, at: int, identifier: str = "") -> tuple[dict[str, Any], IndexValues]:
    value = rnd.randrange(40, 180)
    when = time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(at / 1000 + 8 * 3600))
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    body = {
        "resourceType": "Observation",
        "id": str(uuid.UUID(int=rnd.getrandbits(128), version=4)),
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "vital-signs", "display": "Vital Signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": code, "display": "Vital sign"}], "text": "Vital sign"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": when,
        "issued": when,
        "valueQuantity": {"value": value, "unit": "1/min", "system": UCUM, "code": "/min"},
    }
    keys = [
        Key(O_CODE, LOINC, code),
        Key(O_SUBJECT, "Patient", patient_id),
        Key(O_BOTH, patient_id, f"{LOINC}|{code}"),
        Key(O_STATUS, "http://hl7.org/fhir/observation-status", "final"),
        Key(O_CATEGORY, category, "vital-signs"),
    ]
    if identifier:
        keys.append(Key(O_IDENTIFIER, "http://hospital.example.org/obs", identifier))
    ranges = [Range(O_DATE, "", "", at, at + 999), Range(O_VALUE, UCUM, "/min", value - 0.5, value + 0.5)]
    return body, IndexValues(keys, [], ranges, at)


def condition(rnd: random.Random, patient_id: str, code: str, at: int) -> tuple[dict[str, Any], IndexValues]:
    body = {
        "resourceType": "Condition",
        "id": str(uuid.UUID(int=rnd.getrandbits(128), version=4)),
        "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
        "code": {"coding": [{"system": SNOMED, "code": code, "display": "Problem"}], "text": "Problem"},
        "subject": {"reference": f"Patient/{patient_id}"},
        "onsetDateTime": "2024-01-01",
    }
    keys = [Key(C_CODE, SNOMED, code), Key(C_SUBJECT, "Patient", patient_id), Key(C_BOTH, patient_id, f"{SNOMED}|{code}")]
    keys.append(Key(C_STATUS, "http://terminology.hl7.org/CodeSystem/condition-clinical", "active"))
    return body, IndexValues(keys, [], [Range(C_ONSET, "", "", at, at + DAY - 1)], at)


def write_of(made: tuple[dict[str, Any], IndexValues], method: str = "POST") -> Write:
    body, values = made
    INDEX[body["id"]] = values
    return Write(method, body["resourceType"], body["id"], body)


class Bench:
    """One store with a population, and what is needed to ask right questions."""

    def __init__(self, folder: Path, patients: int, durability: str) -> None:
        self.rnd = random.Random(7)
        self.n = patients
        self.people: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.folder = folder
        self.store = SqliteStore(
            folder,
            index=lambda resource: INDEX[resource["id"]],
            type_names=TYPES,
            dumps=orjson.dumps,
            loads=orjson.loads,
            fold=str.lower,
            durability=durability,
            clinical=CLINICAL,
            patient_code=PATIENT_CODE,
        )

    async def load(self) -> int:
        """One unit per patient of about 46 resources; the number of resources."""
        total = 0
        for number in range(self.n):
            rnd = self.rnd
            body, values = patient(rnd, number)
            self.people.append(body["id"])
            self.bodies.append(body)
            made = [(body, values)]
            for at in range(44):
                start = EPOCH + rnd.randrange(730 * 24 * 3600) * 1000
                made.append(observation(rnd, body["id"], CODES[at % 10], start, f"OBS-{number}-{at}"))
            made.append(condition(rnd, body["id"], str(number % 8), EPOCH))
            writes = [write_of(item) for item in made]
            await self.store.transact(Unit.of(*writes))
            total += len(writes)
            if number % 50 == 49:
                INDEX.clear()
        return total

    def key(self, parameter: int, space: str, value: str) -> q.KeyMatch:
        return q.KeyMatch(parameter, space, value)


async def timed(name: str, times: int, call: Callable[[int], Awaitable[Any]], clients: int = 1, per: int = 1) -> None:
    """Run `call` and print CPU and wall microseconds per operation."""
    turn = iter(range(times))

    async def client() -> None:
        for number in turn:
            await call(number)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:48} {cpu / times / per * 1e6:9.1f} {wall / times / per * 1e6:9.1f}", flush=True)


def searches(bench: Bench) -> dict[str, Callable[[int], q.Query]]:
    """The shapes of queries that tools/bench sends."""
    rnd, key = random.Random(3), bench.key
    before = q.RangeMatch(O_DATE, low_max=EPOCH + 900 * DAY, strict=frozenset({"low_max"}))

    def person() -> int:
        return rnd.randrange(bench.n)

    def code() -> q.KeyMatch:
        return key(O_CODE, LOINC, rnd.choice(CODES))

    def day() -> tuple[q.Criterion, q.Criterion]:
        low = EPOCH + rnd.randrange(700) * DAY
        eq = q.RangeMatch(O_DATE, low_min=low, high_max=low + 999)
        ge = q.Or((q.RangeMatch(O_DATE, high_min=low + 999, strict=frozenset({"high_min"})), eq))
        return ge, q.RangeMatch(O_DATE, low_max=low + DAY, strict=frozenset({"low_max"}))

    def subject() -> q.KeyMatch:
        return key(O_SUBJECT, "Patient", bench.people[person()])

    def name(number: int) -> q.Criterion:
        return q.And((q.TextMatch(P_FAMILY, f"family{number % 400}"), q.TextMatch(P_GIVEN, f"given{number % 50}")))

    def mrn(number: int) -> q.Criterion:
        return key(P_IDENTIFIER, "http://hospital.example.org/mrn", f"M{number}")

    by_date = (q.SortKey(O_DATE, "range", True),)
    has = q.Has("Condition", C_SUBJECT, key(C_CODE, SNOMED, "3"))
    chain = ("Patient",)
    return {
        "token: code + patient + date": lambda n: q.Query(("Observation",), q.And((code(), subject(), before)), limit=50),
        "code + patient, sorted by date": lambda n: q.Query(("Observation",), q.And((code(), subject())), by_date),
        "date: code + one day": lambda n: q.Query(("Observation",), q.And((code(), *day())), limit=50),
        "name: family + given": lambda n: q.Query(("Patient",), name(person()), limit=50),
        "identifier": lambda n: q.Query(("Patient",), mrn(person())),
        "chained identifier + code + date": lambda n: q.Query(
            ("Observation",), q.And((q.Chain(O_SUBJECT, ((chain[0], mrn(person())),)), code(), before)), limit=50
        ),
        "family + has Condition code": lambda n: q.Query(
            ("Patient",), q.And((q.TextMatch(P_FAMILY, f"family{person() % 400}"), has)), limit=50
        ),
        "patient, sorted by date, page of 5": lambda n: q.Query(("Observation",), q.And((subject(), before)), by_date, limit=5),
        "code, unsorted, page of 20": lambda n: q.Query(("Observation",), code()),
        "code, sorted by date": lambda n: q.Query(("Observation",), code(), by_date),
        "all of a type": lambda n: q.Query(("Observation",)),
        "all of a type, sorted by date": lambda n: q.Query(("Observation",), sort=by_date),
        "type + lastUpdated": lambda n: q.Query(("Observation",), q.Updated(0, None)),
        "value range": lambda n: q.Query(
            ("Observation",), q.RangeMatch(O_VALUE, high_min=178.0, space=UCUM, value="/min", strict=frozenset({"high_min"}))
        ),
    }


async def run(patients: int, folder: Path, durability: str) -> None:
    bench = Bench(folder, patients, durability)
    await bench.store.open()
    wall, cpu = time.perf_counter(), time.process_time()
    total = await bench.load()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{'operation (microseconds per operation)':48} {'CPU':>9} {'wall':>9}")
    print(f"{'import, per resource (units of 46, with making them)':48} {cpu / total * 1e6:9.1f} {wall / total * 1e6:9.1f}")
    rnd, people, store = bench.rnd, bench.people, bench.store

    def fresh() -> Write:
        return write_of(
            observation(rnd, rnd.choice(people), rnd.choice(CODES), EPOCH + 731 * DAY + rnd.randrange(10**9), f"N{rnd.random()}")
        )

    for clients in (1, 8, 32):
        made = [fresh() for _ in range(2000)]
        await timed(f"create Observation, {clients} client(s)", 2000, lambda n, made=made: store.transact(Unit.of(made[n])), clients)  # type: ignore[misc]
    hundreds = [Unit.of(*(fresh() for _ in range(100))) for _ in range(40)]
    await timed("transaction of 100 creates", 40, lambda n: store.transact(hundreds[n]), 2)
    updates = []
    for number in range(1000):
        at = number % bench.n
        _, values = patient(rnd, at)
        INDEX[people[at]] = values
        updates.append(Write("PUT", "Patient", people[at], {**bench.bodies[at], "language": f"x{number}"}))
    await timed("update Patient, 8 clients", 1000, lambda n: store.transact(Unit.of(updates[n])), 8)
    kept = [fresh() for _ in range(1000)]

    def conditional(number: int) -> Unit:
        identifier = f"OBS-{number % bench.n}-1" if number % 2 else f"new{number}"
        question = q.Query(("Observation",), bench.key(O_IDENTIFIER, "http://hospital.example.org/obs", identifier))
        effects = Unit.of(kept[number]).decide(None)  # type: ignore[arg-type]
        return Unit(lambda facts: type(effects)() if facts.matches[0] else effects, (question,))

    await timed("conditional create, half existing, 8 clients", 1000, lambda n: store.transact(conditional(n)), 8)
    await timed("read", 20000, lambda n: store.read("Patient", people[n % bench.n]))
    await timed("history of an instance", 5000, lambda n: store.history("Patient", people[n % bench.n]))
    for name, make in searches(bench).items():
        made_queries = [make(n) for n in range(1000)]
        sizes = [len((await store.search(query)).items) for query in made_queries[:20]]
        await timed(f"search {name} ({sum(sizes) / 20:.0f})", 1000, lambda n, made=made_queries: store.search(made[n]))  # type: ignore[misc]
    first = q.Query(("Observation",), bench.key(O_CODE, LOINC, CODES[0]), (q.SortKey(O_DATE, "range", True),), limit=5)
    page = await store.search(first)
    for _ in range(min(1000, total // 60)):
        page = await store.search(first, page.next)
    behind = page.next
    await timed("page 1 of 5 by date", 500, lambda n: store.search(first))
    await timed("page 1,000 (or as far as there are) of 5 by date", 500, lambda n: store.search(first, behind))
    await store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = (folder / "fhir.db").stat().st_size
    print(f"{total + 10_000} versions, {size / (total + 10_000):.0f} bytes each; peak memory {peak:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patients", type=int, nargs="?", default=550)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--durability", default="FULL", choices=["FULL", "NORMAL"])
    options = parser.parse_args()
    folder = options.dir or Path(tempfile.mkdtemp(prefix="store-speed-"))
    try:
        asyncio.run(run(options.patients, folder / "store", options.durability))
    finally:
        if not options.dir:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
