"""DocumentReference/$docref over HTTP. http://hl7.org/fhir/us/core/OperationDefinition/docref"""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.resources import outcome, patient

LOINC = "http://loinc.org"


def store(client: Any, content: dict[str, Any]) -> str:
    answer = client.post(content["resourceType"], json=content)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def document(subject: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": f"Patient/{subject}"},
        "type": {"coding": [{"system": LOINC, "code": code}]},
        "content": [{"attachment": {"contentType": "text/plain", "data": "SGVsbG8="}}],
        **more,
    }


@pytest.fixture
def documents(client):
    who, other = store(client, patient()), store(client, patient())
    made = {
        "patient": who,
        "old": store(
            client, document(who, "34133-9", date="2024-01-01T00:00:00Z", context={"period": {"start": "2023-01-01", "end": "2023-12-31"}})
        ),
        "new": store(
            client, document(who, "18842-5", date="2025-01-01T00:00:00Z", context={"period": {"start": "2024-06-01", "end": "2024-07-01"}})
        ),
        "undated": store(client, document(who, "34133-9", date="2023-01-01T00:00:00Z", meta={"profile": ["http://example.org/p|1.0"]})),
        "past": store(
            client, document(who, "34133-9", status="superseded", context={"period": {"start": "2023-02-01", "end": "2023-02-02"}})
        ),
    }
    store(client, document(other, "34133-9"))
    return made


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["resourceType"], content["type"]) == ("Bundle", "searchset")
    return [entry["resource"]["id"] for entry in content.get("entry", ()) if entry["search"]["mode"] == "match"]


def test_without_dates_the_current_documents_newest_first(client, documents):
    answer = client.get("DocumentReference/$docref", params={"patient": documents["patient"]})
    assert ids(answer) == [documents["new"], documents["old"], documents["undated"]]
    assert answer.json()["total"] == 3


def test_dates_are_those_of_care_and_undated_documents_stay(client, documents):
    answer = client.get("DocumentReference/$docref", params={"patient": documents["patient"], "start": "2023-02-01", "end": "2023-03-01"})
    assert set(ids(answer)) == {documents["old"], documents["undated"], documents["past"]}
    assert documents["old"] not in ids(
        client.get("DocumentReference/$docref", params={"patient": documents["patient"], "start": "2024-05-01"})
    )


def test_types_are_joined_with_or_also_as_codings(client, documents):
    got = client.get("DocumentReference/$docref", params={"patient": documents["patient"], "type": f"{LOINC}|18842-5"})
    assert ids(got) == [documents["new"]]
    codings = [{"name": "type", "valueCoding": {"system": LOINC, "code": code}} for code in ("18842-5", "34133-9")]
    body = {"resourceType": "Parameters", "parameter": [{"name": "patient", "valueId": documents["patient"]}, *codings]}
    assert ids(client.post("DocumentReference/$docref", json=body)) == [documents["new"], documents["old"], documents["undated"]]


def test_profiles(client, documents):
    asked = {"patient": documents["patient"], "profile": "http://example.org/p"}
    assert ids(client.get("DocumentReference/$docref", params=asked)) == [documents["undated"]]


def test_an_unknown_patient_has_an_empty_bundle(client):
    assert ids(client.get("DocumentReference/$docref", params={"patient": "nobody-at-all"})) == []


def test_who_wants_generated_documents_alone_finds_none(client, documents):
    """The definition: "If the server cannot generate a document ... the operation will return an empty search bundle"; existing ones
    are for those who do not "indicate they are only interested in 'on-demand' documents"."""
    answer = client.get("DocumentReference/$docref", params={"patient": documents["patient"], "on-demand": "true"}).json()
    assert answer["total"] == 0
    (entry,) = answer["entry"]
    assert (entry["search"]["mode"], entry["resource"]["issue"][0]["severity"]) == ("outcome", "information")
    everything = client.get("DocumentReference/$docref", params={"patient": documents["patient"]})
    both = client.get("DocumentReference/$docref", params={"patient": documents["patient"], "on-demand": "false"})
    assert ids(both) == ids(everything) != []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "required"),
        ({"patient": "a b"}, "value"),
        ({"patient": "1", "start": "soon"}, "value"),
        ({"patient": "1", "start": "2025", "end": "2024"}, "invalid"),
        ({"patient": "1", "on-demand": "maybe"}, "value"),
        ({"patient": "1", "colour": "red"}, "not-supported"),
    ],
)
def test_wrong_parameters_are_named(client, asked, code):
    outcome(client.get("DocumentReference/$docref", params=asked), 400, code)
