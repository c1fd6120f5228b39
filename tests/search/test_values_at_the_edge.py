"""Values that are there but cannot be asked for as usual: without a code, elsewhere, inside of extensions, longer than the index.

https://hl7.org/fhir/R4/search.html#modifiers (:missing), #token, #reference, #string; https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

GENETICS = "http://hl7.org/fhir/StructureDefinition"
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
UUID = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"
FAR = "http://far.example/fhir/Patient/p"
LONG = "The IHE FormatCode code set " + "is defined and defined " * 30 + "to its End"
"""Longer than what is indexed of a string."""


def observed(id: str, code: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": code or {"coding": [{"code": "x"}]}, **more}


def answered(id: str, questionnaire: str) -> dict[str, Any]:
    return {"resourceType": "QuestionnaireResponse", "id": id, "status": "completed", "questionnaire": questionnaire}


def called(id: str, **name: Any) -> dict[str, Any]:
    return {"resourceType": "Practitioner", "id": id, "name": [name]}


PRESSURE = {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": {"value": 145, "system": UCUM, "code": "mm[Hg]"}}
COMPOSITION = {
    "resourceType": "Composition", "id": "inner", "status": "final", "type": {"text": "Summary"}, "date": "2020",
    "author": [{"display": "A"}], "title": "T",
}  # fmt: skip


def resources(base: str) -> list[dict[str, Any]]:
    return [
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "Group", "id": "p", "type": "person", "actual": True},
        # codes
        observed("coded", {"coding": [{"system": "urn:a", "code": "A"}], "text": "Heart rate"}),
        observed("worded", {"text": "glucose, fasting"}, category=[{"text": "only text"}]),
        observed("system", {"coding": [{"system": "urn:a", "display": "no code"}]}, identifier=[{"system": "urn:i"}]),
        observed("component", component=[PRESSURE]),
        # references
        observed("local", subject={"reference": "Patient/p"}),
        observed("version", subject={"reference": "Patient/p/_history/1"}),
        observed("group", subject={"reference": "Group/p"}),
        observed("far", subject={"reference": FAR}),
        observed("uuid", subject={"reference": UUID}),
        observed("logical", subject={"type": "Patient", "identifier": {"system": "urn:l", "value": "L"}}),
        observed("named", subject={"display": "someone"}),
        observed("inside", subject={"reference": "#c"}, contained=[{"resourceType": "Patient", "id": "c"}]),
        # canonicals
        answered("versioned", "http://x.example/Questionnaire/a|1.1"),
        answered("relative", "Questionnaire/q"),
        answered("own", f"{base}/Questionnaire/q"),
        answered("plain", "questionnaire-without-address"),
        {"resourceType": "Basic", "id": "profiled", "code": {"text": "x"}, "meta": {"profile": ["http://x.example/profile/a|1.0"]}},
        # what extensions hold
        {"resourceType": "Patient", "id": "maiden",
         "extension": [{"url": f"{GENETICS}/patient-mothersMaidenName", "valueString": "Schröder"}]},
        {"resourceType": "Condition", "id": "assessed", "subject": {"reference": "Patient/p"}, "code": {"coding": [{"code": "C1"}]}},
        {"resourceType": "DiagnosticReport", "id": "genes", "status": "final", "code": {"text": "panel"}, "extension": [
            {"url": f"{GENETICS}/DiagnosticReport-geneticsAssessedCondition", "valueReference": {"reference": "Condition/assessed"}}]},
        observed("gene", extension=[{"url": f"{GENETICS}/observation-geneticsGene", "valueCodeableConcept": {
            "coding": [{"system": "http://www.genenames.org", "code": "3236"}]}}]),
        # strings
        {"resourceType": "Medication", "id": "lot", "batch": {"lotNumber": "AB-12x"}, "status": "active"},
        {"resourceType": "ValueSet", "id": "long", "status": "active", "description": LONG},
        called("uyghur", text="阿依古丽·买买提"), called("blank", text="王 伟"), called("lv", family="吕", given=["布"]),
        {"resourceType": "Bundle", "id": "document", "type": "document", "timestamp": "2020-01-01T00:00:00Z",
         "identifier": {"system": "urn:d", "value": "1"}, "entry": [{"fullUrl": "urn:uuid:0", "resource": COMPOSITION}]},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("edge"), resources) as client:
        yield client


ABOUT = "local version group far uuid logical named inside"
RULES = [
    # a concept without a code is a value: `:text` finds it, so it is not missing
    ("Observation", "code:missing", "true", ""), ("Observation", "category:missing", "false", "worded"),
    ("Observation", "code:text", "glucose", "worded"), ("Observation", "code:not", "A", f"worded system component gene {ABOUT}"),
    # `system|`: whatever the code, and without one
    ("Observation", "code", "urn:a|", "coded system"), ("Observation", "identifier", "urn:i|", "system"),
    # a reference is there wherever it leads; `patient` where it leads to a Patient
    ("Observation", "subject:missing", "true", "coded worded system component gene"), ("Observation", "subject:missing", "false", ABOUT),
    ("Observation", "patient:missing", "false", "local version far logical inside"),
    ("Observation", "subject", "p", "local version group"), ("Observation", "patient", "p", "local version"),
    ("Observation", "subject", UUID, "uuid"), ("Observation", "subject", FAR, "far"), ("Observation", "patient", FAR, "far"),
    ("Observation", "subject:identifier", "urn:l|L", "logical"),
    # canonicals: absolute ones of this server are the same as relative ones; those that are no URL are found as they are
    ("QuestionnaireResponse", "questionnaire", "Questionnaire/q", "relative own"),
    ("QuestionnaireResponse", "questionnaire", "q", "relative own"),
    ("QuestionnaireResponse", "questionnaire", "{base}/Questionnaire/q", "relative own"),
    ("QuestionnaireResponse", "questionnaire", "questionnaire-without-address", "plain"),
    ("QuestionnaireResponse", "questionnaire", "http://x.example/Questionnaire/a", "versioned"),
    ("QuestionnaireResponse", "questionnaire", "http://x.example/Questionnaire/a|1.1", "versioned"),
    ("QuestionnaireResponse", "questionnaire", "http://x.example/Questionnaire/a|1", ""),
    ("Basic", "_profile", "http://x.example/profile/a", "profiled"), ("Basic", "_profile", "http://x.example/profile/a|1.0", "profiled"),
    ("Basic", "_profile:below", "http://x.example/profile/a", "profiled"), ("Basic", "_profile", "http://x.example/profile/a|2.0", ""),
    # official parameters whose expression ends at an extension mean its value
    ("Patient", "mothersMaidenName", "schroder", "maiden"), ("Patient", "mothersMaidenName:exact", "Schröder", "maiden"),
    ("Patient", "mothersMaidenName:missing", "false", "maiden"), ("Patient", "mothersMaidenName", "müller", ""),
    ("DiagnosticReport", "assessed-condition", "Condition/assessed", "genes"),
    ("DiagnosticReport", "assessed-condition:Condition.code", "C1", "genes"), ("DiagnosticReport", "assessed-condition", "p", ""),
    ("Observation", "gene-identifier", "http://www.genenames.org|3236", "gene"), ("Observation", "gene-identifier", "1", ""),
    # "If the underlying datatype is string then the search is not case sensitive"; of a code it is
    ("Medication", "lot-number", "ab-12X", "lot"), ("Medication", "lot-number", "AB-12x", "lot"), ("Medication", "lot-number", "AB", ""),
    ("Medication", "lot-number:not", "ab-12x", ""), ("Medication", "status", "ACTIVE", ""),
    # the whole of a long string
    ("ValueSet", "description:exact", LONG, "long"), ("ValueSet", "description", LONG.upper(), "long"),
    ("ValueSet", "description:exact", LONG[:300], ""),
    # Chinese names: dots and blanks inside of them are typed in many ways; ü as in passports
    ("Practitioner", "name", "阿依古丽买买提", "uyghur"), ("Practitioner", "name", "阿依古丽•买买提", "uyghur"),
    ("Practitioner", "name", "阿依古丽・买", "uyghur"), ("Practitioner", "name", "阿依古丽·", "uyghur"),
    ("Practitioner", "name:contains", "·买买提", "uyghur"), ("Practitioner", "name:exact", "阿依古丽买买提", ""),
    ("Practitioner", "name", "王伟", "blank"), ("Practitioner", "name", "吕 布", "lv"), ("Practitioner", "name", "lyubu", "lv"),
    # the first resource of a document
    ("Bundle", "composition", "Composition/inner", "document"), ("Bundle", "composition", "inner", "document"),
    ("Bundle", "message", "inner", ""),
    # units with brackets stand in a _filter as they are
    ("Observation", "_filter", f"component-value-quantity ge 145|{UCUM}|mm[Hg]", "component"),
    ("Observation", "_filter", f"(component-value-quantity gt 145|{UCUM}|mm[Hg]) or code eq urn:a|A", "coded"),
    ("Observation", "_filter", "subject:Patient[_id eq p].gender pr false", "local version"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "name", "value", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, type: str, name: str, value: str, wanted: str) -> None:
    answer = ward.get(type, params={name: value.replace("{base}", str(ward.base_url).rstrip("/")), "_count": 100})
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


@pytest.mark.parametrize("key", ["code", "-code", "category", "subject", "-patient"])
def test_values_without_a_code_come_last(ward: httpx.Client, key: str) -> None:
    """There is nothing by which they could be sorted."""
    entries = ward.get(f"Observation?_sort={key}&_count=100").json()["entry"]
    order = [entry["resource"]["id"] for entry in entries]
    last = {"code": {"worded"}, "category": {"worded"}, "subject": {"logical", "named", "inside"}, "patient": {"logical", "inside"}}
    first = {"code": {"coded", "local"}, "category": set(), "subject": {"local", "group"}, "patient": {"local", "version"}}
    name = key.removeprefix("-")
    assert all(order.index(one) < order.index(other) for one in first[name] for other in last[name])


def test_what_an_extension_refers_to_is_included(ward: httpx.Client) -> None:
    entries = ward.get("DiagnosticReport?_include=DiagnosticReport:assessed-condition").json()["entry"]
    assert [(one["search"]["mode"], one["resource"]["id"]) for one in entries] == [("match", "genes"), ("include", "assessed")]
