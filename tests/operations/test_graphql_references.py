"""$graphql follows references: versions, contained resources, types, and what refers to a resource.

https://hl7.org/fhir/R4/graphql.html#references, #reverse, https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.graphql_asking import ask, refused
from tests.wire.resources import observation, patient


@pytest.fixture
def person(client) -> str:
    return "Patient/" + client.post("Patient", json=patient(active=True)).json()["id"]


def observed(client: Any, subject: str, **more: Any) -> str:
    return "Observation/" + client.post("Observation", json=observation(subject, **more)).json()["id"]


RESOLVED = "{ subject { resource { ... on Patient { gender meta { versionId } } } } }"


def test_a_reference_to_a_version_reads_that_version(client, person):
    current = client.get(person).json()
    client.put(person, json={**current, "gender": "female"})
    shown = {version: ask(client, observed(client, f"{person}/_history/{version}"), RESOLVED) for version in (1, 2)}
    assert shown[1] == {"subject": {"resource": {"gender": "male", "meta": {"versionId": "1"}}}}
    assert shown[2] == {"subject": {"resource": {"gender": "female", "meta": {"versionId": "2"}}}}
    assert ask(client, observed(client, person), RESOLVED) == shown[2]
    for wrong in ("3", "0", "01", "x"):
        assert person in refused(client, observed(client, f"{person}/_history/{wrong}"), RESOLVED, 404)


def test_absolute_references_below_this_server_are_local(client, server, person):
    assert ask(client, observed(client, f"{server.base}/{person}"), RESOLVED)["subject"]["resource"]["gender"] == "male"
    refused(client, observed(client, "http://elsewhere.example/fhir/Patient/1"), RESOLVED, 404)


def test_what_cannot_be_resolved_is_an_error_unless_optional(client, person):
    deleted = "Patient/" + client.post("Patient", json=patient()).json()["id"]
    client.delete(deleted)
    for broken in (deleted, "Patient/nobody", "urn:uuid:6f8e9d1a-0000-4000-8000-000000000000"):
        place = observed(client, broken)
        assert broken in refused(client, place, "{ subject { resource { id } } }", 404)
        assert ask(client, place, "{ status subject { resource(optional: true) { id } } }") == {"status": "final"}
    logical = observed(client, person, performer=[{"display": "someone"}])
    assert ask(client, logical, "{ performer { display resource(optional: true) { id } } }") == {"performer": [{"display": "someone"}]}


def test_the_argument_type_selects(client, person):
    place = observed(client, person)
    assert ask(client, place, "{ subject { resource(type: Patient) { gender } } }") == {"subject": {"resource": {"gender": "male"}}}
    assert ask(client, place, "{ subject { resource(type: [Group, Patient]) { gender } } }") == {
        "subject": {"resource": {"gender": "male"}}
    }
    assert ask(client, place, "{ status subject { resource(type: Group) { actual } } }") == {"status": "final"}
    both = "{ subject { resource(type: Patient) { gender } resource(type: Group) { actual } } }"
    assert ask(client, place, both) == {"subject": {"resource": {"gender": "male"}}}


def test_a_field_of_another_resource_than_the_actual_one_is_an_error(client, person):
    assert "Patient" in refused(client, observed(client, person), "{ subject { resource { actual } } }")


def test_contained_resources_are_found_in_their_container(client, person):
    contained = [
        {"resourceType": "Patient", "id": "p", "gender": "other", "managingOrganization": {"reference": "#o"}},
        {"resourceType": "Organization", "id": "o", "name": "Within", "endpoint": []},
        {"resourceType": "Provenance", "id": "v", "recorded": "2025-01-01T00:00:00Z", "target": [{"reference": "#"}],
         "agent": [{"who": {"reference": "#o"}}]},
    ]  # fmt: skip
    contained[1].pop("endpoint")
    place = observed(client, "#p", contained=contained)
    query = "{ subject { resource(type: Patient) { gender managingOrganization { resource(type: Organization) { name } } } } }"
    inner = {"gender": "other", "managingOrganization": {"resource": {"name": "Within"}}}
    assert ask(client, place, query) == {"subject": {"resource": inner}}
    query = "{ contained { ... on Provenance { target { resource(type: Observation) { status } } agent { who { resource { id } } } } } }"
    shown = {"target": [{"resource": {"status": "final"}}], "agent": [{"who": {"resource": {"id": "o"}}}]}
    assert ask(client, place, query) == {"contained": [shown]}


def test_nothing_refers_to_a_contained_resource(client, person):
    same = person.split("/")[1]
    place = observed(client, f"#{same}", contained=[{"resourceType": "Patient", "id": same, "gender": "other"}])
    observed(client, person)
    query = "{ contained { ... on Patient { gender ObservationList(_reference: patient) { id } } } }"
    assert ask(client, place, query) == {"contained": [{"gender": "other", "ObservationList": []}]}


def test_each_entry_of_a_bundle_has_its_own_contained_resources(client):
    def entry(name: str) -> dict[str, Any]:
        inside = {"resourceType": "Patient", "id": "p", "name": [{"family": name}]}
        return {"resource": observation("#p", contained=[inside])}

    made = client.post("Bundle", json={"resourceType": "Bundle", "type": "collection", "entry": [entry("A"), entry("B")]}).json()["id"]
    query = "{ entry { resource { ... on Observation { subject { resource { ... on Patient { name { family } } } } } } } }"
    shown = ask(client, f"Bundle/{made}", query)["entry"]
    assert [one["resource"]["subject"]["resource"]["name"][0]["family"] for one in shown] == ["A", "B"]


# --- what refers to a resource


def test_lists_within_a_resource_find_what_refers_to_it(client, person):
    first = observed(client, person, status="preliminary").split("/")[1]
    second = observed(client, person).split("/")[1]
    observed(client, "Patient/nobody")
    query = "{ ObservationList(_reference: patient) { id } one: ObservationList(_reference: subject, status: final) { id } }"
    shown = ask(client, person, query)
    assert {one["id"] for one in shown["ObservationList"]} == {first, second}
    assert shown["one"] == [{"id": second}]
    assert ask(client, person, "{ ConditionList(_reference: patient) { id } }") == {"ConditionList": []}


def test_what_may_refer_to_anything_is_narrowed_by_filter(client, person):
    for day in ("2025-01-01", "2025-02-01"):
        agent = [{"who": {"display": "x"}}]
        client.post("Provenance", json={
            "resourceType": "Provenance", "target": [{"reference": person}], "recorded": f"{day}T00:00:00Z", "agent": agent,
        })  # fmt: skip
    query = '{ ProvenanceList(_reference: target, _filter: "recorded ge 2025-01-15") { recorded } }'
    assert ask(client, person, query) == {"ProvenanceList": [{"recorded": "2025-02-01T00:00:00Z"}]}


def test_connections_within_a_resource_can_be_followed_from_the_root(client, person):
    for _ in range(3):
        observed(client, person)
    query = "{ ObservationConnection(_reference: patient, _count: 2) { count next edges { mode resource { subject { reference } } } } }"
    shown = ask(client, person, query)["ObservationConnection"]
    assert shown["count"] == 3
    assert [one["resource"]["subject"]["reference"] for one in shown["edges"]] == [person, person]
    following = f'{{ ObservationConnection(_cursor: "{shown["next"]}") {{ next edges {{ resource {{ id }} }} }} }}'
    shown = ask(client, "", following)["ObservationConnection"]
    assert len(shown["edges"]) == 1
    assert shown["next"] is None
