"""Value sets (:in, :not-in) and hierarchies (:above, :below) of codes, URIs, canonicals and resources.

Specification: https://hl7.org/fhir/R4/search.html#modifiers, https://hl7.org/fhir/R4/search.html#recursive
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.search.stocked import stocked

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
LAB, OTHER = "urn:lab", "urn:other"


def concept(code: str, *below: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, **({"concept": list(below)} if below else {})}


def observation(id: str, system: str, code: str, **more: Any) -> dict[str, Any]:
    coding = {"system": system, "code": code}
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [coding]}, **more}


def value_set(id: str, *include: dict[str, Any], **more: Any) -> dict[str, Any]:
    url = f"http://example.org/ValueSet/{id}"
    return {"resourceType": "ValueSet", "id": id, "url": url, "status": "active", "compose": {"include": list(include), **more}}


def encounter(id: str, code: str) -> dict[str, Any]:
    return {"resourceType": "Encounter", "id": id, "status": "finished", "class": {"system": ACT, "code": code}}


def place(id: str, part_of: str | None = None) -> dict[str, Any]:
    return {"resourceType": "Location", "id": id, **({"partOf": {"reference": f"Location/{part_of}"}} if part_of else {})}


def at(id: str, location: str) -> dict[str, Any]:
    where = [{"location": {"reference": f"Location/{location}"}}]
    return {**encounter(id, "IMP"), "location": where}


def canonical(id: str, url: str) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "id": id, "url": url, "status": "draft"}


def response(id: str, questionnaire: str) -> dict[str, Any]:
    return {"resourceType": "QuestionnaireResponse", "id": id, "status": "completed", "questionnaire": questionnaire}


RESOURCES = [
    {
        "resourceType": "CodeSystem", "url": LAB, "id": "lab", "status": "active", "content": "complete",
        "concept": [concept("chem", concept("glucose", concept("fasting")), concept("sodium")), concept("haem", concept("hb"))],
    },
    observation("glucose", LAB, "glucose"), observation("fasting", LAB, "fasting"), observation("sodium", LAB, "sodium"),
    observation("hb", LAB, "hb"), observation("other", OTHER, "glucose"), observation("text", LAB, "zzz"),
    {"resourceType": "Observation", "id": "none", "status": "final", "code": {"text": "glucose"}},
    value_set("chemistry", {"system": LAB, "filter": [{"property": "concept", "op": "is-a", "value": "chem"}]}),
    value_set("two", {"system": LAB, "concept": [concept("hb"), concept("glucose")]}),
    value_set("imports", {"valueSet": ["http://example.org/ValueSet/two"]}, {"system": OTHER, "concept": [concept("glucose")]}),
    value_set("whole", {"system": OTHER}),
    value_set("without", {"system": LAB}, exclude=[{"system": LAB, "concept": [concept("hb")]}]),
    value_set("many", {"system": OTHER, "concept": [concept(f"c{number}") for number in range(2500)]}, {"system": LAB}),
    value_set("unknown-filter", {"system": "urn:nowhere", "filter": [{"property": "concept", "op": "is-a", "value": "x"}]}),
    encounter("amb", "AMB"), encounter("imp", "IMP"), encounter("acute", "ACUTE"), encounter("emer", "EMER"),
    place("house"), place("floor", "house"), place("room", "floor"), place("bed", "room"), place("shed"),
    at("in-house", "house"), at("in-floor", "floor"), at("in-bed", "bed"), at("in-shed", "shed"),
    canonical("fhir", "http://acme.org/fhir"), canonical("vs", "http://acme.org/fhir/ValueSet/123"),
    canonical("history", "http://acme.org/fhir/ValueSet/123/_history/5"), canonical("near", "http://acme.org/fhirs/1"),
    canonical("urn", "urn:oid:1.2.3"),
    response("v1", "http://acme.org/q|1"), response("v12", "http://acme.org/q|1.2"), response("v123", "http://acme.org/q|1.2.3"),
    response("v2", "http://acme.org/q|2"), response("v10", "http://acme.org/q|10"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("sets"), RESOURCES) as client:
        yield client


VS = "http://example.org/ValueSet"
RULES = [
    # value sets of the store, by canonical and by reference
    (f"Observation?code:in={VS}/chemistry", "glucose fasting sodium"),
    (f"Observation?code:in={VS}/two", "glucose hb"),
    ("Observation?code:in=ValueSet/two", "glucose hb"),
    (f"Observation?code:in={VS}/imports", "glucose hb other"),
    (f"Observation?code:in={VS}/whole", "other"),
    (f"Observation?code:in={VS}/without", "glucose fasting sodium"),
    (f"Observation?code:in={VS}/many", "glucose fasting sodium hb"),
    (f"Observation?code:in={VS}/whole,{VS}/two", "other glucose hb"),
    # the complement, with resources that have no code
    (f"Observation?code:not-in={VS}/chemistry", "hb other text none"),
    (f"Observation?code:in={VS}/chemistry&code:not-in={VS}/two", "fasting sodium"),
    # value sets of FHIR itself
    ("Observation?status:in=http://hl7.org/fhir/ValueSet/observation-status", "glucose fasting sodium hb other text none"),
    ("Observation?status:not-in=http://hl7.org/fhir/ValueSet/observation-status", ""),
    # hierarchies of code systems: v3-ActCode has ACUTE below IMP (https://hl7.org/fhir/R4/v3/ActCode/cs.html)
    (f"Encounter?class:below={ACT}|IMP", "imp acute in-house in-floor in-bed in-shed"),
    (f"Encounter?class:above={ACT}|ACUTE", "imp acute in-house in-floor in-bed in-shed"),
    (f"Encounter?class:below={ACT}|ACUTE", "acute"),
    (f"Encounter?class:below={ACT}|ACUTE,{ACT}|EMER", "acute emer"),
    (f"Observation?code:below={LAB}|chem", "glucose fasting sodium"),
    (f"Observation?code:below={LAB}|glucose", "glucose fasting"),
    (f"Observation?code:above={LAB}|fasting", "fasting glucose"),
    # hierarchies of resources
    ("Encounter?location:below=Location/house", "in-house in-floor in-bed"),
    ("Encounter?location:below=floor", "in-floor in-bed"),
    ("Encounter?location:above=Location/bed", "in-house in-floor in-bed"),
    ("Encounter?location:above=Location/house", "in-house"),
    ("Location?partof:below=Location/floor", "room bed"),
    # URLs by the segments of their path (the specification's example)
    ("ValueSet?url:below=http://acme.org/fhir/", "vs history"),
    ("ValueSet?url:below=http://acme.org/fhir", "fhir vs history"),
    ("ValueSet?url:below=http://acme.org/fhir/ValueSet", "vs history"),
    ("ValueSet?url:below=http://acme.org/fhir/ValueSet/12", ""),
    ("ValueSet?url:above=http://acme.org/fhir/ValueSet/123/_history/5", "fhir vs history"),
    ("ValueSet?url:above=http://acme.org/fhir/ValueSet/123", "fhir vs"),
    # canonicals with versions
    ("QuestionnaireResponse?questionnaire:below=http://acme.org/q|1", "v1 v12 v123"),
    ("QuestionnaireResponse?questionnaire:below=http://acme.org/q|1.2", "v12 v123"),
    ("QuestionnaireResponse?questionnaire:above=http://acme.org/q|1.2.3", "v1 v12 v123"),
    ("QuestionnaireResponse?questionnaire:below=http://acme.org/q", "v1 v12 v123 v2 v10"),
]


@pytest.mark.parametrize(("search", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, search: str, wanted: str) -> None:
    answer = ward.get(f"{search}&_count=100".replace("|", "%7C"))
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


def test_behind_a_chain_and_in_has(ward: httpx.Client) -> None:
    patient = {"resourceType": "Patient", "id": "p"}
    assert ward.put("Patient/p", json=patient).status_code == 201
    condition = {"resourceType": "Observation", "id": "of-p", "status": "final", "code": {"coding": [{"system": LAB, "code": "hb"}]}}
    assert ward.put("Observation/of-p", json={**condition, "subject": {"reference": "Patient/p"}}).status_code == 201
    try:
        asked = f"Patient?_has:Observation:patient:code:in={quote(VS)}/two"
        assert [entry["resource"]["id"] for entry in ward.get(asked).json()["entry"]] == ["p"]
        assert "entry" not in ward.get(f"Patient?_has:Observation:patient:code:in={quote(VS)}/chemistry").json()
    finally:
        assert ward.delete("Observation/of-p").status_code == 204


def test_a_changed_value_set_changes_what_is_found(ward: httpx.Client) -> None:
    changed = value_set("two", {"system": LAB, "concept": [concept("sodium")]})
    assert ward.put("ValueSet/two", json=changed).status_code == 200
    try:
        found = {entry["resource"]["id"] for entry in ward.get(f"Observation?code:in={VS}/imports").json()["entry"]}
        assert found == {"sodium", "other"}
    finally:
        assert ward.put("ValueSet/two", json=next(one for one in RESOURCES if one["id"] == "two")).status_code == 200


def test_a_conditional_create_asks_for_a_value_set(ward: httpx.Client) -> None:
    headers = {"If-None-Exist": f"code:in={VS}/two&code={LAB}%7Chb"}
    answer = ward.post("Observation", json={k: v for k, v in observation("x", LAB, "hb").items() if k != "id"}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["location"].split("/")[-3] == "hb"


WRONG = [
    (f"Observation?code:in={VS}/nowhere", f"{VS}/nowhere"),
    ("Observation?code:in=ValueSet/nowhere", "ValueSet/nowhere"),
    (f"Observation?code:in={VS}/unknown-filter", "urn:nowhere"),
    ("Observation?code:in=two", "canonical"),
    (f"Observation?code:below={LAB}|nothing", "nothing"),
    ("Observation?code:below=urn:nowhere|x", "urn:nowhere"),
    ("Observation?code:below=glucose", "system|code"),
    ("Patient?name:in=http://x.org", "in"),
    ("ValueSet?url:below=urn:oid:1.2.3", "URN"),
    ("Observation?subject:below=Patient/p", "Patient"),
]


@pytest.mark.parametrize(("search", "named"), WRONG)
def test_wrong_values_are_refused(ward: httpx.Client, search: str, named: str) -> None:
    answer = ward.get(search.replace("|", "%7C"))
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["issue"][0]["diagnostics"]
