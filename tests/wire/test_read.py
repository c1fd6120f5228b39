"""The read and vread interactions over HTTP. https://hl7.org/fhir/R4/http.html#read, #vread, #cread"""

from __future__ import annotations

import email.utils
import re

import httpx
import pytest

from tests.wire.resources import observation, outcome, patient


@pytest.fixture
def chalmers(client: httpx.Client) -> dict[str, str]:
    return client.post("Patient", json=patient()).json()


def test_read_gives_the_resource_with_its_version_headers(client, chalmers):
    answer = client.get(f"Patient/{chalmers['id']}")
    assert answer.status_code == 200
    assert answer.json() == chalmers
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    modified = email.utils.parsedate_to_datetime(answer.headers["last-modified"])
    assert modified.isoformat()[:19] == chalmers["meta"]["lastUpdated"][:19]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", chalmers["meta"]["lastUpdated"])


def test_an_answer_with_patient_data_is_not_kept_by_shared_caches(client, chalmers):
    assert client.get(f"Patient/{chalmers['id']}").headers["cache-control"] == "private, no-cache"
    assert client.get("Patient").headers["cache-control"] == "no-store"


def test_head_gives_the_headers_of_get_without_content(client, chalmers):
    get, head = client.get(f"Patient/{chalmers['id']}"), client.head(f"Patient/{chalmers['id']}")
    assert head.status_code == 200
    assert head.content == b""
    assert (head.headers["etag"], head.headers["last-modified"]) == (get.headers["etag"], get.headers["last-modified"])


def test_unknown_id_is_not_found(client):
    assert "Patient/never-was" in outcome(client.get("Patient/never-was"), 404, "not-found")


def test_unknown_type_is_named(client):
    assert "Pateint" in outcome(client.get("Pateint/1"), 404, "not-supported")


@pytest.mark.parametrize("id", ["a_b", "x" * 65, "%20", "a%00b", "ä"])
def test_an_id_that_fhir_does_not_allow_is_refused(client, id):
    outcome(client.get(f"Patient/{id}"), 400, "value")


def test_conditional_read_finds_nothing_newer(client, chalmers):
    read = client.get(f"Patient/{chalmers['id']}")
    for headers in (
        {"If-None-Match": 'W/"1"'},
        {"If-None-Match": '"1"'},
        {"If-None-Match": 'W/"7", W/"1"'},
        {"If-Modified-Since": read.headers["last-modified"]},
    ):
        answer = client.get(f"Patient/{chalmers['id']}", headers=headers)
        assert (answer.status_code, answer.content) == (304, b""), headers
        assert answer.headers["etag"] == 'W/"1"'


