"""`_contained` and `_containedType`.

Specification: https://hl7.org/fhir/R4/search.html#contained (its example: MedicationRequest/23 contains Medication #m1)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


def medication(id: str, code: str, lot: str | None = None, **more: Any) -> dict[str, Any]:
    batch = {"batch": {"lotNumber": lot}} if lot else {}
    return {"resourceType": "Medication", "id": id, "code": {"coding": [{"system": RXNORM, "code": code}]}, **batch, **more}


def request(id: str, *contained: dict[str, Any]) -> dict[str, Any]:
    others = [{"reference": f"#{one['id']}"} for one in contained[1:]]
    return {
        "resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order", "subject": {"reference": "Patient/p"},
        "contained": list(contained), "medicationReference": {"reference": f"#{contained[0]['id']}"},
        **({"supportingInformation": others} if others else {}),
    }  # fmt: skip


RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "p"},
    medication("free", "a", "L1"),
    request("23", medication("m1", "a", "L7", ingredient=[{"itemReference": {"reference": "Substance/s"}, "strength": {
        "numerator": {"value": 1.10, "unit": "mg"}, "denominator": {"value": 1}}}])),
    request("24", medication("m1", "b"), medication("m2", "a"), medication("m3", "a")),
    request("25", medication("m1", "z"), {"resourceType": "Organization", "id": "o", "name": "Pharma"}),
    {"resourceType": "Medication", "id": "kit", "code": {"coding": [{"system": RXNORM, "code": "a"}]},
     "contained": [medication("inside", "a")], "ingredient": [{"itemReference": {"reference": "#inside"}}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("contained"), RESOURCES) as client:
        yield client


def addresses(bundle: dict[str, Any]) -> list[str]:
    return [entry["fullUrl"].partition("/fhir/")[2] for entry in bundle.get("entry", [])]


def found(client: httpx.Client, path: str, **params: Any) -> list[str]:
    answer = client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return addresses(answer.json())


def test_contained_resources_are_no_matches_unless_asked(ward: httpx.Client) -> None:
    assert found(ward, "Medication", code="a") == ["Medication/kit", "Medication/free"]
    assert found(ward, "Medication", code="a", _contained="false") == ["Medication/kit", "Medication/free"]


def test_the_container_stands_for_what_it_contains(ward: httpx.Client) -> None:
    assert found(ward, "Medication", code="a", _contained="true") == ["Medication/kit", "MedicationRequest/24", "MedicationRequest/23"]
    assert found(ward, "Medication", code="b", _contained="true", _containedType="container") == ["MedicationRequest/24"]
    assert found(ward, "Organization", name="phar", _contained="true") == ["MedicationRequest/25"]
    assert found(ward, "Medication", **{"code": "a", "lot-number": "L7", "_contained": "true"}) == ["MedicationRequest/23"]
    assert found(ward, "Medication", code="a,b", _contained="true", _sort="_lastUpdated")[0] == "MedicationRequest/23"


def test_or_the_contained_resource_itself_with_the_address_of_the_specification(ward: httpx.Client) -> None:
    answer = ward.get("Medication", params={"code": "a", "_contained": "true", "_containedType": "contained"}).json()
    assert addresses(answer) == ["Medication/kit#inside", "MedicationRequest/24#m2", "MedicationRequest/24#m3", "MedicationRequest/23#m1"]
    last = answer["entry"][-1]
    assert last["resource"]["resourceType"] == "Medication"
    assert last["resource"]["id"] == "m1"
    assert last["search"] == {"mode": "match"}
    raw = ward.get("Medication", params={"_id": "m1", "code": "a", "_contained": "true", "_containedType": "contained"}).text
    assert '"value":1.1' in raw


def test_both(ward: httpx.Client) -> None:
    """A container that is a match itself stands there once."""
    assert found(ward, "Medication", code="a", _contained="both") == [
        "Medication/kit", "MedicationRequest/24", "MedicationRequest/23", "Medication/free",
    ]  # fmt: skip
    assert found(ward, "Medication", code="a", _contained="both", _containedType="contained") == [
        "Medication/kit", "Medication/kit#inside", "MedicationRequest/24#m2", "MedicationRequest/24#m3", "MedicationRequest/23#m1",
        "Medication/free",
    ]  # fmt: skip


@pytest.mark.parametrize("contained", ["true", "both"])
@pytest.mark.parametrize("kind", ["container", "contained"])
@pytest.mark.parametrize("sort", ["_lastUpdated", "-_lastUpdated"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pages_and_totals(ward: httpx.Client, contained: str, kind: str, sort: str, count: int) -> None:
    params = {"code": "a", "_contained": contained, "_containedType": kind, "_sort": sort}
    whole = found(ward, "Medication", **params)
    bundle = ward.get("Medication", params={**params, "_count": count, "_total": "accurate"}).json()
    seen = addresses(bundle)
    while following := next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None):
        assert len(bundle["entry"]) == count
        bundle = ward.get(following).json()
        assert bundle["total"] == len(whole)
        seen += addresses(bundle)
    assert seen == whole
    assert ward.get("Medication", params={**params, "_summary": "count"}).json()["total"] == len(whole)


def test_an_update_moves_what_is_contained(ward: httpx.Client) -> None:
    changed = request("26", medication("m1", "c"))
    assert ward.put("MedicationRequest/26", json=changed).status_code == 201
    assert found(ward, "Medication", code="c", _contained="true") == ["MedicationRequest/26"]
    assert ward.put("MedicationRequest/26", json=request("26", medication("m1", "d"))).status_code == 200
    assert found(ward, "Medication", code="c", _contained="true") == []
    assert found(ward, "Medication", code="d", _contained="true") == ["MedicationRequest/26"]
    plain = {key: value for key, value in changed.items() if key not in ("contained", "medicationReference", "supportingInformation")}
    answer = ward.put("MedicationRequest/26", json={**plain, "medicationCodeableConcept": {"text": "x"}})
    assert answer.status_code == 200, answer.text
    assert found(ward, "Medication", code="d", _contained="true") == []


def test_what_the_containers_refer_to_can_be_included(ward: httpx.Client) -> None:
    params = {"code": "b", "_contained": "true", "_include:iterate": "MedicationRequest:patient"}
    assert found(ward, "Medication", **params) == ["MedicationRequest/24", "Patient/p"]
    answer = ward.get("Medication", params={**params, "_containedType": "contained"})
    assert answer.status_code == 400
    assert "_containedType=container" in answer.text


FAULTS = [
    ({"_contained": "maybe"}, "_contained"),
    ({"_contained": "true", "_containedType": "x"}, "_containedType"),
    ({"_contained": "true", "_sort": "code"}, "_sort"),
    ({"_contained": "true", "ingredient.code": "x"}, "chains"),
    ({"_contained": "true", "_has:MedicationRequest:medication:status": "active"}, "chains"),
    ({"_contained": "true", "colour": "red"}, "colour"),
    ({"_query": "current-high-risk"}, "_query"),
]


@pytest.mark.parametrize(("params", "named"), FAULTS)
def test_what_cannot_be_asked_is_refused(ward: httpx.Client, params: dict[str, str], named: str) -> None:
    answer = ward.get("Medication", params=params)
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["issue"][0]["diagnostics"]
    assert ward.get("", params={"_contained": "true", "_id": "x"}).status_code == 400
