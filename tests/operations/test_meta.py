"""$meta, $meta-add and $meta-delete over HTTP. https://hl7.org/fhir/R4/resource-operations.html"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.wire.resources import outcome, patient, unique

TAG = {"system": "urn:tags", "code": "follow-up"}
SECRET = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
PROFILE = "http://example.org/StructureDefinition/a"


def parameters(**meta: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


def returned(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["resourceType"] == "Parameters"
    (only,) = content["parameter"]
    assert only["name"] == "return"
    return only["valueMeta"]


@pytest.fixture
def place(client):
    return f"Patient/{client.post('Patient', json=patient(meta={'tag': [TAG]})).json()['id']}"


def test_meta_of_an_instance_is_that_of_the_resource(client, place):
    answer = client.get(f"{place}/$meta")
    assert returned(answer) == client.get(place).json()["meta"]
    assert answer.headers["etag"] == 'W/"1"'
    assert returned(client.post(f"{place}/$meta")) == returned(answer)


def test_meta_of_an_older_version_is_that_of_the_version(client, place):
    returned(client.post(f"{place}/$meta-add", json=parameters(security=[SECRET])))
    assert returned(client.get(f"{place}/_history/1/$meta")) == client.get(f"{place}/_history/1").json()["meta"]
    assert "security" not in returned(client.get(f"{place}/_history/1/$meta"))
    assert returned(client.get(f"{place}/_history/2/$meta"))["security"] == [SECRET]
    outcome(client.get(f"{place}/_history/9/$meta"), 404, "not-found")


def test_meta_of_a_type_and_of_the_system_names_each_label_once(client):
    mine, other = {"system": "urn:tags", "code": unique("mine")}, {"system": "urn:tags", "code": unique("other")}
    for _ in range(2):
        client.post("Patient", json=patient(meta={"tag": [mine], "profile": [PROFILE]}))
    client.post("Organization", json={"resourceType": "Organization", "name": "x", "meta": {"tag": [other, mine], "security": [SECRET]}})
    of_type = returned(client.get("Patient/$meta"))
    assert of_type["tag"].count(mine) == 1 and other not in of_type["tag"]
    assert of_type["profile"].count(PROFILE) == 1
    assert not {"versionId", "lastUpdated"} & set(of_type)
    of_all = returned(client.get("$meta"))
    assert of_all["tag"].count(mine) == 1 and of_all["tag"].count(other) == 1
    assert SECRET in of_all["security"]
    assert returned(client.get("Organization/$meta"))["tag"] == sorted([other, mine], key=lambda tag: tag["code"])


def test_meta_add_adds_to_each_set_and_can_be_searched(client, place):
    code = unique("added")
    meta = returned(
        client.post(f"{place}/$meta-add", json=parameters(tag=[{"system": "urn:t", "code": code}], security=[SECRET], profile=[PROFILE]))
    )
    assert meta["tag"] == [TAG, {"system": "urn:t", "code": code}]
    assert meta["security"] == [SECRET] and meta["profile"] == [PROFILE]
    assert client.get(place).json()["meta"] == meta
    found = client.get(f"Patient?_tag=urn:t|{code}").json()["entry"]
    assert [f"Patient/{entry['resource']['id']}" for entry in found] == [place]


def test_adding_twice_has_no_effect_and_makes_no_version(client, place):
    wish = parameters(tag=[{"system": "urn:t", "code": "one"}])
    first = returned(client.post(f"{place}/$meta-add", json=wish))
    again = parameters(tag=[{"system": "urn:t", "code": "one", "display": "other words", "version": "2"}])
    assert returned(client.post(f"{place}/$meta-add", json=again)) == first
    assert client.get(f"{place}/_history").json()["total"] == 2


def test_a_label_that_is_named_twice_in_one_request_is_added_once(client, place):
    one = {"system": "urn:t", "code": "one"}
    assert returned(client.post(f"{place}/$meta-add", json=parameters(tag=[one, {**one, "display": "again"}])))["tag"] == [TAG, one]


def test_meta_delete_takes_off_what_is_there(client, place):
    returned(client.post(f"{place}/$meta-add", json=parameters(security=[SECRET], profile=[PROFILE])))
    wish = parameters(tag=[{**TAG, "display": "ignored"}], profile=[PROFILE], security=[{"system": "urn:none", "code": "R"}])
    meta = returned(client.post(f"{place}/$meta-delete", json=wish))
    assert "tag" not in meta and "profile" not in meta
    assert meta["security"] == [SECRET]
    assert returned(client.post(f"{place}/$meta-delete", json=wish)) == meta
    assert client.get(f"{place}/_history").json()["total"] == 3


def test_the_rest_of_the_resource_keeps_its_digits(client):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueQuantity": {"value": 1.10},
    }
    text = httpx.Request("POST", "http://x", json=observation).content.replace(b"1.1", b"1.10")
    created = client.post("Observation", content=text, headers={"Content-Type": "application/fhir+json"}).json()
    returned(client.post(f"Observation/{created['id']}/$meta-add", json=parameters(tag=[TAG])))
    assert '"value":1.10' in client.get(f"Observation/{created['id']}").text


def test_if_match_is_honoured(client, place):
    wish = parameters(tag=[{"system": "urn:t", "code": "x"}])
    outcome(client.post(f"{place}/$meta-add", json=wish, headers={"If-Match": 'W/"7"'}), 412)
    assert client.get(place).headers["etag"] == 'W/"1"'
    answer = client.post(f"{place}/$meta-add", json=wish, headers={"If-Match": 'W/"1"'})
    assert returned(answer)["versionId"] == "2" and answer.headers["etag"] == 'W/"2"'


def test_of_labels_added_at_once_none_is_lost(server, client, place):
    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.base + "/", timeout=60) as http:
            wishes = [parameters(tag=[{"system": "urn:t", "code": f"n{number}"}]) for number in range(16)]
            return await asyncio.gather(*(http.post(f"{place}/$meta-add", json=wish) for wish in wishes))

    assert {answer.status_code for answer in asyncio.run(together())} == {200}
    assert {tag["code"] for tag in client.get(place).json()["meta"]["tag"]} == {"follow-up", *(f"n{number}" for number in range(16))}


def test_what_is_not_there_is_unknown_and_what_was_deleted_gone(client, place):
    outcome(client.get("Patient/never-was/$meta"), 404, "not-found")
    outcome(client.post("Patient/never-was/$meta-add", json=parameters(tag=[TAG])), 404, "not-found")
    client.delete(place)
    outcome(client.get(f"{place}/$meta"), 410, "deleted")
    outcome(client.post(f"{place}/$meta-delete", json=parameters(tag=[TAG])), 410, "deleted")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"resourceType": "Parameters"}, "meta"),
        ({"resourceType": "Patient"}, "Parameters"),
        ({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]}, "valueMeta"),
        ({"resourceType": "Parameters", "parameter": [{"name": "mate", "valueMeta": {"tag": [TAG]}}]}, "mate"),
        (parameters(tag=[{"system": "urn:t"}]), "meta.tag[0]"),
    ],
)
def test_wrong_input_is_refused_with_its_name(client, place, body, names):
    assert names in outcome(client.post(f"{place}/$meta-add", json=body), 400)
    assert client.get(place).headers["etag"] == 'W/"1"'


def test_an_older_version_cannot_be_changed_and_get_changes_nothing(client, place):
    assert "version" in outcome(client.post(f"{place}/_history/1/$meta-add", json=parameters(tag=[TAG])), 400, "not-supported")
    answer = client.get(f"{place}/$meta-add")
    outcome(answer, 405, "not-supported")
    assert "POST" in answer.headers["allow"]
    assert "color" in outcome(client.get(f"{place}/$meta?color=red"), 400)


def test_the_capability_statement_names_them(client):
    rest = client.get("metadata").json()["rest"][0]
    by_type = {entry["type"]: {one["name"]: one["definition"] for one in entry["operation"]} for entry in rest["resource"]}
    for name in ("meta", "meta-add", "meta-delete"):
        assert by_type["Patient"][name] == f"http://hl7.org/fhir/OperationDefinition/Resource-{name}"
    assert "meta" in {one["name"] for one in rest["operation"]}
