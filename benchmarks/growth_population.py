"""Patients and Observations of any number, made by arithmetic, so that every right answer is computed, never asked of a server."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks.population import FAMILIES, LOINC, MRN, TERMINOLOGY

PER_PATIENT = 50
"""Resources of one person: the Patient and 49 Observations."""
FREQUENT, OCCASIONAL, RARE, WRITTEN = "8867-4", "2339-0", "33914-3", "55284-4"
OTHERS = (("29463-7", "kg"), ("59408-5", "%"), ("8310-5", "Cel"), ("9279-1", "/min"), ("8302-2", "cm"), ("39156-5", "kg/m2"))
UNITS = {FREQUENT: "/min", OCCASIONAL: "mg/dL", RARE: "mL/min", WRITTEN: "mm[Hg]", **dict(OTHERS)}
EPOCH = dt.datetime(2015, 1, 1, tzinfo=dt.UTC)
SPAN = 3650 * 86400
_STEP = 194904803
_SHIFT = 7_919


def code(p: int, k: int) -> str:
    """The LOINC code of item `k` (0…48): about half are FREQUENT; OCCASIONAL has every fourth person, RARE every thousandth, once."""
    if k < 24:
        return FREQUENT
    if k == 47 and p % 1000 == 0:
        return RARE
    if k == 48 and p // len(FAMILIES) % 4 == 0:
        return OCCASIONAL
    return OTHERS[(p + k) % len(OTHERS)][0]


def second(p: int, k: int) -> int:
    """Seconds after EPOCH of item `k`: no two items have the same, as the step has no divisor in common with the span."""
    return ((PER_PATIENT * p + k) * _STEP + _SHIFT) % SPAN


def owner(at: int) -> tuple[int, int]:
    """The person and item measured at this second, whether stored or not: the inverse of `second`."""
    return divmod((at - _SHIFT) * pow(_STEP, -1, SPAN) % SPAN, PER_PATIENT)


def moment(seconds: int) -> str:
    return (EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def family(p: int) -> str:
    """One of 40 beginnings, then five letters that four persons share: at any size a family has four members."""
    group, letters = p // (4 * len(FAMILIES)), ""
    for _ in range(5):
        group, letter = divmod(group, 26)
        letters = chr(97 + letter) + letters
    return FAMILIES[p % len(FAMILIES)] + letters


def relatives(p: int) -> list[int]:
    """The four persons of the family of `p`."""
    size = len(FAMILIES)
    return [p // (4 * size) * 4 * size + p % size + size * turn for turn in range(4)]


def patient(p: int) -> dict[str, Any]:
    birth = dt.date(1930, 1, 1) + dt.timedelta(days=p * 7919 % 29000)
    return {
        "resourceType": "Patient",
        "id": f"g{p}",
        "identifier": [{"system": MRN, "value": f"G{p:08d}"}],
        "active": True,
        "name": [{"use": "official", "family": family(p), "given": [f"Given{p % 40}"]}],
        "gender": "female" if p % 2 else "male",
        "birthDate": birth.isoformat(),
        "address": [{"use": "home", "line": [f"{p % 900 + 1} Renmin Road"], "city": "Hangzhou", "country": "CN"}],
    }


def observation(p: int, k: int) -> dict[str, Any]:
    return {**measured(p, code(p, k), moment(second(p, k)), 40 + (p * 31 + k * 17) % 100), "id": f"g{p}-{k}"}


def measured(p: int, loinc: str, when: str, value: int) -> dict[str, Any]:
    """An Observation of person `p` without id."""
    unit = UNITS[loinc]
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": TERMINOLOGY + "observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": loinc}]},
        "subject": {"reference": f"Patient/g{p}"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def resources(first: int, end: int) -> Iterator[dict[str, Any]]:
    """All of the persons `first` up to but without `end`."""
    for p in range(first, end):
        yield patient(p)
        for k in range(PER_PATIENT - 1):
            yield observation(p, k)


def write_ndjson(path: Path, first: int, end: int) -> None:
    with path.open("wb") as file:
        file.writelines(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE) for resource in resources(first, end))


class Known:
    """What a store of `patients` persons holds."""

    def __init__(self, patients: int) -> None:
        self.patients = patients
        self.observations = patients * (PER_PATIENT - 1)

    def ids_of_code(self, loinc: str) -> set[str]:
        return {f"g{p}-{k}" for p in range(self.patients) for k in range(PER_PATIENT - 1) if code(p, k) == loinc}

    def count(self, loinc: str) -> int:
        """Observations of FREQUENT or RARE."""
        return self.patients * 24 if loinc == FREQUENT else -(-self.patients // 1000)

    def of_person(self, p: int, loinc: str) -> list[str]:
        """Ids of one person's Observations of a code, newest first."""
        items = [k for k in range(PER_PATIENT - 1) if code(p, k) == loinc]
        return [f"g{p}-{k}" for k in sorted(items, key=lambda k: -second(p, k))]

    def between(self, start: int, end: int) -> set[str]:
        """Ids of the Observations from second `start` up to but without `end`."""
        owners = (owner(at) for at in range(start, end))
        return {f"g{p}-{k}" for p, k in owners if p < self.patients and k < PER_PATIENT - 1}

    def newest(self, number: int) -> list[str]:
        """Ids of the newest `number` Observations of FREQUENT, newest first."""
        found = sorted(((second(p, k), p, k) for p in range(self.patients) for k in range(24)), reverse=True)
        return [f"g{p}-{k}" for _, p, k in found[:number]]
