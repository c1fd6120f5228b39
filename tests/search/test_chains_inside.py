"""Chains into contained resources: "a chained condition will be evaluated inside contained resources".

Specification: https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

SYSTEM = "urn:drugs"


def concept(code: str) -> dict[str, Any]:
    return {"coding": [{"system": SYSTEM, "code": code}]}


def medication(id: str, code: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Medication", "id": id, "code": concept(code), **more}


def request(id: str, reference: str, *contained: dict[str, Any], **more: Any) -> dict[str, Any]:
    held = {"contained": list(contained)} if contained else {}
    return {
        "resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order", "subject": {"reference": "Patient/p"},
        "medicationReference": {"reference": reference}, **held, **more,
    }  # fmt: skip


RESOURCES = [
    {"resourceType": "Patient", "id": "p", "name": [{"family": "Chalmers"}]},
    medication("stored", "aspirin"),
    request("to-stored", "Medication/stored"),
    request("inside", "#m", medication("m", "aspirin")),
    # two are contained, and the reference leads to one of them
    request(
        "which", "#b", medication("a", "aspirin"), medication("b", "ibuprofen"), supportingInformation=[{"reference": "#a"}]
    ),
    request("other", "#m", medication("m", "codeine", batch={"lotNumber": "L7"})),
    # a contained resource that nothing of the parameter leads to
    request("beside", "Medication/stored", medication("unused", "morphine"), supportingInformation=[{"reference": "#unused"}]),
    {
        "resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, "subject": {"reference": "#who"},
        "contained": [{"resourceType": "Patient", "id": "who", "name": [{"family": "Inside"}], "birthDate": "1980-05-05"}],
    },
    {
        "resourceType": "Bundle", "id": "letter", "type": "document", "timestamp": "2026-01-01T00:00:00Z",
        "identifier": {"system": "urn:s", "value": "1"},
        "entry": [{
            "fullUrl": "http://example.org/Composition/c",
            "resource": {
                "resourceType": "Composition", "id": "c", "status": "final", "type": {"text": "letter"}, "date": "2026-01-01",
                "author": [{"display": "A"}], "title": "Discharge letter",
            },
        }],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("inside"), RESOURCES) as client:
        yield client


RULES = [
    ("MedicationRequest?medication.code=aspirin", "to-stored inside beside"),
    (f"MedicationRequest?medication.code={SYSTEM}|ibuprofen", "which"),
    ("MedicationRequest?medication:Medication.code=codeine", "other"),
    ("MedicationRequest?medication.lot-number=l7", "other"),
    # a contained resource is met only by what leads to it
    ("MedicationRequest?medication.code=morphine", ""),
    ("MedicationRequest?medication.code:not=aspirin", "which other"),
    ("MedicationRequest?medication.code=ibuprofen,codeine", "which other"),
    # beside other criteria, in an order, in an expression
    ("MedicationRequest?medication.code=ibuprofen&patient=p&status=active", "which"),
    ("MedicationRequest?patient.family=chalmers&medication.code=ibuprofen", "which"),
    ("MedicationRequest?medication.code=aspirin&_sort=-_lastUpdated", "to-stored inside beside"),
    ("MedicationRequest?_filter=medication.code eq aspirin or medication.code eq codeine", "to-stored inside beside other"),
    # as the second step of a chain, and behind _has
    ("Patient?_has:MedicationRequest:patient:medication.code=ibuprofen", "p"),
    ("Patient?_has:MedicationRequest:patient:medication.code=morphine", ""),
    ("Observation?subject:Patient.family=inside", "o"),
    ("Observation?patient.birthdate=lt1990", "o"),
    ("Observation?subject:Patient.family=chalmers", ""),
    ("Bundle?composition.title=discharge", "letter"),
    ("Bundle?composition.title=admission", ""),
]


@pytest.mark.parametrize(("query", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, query: str, wanted: str) -> None:
    answer = ward.get(query + "&_total=accurate")
    assert answer.status_code == 200, answer.text
    found = [entry["resource"]["id"] for entry in answer.json().get("entry", [])]
    assert sorted(found) == sorted(wanted.split())
    assert answer.json()["total"] == len(found)


def test_a_changed_contained_resource_is_found_as_it_is_now(ward: httpx.Client) -> None:
    for code in ("first", "second"):
        assert ward.put("MedicationRequest/changed", json=request("changed", "#m", medication("m", code))).status_code in (200, 201)
    assert ward.get("MedicationRequest?medication.code=first").json()["total"] == 0
    assert ward.get("MedicationRequest?medication.code=second").json()["total"] == 1
    assert ward.delete("MedicationRequest/changed").status_code in (200, 204)
    assert ward.get("MedicationRequest?medication.code=second").json()["total"] == 0


def test_conditions_of_writes_look_inside_too(ward: httpx.Client) -> None:
    made = {key: value for key, value in request("x", "#m", medication("m", "new")).items() if key != "id"}
    answers = [ward.post("MedicationRequest", json=made, headers={"If-None-Exist": "medication.code=new"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
