"""How often an element stands: minimum, maximum, arrays, and that nothing is empty.

https://hl7.org/fhir/R4/conformance-rules.html#cardinality, https://hl7.org/fhir/R4/json.html (repeating elements, "never empty")
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from fhir_server.model.definitions import TypeDef, definitions
from tests.validation.judge import errors_of, observation, patient, the_error, verdict

KINDS = definitions().types.kind
BACKBONES = [name for name in definitions().types if KINDS(name) == "backbone" and KINDS(name.partition(".")[0]) == "resource"]


def required_of(definition: TypeDef) -> list[str]:
    """Names of the elements with minimum 1, as the definition says."""
    return sorted(element.name for element in definition.elements.values() if element.min)


@pytest.mark.parametrize("name", definitions().resource_types)
def test_every_required_element_of_every_resource_is_asked_for(name: str) -> None:
    missing = [(issue.code, issue.expression[0]) for issue in errors_of({"resourceType": name})]
    assert sorted(missing) == [("required", f"{name}.{element}") for element in required_of(definitions().types[name])]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_required_element_of_every_backbone_is_asked_for(name: str) -> None:
    """Each backbone element of R4, reached through arrays and objects from its resource, with an id so that it is not empty."""
    root, *steps = name.split(".")
    value: Any = {"extension": [{"url": "urn:x", "valueCode": "y"}]}
    place = root
    for depth in range(len(steps), 0, -1):
        parent = definitions().types[".".join([root, *steps[: depth - 1]])]
        json_name = next(key for key, (_, type_name) in parent.by_json.items() if type_name == ".".join([root, *steps[:depth]]))
        value = {json_name: value if parent.by_json[json_name][0].max == 1 else [value]}
    for depth in range(1, len(steps) + 1):
        parent = definitions().types[".".join([root, *steps[: depth - 1]])]
        element = parent.elements[steps[depth - 1]]
        place += f".{element.name}" + ("" if element.max == 1 else "[0]")
    found = [(issue.code, issue.expression[0]) for issue in errors_of({"resourceType": root, **value})]
    inside = sorted(where for code, where in found if code == "required" and re.fullmatch(re.escape(place) + r"\.\w+", where))
    assert inside == [f"{place}.{element}" for element in required_of(definitions().types[name])]


def test_a_required_element_may_be_there_by_its_extension_alone() -> None:
    """https://hl7.org/fhir/R4/extensibility.html#Special-Case: data-absent-reason stands for the value."""
    reason = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
    assert verdict({"resourceType": "Observation", "_status": reason, "code": {"text": "x"}}) == (200, [])


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (patient(gender=["male"]), "Patient.gender"),
        (patient(maritalStatus=[{"text": "x"}]), "Patient.maritalStatus"),
        (patient(active=[True]), "Patient.active"),
        (patient(text=[{}]), "Patient.text"),
        (patient(contact=[{"name": [{"family": "x"}]}]), "Patient.contact[0].name"),
        (patient(multipleBirthInteger=[2]), "Patient.multipleBirth"),
        (patient(id=["x"]), "Patient.id"),
    ],
)
def test_what_may_not_repeat_is_no_array(resource: dict[str, Any], where: str) -> None:
    assert verdict(resource) == (400, [("structure", where)])
    assert "may not repeat" in the_error(resource).diagnostics


@pytest.mark.parametrize(
    ("resource", "where"),
    [
        (patient(name={"family": "x"}), "Patient.name"),
        (patient(name=[{"given": "x"}]), "Patient.name[0].given"),
        (patient(identifier={"value": "1"}), "Patient.identifier"),
        (patient(contained={"resourceType": "Patient"}), "Patient.contained"),
        (patient(extension={"url": "urn:x", "valueCode": "y"}), "Patient.extension"),
        (observation(category={"text": "x"}), "Observation.category"),
    ],
)
def test_what_may_repeat_is_an_array(resource: dict[str, Any], where: str) -> None:
    assert verdict(resource) == (400, [("structure", where)])
    assert "must be an array" in the_error(resource).diagnostics


@pytest.mark.parametrize(
    ("resource", "status", "where"),
    [
        (patient(name=[]), 400, "Patient.name"),
        (patient(name=[{"given": []}]), 400, "Patient.name[0].given"),
        (patient(contained=[]), 400, "Patient.contained"),
        (patient(extension=[]), 400, "Patient.extension"),
        (patient(name=[{"family": ""}]), 400, "Patient.name[0].family"),
        (patient(birthDate=""), 400, "Patient.birthDate"),
        (patient(gender=""), 400, "Patient.gender"),
        (patient(name=[{}]), 422, "Patient.name[0]"),
        (patient(maritalStatus={}), 422, "Patient.maritalStatus"),
        (patient(contact=[{}]), 422, "Patient.contact[0]"),
        (patient(meta={}), 422, "Patient.meta"),
        (patient(name=[{"id": "a"}]), 422, "Patient.name[0]"),
        (patient(_gender={}), 422, "Patient.gender"),
        (patient(_gender={"id": "a"}), 422, "Patient.gender"),
    ],
)
def test_nothing_is_empty(resource: dict[str, Any], status: int, where: str) -> None:
    """An object with nothing but an id has no content either (ele-1)."""
    found = verdict(resource)
    assert (found[0], [place for _, place in found[1]]) == (status, [where])


@pytest.mark.parametrize("where", ["gender", "name", "birthDate", "contained", "meta", "maritalStatus", "_gender", "active"])
def test_null_is_no_value(where: str) -> None:
    status, found = verdict(patient(**{where: None}))
    assert (status, [place for _, place in found]) == (400, [f"Patient.{where.removeprefix('_')}"])


def test_null_in_an_array_of_objects_is_refused() -> None:
    assert verdict(patient(name=[None, {"family": "x"}])) == (400, [("structure", "Patient.name[0]")])


def test_a_resource_needs_no_content_beyond_its_type() -> None:
    """ele-1 is of elements; a Patient without data is valid."""
    assert verdict({"resourceType": "Patient"}) == (200, [])


def test_every_item_of_an_array_is_looked_at() -> None:
    names: list[Any] = [{"family": f"f{n}"} for n in range(50)]
    names[17], names[49] = {"family": 1}, {"famly": "x"}
    assert verdict(patient(name=names)) == (400, [("structure", "Patient.name[17].family"), ("structure", "Patient.name[49].famly")])


def test_elements_may_stand_in_any_order() -> None:
    """ "the order of the properties of an object is not significant" (json.html)."""
    resource = observation(valueString="x", category=[{"text": "c"}])
    assert verdict(json.dumps(dict(reversed(resource.items())))) == (200, [])
