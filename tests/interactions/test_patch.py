"""Patches over the wire: https://hl7.org/fhir/R4/http.html#patch"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.interactions.bundles import SYSTEM, fresh, patient

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


def create(client: httpx.Client, **more: Any) -> str:
    """A patient; the answer is its id."""
    made = client.post(
        "Patient",
        json=patient(fresh(), name=[{"family": "Li", "given": ["Na"]}], **more),
        headers={"Content-Type": "application/fhir+json"},
    )
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def send(client: httpx.Client, address: str, patch: Any, kind: str = JSON_PATCH, **headers: str) -> httpx.Response:
    return client.request("PATCH", address, content=json.dumps(patch), headers={"Content-Type": kind, **headers})


def fhirpath_patch(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": list(parts)}]}


ADD_ACTIVE = fhirpath_patch(
    {"name": "type", "valueCode": "add"},
    {"name": "path", "valueString": "Patient"},
    {"name": "name", "valueString": "active"},
    {"name": "value", "valueBoolean": True},
)


@pytest.mark.parametrize(
    ("patch", "kind"),
    [
        ([{"op": "add", "path": "/active", "value": True}], JSON_PATCH),
        ([{"op": "add", "path": "/active", "value": True}], "application/json-patch+json; charset=utf-8"),
        ({"active": True}, MERGE_PATCH),
        ({"active": True}, "application/json"),
        (ADD_ACTIVE, "application/fhir+json"),
        (ADD_ACTIVE, "application/json"),
    ],
)
def test_each_kind_of_patch_changes_the_resource(client: httpx.Client, patch: Any, kind: str) -> None:
    id = create(client)
    answer = send(client, f"Patient/{id}", patch, kind)
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == 'W/"2"'
    assert answer.json()["active"] is True
    stored = client.get(f"Patient/{id}").json()
    assert stored["active"] is True
    assert stored["name"] == [{"family": "Li", "given": ["Na"]}]
    assert stored["meta"]["versionId"] == "2"


def test_a_patch_is_a_patch_in_the_history(client: httpx.Client) -> None:
    id = create(client)
    send(client, f"Patient/{id}", {"active": True}, MERGE_PATCH)
    history = client.get(f"Patient/{id}/_history").json()
    assert [entry["request"]["method"] for entry in history["entry"]] == ["PATCH", "POST"]


@pytest.mark.parametrize(
    "patch",
    [[], [{"op": "test", "path": "/resourceType", "value": "Patient"}], [{"op": "replace", "path": "/name/0/family", "value": "Li"}]],
)
def test_a_patch_that_changes_nothing_makes_no_version(client: httpx.Client, patch: Any) -> None:
    id = create(client)
    answer = send(client, f"Patient/{id}", patch)
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"1"'
    assert client.get(f"Patient/{id}").json()["meta"]["versionId"] == "1"


def test_removing_the_last_of_a_list_removes_the_list(client: httpx.Client) -> None:
    id = create(client)
    assert send(client, f"Patient/{id}", [{"op": "remove", "path": "/name/0"}]).status_code == 200
    assert "name" not in client.get(f"Patient/{id}").json()


def test_digits_of_decimals_survive_a_patch_elsewhere(client: httpx.Client) -> None:
    text = '{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10}}'
    id = client.post("Observation", content=text, headers={"Content-Type": "application/fhir+json"}).json()["id"]
    assert send(client, f"Observation/{id}", {"status": "amended"}, MERGE_PATCH).status_code == 200
    assert '"value":1.10' in client.get(f"Observation/{id}").text.replace(" ", "")


@pytest.mark.parametrize(
    ("patch", "kind", "status"),
    [
        ([{"op": "test", "path": "/active", "value": True}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/nosuch"}], JSON_PATCH, 422),
        ([{"op": "replace", "path": "/id", "value": "other"}], JSON_PATCH, 422),
        ([{"op": "remove", "path": "/id"}], JSON_PATCH, 422),
        ([{"op": "replace", "path": "/resourceType", "value": "Person"}], JSON_PATCH, 422),
        ([{"op": "replace", "path": "", "value": 1}], JSON_PATCH, 422),
        ([{"op": "add", "path": "/gender", "value": "maleX"}], JSON_PATCH, 422),
        ({"nosuch": 1}, MERGE_PATCH, 422),
        ({"op": "add"}, JSON_PATCH, 400),
        ([{"op": "fly", "path": "/a"}], JSON_PATCH, 400),
        ([1], MERGE_PATCH, 400),
        ({"active": True}, "application/fhir+json", 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "x", "valueCode": "y"}]}, "application/fhir+json", 400),
        ("<diff/>", "application/xml-patch+xml", 400),
        ("x", "text/plain", 415),
    ],
)
def test_a_patch_that_cannot_apply_is_refused_with_a_reason_and_changes_nothing(
    client: httpx.Client, patch: Any, kind: str, status: int
) -> None:
    id = create(client)
    answer = send(client, f"Patient/{id}", patch, kind)
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert answer.json()["issue"][0]["diagnostics"]
    assert client.get(f"Patient/{id}").json()["meta"]["versionId"] == "1"


def test_broken_json_and_an_empty_body_are_400(client: httpx.Client) -> None:
    id = create(client)
    for content in (b"", b"[{", b'{"a":1,"a":2}'):
        answer = client.request("PATCH", f"Patient/{id}", content=content, headers={"Content-Type": JSON_PATCH})
        assert answer.status_code == 400, answer.text


def test_patching_what_is_not_there_is_404_and_what_was_deleted_410(client: httpx.Client) -> None:
    assert send(client, "Patient/not-there", []).status_code == 404
    id = create(client)
    client.delete(f"Patient/{id}")
    assert send(client, f"Patient/{id}", []).status_code == 410


def test_a_fhirpath_patch_may_refer_to_what_the_resource_contains(client: httpx.Client) -> None:
    """ref-1 holds of the resource that comes out, not of the patch, which is a part of it."""
    id = create(client, contained=[{"resourceType": "Organization", "id": "o"}], managingOrganization={"reference": "#o"})

    def adding(reference: str) -> httpx.Response:
        patch = fhirpath_patch(
            {"name": "type", "valueCode": "add"},
            {"name": "path", "valueString": "Patient"},
            {"name": "name", "valueString": "generalPractitioner"},
            {"name": "value", "valueReference": {"reference": reference}},
        )
        return send(client, f"Patient/{id}", patch, "application/fhir+json")

    assert adding("#o").status_code == 200
    assert client.get(f"Patient/{id}").json()["generalPractitioner"] == [{"reference": "#o"}]
    refused = adding("#nothing")
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Patient.generalPractitioner[1].reference"]
    assert adding("Practitioner?identifier=1").status_code == 422  # conditional references are for transactions


def test_if_match_guards_a_patch(client: httpx.Client) -> None:
    id = create(client)
    assert send(client, f"Patient/{id}", {"active": True}, MERGE_PATCH, **{"If-Match": 'W/"2"'}).status_code == 412
    assert send(client, f"Patient/{id}", {"active": True}, MERGE_PATCH, **{"If-Match": 'W/"1"'}).status_code == 200


def test_a_conditional_patch_wants_exactly_one_match(client: httpx.Client) -> None:
    value = fresh()
    search = f"Patient?identifier={SYSTEM}|{value}"
    assert send(client, search, {"active": True}, MERGE_PATCH).status_code == 404
    made = client.post("Patient", json=patient(value), headers={"Content-Type": "application/fhir+json"}).json()
    assert send(client, search, {"active": True}, MERGE_PATCH).status_code == 200
    assert client.get(f"Patient/{made['id']}").json()["active"] is True
    client.post("Patient", json=patient(value), headers={"Content-Type": "application/fhir+json"})
    assert send(client, search, {"active": False}, MERGE_PATCH).status_code == 412


def test_prefer_says_what_a_patch_answers(client: httpx.Client) -> None:
    id = create(client)
    minimal = send(client, f"Patient/{id}", {"active": True}, MERGE_PATCH, Prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (200, b"")
    outcome = send(client, f"Patient/{id}", {"active": False}, MERGE_PATCH, Prefer="return=OperationOutcome")
    assert outcome.json()["resourceType"] == "OperationOutcome"


def test_parallel_patches_lose_no_update(server: Any) -> None:
    with server.client() as client:
        id = create(client)

    def add(at: int) -> int:
        with server.client() as http:
            value = {"system": "phone", "value": f"tel{at}"}
            path, wanted = ("/telecom/-", value) if at else ("/telecom", [value])
            return send(http, f"Patient/{id}", [{"op": "add", "path": path, "value": wanted}]).status_code

    assert add(0) == 200
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(add, range(1, 65))) == {200}
    with server.client() as client:
        stored = client.get(f"Patient/{id}").json()
    assert {telecom["value"] for telecom in stored["telecom"]} == {f"tel{at}" for at in range(65)}
    assert stored["meta"]["versionId"] == "66"
