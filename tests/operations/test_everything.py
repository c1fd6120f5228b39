"""$everything of Patient and Encounter over HTTP. https://hl7.org/fhir/R4/patient-operation-everything.html"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.wire.resources import observation, outcome, patient


def store(client: Any, content: dict[str, Any]) -> str:
    answer = client.post(content["resourceType"], json=content)
    assert answer.status_code == 201, answer.text
    return f"{content['resourceType']}/{answer.json()['id']}"


def refer(to: str) -> dict[str, str]:
    return {"reference": to}


@pytest.fixture
def ward(client):
    """A patient with an encounter and a record, and another patient who shares the practitioner."""
    made: dict[str, str] = {}
    made["organization"] = store(client, {"resourceType": "Organization", "name": "Ward"})
    made["practitioner"] = store(client, {"resourceType": "Practitioner", "name": [{"family": "House"}]})
    made["role"] = store(
        client,
        {"resourceType": "PractitionerRole", "practitioner": refer(made["practitioner"]), "organization": refer(made["organization"])},
    )
    made["medication"] = store(client, {"resourceType": "Medication", "code": {"text": "aspirin"}})
    made["location"] = store(client, {"resourceType": "Location", "name": "Bed 1"})
    made["other"] = store(client, patient())
    made["patient"] = store(client, patient(link=[{"other": refer(made["other"]), "type": "seealso"}]))
    made["encounter"] = store(
        client,
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": refer(made["patient"]),
            "period": {"start": "2025-03-01", "end": "2025-03-03"},
            "location": [{"location": refer(made["location"])}],
        },
    )
    made["march"] = store(
        client,
        observation(made["patient"], encounter=refer(made["encounter"]), performer=[refer(made["role"])], effectiveDateTime="2025-03-02"),
    )
    made["june"] = store(client, observation(made["patient"], effectiveDateTime="2025-06-02"))
    made["undated"] = store(
        client,
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "subject": refer(made["patient"]),
            "medicationReference": refer(made["medication"]),
        },
    )
    made["foreign"] = store(client, observation(made["other"], performer=[refer(made["practitioner"])]))
    made["device"] = store(client, {"resourceType": "Device", "patient": refer(made["other"])})
    made["measured"] = store(client, observation(made["patient"], device=refer(made["device"]), effectiveDateTime="2025-03-02"))
    return made


def found(answer: Any, mode: str | None = None) -> list[str]:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["type"] == "searchset"
    entries = [entry for entry in content.get("entry", []) if mode in (None, entry["search"]["mode"])]
    return [f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries]


def names(made: dict[str, str], *wanted: str) -> set[str]:
    return {made[name] for name in wanted}


WHOLE = ("patient", "encounter", "march", "june", "undated", "measured")
SUPPORT = ("organization", "practitioner", "role", "medication", "location")


def test_the_compartment_and_what_it_refers_to_and_no_other_patient(client, ward):
    answer = client.get(f"{ward['patient']}/$everything")
    assert set(found(answer, "match")) == names(ward, *WHOLE)
    assert set(found(answer, "include")) == names(ward, *SUPPORT)
    assert found(answer)[0] == ward["patient"]
    assert len(found(answer)) == len(WHOLE) + len(SUPPORT)
    assert [link["relation"] for link in answer.json()["link"]] == ["self"]
    assert sorted(found(client.post(f"{ward['patient']}/$everything"))) == sorted(found(answer))


def test_the_total_counts_matches_alone(client, ward):
    """Bundle.total: "It does not include search.mode = 'include' or 'outcome' entries"."""
    place = f"{ward['patient']}/$everything"
    assert client.get(place).json()["total"] == len(WHOLE)
    assert client.get(f"{place}?_type=Practitioner").json()["total"] == 0
    assert client.get(f"{place}?_type=Observation,Practitioner").json()["total"] == 3


def test_binaries_of_attachments_are_included(client, ward):
    """The definition: "any resource referenced from those, including binaries and attachments"."""
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "aGk="}
    near, far, foreign, elsewhere = (store(client, binary) for _ in range(4))
    secret = store(client, {**binary, "securityContext": refer(ward["other"])})
    content = [{"attachment": {"url": url}} for url in (near, f"{str(client.base_url).rstrip('/')}/{far}", secret)]
    content.append({"attachment": {"url": f"http://elsewhere.example/fhir/{elsewhere}"}})
    store(client, {"resourceType": "DocumentReference", "status": "current", "subject": refer(ward["patient"]), "content": content})
    picture = {"resourceType": "Media", "status": "completed", "subject": refer(ward["other"]), "content": {"url": foreign}}
    store(client, picture)
    place = f"{ward['patient']}/$everything"
    assert set(found(client.get(f"{place}?_type=Binary"))) == {near, far}
    assert {near, far} <= set(found(client.get(place), "include"))


def test_care_dates_limit_what_has_one(client, ward):
    place = f"{ward['patient']}/$everything"
    assert set(found(client.get(f"{place}?start=2025-04-01"), "match")) == names(ward, "patient", "june", "undated")
    assert set(found(client.get(f"{place}?end=2025-04-01"), "match")) == names(ward, "patient", "encounter", "march", "undated", "measured")
    both = client.get(f"{place}?start=2025-03-03&end=2025-03-04")
    assert set(found(both, "match")) == names(ward, "patient", "encounter", "undated")
    assert set(found(both, "include")) == names(ward, "location", "medication")


def test_types_limit_matches_and_what_they_refer_to(client, ward):
    place = f"{ward['patient']}/$everything"
    assert set(found(client.get(f"{place}?_type=Observation"))) == names(ward, "march", "june", "measured")
    assert set(found(client.get(f"{place}?_type=Observation,Patient"))) == names(ward, "patient", "march", "june", "measured")
    assert set(found(client.get(f"{place}?_type=Practitioner&_type=Patient"))) == names(ward, "patient", "practitioner")


def test_since_is_about_the_time_of_the_record(client, ward):
    changed = client.get(ward["june"]).json()
    changed["status"] = "amended"
    updated = client.put(ward["june"], json=changed).json()["meta"]["lastUpdated"]
    assert found(client.get(f"{ward['patient']}/$everything", params={"_since": updated})) == [ward["june"]]
    assert found(client.get(f"{ward['patient']}/$everything", params={"_since": "2999-01-01T00:00:00Z"})) == []


def test_since_finds_changes_of_what_unchanged_members_refer_to(client, ward):
    """ "Resources updated after this period will be included in the response": the practitioner is part of the record as the visit is."""
    changed = client.get(ward["practitioner"]).json()
    changed["active"] = True
    updated = client.put(ward["practitioner"], json=changed).json()["meta"]["lastUpdated"]
    place = f"{ward['patient']}/$everything"
    assert found(client.get(place, params={"_since": updated})) == [ward["practitioner"]]
    assert found(client.get(place, params={"_since": updated, "_type": "Practitioner"})) == [ward["practitioner"]]
    assert found(client.get(place, params={"_since": updated, "_type": "Observation"})) == []
    paged = [one for page in pages(client, f"{place}?_since={updated}&_count=2") for one in page]
    assert paged == [ward["practitioner"]]


def pages(client: Any, url: str, between: Any = lambda: None) -> list[list[str]]:
    gathered = []
    while url:
        answer = client.get(url)
        gathered.append(found(answer))
        url = next((link["url"] for link in answer.json()["link"] if link["relation"] == "next"), "")
        between()
    return gathered


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pages_give_each_once_while_the_record_is_written(client, ward, count):
    whole = sorted(found(client.get(f"{ward['patient']}/$everything")))

    def write() -> None:
        store(client, observation(ward["patient"]))
        for place in (ward["march"], ward["practitioner"]):
            content = client.get(place).json()
            content["language"] = "de" if content.get("language") != "de" else "en"
            client.put(place, json=content)

    gathered = pages(client, f"{ward['patient']}/$everything?_count={count}", write)
    assert len(gathered) == -(-len(WHOLE) // count)
    assert sorted(place for page in gathered for place in page) == whole


def test_a_paging_link_belongs_to_its_record(client, ward):
    content = client.get(f"{ward['patient']}/$everything?_count=2").json()
    query = urlsplit(next(link["url"] for link in content["link"] if link["relation"] == "next")).query
    outcome(client.get(f"{ward['other']}/$everything?{query}"), 400)
    outcome(client.get(f"{ward['patient']}/$everything?{query[:-3]}AAA"), 400)


def test_an_encounter_with_its_patient(client, ward):
    answer = client.get(f"{ward['encounter']}/$everything")
    assert set(found(answer, "match")) == names(ward, "encounter", "march")
    assert set(found(answer, "include")) == names(ward, "patient", "location", "role", "practitioner", "organization")


def test_all_patients(client, ward):
    everything = [place for page in pages(client, "Patient/$everything?_count=50") for place in page]
    assert len(everything) == len(set(everything))
    assert names(ward, *WHOLE, *SUPPORT, "other", "foreign") <= set(everything)


def test_unknown_is_404_and_deleted_410(client):
    outcome(client.get("Patient/never-was/$everything"), 404, "not-found")
    place = store(client, patient())
    client.delete(place)
    outcome(client.get(f"{place}/$everything"), 410, "deleted")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("start=soon", "start=soon"),
        ("end=2025-02-30", "end=2025-02-30"),
        ("start=2025-02-01&end=2025-01-01", "start is after end"),
        ("_since=yesterday", "_since=yesterday"),
        ("_type=Observatoin", "Observatoin"),
        ("_count=0", "_count=0"),
        ("_count=few", "_count=few"),
        ("_count=1&_count=2", "_count=2"),
        ("_sort=date", "_sort"),
        ("_cursor=abc", "_cursor"),
    ],
)
def test_wrong_parameters_are_refused_by_name(client, ward, query, word):
    assert word in outcome(client.get(f"{ward['patient']}/$everything?{query}"), 400)


def test_what_is_not_defined_is_refused(client, ward):
    outcome(client.get("Encounter/$everything"), 400, "not-supported")
    assert "start" in outcome(client.get(f"{ward['encounter']}/$everything?start=2025-01-01"), 400)
    outcome(client.put(f"{ward['patient']}/$everything", json={}), 405)
    outcome(client.get("Observation/$everything"), 400)


def test_the_capability_statement_names_the_definition_of_each_type(client):
    resources = {entry["type"]: entry for entry in client.get("metadata").json()["rest"][0]["resource"]}
    for type in ("Patient", "Encounter"):
        definitions = {one["name"]: one["definition"] for one in resources[type]["operation"]}
        assert definitions["everything"] == f"http://hl7.org/fhir/OperationDefinition/{type}-everything"
