"""$diff answers a FHIRPath Patch that leads from one version to the other. https://hapifhir.io/hapi-fhir/docs/server_jpa/diff.html"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fhir_server.interactions.patch_fhirpath import apply_fhirpath_patch, check_fhirpath_patch
from fhir_server.model import json_codec
from fhir_server.operations.diff_patch import diff_patch
from fhir_server.validation import structure
from tests.conftest import SOAK
from tests.wire.resources import official_examples, outcome, patient


def applied(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    structure.check(patch)
    return apply_fhirpath_patch(before, check_fhirpath_patch(patch))


def told(patch: dict[str, Any]) -> list[tuple[str, ...]]:
    """(type, path, name or index) of each operation."""
    found = []
    for operation in patch.get("parameter", ()):
        parts = {part["name"]: part for part in operation["part"]}
        more = parts.get("name", {}).get("valueString", parts.get("index", {}).get("valueInteger", ""))
        found.append((parts["type"]["valueCode"], parts["path"]["valueString"], str(more)))
    return found


def examples_by_type(corpus: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, raw in official_examples(corpus):
        if len(raw) < 60_000:
            resource = json_codec.loads(raw)
            found[resource["resourceType"]].append(resource)
    return found


def test_the_difference_of_random_official_examples_of_one_type_gives_the_other(corpus):
    chance = random.Random(20261123)
    types = {type: many for type, many in examples_by_type(corpus).items() if len(many) > 1}
    assert len(types) > 50
    pairs = 0
    for type in sorted(types):
        for _ in range(40 if SOAK else 8):
            before, after = chance.sample(types[type], 2)
            patch = diff_patch(before, after)
            assert ("parameter" in patch) == (before != after)  # some examples are published twice
            assert json_codec.loads_any(json_codec.dumps(apply_fhirpath_patch(before, check_fhirpath_patch(patch)))) == after, (
                before["id"], after["id"],
            )  # fmt: skip
            pairs += 1
    assert pairs > 400


@pytest.mark.parametrize(
    ("before", "after", "operations"),
    [
        ({"active": True}, {"active": False}, [("replace", "Patient.active", "")]),
        ({}, {"birthDate": "1974"}, [("add", "Patient", "birthDate")]),
        ({"birthDate": "1974"}, {}, [("delete", "Patient.birthDate", "")]),
        (
            {"name": [{"family": "A"}, {"family": "C"}]},
            {"name": [{"family": "A"}, {"family": "B"}, {"family": "C"}]},
            [("insert", "Patient.name", "1")],
        ),
        ({"name": [{"family": "A"}, {"family": "B"}]}, {"name": [{"family": "B"}]}, [("delete", "Patient.name[0]", "")]),
        ({"name": [{"given": ["P"]}]}, {"name": [{"given": ["Q"]}]}, [("replace", "Patient.name[0].given[0]", "")]),
        (
            {"name": [{"given": ["P"]}]},
            {"name": [{"family": "F"}]},
            [("add", "Patient.name[0]", "family"), ("delete", "Patient.name[0].given[0]", "")],
        ),
        (
            {"deceasedBoolean": True},
            {"deceasedDateTime": "2020-01-01"},
            [("replace", "Patient.deceased", "")],
        ),
        ({"text": {"status": "empty", "div": "<div>a</div>"}}, {"text": {"status": "empty", "div": "<div>b</div>"}},
            [("replace", "Patient.text.`div`", "")]),
        ({"contact": []}, {"contact": [{"name": {"text": "x"}}]}, [("insert", "Patient.contact", "0")]),
        ({"active": True}, {"active": True}, []),
    ],
)  # fmt: skip
def test_each_kind_of_change_has_its_operation(before, after, operations):
    before, after = {"resourceType": "Patient", **before}, {"resourceType": "Patient", **after}
    patch = diff_patch(before, after)
    assert told(patch) == operations
    if operations:
        assert applied({name: value for name, value in before.items() if value != []}, patch) == after


UNKNOWN = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"name": [{"given": ["A", None], "_given": [None, UNKNOWN]}]}, {"name": [{"given": ["A"]}]}),
        ({"name": [{"given": ["A"]}]}, {"name": [{"given": ["A", None], "_given": [None, UNKNOWN]}]}),
        ({"name": [{"given": ["A"]}]}, {"name": [{"_given": [UNKNOWN]}]}),
        ({"name": [{"_given": [UNKNOWN]}]}, {"name": [{"given": ["A"]}]}),
        ({"birthDate": "1974"}, {"_birthDate": UNKNOWN}),
        ({"birthDate": "1974", "_birthDate": UNKNOWN}, {"birthDate": "1974"}),
        ({"contained": [{"resourceType": "Group", "id": "a", "type": "person", "actual": True}]},
            {"contained": [{"resourceType": "Organization", "id": "a", "name": "x"}]}),
        ({"extension": [{"url": "u", "valueString": "a"}]}, {"extension": [{"url": "u", "extension": [{"url": "v", "valueInteger": 1}]}]}),
    ],
)  # fmt: skip
def test_nulls_extensions_and_contained_resources_come_out_exactly(before, after):
    before, after = {"resourceType": "Patient", **before}, {"resourceType": "Patient", **after}
    assert applied(before, diff_patch(before, after)) == after


def test_digits_of_a_decimal_are_a_difference():
    before = json_codec.loads(b'{"resourceType":"Observation","valueQuantity":{"value":1.1}}')
    after = json_codec.loads(b'{"resourceType":"Observation","valueQuantity":{"value":1.10}}')
    patch = diff_patch(before, after)
    assert told(patch) == [("replace", "Observation.value.value", "")]
    assert json_codec.dumps(applied(before, patch)) == b'{"resourceType":"Observation","valueQuantity":{"value":1.10}}'


@pytest.fixture
def place(client):
    """A Patient with three versions."""
    id = client.post("Patient", json=patient()).json()["id"]
    for birth in ("1974", "1975"):
        client.put(f"Patient/{id}", json=patient(id=id, birthDate=birth))
    return f"Patient/{id}"


def test_an_instance_is_compared_with_the_version_before(client, place):
    answer = client.get(f"{place}/$diff")
    assert answer.status_code == 200
    assert told(answer.json()) == [("replace", "Patient.birthDate", "")]


def test_from_version_names_the_older_one_and_the_answer_is_a_patch(client, place):
    patch = client.get(f"{place}/$diff?fromVersion=1").json()
    assert told(patch) == [("add", "Patient", "birthDate")]
    copy = client.get(f"{place}/_history/1").json()
    other = client.post("Patient", json=copy).json()["id"]
    answer = client.patch(f"Patient/{other}", json=patch, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["birthDate"] == "1975"
    assert told(client.get(f"{place}/_history/2/$diff").json()) == [("add", "Patient", "birthDate")]


def test_the_difference_of_contained_resources_can_be_applied(client):
    """A patch for what refers to contained resources is one that the server itself takes, there and back."""

    def content(*organizations: str) -> dict[str, Any]:
        contained = [{"resourceType": "Organization", "id": name, "partOf": {"reference": "#root"}} for name in organizations]
        root = {"resourceType": "Organization", "id": "root"}
        return patient(contained=[root, *contained], generalPractitioner=[{"reference": f"#{name}"} for name in organizations])

    id = client.post("Patient", json=content("a", "b")).json()["id"]
    place = f"Patient/{id}"
    assert client.put(place, json={**content("c"), "id": id}).status_code == 200
    for version in ("1", "2"):
        newest = client.get(place).json()["meta"]["versionId"]
        change = client.get(f"{place}/_history/{version}/$diff?fromVersion={newest}")
        answer = client.patch(place, content=change.content, headers={"content-type": "application/fhir+json"})
        assert answer.status_code == 200, answer.text
        wanted = client.get(f"{place}/_history/{version}").json()
        assert {**answer.json(), "meta": None} == {**wanted, "meta": None}


def test_meta_is_compared_where_it_is_asked_for(client, place):
    told_with = told(client.get(f"{place}/$diff?includeMeta=true").json())
    assert ("replace", "Patient.meta.versionId", "") in told_with
    body = {"resourceType": "Parameters", "parameter": [{"name": "includeMeta", "valueBoolean": True}]}
    assert told(client.post(f"{place}/$diff", json=body).json()) == told_with


def test_a_version_before_a_deletion_is_the_one_before(client, place):
    client.delete(place)
    outcome(client.get(f"{place}/$diff"), 410, "deleted")
    client.put(place, json=patient(id=place.partition("/")[2], birthDate="1980"))
    assert told(client.get(f"{place}/$diff").json()) == [("replace", "Patient.birthDate", "")]


def test_two_resources_are_compared_on_system_level(client, place):
    answer = client.get(f"$diff?from={place}/_history/1&to={place}/_history/2")
    assert told(answer.json()) == [("add", "Patient", "birthDate")]
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "from", "valueReference": {"reference": f"{place}/_history/1"}}, {"name": "to", "valueString": place},
    ]}  # fmt: skip
    assert told(client.post("$diff", json=body).json()) == [("add", "Patient", "birthDate")]


@pytest.mark.parametrize(
    ("query", "status", "names"),
    [
        ("fromVersion=x", 400, "fromVersion=x"),
        ("fromVersion=9", 404, "version '9'"),
        ("includeMeta=perhaps", 400, "includeMeta=perhaps"),
        ("form=1", 400, "form"),
        ("fromVersion=1&fromVersion=2", 400, "fromVersion"),
    ],
)
def test_wrong_parameters_are_refused_by_name(client, place, query, status, names):
    assert names in outcome(client.get(f"{place}/$diff?{query}"), status)


def test_wrong_references_and_levels_are_refused(client, place):
    assert "'to'" in outcome(client.get(f"$diff?from={place}"), 400, "required")
    assert "from=urn" in outcome(client.get(f"$diff?from=urn:x&to={place}"), 400)
    outcome(client.get(f"$diff?from=Patient/never-was&to={place}"), 404)
    organization = client.post("Organization", json={"resourceType": "Organization", "name": "x"}).json()["id"]
    assert "one type" in outcome(client.get(f"$diff?from={place}&to=Organization/{organization}"), 400)
    assert "no version before 1" in outcome(client.get(f"Organization/{organization}/$diff"), 404)
    outcome(client.put(f"{place}/$diff", json={}), 405)
