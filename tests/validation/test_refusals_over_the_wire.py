"""Refused content over HTTP: the status, the outcome in the client's language, and that nothing is left behind.

https://hl7.org/fhir/R4/http.html#create, #update, #patch, #transaction; issue 3, item 4
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from fhir_server.model import json_codec
from fhir_server.validation.structure import validate
from tests.validation.test_mutations import replace_somewhere
from tests.wire.resources import outcome, patient, unique

JSON = {"Content-Type": "application/fhir+json"}
BROKEN = patient(gender="maleX")
UNREADABLE = patient(colour="red")


def trace(client: Any) -> tuple[Any, ...]:
    """What there is: the number of resources and the newest version of all."""
    newest = client.get("_history?_count=1").json()
    entry = newest["entry"][0]["resource"]["meta"] if newest.get("entry") else None
    return client.get("Patient?_summary=count").json()["total"], newest.get("total"), entry


@pytest.fixture(autouse=True)
def nothing_is_left_behind(client: Any, request: pytest.FixtureRequest) -> Any:
    if "stored" in request.fixturenames:
        request.getfixturevalue("stored")
    before = trace(client)
    yield
    assert trace(client) == before


@pytest.fixture
def stored(client: Any) -> Any:
    """A Patient that is there."""
    return client.post("Patient", json=patient(identifier=[{"system": "urn:mrn", "value": unique("refused")}])).json()


def test_a_wrong_gender_is_422_naming_element_value_and_rule(client):
    answer = client.post("Patient", json=BROKEN)
    text = outcome(answer, 422, "code-invalid")
    assert "Patient.gender" in text and "'maleX'" in text and "http://hl7.org/fhir/ValueSet/administrative-gender" in text
    (issue,) = answer.json()["issue"]
    assert (issue["severity"], issue["expression"]) == ("error", ["Patient.gender"])
    assert issue["details"] == {"coding": [{"system": "urn:fhir-server:validation-rules", "code": "binding"}]}


@pytest.mark.parametrize(("language", "chinese"), [("zh-CN,zh;q=0.9,en;q=0.8", True), ("zh", True), ("en-US,en", False), ("", False)])
def test_the_outcome_speaks_the_language_of_the_client(client, language, chinese):
    (issue,) = client.post("Patient", json=BROKEN, headers={"Accept-Language": language}).json()["issue"]
    assert issue["diagnostics"].startswith("Patient.gender: ")  # English for the log of the developer
    assert ("不在必需值集" in issue.get("details", {}).get("text", "")) is chinese


@pytest.mark.parametrize(("content", "status"), [(BROKEN, 422), (UNREADABLE, 400)])
def test_every_way_to_write_refuses_alike(client, stored, content, status):
    id = stored["id"]
    number = stored["identifier"][0]["value"]
    outcome(client.post("Patient", json=content), status)
    outcome(client.put("Patient/not-there", json={**content, "id": "not-there"}), status)
    outcome(client.put(f"Patient/{id}", json={**content, "id": id}), status)
    outcome(client.put(f"Patient?identifier=urn:mrn|{number}", json=content), status)
    outcome(client.post("Patient", json=content, headers={"If-None-Exist": "identifier=urn:mrn|nobody"}), status)
    assert client.get("Patient/not-there").status_code == 404
    assert client.get(f"Patient/{id}").json() == stored


@pytest.mark.parametrize(
    ("patch", "kind", "status"),
    [
        ([{"op": "replace", "path": "/gender", "value": "maleX"}], "application/json-patch+json", 422),
        ([{"op": "add", "path": "/colour", "value": "red"}], "application/json-patch+json", 422),
        ({"gender": "maleX"}, "application/merge-patch+json", 422),
        ({"birthDate": "2023-02-29"}, "application/merge-patch+json", 422),
    ],
)
def test_a_patch_whose_result_is_invalid_changes_nothing(client, stored, patch, kind, status):
    """The patch could be read, so its outcome is what cannot be processed: 422 (http.html#patch)."""
    answer = client.request("PATCH", f"Patient/{stored['id']}", content=json_codec.dumps(patch), headers={"Content-Type": kind})
    assert answer.status_code in (400, status)
    assert answer.json()["issue"][0]["expression"][0].startswith("Patient.")
    assert client.get(f"Patient/{stored['id']}").json() == stored


def test_a_transaction_with_one_bad_entry_is_refused_whole_with_the_place(client):
    entries = [{"resource": patient(), "request": {"method": "POST", "url": "Patient"}} for _ in range(20)]
    entries[13]["resource"] = BROKEN
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    outcome(answer, 422, "code-invalid")
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[13].resource.gender"]


def test_every_bad_entry_of_a_transaction_is_told(client):
    entries = [{"resource": patient(gender=gender), "request": {"method": "POST", "url": "Patient"}} for gender in ("x", "male", "y")]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    outcome(answer, 422)
    places = [issue["expression"][0] for issue in answer.json()["issue"]]
    assert places == ["Bundle.entry[0].resource.gender", "Bundle.entry[2].resource.gender"]


def test_a_batch_refuses_the_bad_entry_alone(client, request):
    bad = {"resource": BROKEN, "request": {"method": "POST", "url": "Patient"}}
    good = {"request": {"method": "GET", "url": "Patient?_count=0"}}
    answer = client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [bad, good]})
    assert answer.status_code == 200
    first, second = answer.json()["entry"]
    assert first["response"]["status"].startswith("422")
    assert first["response"]["outcome"]["issue"][0]["code"] == "code-invalid"
    assert second["response"]["status"].startswith("200")


