"""$graphql over HTTP, with HL7's own cases. https://hl7.org/fhir/R4/graphql.html"""

from __future__ import annotations

import json
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.operations.graphql_asking import ask, refused
from tests.wire.resources import observation, official_examples, patient

_NEEDED = {("Patient", "example"), ("Patient", "xds"), ("Observation", "example")}
_STAND_INS: list[dict[str, Any]] = [
    {
        "resourceType": "MedicationDispense",
        "id": "meddisp008",
        "status": "completed",
        "medicationCodeableConcept": {"text": "any"},
        "authorizingPrescription": [{"reference": "MedicationRequest/medrx0309"}],
    },
    {
        "resourceType": "List",
        "id": "example-long",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": f"Patient/{number}"}} for number in (*range(101, 106), *range(1, 6), *range(106, 111))],
    },
]
"""The suite asks about these two (cases reference-broken, reference-optional, list-sub); the corpus does not have them."""


@pytest.fixture(scope="module")
def loaded(server, corpus: Path) -> dict[str, bytes]:
    """The suite's files; the examples that it asks about are stored. Patient/glossy is not: the searches expect two Patients."""
    examples = [json.loads(content) for _, content in official_examples(corpus)]
    with server.client() as http:
        for one in [*(one for one in examples if (one["resourceType"], one.get("id")) in _NEEDED), *_STAND_INS]:
            answer = http.put(f"{one['resourceType']}/{one['id']}", json=one)
            assert answer.status_code == 201, answer.text
    with tarfile.open(corpus / "tests" / "graphql-r4.tar.gz") as archive:
        return {Path(member.name).name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def test_official_cases(client, loaded, corpus):
    failed = {}
    cases = sorted(ET.fromstring(loaded["manifest.xml"]), key=lambda case: "glossy" in str(case.get("context")))
    assert len(cases) == 19
    glossy = next(one for one in (json.loads(content) for _, content in official_examples(corpus)) if one.get("id") == "glossy")
    for case in cases:
        if "glossy" in str(case.get("context")):
            client.put("Patient/glossy", json=glossy)
        name, place, output = case.get("name"), case.get("context") or "$graphql", case.get("output")
        variables = {"var": True} if name == "directive-variable" else {}
        asked = {"query": loaded[str(case.get("source"))].decode(), "operationName": case.get("operation"), "variables": variables}
        answer = client.post(place, json=asked)
        if output == "$error":
            message = answer.json()["errors"][0]["message"] if 400 <= answer.status_code < 500 else ""
            good = {"reference-broken": "MedicationRequest/medrx0309", "flatten-singleton2": "family"}[str(name)] in message
        else:
            good = answer.status_code == 200 and answer.json()["data"] == json.loads(loaded[str(output)])
        if not good:
            failed[name] = answer.text[:300]
    assert not failed, f"{len(failed)} of {len(cases)}: {json.dumps(failed, indent=1)}"


@pytest.fixture
def person(client) -> str:
    return "Patient/" + client.post("Patient", json=patient(active=True)).json()["id"]


def test_get_and_both_forms_of_post(client, person):
    wanted = {"data": {"active": True}}
    assert client.get(f"{person}/$graphql", params={"query": "{active}"}).json() == wanted
    answer = client.post(f"{person}/$graphql", content=b"{active}", headers={"content-type": "application/graphql"})
    assert answer.json() == wanted
    assert answer.headers["content-type"].startswith("application/json")


def test_aliases_fragments_and_reverse_references(client, person):
    made = client.post("Observation", json=observation(person)).json()["id"]
    query = "{ who: id ...F ObservationList(_reference: patient) { id subject { resource { ...on Patient { active } } } } }"
    query += " fragment F on Patient { gender }"
    shown = [{"id": made, "subject": {"resource": {"active": True}}}]
    assert ask(client, person, query) == {"who": person.split("/")[1], "gender": "male", "ObservationList": shown}


def test_variables(client, person):
    query = "query q($v: Boolean! = false, $n: Int) { active @include(if: $v) gender name(_count: $n) { family } }"
    assert ask(client, person, query, variables={"v": True, "n": 0}) == {"active": True, "gender": "male"}
    assert "$v" in refused(client, person, query, variables={"v": "yes"})


def test_unknown_fields_are_named(client, person):
    message = refused(client, person, "{ name { colour } }")
    assert "HumanName" in message
    assert "colour" in message
