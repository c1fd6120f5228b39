"""Writes of the growth benchmark, each recorded, so that the totals are known afterwards, too. They go to a copy of the store."""

from __future__ import annotations

import random
import uuid
from collections import Counter

import orjson

from benchmarks import growth_population as g
from benchmarks.drive import expect
from benchmarks.growth_client import Answer, Ask, Client, Workload, faults
from benchmarks.growth_reads import coded, total
from benchmarks.population import LOINC

WRITES = "Writes"
ENTRIES = 100
LATE = g.SPAN
"""Seconds after the population's EPOCH from which on written Observations are dated: later than all that were loaded."""


class Written:
    """What was asked of the server, and is checked against it afterwards."""

    def __init__(self, known: g.Known) -> None:
        self.known = known
        self.versions: Counter[tuple[int, int]] = Counter()
        self.created: list[str] = []
        self.transactions = 0
        self.sent = 0

    def _measured(self, subject: str) -> dict[str, object]:
        self.sent += 1
        return g.measured(subject, (LOINC, g.WRITTEN), g.moment(LATE + self.sent), 90 + self.sent % 60)

    def create(self, draw: random.Random) -> Ask:
        """A new Observation of somebody."""

        def check(answer: Answer) -> None:
            expect(answer.status == 201, str(answer.body[:200]))
            place = answer.header("location").split("/")
            expect(place[-4:-2] == ["Observation", answer.json()["id"]] and place[-2:] == ["_history", "1"], f"Location {place}")
            self.created.append(place[-3])

        return Ask("Observation", check, "POST", orjson.dumps(self._measured(f"Patient/g{draw.randrange(self.known.patients)}")))

    def update(self, draw: random.Random) -> Ask:
        """Another value for a stored Observation; its patient, code and date stay."""
        p, k = draw.randrange(self.known.patients), draw.randrange(g.PER_PATIENT - 1)
        self.versions[p, k] += 1
        more = self.versions[p, k]

        def check(answer: Answer) -> None:
            expect(answer.status == 200, str(answer.body[:200]))
            expect(answer.header("etag") == f'W/"{more + 1}"', f"ETag {answer.header('etag')}, version {more + 1} wanted")

        return Ask(f"Observation/g{p}-{k}", check, "PUT", orjson.dumps(g.observation(p, k, more)))

    def transaction(self, draw: random.Random) -> Ask:
        """A new patient with 99 Observations that refer to them within the Bundle."""
        self.transactions += 1
        person = f"urn:uuid:{uuid.UUID(int=draw.getrandbits(128), version=4)}"
        content = {**g.patient(draw.randrange(10**6)), "name": [{"family": "Zzwritten"}], "identifier": [{"value": person}]}
        content.pop("id")
        contents = [(person, content)]
        for _ in range(ENTRIES - 1):
            contents.append((f"urn:uuid:{uuid.UUID(int=draw.getrandbits(128), version=4)}", self._measured(person)))
        entries = [
            {"fullUrl": url, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
            for url, resource in contents
        ]

        def check(answer: Answer) -> None:
            expect(answer.status == 200, str(answer.body[:200]))
            made = [entry["response"] for entry in answer.json()["entry"]]
            expect(len(made) == ENTRIES and all(one["status"].startswith("201") for one in made), f"{made[:2]}…")

        return Ask("", check, "POST", orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}))

    def workloads(self) -> list[Workload]:
        made = {"create Observation": self.create, "update Observation": self.update, f"transaction of {ENTRIES} creates": self.transaction}
        return [Workload(name, WRITES, make) for name, make in made.items()]

    def faults(self, base: str, sample: int = 200) -> list[str]:
        """Whether the store holds what was written, and still all that was loaded."""
        new = self.sent
        asks = [
            Ask(f"Observation?{coded(g.WRITTEN)}&_summary=count", total(new)),
            Ask("Observation?_summary=count", total(self.known.observations + new)),
            Ask(f"Observation?{coded(g.FREQUENT)}&_summary=count", total(self.known.frequent)),
            Ask("Patient?family=Zzwritten&_summary=count", total(self.transactions)),
            Ask("Patient?_summary=count", total(self.known.patients + self.transactions)),
        ]
        asks += [self._read(p, k) for p, k in list(self.versions)[:sample]]
        asks += [Ask(f"Observation/{id}", _is_written) for id in self.created[:sample]]
        with Client(base) as client:
            return [fault for ask in asks for fault in faults(ask, client.ask(ask))]

    def _read(self, p: int, k: int) -> Ask:
        def check(answer: Answer) -> None:
            right = g.observation(p, k, self.versions[p, k])
            expect({**answer.json(), "meta": None} == {**right, "meta": None}, f"an update of g{p}-{k} is lost")

        return Ask(f"Observation/g{p}-{k}", check)


def _is_written(answer: Answer) -> None:
    expect(answer.status == 200 and answer.json()["code"]["coding"][0]["code"] == g.WRITTEN, "a created Observation is lost")
