"""Patients and Observations of any number, made by arithmetic, so that every right answer is computed, never asked of a server."""

from __future__ import annotations

import datetime as dt
import heapq
from array import array
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from benchmarks.population import FAMILIES, LOINC, MRN, TERMINOLOGY

PER_PATIENT = 50
"""Resources of one person: the Patient and 49 Observations."""
FREQUENT, OCCASIONAL, WRITTEN = "8867-4", "2339-0", "55284-4"
OTHERS = (("29463-7", "kg"), ("59408-5", "%"), ("8310-5", "Cel"), ("9279-1", "/min"), ("8302-2", "cm"), ("39156-5", "kg/m2"))
UNITS = {FREQUENT: "/min", OCCASIONAL: "mg/dL", WRITTEN: "mm[Hg]", **dict(OTHERS)}
RARE_SYSTEM = "http://example.org/bench/rare"
CATEGORY = TERMINOLOGY + "observation-category"
EPOCH = dt.datetime(2015, 1, 1, tzinfo=dt.UTC)
SPAN = 3650 * 86400
FREQUENT_ITEMS, RARE_ITEM, OCCASIONAL_ITEM = 24, 47, 48
_STEP = 194904803
_INVERSE = pow(_STEP, -1, SPAN)
_SHIFT = 7_919
_BLOCK, _RARE_CODES = 200, 10
"""Of 200 persons who follow each other every tenth shares one rare code: 20 matches at any size, spread over 10,000 resources."""
_HOUSE, _VOWELS = 4 * len(FAMILIES), "aeiou"
"""160 persons who follow each other are 40 families of four."""
NAMESAKE_GROUP = _HOUSE * len(_VOWELS)
"""800 persons who follow each other are 40 groups of twenty whose families differ in the last letter only."""


def rare(p: int) -> str:
    """The rare code that person `p` shares with 19 others."""
    return f"R{p // _BLOCK}-{p % _RARE_CODES}"


def sharers(p: int) -> range:
    """The persons with the rare code of `p`, whether stored or not."""
    first = p // _BLOCK * _BLOCK
    return range(first + p % _RARE_CODES, first + _BLOCK, _RARE_CODES)


def coding(p: int, k: int) -> tuple[str, str]:
    """System and code of item `k` (0…48): 24 are FREQUENT, one is rare, every fourth house has one OCCASIONAL each."""
    if k < FREQUENT_ITEMS:
        return LOINC, FREQUENT
    if k == RARE_ITEM:
        return RARE_SYSTEM, rare(p)
    if k == OCCASIONAL_ITEM and occasional(p):
        return LOINC, OCCASIONAL
    return LOINC, OTHERS[(p + k) % len(OTHERS)][0]


def occasional(p: int) -> bool:
    """Whether person `p` has an Observation of OCCASIONAL: the first of the four of each family."""
    return p // len(FAMILIES) % 4 == 0


def second(p: int, k: int) -> int:
    """Seconds after EPOCH of item `k`: no two items have the same, as the step has no divisor in common with the span."""
    return ((PER_PATIENT * p + k) * _STEP + _SHIFT) % SPAN


def owner(at: int) -> tuple[int, int]:
    """The person and item measured at this second, whether stored or not: the inverse of `second`."""
    return divmod((at - _SHIFT) * _INVERSE % SPAN, PER_PATIENT)


def moment(seconds: int) -> str:
    return (EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def family(p: int) -> str:
    """One of 40 beginnings, four letters, a vowel: four persons share the whole, twenty all but the vowel, at any size."""
    group, vowel = divmod(p // _HOUSE, len(_VOWELS))
    letters = ""
    for _ in range(4):
        group, letter = divmod(group, 26)
        letters = chr(97 + letter) + letters
    return FAMILIES[p % len(FAMILIES)] + letters + _VOWELS[vowel]


def relatives(p: int) -> range:
    """The four persons of the family of `p`, whether stored or not."""
    first = p // _HOUSE * _HOUSE
    return range(first + p % len(FAMILIES), first + _HOUSE, len(FAMILIES))


def namesakes(p: int) -> range:
    """The twenty persons whose family begins like that of `p` but for the last letter, whether stored or not."""
    first = p // NAMESAKE_GROUP * NAMESAKE_GROUP
    return range(first + p % len(FAMILIES), first + NAMESAKE_GROUP, len(FAMILIES))


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


def observation(p: int, k: int, more: int = 0) -> dict[str, Any]:
    """Item `k` of person `p`, its value raised by `more`."""
    value = 40 + (p * 31 + k * 17) % 100 + more
    return {**measured(f"Patient/g{p}", coding(p, k), moment(second(p, k)), value), "id": f"g{p}-{k}"}


def measured(subject: str, coded: tuple[str, str], when: str, value: int) -> dict[str, Any]:
    """An Observation without id."""
    system, code = coded
    unit = UNITS.get(code, "mL/min")
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": subject},
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
    """What a store of `patients` persons holds; persons and items stand for the ids g{p} and g{p}-{k}."""

    def __init__(self, patients: int) -> None:
        self.patients = patients
        self.observations = patients * (PER_PATIENT - 1)
        self.frequent = patients * FREQUENT_ITEMS

    @cached_property
    def seconds(self) -> array[int]:
        """When the Observations were measured, ascending; `owner` tells which each one is."""
        return array("I", sorted(second(p, k) for p in range(self.patients) for k in range(PER_PATIENT - 1)))

    @cached_property
    def occasional(self) -> int:
        """Observations of OCCASIONAL."""
        return sum(occasional(p) for p in range(self.patients))

    def stored(self, persons: range) -> list[int]:
        """Those of them that the store holds."""
        return [p for p in persons if p < self.patients]

    def of_person(self, p: int, loinc: str) -> list[str]:
        """Ids of one person's Observations of a code, newest first."""
        items = [k for k in range(PER_PATIENT - 1) if coding(p, k) == (LOINC, loinc)]
        return [f"g{p}-{k}" for k in sorted(items, key=lambda k: -second(p, k))]

    def frequent_from(self, start: int) -> int:
        """Observations of FREQUENT at or after a second."""
        return sum(second(p, k) >= start for p in range(self.patients) for k in range(FREQUENT_ITEMS))

    def newest(self, number: int, loinc: str | None = None, women_only: bool = False) -> list[str]:
        """Ids of the newest Observations (of FREQUENT when it is named, of every second person when so asked), newest first."""
        items = FREQUENT_ITEMS if loinc == FREQUENT else PER_PATIENT - 1
        persons = range(1, self.patients, 2) if women_only else range(self.patients)
        found = heapq.nlargest(number, (second(p, k) for p in persons for k in range(items)))
        return ["g{}-{}".format(*owner(at)) for at in found]
