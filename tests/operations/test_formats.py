"""The form of what operations answer: asked for as with any interaction. https://hl7.org/fhir/R4/http.html#mime-type"""

from __future__ import annotations

import pytest

from tests.wire.resources import outcome, patient

PLACES = ("{0}/$everything", "{0}/$meta", "$meta", "$reindex", "Observation/$lastn?patient=1&category=x", "{0}/$diff?fromVersion=1")


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_served_is_refused_as_for_reads(client, place):
    place = place.format("Patient/" + client.post("Patient", json=patient()).json()["id"])
    assert client.get(place).status_code == 200
    for unserved in ("xml", "application/fhir+xml", "bogus"):
        said = outcome(client.get(f"{place}{'&' if '?' in place else '?'}_format={unserved.replace('+', '%2B')}"), 406, "not-supported")
        assert unserved in said
    outcome(client.get(place, headers={"accept": "application/fhir+xml"}), 406, "not-supported")
    # _format outranks the header.
    answer = client.get(f"{place}{'&' if '?' in place else '?'}_format=json&_pretty=true", headers={"accept": "application/fhir+xml"})
    assert answer.status_code == 200 and answer.text.startswith("{\n")


def test_graphql_is_always_json(client):
    """OperationDefinition/Resource-graphql: "The content is always returned as application/json"."""
    answer = client.get("$graphql", params={"query": "{ PatientList { id } }"}, headers={"accept": "application/graphql-response+json"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/json")
