"""What is no R4 at all: unknown types and elements, wrong JSON kinds, wrong nesting; answered with 400.

https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.json_codec import MAX_DEPTH
from fhir_server.validation.structure import validate
from tests.validation.judge import errors_of, observation, patient, read_error, the_error, verdict


@pytest.mark.parametrize(
    "kind", ["Patint", "patient", "DomainResource", "Resource", "HumanName", "Patient ", "", "string", "Observation.component"]
)
def test_an_unknown_resource_type_is_refused(kind: str) -> None:
    """Abstract types and data types are no resources."""
    status, found = verdict({"resourceType": kind})
    assert (status, [code for code, _ in found]) == (400, ["structure"])
    assert f"'{kind}'" in errors_of({"resourceType": kind})[0].diagnostics


@pytest.mark.parametrize("kind", [None, 1, True, ["Patient"], {"x": 1}])
def test_resource_type_is_a_string(kind: Any) -> None:
    assert verdict({"resourceType": kind})[0] == 400


def test_a_resource_without_its_type_is_refused() -> None:
    assert "resourceType is missing" in the_error({"id": "x"}).diagnostics
    assert verdict(patient(contained=[{"id": "x"}]))[0] == 400
    assert ("structure", "Bundle.entry[0].resource") in verdict(
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {}}]}
    )[1]


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (patient(colour="red"), "Patient.colour"),
        (patient(Gender="male"), "Patient.Gender"),
        (patient(name=[{"famly": "x"}]), "Patient.name[0].famly"),
        (patient(contact=[{"relationship": [{"coding": [{"systm": "urn:x"}]}]}]), "Patient.contact[0].relationship[0].coding[0].systm"),
        (patient(_colour={"id": "x"}), "Patient._colour"),
        (patient(_name=[{"id": "x"}]), "Patient._name"),
        (patient(fhir_comments=["x"]), "Patient.fhir_comments"),
        (patient(name=[{"resourceType": "HumanName"}]), "Patient.name[0].resourceType"),
        (patient(extension=[{"url": "urn:x", "valueCode": "y", "extra": 1}]), "Patient.extension[0].extra"),
        (patient(contained=[{"resourceType": "Patient", "id": "a", "x": 1}], link=[]), "Patient.contained[0].x"),
    ],
)
def test_an_unknown_element_is_refused_with_its_place(resource: dict[str, Any], where: str) -> None:
    status, found = verdict(resource)
    assert status == 400
    assert ("structure", where) in found


def test_a_near_name_is_offered() -> None:
    assert "did you mean 'birthDate'?" in the_error(patient(birthdate="2000")).diagnostics


@pytest.mark.parametrize(
    ("name", "value", "due"),
    [
        ("active", "true", "a boolean"),
        ("active", 1, "a boolean"),
        ("birthDate", 2000, "a string"),
        ("gender", True, "a string"),
        ("gender", {"value": "male"}, "a string"),
        ("multipleBirthInteger", "2", "a number"),
        ("multipleBirthInteger", True, "a number"),
        ("maritalStatus", "M", "an object"),
        ("maritalStatus", 1, "an object"),
        ("managingOrganization", "Organization/1", "an object"),
        ("text", "x", "an object"),
        ("meta", "x", "an object"),
        ("id", 1, "a string"),
        ("language", 1, "a string"),
        ("implicitRules", {}, "a string"),
    ],
)
def test_a_wrong_json_kind_is_refused(name: str, value: Any, due: str) -> None:
    status, found = verdict(patient(**{name: value}))
    assert status == 400
    assert found == [("structure", f"Patient.{name.removesuffix('Integer')}")]
    assert f"must be {due}" in the_error(patient(**{name: value})).diagnostics


@pytest.mark.parametrize("value", ["x", 1, True, ["x"]])
def test_items_of_arrays_have_kinds_too(value: Any) -> None:
    assert verdict(patient(name=[value])) == (400, [("structure", "Patient.name[0]")])
    assert verdict(patient(contained=[value]))[0] == 400
    status, found = verdict(patient(name=[{"given": [value, "y"]}]))
    assert (status, found) == ((200, []) if value == "x" else (400, [("structure", "Patient.name[0].given[0]")]))


@pytest.mark.parametrize("value", ["x", 1, None, True, []])
def test_what_is_no_object_is_no_resource(value: Any) -> None:
    (issue,) = validate(value)
    assert (issue.code, issue.syntax) == ("structure", True)
    assert "must be an object" in issue.diagnostics


def nested(levels: int) -> str:
    """An Observation whose extensions stand in one another, `levels` objects and arrays deep."""
    inner = '{"url":"urn:x","valueCode":"y"}'
    depth = 3  # the resource, the array, the innermost extension
    while depth + 2 <= levels:
        inner, depth = f'{{"url":"urn:x","extension":[{inner}]}}', depth + 2
    return f'{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"extension":[{inner}]}}'


def test_nesting_up_to_the_limit_is_read_and_beyond_refused() -> None:
    assert verdict(nested(MAX_DEPTH)) == (200, [])
    assert verdict(nested(51)) == (200, [])
    fault = read_error(nested(MAX_DEPTH + 2))
    assert (fault.status, fault.issues[0].code) == (400, "too-costly")
    assert read_error(nested(10_000)).status == 400


def test_a_fault_at_the_deepest_place_is_named() -> None:
    text = nested(MAX_DEPTH - 1).replace('"valueCode":"y"', '"valueCode":7')
    status, found = verdict(text)
    assert status == 400
    assert found[0][1] == "Observation" + ".extension[0]" * text.count('"url"') + ".value"


def test_items_of_observation_components_are_looked_at() -> None:
    assert verdict(observation(component=[{"code": {"text": "a"}}, {}])) == (
        422,
        [("required", "Observation.component[1].code"), ("invariant", "Observation.component[1]")],
    )
