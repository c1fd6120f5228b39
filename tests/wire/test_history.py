"""The history interaction over HTTP. https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

import time

import pytest

from tests.wire.resources import observation, outcome, patient


@pytest.fixture
def three_versions(client):
    created = client.post("Patient", json=patient()).json()
    for gender in ("female", "other"):
        client.put(f"Patient/{created['id']}", json={**created, "gender": gender})
    return created["id"]


def follow(client, place: str) -> list[dict]:
    entries = []
    while place:
        page = client.get(place).json()
        entries += page.get("entry", [])
        place = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    return entries


def test_history_lists_versions_newest_first(client, server, three_versions):
    bundle = client.get(f"Patient/{three_versions}/_history").json()
    assert (bundle["type"], bundle["total"]) == ("history", 3)
    assert [entry["resource"]["meta"]["versionId"] for entry in bundle["entry"]] == ["3", "2", "1"]
    assert [entry["resource"]["gender"] for entry in bundle["entry"]] == ["other", "female", "male"]
    assert [entry["request"]["method"] for entry in bundle["entry"]] == ["PUT", "PUT", "POST"]
    assert [entry["response"]["status"][:3] for entry in bundle["entry"]] == ["200", "200", "201"]
    assert bundle["entry"][0]["response"]["etag"] == 'W/"3"'
    assert bundle["entry"][0]["fullUrl"] == f"{server.base}/Patient/{three_versions}"


def test_history_pages_hold_each_version_once(client, three_versions):
    entries = follow(client, f"Patient/{three_versions}/_history?_count=2")
    assert [entry["resource"]["meta"]["versionId"] for entry in entries] == ["3", "2", "1"]


def test_paging_is_stable_while_versions_are_added(client, three_versions):
    first = client.get(f"Patient/{three_versions}/_history?_count=1").json()
    client.put(f"Patient/{three_versions}", json=patient(id=three_versions, active=True))
    following = next(link["url"] for link in first["link"] if link["relation"] == "next")
    assert [entry["resource"]["meta"]["versionId"] for entry in follow(client, following)] == ["2", "1"]


def test_since_leaves_out_what_is_older(client, three_versions):
    time.sleep(0.01)
    second = client.get(f"Patient/{three_versions}/_history/2").json()["meta"]["lastUpdated"]
    entries = client.get(f"Patient/{three_versions}/_history", params={"_since": second}).json()["entry"]
    assert {"3", "2"} <= {entry["resource"]["meta"]["versionId"] for entry in entries}
    assert client.get(f"Patient/{three_versions}/_history?_since=2090-01-01T00:00:00Z").json().get("entry") is None


def test_at_gives_what_was_current_then(client):
    created = client.post("Patient", json=patient()).json()
    time.sleep(0.02)
    client.put(f"Patient/{created['id']}", json={**created, "active": True})
    time.sleep(0.02)
    updated = client.put(f"Patient/{created['id']}", json={**created, "active": False}).json()
    at = client.get(f"Patient/{created['id']}/_history", params={"_at": updated["meta"]["lastUpdated"]}).json()
    assert [entry["resource"]["meta"]["versionId"] for entry in at["entry"]] == ["3"]
    at = client.get(f"Patient/{created['id']}/_history", params={"_at": created["meta"]["lastUpdated"]}).json()
    assert [entry["resource"]["meta"]["versionId"] for entry in at["entry"]] == ["1"]


def test_type_and_system_history_hold_deletions(client):
    id = client.post("Observation", json=observation("Patient/x")).json()["id"]
    client.delete(f"Observation/{id}")
    for place in ("Observation/_history?_count=2", "_history?_count=2"):
        deletion, creation = client.get(place).json()["entry"]
        assert (deletion["request"]["method"], deletion["request"]["url"]) == ("DELETE", f"Observation/{id}")
        assert deletion["response"]["status"][:3] == "204"
        assert "resource" not in deletion
        assert (creation["request"]["method"], creation["request"]["url"]) == ("POST", "Observation")


def test_system_history_pages_through_all_types(client):
    for _ in range(3):
        client.post("Patient", json=patient())
        client.post("Observation", json=observation("Patient/x"))
    entries = follow(client, "_history?_count=4")
    seen = [(entry["fullUrl"], entry["response"]["etag"]) for entry in entries]
    assert len(seen) == len(set(seen))
    assert {"Patient", "Observation"} <= {entry["fullUrl"].split("/")[-2] for entry in entries}


def test_history_of_what_never_was_is_not_found(client):
    outcome(client.get("Patient/never-was/_history"), 404, "not-found")


@pytest.mark.parametrize(
    "query", ["_count=-1", "_count=x", "_since=yesterday", "_at=2024-13-01", "_cursor=forged", "colour=red", "_summary=some"]
)
def test_wrong_parameters_are_refused(client, query):
    outcome(client.get(f"Patient/_history?{query}"), 400)


def test_count_zero_and_summary_count_give_the_total_alone(client, three_versions):
    for query in ("_count=0", "_summary=count"):
        bundle = client.get(f"Patient/{three_versions}/_history?{query}").json()
        assert bundle["total"] == 3
        assert "entry" not in bundle


def test_a_large_count_is_cut_and_self_says_so(client):
    links = client.get("Patient/_history?_count=5000").json()["link"]
    assert "_count=1000" in next(link["url"] for link in links if link["relation"] == "self")


def test_history_of_an_unknown_type_is_not_found(client):
    outcome(client.get("Pateint/_history"), 404, "not-supported")
