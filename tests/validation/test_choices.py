"""Choice types: value[x] has one of its types, named by its suffix, once.

https://hl7.org/fhir/R4/formats.html#choice
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from tests.validation.judge import issues_of, observation, patient, the_error, verdict

OBSERVATION_VALUES = {  # https://hl7.org/fhir/R4/observation.html, the eleven types of Observation.value[x]
    "valueQuantity": {"value": 1},
    "valueCodeableConcept": {"text": "x"},
    "valueString": "x",
    "valueBoolean": True,
    "valueInteger": 1,
    "valueRange": {"low": {"value": 1}},
    "valueRatio": {"numerator": {"value": 1}},
    "valueSampledData": {"origin": {"value": 0}, "period": 10, "dimensions": 1},
    "valueTime": "08:00:00",
    "valueDateTime": "2025-03-01",
    "valuePeriod": {"start": "2025-03-01"},
}


@pytest.mark.parametrize("name", OBSERVATION_VALUES)
def test_each_type_of_a_choice_is_taken(name: str) -> None:
    assert verdict(observation(**{name: OBSERVATION_VALUES[name]})) == (200, [])


@pytest.mark.parametrize("name", ["valueDecimal", "valueReference", "valueQuantityy", "valuequantity", "value", "value[x]", "valueInstant"])
def test_an_unknown_suffix_is_an_unknown_element(name: str) -> None:
    identifier = f"`{name}`" if "[" in name else name
    assert verdict(observation(**{name: "x"})) == (400, [("structure", f"Observation.{identifier}")])


def test_open_choices_take_every_data_type_of_the_list() -> None:
    """https://hl7.org/fhir/R4/datatypes.html#open: 50 types may be the value of an extension."""
    element = definitions().types["Extension"].elements["value"]
    assert len(element.json_names) == 50
    assert {"valueBase64Binary", "valueInstant", "valueUuid", "valueDosage", "valueMeta", "valueUsageContext"} <= element.json_names.keys()


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (observation(valueString="x", valueQuantity={"value": 1}), "Observation.value"),
        (observation(valueString="x", _valueInteger={"extension": [{"url": "urn:x", "valueCode": "y"}]}), "Observation.value"),
        (patient(deceasedBoolean=False, deceasedDateTime="2024"), "Patient.deceased"),
        (observation(component=[{"code": {"text": "a"}, "valueString": "x", "valueTime": "08:00:00"}]), "Observation.component[0].value"),
        (patient(extension=[{"url": "urn:x", "valueCode": "y", "valueString": "y"}]), "Patient.extension[0].value"),
    ],
)
def test_two_types_at_once_are_refused(resource: dict[str, Any], where: str) -> None:
    assert verdict(resource) == (422, [("structure", where)])
    assert "only one of" in the_error(resource).diagnostics


def test_value_and_extension_of_one_type_are_one() -> None:
    mark = {"extension": [{"url": "urn:x", "valueCode": "y"}]}
    assert verdict(observation(valueString="x", _valueString=mark)) == (200, [])
    assert verdict(observation(_valueString=mark)) == (200, [])


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        ({"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"display": "x"}}, "medication"),
        ({"resourceType": "MedicationStatement", "status": "active", "subject": {"display": "x"}}, "medication"),
        ({"resourceType": "DeviceRequest", "intent": "order", "subject": {"display": "x"}}, "code"),
    ],
)
def test_a_required_choice_must_be_there(resource: dict[str, Any], where: str) -> None:
    assert verdict(resource) == (422, [("required", f"{resource['resourceType']}.{where}")])


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (observation(valueQuantity="72"), "Observation.value"),
        (observation(valueString={"value": 1}), "Observation.value"),
        (observation(valueBoolean="true"), "Observation.value"),
        (observation(valueInteger=1.5), "Observation.value"),
    ],
)
def test_the_value_must_be_of_the_named_type(resource: dict[str, Any], where: str) -> None:
    """Expressions follow FHIRPath, where the choice element is named `value` whatever its type."""
    status, found = verdict(resource)
    assert (status, [place for _, place in found]) == (400, [where])


def test_an_unknown_suffix_is_told_with_what_is_near() -> None:
    assert "did you mean 'valueQuantity'?" in issues_of(observation(valueQuantitty={"value": 1}))[0].diagnostics