@pytest.mark.parametrize("type", [None, [], {}, 1, "Transaction", "collection", "searchset"])
def test_a_bundle_of_another_type_is_not_carried_out(client, type):
    bundle = {"resourceType": "Bundle", "type": type, "entry": [{"resource": patient(), "request": {"method": "POST", "url": "Patient"}}]}
    assert client.post("", json=bundle).status_code in (400, 422)


VALUES: list[Any] = [None, True, 7, "", "x", [], {}, [[]], [None], [{}], {"x": 1}, "Patient/x?y=", "/", "urn:uuid:x", ["x"]]


def test_no_random_bundle_makes_the_server_fail(client):
    """A transaction and a batch with a random value at a random place: an answer below 500, always."""
    chance = random.Random(20261123)
    good = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
                "resource": {**BROKEN, "identifier": [{"system": "urn:mrn", "value": "1"}]},
                "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:mrn|1"},
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"},
                },
                "request": {"method": "PUT", "url": "Observation?identifier=urn:mrn|1", "ifMatch": 'W/"1"'},
            },
            {"request": {"method": "GET", "url": "Patient?_count=0"}},
            {"request": {"method": "DELETE", "url": "Patient/not-there"}},
        ],
    }
    for number in range(300):
        bundle = copy.deepcopy(good)
        bundle["type"] = ("transaction", "batch")[number % 2]
        replace_somewhere(bundle, chance.choice(VALUES), chance)
        if bundle.get("type") == "batch":  # its good entries would be carried out
            bundle["entry"] = bundle["entry"][:1] if isinstance(bundle.get("entry"), list) else bundle.get("entry")
        answer = client.post("", content=json_codec.dumps(bundle), headers=JSON)
        assert answer.status_code < 500, (bundle, answer.text)
        assert validate(answer.json()) == [], (bundle, answer.text)


def test_no_random_resource_makes_the_server_fail(client, official):
    chance = random.Random(20261124)
    names = sorted(name for name, content in official.items() if len(content) < 8_000)
    for name in chance.sample(names, 150):
        resource = json_codec.loads(official[name])
        kind = resource["resourceType"]
        resource["unknown"] = 1  # so that nothing is stored
        replace_somewhere(resource, chance.choice(VALUES), chance)
        answer = client.post(kind, content=json_codec.dumps(resource), headers=JSON)
        assert answer.status_code in (400, 422) or "unknown" not in resource, (name, answer.status_code)
