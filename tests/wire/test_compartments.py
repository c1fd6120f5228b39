"""Compartment searches. https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/compartmentdefinition-patient.html"""

from __future__ import annotations

import pytest

from tests.wire.resources import observation, outcome, patient


def found(bundle: dict) -> set[str]:
    return {f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in bundle.get("entry", ())}


@pytest.fixture
def home(client):
    """A patient with an observation and a condition, and another record of the same person that links to it."""

    def made(resource: dict) -> str:
        return f"{resource['resourceType']}/{client.post(resource['resourceType'], json=resource).json()['id']}"

    subject = made(patient())
    linked = made(patient(link=[{"other": {"reference": subject}, "type": "seealso"}]))
    seen = made(observation(subject))
    condition = made({"resourceType": "Condition", "subject": {"reference": subject}, "code": {"text": "cough"}})
    return {"patient": subject, "linked": linked, "observation": seen, "condition": condition}


def test_a_patient_is_in_the_compartment_of_the_patient_that_it_links_to(client, home):
    """The definition of the Patient compartment names Patient with the parameter `link`."""
    assert found(client.get(f"{home['patient']}/Patient").json()) == {home["patient"], home["linked"]}
    assert found(client.get(f"{home['patient']}/*").json()) == set(home.values())
    assert found(client.get(f"{home['linked']}/Patient").json()) == {home["linked"]}


@pytest.mark.parametrize("types", ["Patient", "Observation", "Condition", "Observation,Condition", "Immunization", "Patient,Immunization"])
def test_type_narrows_a_whole_compartment_to_just_these(client, home, types):
    answer = client.get(f"{home['patient']}/*", params={"_type": types}).json()
    expected = {place for place in home.values() if place.partition("/")[0] in types.split(",")}
    assert (found(answer), answer["total"]) == (expected, len(expected))


@pytest.mark.parametrize("types", ["Medication", "Observation,Medication"])
def test_a_type_that_is_never_in_the_compartment_is_named(client, home, types):
    answer = client.get(f"{home['patient']}/*", params={"_type": types})
    assert "Medication" in outcome(answer, 400)


def test_a_filter_may_be_about_what_the_types_of_a_compartment_share(client, home):
    answer = client.get(f"{home['patient']}/*", params={"_type": "Observation,Condition", "code:missing": "false"})
    assert found(answer.json()) == {home["observation"], home["condition"]}


@pytest.mark.parametrize("place", ["_search", "*/_search"])
def test_a_whole_compartment_is_searched_by_post(client, home, place):
    answer = client.post(f"{home['patient']}/{place}?_total=accurate", data={"_type": "Observation"})
    assert answer.status_code == 200
    assert found(answer.json()) == {home["observation"]}
