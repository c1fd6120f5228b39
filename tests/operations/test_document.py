"""Composition/$document over HTTP. https://hl7.org/fhir/R4/composition-operation-document.html"""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.resources import observation, outcome, patient


def store(client: Any, content: dict[str, Any]) -> str:
    answer = client.post(content["resourceType"], json=content)
    assert answer.status_code == 201, answer.text
    return f"{content['resourceType']}/{answer.json()['id']}"


def refer(to: str) -> dict[str, str]:
    return {"reference": to}


@pytest.fixture
def made(client):
    found: dict[str, str] = {}
    found["organization"] = store(client, {"resourceType": "Organization", "name": "Ward"})
    found["author"] = store(client, {"resourceType": "Practitioner", "name": [{"family": "House"}]})
    found["other"] = store(client, patient())
    found["patient"] = store(
        client, patient(managingOrganization=refer(found["organization"]), link=[{"other": refer(found["other"]), "type": "seealso"}])
    )
    found["device"] = store(client, {"resourceType": "Device"})
    found["outer"] = store(client, observation(found["patient"], device=refer(found["device"])))
    found["inner"] = store(client, observation(found["patient"]))
    sections = [{"title": "A", "entry": [refer(found["outer"])], "section": [{"title": "B", "entry": [refer(found["inner"])]}]}]
    found["composition"] = store(
        client,
        {
            "resourceType": "Composition",
            "status": "final",
            "type": {"coding": [{"system": "http://loinc.org", "code": "11488-4"}]},
            "subject": refer(found["patient"]),
            "date": "2025-01-01",
            "author": [refer(found["author"])],
            "title": "Letter",
            "section": [
                *sections,
                {"title": "C", "entry": [refer("Observation/not-here"), refer("http://elsewhere.example/Observation/1")]},
            ],
        },
    )
    return found


def entries(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["resourceType"], content["type"]) == ("Bundle", "document")
    assert content["timestamp"]
    assert content["identifier"]["system"] == "urn:ietf:rfc:3986"
    places = [f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in content["entry"]]
    assert all(entry["fullUrl"].endswith("/" + place) for entry, place in zip(content["entry"], places, strict=True))
    return places


def test_composition_first_then_all_it_refers_to_each_once(client, made):
    places = entries(client.get(made["composition"] + "/$document"))
    assert places[0] == made["composition"]
    assert len(places) == len(set(places))
    wanted = {made[name] for name in made if name != "other"}
    assert set(places) == wanted  # nested sections and what entries refer to; no record of another person


def test_type_level_takes_an_id_or_a_url(client, made):
    composition = made["composition"]
    assert entries(client.get("Composition/$document", params={"id": composition.split("/")[1]}))[0] == composition
    body = {"resourceType": "Parameters", "parameter": [{"name": "id", "valueUri": f"{client.base_url}{composition}"}]}
    assert entries(client.post("Composition/$document", json=body))[0] == composition


def test_missing_references_are_named(client, made):
    warning = client.get(made["composition"] + "/$document").headers["warning"]
    assert "Observation/not-here" in warning
    assert "http://elsewhere.example/Observation/1" in warning


def test_persist_stores_the_bundle_and_says_where(client, made):
    answer = client.post(
        made["composition"] + "/$document", json={"resourceType": "Parameters", "parameter": [{"name": "persist", "valueBoolean": True}]}
    )
    places = entries(answer)
    assert answer.headers["location"].endswith(f"/Bundle/{answer.json()['id']}")
    assert entries(client.get(answer.headers["location"])) == places


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_document_is_not_stored_by_a_safe_method(client, made, method):
    """RFC 9110 9.2.1: GET and HEAD are safe. https://hl7.org/fhir/R4/operations.html#executing"""
    before = client.get("Bundle", params={"_summary": "count"}).json()["total"]
    answer = client.request(method, made["composition"] + "/$document", params={"persist": "true"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    assert client.get("Bundle", params={"_summary": "count"}).json()["total"] == before
    assert client.request(method, made["composition"] + "/$document", params={"persist": "false"}).status_code == 200
    assert client.post(made["composition"] + "/$document?persist=true").status_code == 200
    assert client.get("Bundle", params={"_summary": "count"}).json()["total"] == before + 1


def test_a_document_is_read_in_a_transaction_and_not_stored(client, made):
    """The transaction's GET entries come last and see what it wrote; an operation that writes by itself has no place among them."""

    def sent(method: str, url: str, **more: Any) -> Any:
        device = {"resourceType": "Device", "id": made["device"].split("/")[1], "status": "inactive"}
        write = {"request": {"method": "PUT", "url": made["device"]}, "resource": device}
        asked = {"request": {"method": method, "url": url}, **more}
        return client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [asked, write]})

    answer = sent("GET", made["composition"] + "/$document")
    assert answer.status_code == 200, answer.text
    found = {entry["resource"]["id"]: entry["resource"] for entry in answer.json()["entry"][0]["resource"]["entry"]}
    assert found[made["device"].split("/")[1]]["status"] == "inactive"
    assert "Bundle.entry[0]" in outcome(sent("GET", made["composition"] + "/$document?persist=true"), 405)
    assert "Bundle.entry[0]" in outcome(sent("POST", made["composition"] + "/$document", resource={"resourceType": "Parameters"}), 400)


def test_wrong_questions(client, made):
    outcome(client.get("Composition/nothing/$document"), 404, "not-found")
    outcome(client.get("Composition/$document"), 400, "required")
    outcome(client.get(made["composition"] + "/$document", params={"graph": "http://example.org/g"}), 501, "not-supported")
    outcome(client.get(made["composition"] + "/$document", params={"persist": "maybe"}), 400, "value")
    outcome(client.get("Composition/$document", params={"id": "http://elsewhere.example/Composition/1"}), 400, "value")
    client.delete(made["composition"])
    outcome(client.get(made["composition"] + "/$document"), 410, "deleted")
