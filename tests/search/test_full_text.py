"""Full text: `_text`, `_content`, and `:text` on tokens.

Specification: https://hl7.org/fhir/R4/search.html#content, https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

LOINC = "http://loinc.org"


def narrative(div: str) -> dict[str, Any]:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{div}</div>'}


def condition(id: str, div: str, text: str, display: str = "", **more: Any) -> dict[str, Any]:
    coding = {"coding": [{"system": "http://snomed.info/sct", "code": id, "display": display}]} if display else {}
    return {
        "resourceType": "Condition", "id": id, "text": narrative(div), "code": {"text": text, **coding},
        "subject": {"reference": "Patient/p", "display": "Zhang Wei"}, **more,
    }  # fmt: skip


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "p", "text": narrative("Wei <b>Zhang</b> &amp; sons"), "name": [{"text": "Zhang Wei"}],
     "gender": "male", "identifier": [{"type": {"text": "Medical record number"}, "value": "77"}]},
    condition("bone", "A tumour of the <i>bone</i>, with metastases", "Osteosarcoma of femur", "Bone cancer"),
    condition("liver", "<p>Liver</p><p>metastases</p>", "Hepatocellular carcinoma", "Primary cancer of liver"),
    condition("skin", "Skin, no metastasis", "Melanoma", "Malignant melanoma", note=[{"text": "Seen by Dr. O'Hara: <b>bold</b> 12.5 mm"}]),
    condition("zh", "原发性高血压,二级", "高血壓病", "Hypertension"),
    {"resourceType": "Observation", "id": "bp", "status": "final", "subject": {"reference": "Patient/p"},
     "code": {"coding": [{"system": LOINC, "code": "85354-9", "display": "Blood pressure panel"}], "text": "Bp étendu"},
     "component": [{"code": {"text": "Systolic blood pressure"}, "valueQuantity": {"value": 120, "unit": "mm[Hg]"}}]},
    {"resourceType": "Observation", "id": "glucose", "status": "final", "subject": {"reference": "Patient/p"},
     "code": {"coding": [{"system": LOINC, "code": "2339-0", "display": "Glucose [Mass/volume] in Blood"}]},
     "device": {"reference": "#d"},
     "contained": [{"resourceType": "Device", "id": "d", "deviceName": [{"name": "Accucheck guide", "type": "user-friendly-name"}]}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("words"), RESOURCES) as client:
        yield client


def found(client: httpx.Client, path: str, **params: Any) -> str:
    answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return " ".join(sorted(entry["resource"]["id"] for entry in answer.json().get("entry", [])))


RULES = [
    # the specification's example of an expression
    ("Condition", "_text", "(bone OR liver) and metastases", "bone liver"),
    ("Condition", "_text", "metastases", "bone liver"),
    ("Condition", "_text", "METASTASES bone", "bone"),
    ("Condition", "_text", "metasta*", "bone liver skin"),
    ("Condition", "_text", "metasta", ""),
    ("Condition", "_text", '"tumour of the bone"', "bone"),
    ("Condition", "_text", '"bone tumour"', ""),
    ("Condition", "_text", "metastases AND NOT liver", "bone"),
    ("Condition", "_text", "NOT metastases", "skin zh"),
    ("Condition", "_text", "liver,skin", "liver skin"),
    ("Condition", "_text", "osteosarcoma", ""),  # in the code, not in the narrative
    ("Condition", "_text", "div", ""),  # markup is no word
    ("Patient", "_text", "sons", "p"),
    ("Patient", "_text", "amp", ""),
    ("Condition", "_text", "血压", "zh"),
    ("Condition", "_text", "高血壓", "zh"),
    ("Condition", "_text", "压血", ""),
    ("Condition", "_content", "osteosarcoma", "bone"),
    ("Condition", "_content", "metastases", "bone liver"),  # the narrative is content
    ("Condition", "_content", "o'hara", "skin"),
    ("Condition", "_content", '"femur bone"', ""),  # no phrase reaches from one value into the next
    ("Condition", "_content", "高血压病", "zh"),
    ("Condition", "_content", "zhang", "bone liver skin zh"),
    ("Observation", "_content", "etendu", "bp"),
    ("Observation", "_content", "accucheck", "glucose"),  # contained resources are content
    ("Observation", "_content", "120", "bp"),
    # :text of a token: CodeableConcept.text or Coding.display begins with the value
    ("Observation", "code:text", "blood", "bp"),
    ("Observation", "code:text", "Blood Press", "bp"),
    ("Observation", "code:text", "pressure", ""),
    ("Observation", "code:text", "systolic", ""),
    ("Observation", "component-code:text", "systolic", "bp"),
    ("Observation", "combo-code:text", "systolic", "bp"),
    ("Observation", "combo-code:text", "gluc,bp e", "bp glucose"),
    ("Observation", "code:text", "glucose [mass", "glucose"),
    ("Condition", "code:text", "高血压", "zh"),
    ("Condition", "code:text", "Hepato", "liver"),
    ("Condition", "code:text", "primary", "liver"),
    ("Patient", "identifier:text", "medical record", "p"),
]


@pytest.mark.parametrize(("type", "parameter", "value", "ids"), RULES)
def test_words(ward: httpx.Client, type: str, parameter: str, value: str, ids: str) -> None:
    assert found(ward, type, **{parameter: value}) == ids


def test_words_join_with_everything_else(ward: httpx.Client) -> None:
    assert found(ward, "Condition", _text="metastases", subject="Patient/p", _id="bone,skin") == "bone"
    assert found(ward, "Condition", **{"_content": "cancer", "code": "liver"}) == "liver"
    assert found(ward, "Patient", **{"_has:Condition:subject:_text": "skin"}) == "p"
    assert found(ward, "Condition", **{"subject:Patient._text": "zhang", "code:text": "mela"}) == "skin"
    assert found(ward, "", _text="zhang") == "p"
    assert found(ward, "", _content="zhang", _type="Patient,Condition") == "bone liver p skin zh"
    assert ward.get("Condition", params={"_text": "metastases", "_summary": "count"}).json()["total"] == 2
    page = ward.get("Condition", params={"_text": "metasta*", "_count": 2, "_total": "accurate"}).json()
    assert page["total"] == 3
    following = ward.get(next(link["url"] for link in page["link"] if link["relation"] == "next")).json()
    assert len(following["entry"]) == 1
    assert following["total"] == 3


def test_new_versions_are_found_at_once_and_old_words_no_more(ward: httpx.Client) -> None:
    one = condition("changing", "first wording", "quokka")
    assert ward.put("Condition/changing", json=one).status_code == 201
    assert found(ward, "Condition", _text="wording") == "changing"
    assert found(ward, "Condition", _content="quokka") == "changing"
    assert ward.put("Condition/changing", json=condition("changing", "second", "wombat")).status_code == 200
    assert found(ward, "Condition", _text="wording") == ""
    assert found(ward, "Condition", **{"code:text": "wom"}) == "changing"
    assert ward.delete("Condition/changing").status_code == 204
    assert found(ward, "Condition", _content="wombat") == ""


def test_a_page_shows_what_its_first_page_saw(ward: httpx.Client) -> None:
    for number in range(5):
        ward.put(f"Basic/w{number}", json={"resourceType": "Basic", "id": f"w{number}", "code": {"text": "steady words"}})
    page = ward.get("Basic", params={"_content": "steady", "_count": 2}).json()
    ids = [entry["resource"]["id"] for entry in page["entry"]]
    ward.put("Basic/w0", json={"resourceType": "Basic", "id": "w0", "code": {"text": "other"}})
    ward.put("Basic/w9", json={"resourceType": "Basic", "id": "w9", "code": {"text": "steady words"}})
    while following := next((link["url"] for link in page["link"] if link["relation"] == "next"), None):
        page = ward.get(following).json()
        ids += [entry["resource"]["id"] for entry in page.get("entry", [])]
    assert sorted(ids) == ["w0", "w1", "w2", "w3", "w4"]
    assert found(ward, "Basic", _content="steady") == "w1 w2 w3 w4 w9"


FAULTS = [
    ("Condition", "_text", '"open', "quotation mark"),
    ("Condition", "_text", "(a OR b", "bracket"),
    ("Condition", "_text", "a)", "not expected"),
    ("Condition", "_text", "a OR", "word is missing"),
    ("Condition", "_text", "AND a", "word is missing"),
    ("Condition", "_text", "...", "no letter"),
    ("Condition", "_content:exact", "a", "modifier"),
    ("Condition", "_text", " ".join(["a"] * 101), "more than 100"),
    ("Patient", "gender:text", "male", "no text beside the code"),
    ("Observation", "code:text", "[]", "no letter"),
    ("Observation", "status:text", "final", "no text beside the code"),
]


@pytest.mark.parametrize(("type", "parameter", "value", "rule"), FAULTS)
def test_what_cannot_be_read_is_refused(ward: httpx.Client, type: str, parameter: str, value: str, rule: str) -> None:
    answer = ward.get(type, params={parameter: value})
    assert answer.status_code == 400, answer.text
    issue = answer.json()["issue"][0]
    assert rule in issue["diagnostics"]
    assert parameter.partition(":")[0].removeprefix("_") in issue["diagnostics"]


def test_words_of_a_query_language_are_words(ward: httpx.Client) -> None:
    """Nothing of SQLite's own syntax means anything."""
    for value in ("narrative : bone", "bone NEAR liver", "{content} x", "bone + liver", "^bone", 'x" OR "bone', "bone) OR (a", "-bone"):
        answer = ward.get("Condition", params={"_text": value})
        assert answer.status_code in (200, 400), answer.text
    assert found(ward, "Condition", _text="near") == ""
    assert found(ward, "Condition", _text="^bone") == "bone"
    assert found(ward, "Condition", _text="bone near liver") == ""


def test_a_write_is_never_decided_by_words(ward: httpx.Client) -> None:
    answer = ward.put("Condition", params={"_text": "bone"}, json=condition("x", "a", "b"))
    assert answer.status_code == 400
    assert "cannot decide about a write" in answer.text
    answer = ward.post("Basic", json={"resourceType": "Basic", "code": {"text": "x"}}, headers={"If-None-Exist": "code:text=x"})
    assert answer.status_code == 400
