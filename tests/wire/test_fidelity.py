"""What is sent comes back: known failure 19. https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/datatypes.html#decimal"""

from __future__ import annotations

import json

import pytest

from tests.wire.resources import observation, official_examples, patient

JSON = {"Content-Type": "application/fhir+json"}


@pytest.mark.parametrize(
    "digits",
    [
        "72.50",
        "1.10",
        "0.0",
        "1e2",
        "1.0E-3",
        "0.00000000000000000012",
        "-0.5",
        "100",
        "12345678901234567890.123",
        "3.14159265358979323846",
    ],
)
def test_decimals_keep_their_digits(client, digits):
    body = (
        '{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":'
        + digits
        + ',"unit":"kg"},"referenceRange":[{"low":{"value":'
        + digits
        + "}}]}"
    )
    created = client.post("Observation", content=body.encode(), headers=JSON)
    assert created.status_code == 201, created.text
    id = created.json()["id"]
    for place in (
        f"Observation/{id}",
        f"Observation/{id}/_history/1",
        f"Observation?_id={id}",
        f"Observation/{id}/_history",
        f"Observation/{id}?_elements=valueQuantity",
        f"Observation/{id}?_pretty=true",
    ):
        text = client.get(place).text.replace(" ", "")
        assert f'"value":{digits},' in text, place


def test_primitive_extensions_and_padding_nulls_survive(client):
    sent = patient(
        _birthDate={
            "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1974-12-25T14:35:45-05:00"}
            ]
        },
        birthDate="1974-12-25",
        name=[
            {
                "given": ["Peter", None, "James"],
                "_given": [None, {"id": "b", "extension": [{"url": "urn:x", "valueString": "y"}]}, None],
                "family": "C",
            }
        ],
        _active={"extension": [{"url": "urn:why", "valueCode": "unknown"}]},
    )
    id = client.post("Patient", json=sent).json()["id"]
    got = client.get(f"Patient/{id}").json()
    assert {name: value for name, value in got.items() if name not in ("id", "meta")} == sent


@pytest.mark.parametrize("text", ["😀 𠮷野家 王小明", "Zoë \u200b ﷽", 'quote " backslash \\ slash /', "tab\tline\nreturn\r", "</script>"])
def test_all_characters_survive(client, text):
    id = client.post("Patient", json=patient(name=[{"text": text}])).json()["id"]
    assert client.get(f"Patient/{id}").json()["name"] == [{"text": text}]
    assert client.get(f"Patient?_id={id}").json()["entry"][0]["resource"]["name"] == [{"text": text}]


def test_characters_written_as_escapes_are_the_same_characters(client):
    body = b'{"resourceType":"Patient","name":[{"text":"\\ud83d\\ude00 \\u738b"}]}'
    id = client.post("Patient", content=body, headers=JSON).json()["id"]
    assert client.get(f"Patient/{id}").json()["name"][0]["text"] == "😀 王"


def test_contained_resources_and_narrative_survive(client):
    sent = observation(
        "#p",
        contained=[{"resourceType": "Patient", "id": "p", "name": [{"family": "Inside"}]}],
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p title="a &amp; b">72&#160;/min</p></div>'},
    )
    created = client.post("Observation", json=sent).json()
    got = client.get(f"Observation/{created['id']}").json()
    assert got["contained"] == sent["contained"]
    assert got["text"] == sent["text"]


@pytest.mark.parametrize("date", ["1974", "1974-12", "1974-12-25"])
def test_dates_keep_their_precision(client, date):
    id = client.post("Patient", json=patient(birthDate=date)).json()["id"]
    assert client.get(f"Patient/{id}").json()["birthDate"] == date


def test_times_keep_their_zone(client):
    for time in ("2025-03-01T08:00:00+08:00", "2025-03-01T00:00:00.000Z", "2025-03-01T00:00:00.5-11:30", "2025"):
        id = client.post("Observation", json=observation("Patient/x", effectiveDateTime=time)).json()["id"]
        assert client.get(f"Observation/{id}").json()["effectiveDateTime"] == time


def test_tags_and_profiles_of_the_client_survive(client):
    meta = {
        "profile": ["http://example.org/StructureDefinition/p"],
        "tag": [{"system": "urn:t", "code": "a"}],
        "security": [{"code": "R"}],
        "source": "urn:s",
    }
    got = client.post("Patient", json=patient(meta=meta)).json()["meta"]
    assert {name: got[name] for name in meta} == meta


def test_official_examples_come_back_as_they_are(client, corpus):
    """One example of each type that has a small one; the whole collection is stored by tests/validation/test_examples_over_the_wire."""
    seen: set[str] = set()
    for name, content in official_examples(corpus):
        if len(content) > 60_000:
            continue
        sent = json.loads(content)
        kind = sent["resourceType"]
        if kind in seen or kind in ("Bundle", "Parameters"):
            continue
        answer = client.put(f"{kind}/{sent['id']}", content=content, headers=JSON)
        if answer.status_code not in (200, 201):
            continue  # which examples are valid is judged in tests/validation
        seen.add(kind)
        got = client.get(f"{kind}/{sent['id']}").json()
        for resource in (got, sent):
            meta = resource.get("meta", {})
            for own in ("versionId", "lastUpdated"):
                meta.pop(own, None)
            if not meta:
                resource.pop("meta", None)
        assert got == sent, name
    assert len(seen) > 100