def test_conditional_read_gives_what_is_newer(client, chalmers):
    for headers in ({"If-None-Match": 'W/"2"'}, {"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, {"If-Modified-Since": "no date"}):
        assert client.get(f"Patient/{chalmers['id']}", headers=headers).status_code == 200, headers


def test_if_none_match_outranks_if_modified_since(client, chalmers):
    read = client.get(f"Patient/{chalmers['id']}")
    headers = {"If-None-Match": 'W/"2"', "If-Modified-Since": read.headers["last-modified"]}
    assert client.get(f"Patient/{chalmers['id']}", headers=headers).status_code == 200


def test_vread_gives_old_versions(client, chalmers):
    place = f"Patient/{chalmers['id']}"
    client.put(place, json={**chalmers, "gender": "other"})
    assert client.get(f"{place}/_history/1").json() == chalmers
    second = client.get(f"{place}/_history/2")
    assert second.json()["gender"] == "other"
    assert second.headers["etag"] == 'W/"2"'
    for version in ("3", "0", "x", "99999999999999999999"):
        outcome(client.get(f"{place}/_history/{version}"), 404, "not-found")


@pytest.mark.parametrize("form", ["json", "application/json", "application/fhir+json", "application/fhir%2Bjson"])
def test_format_names_json(client, chalmers, form):
    answer = client.get(f"Patient/{chalmers['id']}?_format={form}", headers={"Accept": "application/fhir+xml"})
    assert answer.json() == chalmers


@pytest.mark.parametrize(
    "accept", ["application/fhir+json;fhirVersion=4.0", "application/json", "*/*", "text/html, application/*;q=0.5", "text/json"]
)
def test_json_is_given_to_whoever_accepts_it(client, chalmers, accept):
    assert client.get(f"Patient/{chalmers['id']}", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    "accept", ["application/fhir+xml;fhirVersion=5.0", "text/turtle", "application/fhir+json;fhirVersion=3.0", "application/json;q=0"]
)
def test_other_formats_are_not_acceptable(client, chalmers, accept):
    assert accept in outcome(client.get(f"Patient/{chalmers['id']}", headers={"Accept": accept}), 406, "not-supported")


def test_pretty_is_indented(client, chalmers):
    text = client.get(f"Patient/{chalmers['id']}?_pretty=true").text
    assert text.startswith('{\n  "resourceType": "Patient"')


def test_an_unknown_parameter_of_a_read_is_refused_unless_handling_is_lenient(client, chalmers):
    place = f"Patient/{chalmers['id']}?colour=red"
    assert "colour" in outcome(client.get(place), 400)
    assert client.get(place, headers={"Prefer": "handling=lenient"}).status_code == 200


def test_compressed_answers_are_given_only_to_those_who_ask(client):
    big = client.post("Patient", json=patient(name=[{"family": f"Family{n}"} for n in range(300)])).json()
    plain = client.get(f"Patient/{big['id']}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    zipped = client.get(f"Patient/{big['id']}", headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 3
    assert zipped.json() == plain.json()
    zstd = client.get(f"Patient/{big['id']}", headers={"Accept-Encoding": "zstd"})
    assert zstd.headers["content-encoding"] == "zstd"


RICH = patient(
    text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Peter</div>'},
    contact=[{"name": {"family": "du Marché"}}],
    communication=[{"language": {"text": "Dutch"}}],
    birthDate="1974-12-25",
)


def tags(resource: dict) -> list[str]:
    return [tag["code"] for tag in resource["meta"]["tag"]]


def test_summary_true_shows_the_summary_elements(client):
    id = client.post("Patient", json=RICH).json()["id"]
    shown = client.get(f"Patient/{id}?_summary=true").json()
    assert shown["name"] == RICH["name"] and shown["birthDate"] == "1974-12-25"
    assert "contact" not in shown and "text" not in shown and "communication" not in shown
    assert tags(shown) == ["SUBSETTED"]


def test_summary_true_reaches_into_backbone_elements(client):
    subject = client.post("Patient", json=patient()).json()["id"]
    component = {"code": {"text": "systolic"}, "valueQuantity": {"value": 120}, "interpretation": [{"text": "normal"}]}
    id = client.post("Observation", json=observation(f"Patient/{subject}", component=[component], note=[{"text": "x"}])).json()["id"]
    shown = client.get(f"Observation/{id}?_summary=true").json()
    assert "note" not in shown
    assert set(shown["component"][0]) == {"code", "valueQuantity"}


def test_summary_text_data_and_false(client):
    id = client.post("Patient", json=RICH).json()["id"]
    text = client.get(f"Patient/{id}?_summary=text").json()
    assert set(text) == {"resourceType", "id", "meta", "text"}
    data = client.get(f"Patient/{id}?_summary=data").json()
    assert "text" not in data and data["contact"] == RICH["contact"] and tags(data) == ["SUBSETTED"]
    whole = client.get(f"Patient/{id}?_summary=false").json()
    assert whole == client.get(f"Patient/{id}").json()


def test_summary_text_keeps_mandatory_elements(client):
    subject = client.post("Patient", json=patient()).json()["id"]
    id = client.post("Observation", json=observation(f"Patient/{subject}")).json()["id"]
    assert set(client.get(f"Observation/{id}?_summary=text").json()) == {"resourceType", "id", "meta", "status", "code"}


def test_elements_shows_what_is_asked_and_what_is_mandatory(client):
    subject = client.post("Patient", json=patient()).json()["id"]
    id = client.post("Observation", json=observation(f"Patient/{subject}")).json()["id"]
    shown = client.get(f"Observation/{id}?_elements=subject,value").json()
    assert set(shown) == {"resourceType", "id", "meta", "status", "code", "subject", "valueQuantity"}
    assert tags(shown) == ["SUBSETTED"]


@pytest.mark.parametrize("query", ["_summary=some", "_summary=count"])
def test_an_unknown_summary_is_refused(client, chalmers, query):
    outcome(client.get(f"Patient/{chalmers['id']}?{query}"), 400)
