"""The create, update and delete interactions over HTTP. https://hl7.org/fhir/R4/http.html#create, #update, #delete"""

from __future__ import annotations

import pytest

from tests.wire.resources import identified, outcome, patient, unique


def test_create_gives_id_location_and_first_version(client, server):
    answer = client.post("Patient", json=patient(id="mine", meta={"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z"}))
    assert answer.status_code == 201
    created = answer.json()
    assert created["id"] != "mine"
    assert created["meta"]["versionId"] == "1"
    assert not created["meta"]["lastUpdated"].startswith("2001")
    assert answer.headers["location"] == f"{server.base}/Patient/{created['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert client.get(answer.headers["location"]).json() == created


@pytest.mark.parametrize("kind", ["application/fhir+json", "application/json", "text/json", "application/fhir+json; charset=UTF-8"])
def test_json_content_types_are_read(client, kind):
    assert client.post("Patient", content=b'{"resourceType":"Patient"}', headers={"Content-Type": kind}).status_code == 201


@pytest.mark.parametrize(
    "kind", ["application/fhir+turtle", "text/plain", "application/x-www-form-urlencoded", "application/fhir+json; charset=gb18030"]
)
def test_other_content_types_are_refused_by_name(client, kind):
    answer = client.post("Patient", content=b'{"resourceType":"Patient"}', headers={"Content-Type": kind})
    assert kind.split(";")[0] in outcome(answer, 415, "not-supported")


def test_prefer_minimal_and_operation_outcome(client):
    minimal = client.post("Patient", json=patient(), headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"]
    told = client.post("Patient", json=patient(), headers={"Prefer": "return=OperationOutcome"})
    assert told.status_code == 201
    assert told.json()["resourceType"] == "OperationOutcome"
    assert client.post("Patient", json=patient(), headers={"Prefer": "return=representation"}).json()["resourceType"] == "Patient"


def test_respond_async_is_passed_over_where_it_is_not_served(client):
    """RFC 7240 section 2: a server may ignore a preference."""
    created = client.post("Patient", json=patient(), headers={"Prefer": "respond-async"})
    assert created.status_code == 201 and "preference-applied" not in created.headers
    assert client.get(f"Patient/{created.json()['id']}", headers={"Prefer": "respond-async"}).status_code == 200


def test_update_makes_a_new_version(client, server):
    created = client.post("Patient", json=patient()).json()
    answer = client.put(f"Patient/{created['id']}", json={**created, "gender": "female"})
    assert answer.status_code == 200
    assert answer.json()["meta"]["versionId"] == "2"
    assert answer.headers["etag"] == 'W/"2"'
    assert answer.headers["content-location"] == f"{server.base}/Patient/{created['id']}/_history/2"


def test_update_creates_what_is_not_there(client, server):
    id = unique("client-chosen")
    answer = client.put(f"Patient/{id}", json=patient(id=id))
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{server.base}/Patient/{id}/_history/1"


def test_an_update_without_change_makes_no_version(client):
    created = client.post("Patient", json=patient()).json()
    again = client.put(f"Patient/{created['id']}", json=created)
    assert again.status_code == 200
    assert again.json() == created
    assert client.get(f"Patient/{created['id']}/_history").json()["total"] == 1


def test_an_update_must_carry_the_id_of_its_address(client):
    id = client.post("Patient", json=patient()).json()["id"]
    assert "other" in outcome(client.put(f"Patient/{id}", json=patient(id="other")), 400)
    outcome(client.put(f"Patient/{id}", json=patient()), 400)
    outcome(client.put(f"Patient/{id}", json={"resourceType": "Group", "id": id}), 400)
    assert client.get(f"Patient/{id}").headers["etag"] == 'W/"1"'


def test_if_match_guards_against_lost_updates(client):
    created = client.post("Patient", json=patient()).json()
    place = f"Patient/{created['id']}"
    assert client.put(place, json={**created, "active": True}, headers={"If-Match": 'W/"1"'}).status_code == 200
    late = client.put(place, json={**created, "active": False}, headers={"If-Match": 'W/"1"'})
    outcome(late, 412)
    for tag in ('W/"x"', "nonsense", '""', f'W/"{"9" * 5000}"'):
        outcome(client.put(place, json={**created, "active": False}, headers={"If-Match": tag}), 412)
    assert client.get(place).json()["active"] is True
    listed = client.put(place, json={**created, "active": False}, headers={"If-Match": 'W/"1", W/"2"'})
    assert listed.status_code == 200
    assert client.put(place, json=created, headers={"If-Match": "*"}).status_code == 200


def test_if_match_on_nothing_fails(client):
    id = unique("absent")
    outcome(client.put(f"Patient/{id}", json=patient(id=id), headers={"If-Match": 'W/"1"'}), 412)
    outcome(client.put(f"Patient/{id}", json=patient(id=id), headers={"If-Match": "*"}), 412)
    assert client.get(f"Patient/{id}").status_code == 404


def test_if_none_match_star_creates_only(client):
    id = unique("once")
    assert client.put(f"Patient/{id}", json=patient(id=id), headers={"If-None-Match": "*"}).status_code == 201
    outcome(client.put(f"Patient/{id}", json=patient(id=id, active=True), headers={"If-None-Match": "*"}), 412)


def test_delete_read_history_and_new_life(client):
    """Known failure 18: delete answers and versions after it."""
    created = client.post("Patient", json=patient()).json()
    place = f"Patient/{created['id']}"
    deleted = client.delete(place)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert "deleted" in outcome(client.get(place), 410, "deleted")
    outcome(client.get(f"{place}/_history/2"), 410, "deleted")
    assert client.get(f"{place}/_history/1").json() == created
    assert client.delete(place).status_code == 204
    entries = client.get(f"{place}/_history").json()["entry"]
    assert [entry["request"]["method"] for entry in entries] == ["DELETE", "POST"]
    assert "resource" not in entries[0]
    again = client.put(place, json=patient(id=created["id"]))
    assert again.status_code == 201
    assert again.json()["meta"]["versionId"] == "3"
    assert client.get(place).status_code == 200


def test_deleting_what_never_was_is_no_error(client):
    assert client.delete("Patient/never-was").status_code == 204


def test_delete_with_an_old_version_fails(client):
    created = client.post("Patient", json=patient()).json()
    place = f"Patient/{created['id']}"
    client.put(place, json={**created, "active": True})
    outcome(client.delete(place, headers={"If-Match": 'W/"1"'}), 412)
    assert client.delete(place, headers={"If-Match": 'W/"2"'}).status_code == 204


def test_delete_with_outcome(client):
    id = client.post("Patient", json=patient()).json()["id"]
    answer = client.delete(f"Patient/{id}", headers={"Prefer": "return=OperationOutcome"})
    assert answer.status_code == 200
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_deleted_resource_is_found_no_more(client):
    value = unique("mrn")
    id = client.post("Patient", json=identified(value)).json()["id"]
    assert client.get(f"Patient?identifier=urn:mrn|{value}").json()["total"] == 1
    client.delete(f"Patient/{id}")
    assert client.get(f"Patient?identifier=urn:mrn|{value}").json()["total"] == 0


def test_posting_to_an_instance_is_not_allowed(client):
    answer = client.post("Patient/1", json=patient())
    outcome(answer, 405)
    assert "PUT" in answer.headers["allow"]
