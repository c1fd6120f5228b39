"""A population whose every value follows from (seed, patient, item), so that each right answer is known without asking a server."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import orjson

LOINC = "http://loinc.org"
MRN = "http://example.org/bench/mrn"
SNOMED = "http://snomed.info/sct"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
DAYS = 730
VITALS = (
    ("8867-4", "/min", 50, 70),
    ("29463-7", "kg", 42, 60),
    ("2339-0", "mg/dL", 65, 160),
    ("59408-5", "%", 90, 10),
    ("85354-9", "mm[Hg]", 95, 70),
)
PROBLEMS = ("44054006", "38341003", "195967001", "13645005", "414545008")
FAMILIES = tuple(
    first + second for first in ("Zha", "Lin", "Wen", "Hua", "Guo", "Min", "Tao", "Yun") for second in ("dao", "fei", "gan", "hui", "jie")
)


def number(seed: int, *parts: object) -> int:
    """A stable pseudo-random number of the given parts."""
    return int.from_bytes(hashlib.blake2b(repr((seed, parts)).encode(), digest_size=6).digest(), "big")


class Population:
    """`patients` people with `observations` measurements each; ids are given by the client (update as create)."""

    def __init__(self, patients: int, observations: int, seed: int = 1, tag: str = "") -> None:
        self.patients, self.observations, self.seed, self.tag = patients, observations, seed, tag

    def patient_id(self, p: int) -> str:
        return f"{self.tag}bp{p}"

    def family(self, p: int) -> str:
        return FAMILIES[number(self.seed, "family", p) % len(FAMILIES)]

    def problem(self, p: int) -> str:
        return PROBLEMS[number(self.seed, "problem", p) % len(PROBLEMS)]

    def code(self, k: int) -> int:
        return k % len(VITALS)

    def when(self, p: int, k: int) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=number(self.seed, "when", p, k) % (DAYS * 86400))

    def value(self, p: int, k: int) -> int:
        _, _, low, span = VITALS[self.code(k)]
        return low + number(self.seed, "value", p, k) % span

    def patient(self, p: int) -> dict[str, Any]:
        birth = dt.date(1930, 1, 1) + dt.timedelta(days=number(self.seed, "birth", p) % 29000)
        return {
            "resourceType": "Patient",
            "id": self.patient_id(p),
            "identifier": [{"system": MRN, "value": f"{self.tag}M{p:07d}"}],
            "active": True,
            "name": [{"use": "official", "family": self.family(p), "given": [f"Given{p % 40}"]}],
            "telecom": [{"system": "phone", "value": f"100{number(self.seed, 'phone', p) % 10**8:08d}", "use": "mobile"}],
            "gender": "female" if number(self.seed, "sex", p) & 1 else "male",
            "birthDate": birth.isoformat(),
            "address": [{"use": "home", "line": [f"{p % 900 + 1} Renmin Road"], "city": "Hangzhou", "country": "CN"}],
        }

    def observation(self, p: int, k: int, id: str | None = None, when: dt.datetime | None = None) -> dict[str, Any]:
        code, unit, _, _ = VITALS[self.code(k)]
        at = (when or self.when(p, k)).astimezone(dt.timezone(dt.timedelta(hours=8))).isoformat(timespec="seconds")
        resource: dict[str, Any] = {
            "resourceType": "Observation",
            "status": "final",
            "category": [{"coding": [{"system": TERMINOLOGY + "observation-category", "code": "vital-signs"}]}],
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": f"Patient/{self.patient_id(p)}"},
            "effectiveDateTime": at,
        }
        if id:
            resource["id"] = id
        quantity = {"value": self.value(p, k), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
        if code == "85354-9":
            resource["component"] = [
                {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": quantity},
                {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": {**quantity, "value": quantity["value"] - 35}},
            ]
        else:
            resource["valueQuantity"] = quantity
        return resource

    def condition(self, p: int) -> dict[str, Any]:
        return {
            "resourceType": "Condition",
            "id": f"{self.tag}bc{p}",
            "clinicalStatus": {"coding": [{"system": TERMINOLOGY + "condition-clinical", "code": "active"}]},
            "code": {"coding": [{"system": SNOMED, "code": self.problem(p)}]},
            "subject": {"reference": f"Patient/{self.patient_id(p)}"},
            "onsetDateTime": self.when(p, 10**6).date().isoformat(),
        }

    def resources(self, p: int) -> list[dict[str, Any]]:
        """All of one person, references pointing backwards."""
        return [self.patient(p), self.condition(p), *(self.observation(p, k, f"{self.tag}bo{p}-{k}") for k in range(self.observations))]

    def bundles(self, people: int = 5) -> list[bytes]:
        """Transaction Bundles of PUT entries, `people` persons each."""
        out = []
        for start in range(0, self.patients, people):
            group = [resource for p in range(start, min(start + people, self.patients)) for resource in self.resources(p)]
            entries = [{"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in group]
            out.append(orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}))
        return out


def matches(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of a searchset that matched (not the included ones)."""
    return [entry["resource"] for entry in answer.get("entry", ()) if entry.get("search", {}).get("mode", "match") == "match"]


def included(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of a searchset that were included."""
    return [entry["resource"] for entry in answer.get("entry", ()) if entry.get("search", {}).get("mode") == "include"]
