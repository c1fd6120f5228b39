"""Identifiers by type, and the members of Lists.

Specification: https://hl7.org/fhir/R4/search.html#modifiers (:of-type), https://hl7.org/fhir/R4/search.html#list
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

TYPES, HOSPITAL = "http://terminology.hl7.org/CodeSystem/v2-0203", "urn:hospital"


def identifier(kind: str, value: str, system: str = HOSPITAL) -> dict[str, Any]:
    return {"type": {"coding": [{"system": TYPES, "code": kind}]}, "system": system, "value": value}


def patient(id: str, *identifiers: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "identifier": list(identifiers)}


def listed(id: str, *references: str, status: str = "current") -> dict[str, Any]:
    entries = [{"item": {"reference": one}} for one in references]
    return {"resourceType": "List", "id": id, "status": status, "mode": "working", "entry": entries}


RESOURCES = [
    patient("a", identifier("MR", "446053"), identifier("SS", "1")),
    patient("b", identifier("SS", "446053"), identifier("MR", "1")),
    patient("c", {"system": HOSPITAL, "value": "446053"}),
    {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/a"}},
    listed("one", "Patient/a", "Patient/b", "Observation/o"),
    listed("two", "Patient/c"),
]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("special"), RESOURCES) as client:
        yield client


RULES = [
    # example of the specification: identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|446053
    (f"Patient?identifier:of-type={TYPES}|MR|446053", "a"),
    (f"Patient?identifier:of-type={TYPES}|SS|446053", "b"),
    (f"Patient?identifier:of-type={TYPES}|MR|446053,{TYPES}|SS|446053", "a b"),
    (f"Patient?identifier:of-type={TYPES}|MR|4460", ""),
    ("Patient?identifier:of-type=urn:x|MR|446053", ""),
    ("Patient?identifier=446053", "a b c"),
    (f"Observation?subject:Patient.identifier:of-type={TYPES}|MR|446053", "o"),
    ("Patient?_list=one", "a b"),
    ("Patient?_list=List/one", "a b"),
    ("Patient?_list=one,two", "a b c"),
    (f"Patient?_list=one&identifier:of-type={TYPES}|SS|446053", "b"),
    ("Observation?_list=one", "o"),
    ("Observation?_list=two", ""),
    ("Patient?_list=none", ""),
]


@pytest.mark.parametrize(("search", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, search: str, wanted: str) -> None:
    answer = ward.get(search.replace("|", "%7C"))
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


def test_a_list_over_all_types(ward: httpx.Client) -> None:
    found = ward.get("", params={"_type": "Patient,Observation", "_list": "one"}).json()
    assert {f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in found["entry"]} == {
        "Patient/a", "Patient/b", "Observation/o",
    }  # fmt: skip


def test_a_list_that_changes_changes_what_is_found(ward: httpx.Client) -> None:
    assert ward.put("List/two", json=listed("two", "Patient/b")).status_code == 200
    try:
        assert [entry["resource"]["id"] for entry in ward.get("Patient?_list=two").json()["entry"]] == ["b"]
    finally:
        assert ward.put("List/two", json=listed("two", "Patient/c")).status_code == 200


WRONG = [
    (f"Patient?identifier:of-type={TYPES}|MR", "<value>"),
    (f"Patient?identifier:of-type={TYPES}||446053", "<value>"),
    ("Patient?identifier:of-type=446053", "<value>"),
    ("Patient?gender:of-type=a|b|c", "of-type"),
    ("Patient?_list=$current-problems", "$current-problems"),
    ("Patient?_list:exact=one", "exact"),
]


@pytest.mark.parametrize(("search", "named"), WRONG)
def test_wrong_values_are_refused(ward: httpx.Client, search: str, named: str) -> None:
    answer = ward.get(search.replace("|", "%7C"))
    assert answer.status_code == 400
    assert named in answer.json()["issue"][0]["diagnostics"]
