"""Composite parameters: the values must hold of the same element.

Specification: https://hl7.org/fhir/R4/search.html#combining; parameters: https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

LOINC, UCUM, USAGE = "http://loinc.org", "http://unitsofmeasure.org", "http://terminology.hl7.org/CodeSystem/usage-context-type"
SYSTOLIC, DIASTOLIC, PANEL = "8480-6", "8462-4", "85354-9"


def concept(code: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def quantity(value: float, code: str = "mm[Hg]") -> dict[str, Any]:
    return {"value": value, "unit": code, "system": UCUM, "code": code}


def pressure(id: str, systolic: float, diastolic: float, unit: str = "mm[Hg]") -> dict[str, Any]:
    pair = [(SYSTOLIC, systolic), (DIASTOLIC, diastolic)]
    parts = [{"code": concept(code), "valueQuantity": quantity(value, unit)} for code, value in pair]
    return {"resourceType": "Observation", "id": id, "status": "final", "code": concept(PANEL), "component": parts}


def observation(id: str, code: str, **value: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": concept(code), **value}


def apgar(id: str, *answers: tuple[str, str]) -> dict[str, Any]:
    parts = [{"code": concept(code), "valueCodeableConcept": concept(answer)} for code, answer in answers]
    return observation(id, "9272-6", component=parts)


def questionnaire(id: str, *contexts: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    uses = [{"code": {"system": USAGE, "code": code}, **value} for code, value in contexts]
    return {"resourceType": "Questionnaire", "id": id, "status": "active", "useContext": uses}


def sequence(id: str, chromosome: str, window: tuple[int, int], *variants: tuple[int, int]) -> dict[str, Any]:
    chosen = {"system": "urn:chromosome", "code": chromosome}
    reference = {"chromosome": {"coding": [chosen]}, "windowStart": window[0], "windowEnd": window[1]}
    spans = [{"start": start, "end": end} for start, end in variants]
    return {"resourceType": "MolecularSequence", "id": id, "coordinateSystem": 1, "referenceSeq": reference, "variant": spans}


RESOURCES = [
    pressure("high-systolic", 150, 80),
    pressure("high-diastolic", 120, 150),
    pressure("in-kpa", 20, 10, "kPa"),  # 150.01 and 75 mm[Hg]
    observation("single", SYSTOLIC, valueQuantity=quantity(160)),
    observation("weight", "29463-7", valueQuantity=quantity(150, "kg")),
    observation("text", "8661-1", valueString="Cough and fever"),
    observation("dated", "8665-2", valueDateTime="2024-03-15"),
    observation("coded", "882-1", valueCodeableConcept=concept("LA19710-5")),
    apgar("apgar-a", ("32401-2", "LA6719-6"), ("32407-9", "LA6725-3")),
    apgar("apgar-b", ("32401-2", "LA6725-3"), ("32407-9", "LA6719-6")),
    questionnaire("adults", ("age", {"valueRange": {"low": quantity(18, "a"), "high": quantity(65, "a")}})),
    questionnaire("children", ("age", {"valueQuantity": quantity(7, "a")}), ("dose", {"valueQuantity": quantity(40, "mg")})),
    questionnaire("focus", ("focus", {"valueCodeableConcept": concept("44054006", "http://snomed.info/sct")})),
    sequence("seq-1", "1", (100, 900), (110, 120), (300, 310)),
    sequence("seq-2", "2", (100, 900), (110, 310)),
    {
        "resourceType": "DocumentReference", "id": "newer", "status": "current", "content": [{"attachment": {"url": "http://x.org/1"}}],
        "relatesTo": [
            {"code": "replaces", "target": {"reference": "DocumentReference/old-1"}},
            {"code": "appends", "target": {"reference": "DocumentReference/old-2"}},
        ],
    },
    {
        "resourceType": "Group", "id": "g", "type": "person", "actual": False,
        "characteristic": [
            {"code": concept("gender", "urn:c"), "valueCodeableConcept": concept("female", "urn:g"), "exclude": False},
            {"code": concept("smoker", "urn:c"), "valueBoolean": True, "exclude": False},
        ],
    },
    *({"resourceType": "DocumentReference", "id": f"old-{n}", "status": "superseded", "content": [{"attachment": {"url": "http://x.org"}}]}
      for n in (1, 2)),
]  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("composites"), reversed(RESOURCES)) as client:
        yield client


RULES = [
    # a systolic value above 140 never is a diastolic one of 150
    (f"Observation?component-code-value-quantity={LOINC}|{SYSTOLIC}$gt140", "high-systolic"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$gt140", "high-systolic"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$gt140|{UCUM}|mm[Hg]", "high-systolic in-kpa"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$gt140||mm[Hg]", "high-systolic"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$20|{UCUM}|kPa", "high-systolic in-kpa"),
    (f"Observation?component-code-value-quantity={DIASTOLIC}$150", "high-diastolic"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$gt140,{DIASTOLIC}$gt140", "high-systolic high-diastolic"),
    (f"Observation?component-code-value-quantity={SYSTOLIC}$lt150&component-code-value-quantity={DIASTOLIC}$gt100", "high-diastolic"),
    (f"Observation?component-code-value-quantity=urn:x|{SYSTOLIC}$gt140", ""),
    (f"Observation?component-code-value-quantity={LOINC}|$gt140", "high-systolic high-diastolic"),
    # at the top of the resource, and in both places
    (f"Observation?code-value-quantity={SYSTOLIC}$gt140", "single"),
    ("Observation?code-value-quantity=29463-7$150", "weight"),
    (f"Observation?code-value-quantity={SYSTOLIC}$150", ""),
    (f"Observation?combo-code-value-quantity={SYSTOLIC}$gt140", "high-systolic single"),
    (f"Observation?combo-code-value-quantity={LOINC}|{SYSTOLIC}$gt140|{UCUM}|mm[Hg]", "high-systolic in-kpa single"),
    (f"Observation?combo-code-value-quantity={PANEL}$gt1", ""),
    ("Observation?code-value-string=8661-1$cough", "text"),
    ("Observation?code-value-string=8665-2$cough", ""),
    ("Observation?code-value-date=8665-2$2024-03", "dated"),
    ("Observation?code-value-date=8665-2$lt2024-03-15", ""),
    ("Observation?code-value-concept=882-1$LA19710-5", "coded"),
    (f"Observation?combo-code-value-concept=882-1${LOINC}|LA19710-5", "coded"),
    ("Observation?component-code-value-concept=32401-2$LA6719-6", "apgar-a"),
    (f"Observation?component-code-value-concept={LOINC}|32401-2${LOINC}|LA6725-3", "apgar-b"),
    ("Observation?component-code-value-concept=32401-2$urn:x|LA6719-6", ""),
    ("Observation?combo-code-value-concept=32407-9$LA6719-6", "apgar-b"),
    # contexts of use
    ("Questionnaire?context-type-quantity=age$7", "children"),
    ("Questionnaire?context-type-quantity=dose$7", ""),
    ("Questionnaire?context-type-quantity=age$lt20", "adults children"),
    (f"Questionnaire?context-type-quantity={USAGE}|age$84|{UCUM}|mo", "children"),
    ("Questionnaire?context-type-value=focus$http://snomed.info/sct|44054006", "focus"),
    ("Questionnaire?context-type-value=age$http://snomed.info/sct|44054006", ""),
    # three components, of which two are of a repeating element
    ("MolecularSequence?chromosome-variant-coordinate=1$gt105$lt125", "seq-1"),
    ("MolecularSequence?chromosome-variant-coordinate=1$gt105$311", ""),
    ("MolecularSequence?chromosome-variant-coordinate=1$lt115$310", ""),
    ("MolecularSequence?chromosome-variant-coordinate=2$lt115$310", "seq-2"),
    ("MolecularSequence?chromosome-window-coordinate=2$ge100$le900", "seq-2"),
    # references and booleans as components
    ("DocumentReference?relationship=replaces$DocumentReference/old-1", "newer"),
    ("DocumentReference?relationship=appends$DocumentReference/old-1", ""),
    ("DocumentReference?relationship=replaces$old-1", "newer"),
    ("DocumentReference?relationship=http://hl7.org/fhir/document-relationship-type|appends$DocumentReference/old-2", "newer"),
    ("Group?characteristic-value=smoker$true", "g"),
    ("Group?characteristic-value=gender$true", ""),
    ("Group?characteristic-value=urn:c|gender$urn:g|female", "g"),
    # present or not
    ("Observation?component-code-value-concept:missing=false", "apgar-a apgar-b"),
    ("Observation?code-value-quantity:missing=false", "single weight"),
    ("Questionnaire?context-type-quantity:missing=true", "focus"),
]


@pytest.mark.parametrize(("search", "wanted"), RULES)
def test_what_is_found(records: httpx.Client, search: str, wanted: str) -> None:
    answer = records.get(search.replace("|", "%7C") + "&_count=50")
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


def test_they_lead_chains_and_has(records: httpx.Client) -> None:
    patient = records.post("Patient", json={"resourceType": "Patient"}).json()["id"]
    mine = {**pressure("of-a-patient", 170, 90), "subject": {"reference": f"Patient/{patient}"}}
    assert records.put("Observation/of-a-patient", json=mine).status_code == 201
    try:
        found = records.get(f"Patient?_has:Observation:patient:component-code-value-quantity={SYSTOLIC}$gt160").json()
        assert [entry["resource"]["id"] for entry in found["entry"]] == [patient]
        none = records.get(f"Patient?_has:Observation:patient:component-code-value-quantity={DIASTOLIC}$gt160").json()
        assert none["total"] == 0
    finally:
        records.delete("Observation/of-a-patient")


WRONG = [
    ("component-code-value-quantity=8480-6", "<component-code>$<component-value-quantity>"),
    ("component-code-value-quantity=8480-6$", "<component-code>$<component-value-quantity>"),
    ("component-code-value-quantity=8480-6$1$2", "<component-code>$<component-value-quantity>"),
    ("component-code-value-quantity=8480-6$tall", "tall"),
    ("component-code-value-quantity=8480-6$xx140", "xx"),
    ("component-code-value-quantity:exact=8480-6$140", "exact"),
    ("component-code-value-quantity=a|b|c$140", "a token is"),
    ("code-value-date=8665-2$2024-13", "2024-13"),
]


@pytest.mark.parametrize(("condition", "named"), WRONG)
def test_wrong_values_are_refused(records: httpx.Client, condition: str, named: str) -> None:
    answer = records.get("Observation?" + condition.replace("|", "%7C"))
    assert answer.status_code == 400
    assert named in answer.json()["issue"][0]["diagnostics"]
