"""`_summary` and `_elements` on the official Patient and Observation. https://hl7.org/fhir/R4/search.html#summary, #elements"""

from __future__ import annotations

import json

import pytest

from fhir_server.interactions.present import Presentation, presentation, shortened
from fhir_server.model.definitions import definitions
from tests.wire.resources import official_examples

TAG = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}]


@pytest.fixture
def patient(corpus):
    found = (json.loads(content) for _, content in official_examples(corpus))
    return next(one for one in found if (one["resourceType"], one.get("id")) == ("Patient", "example"))


def test_summary_true_keeps_the_elements_marked_in_the_definition(patient):
    """Σ elements of https://hl7.org/fhir/R4/patient.html: contact, communication, maritalStatus, photo, multipleBirth are not."""
    shown = shortened(definitions(), patient, Presentation("true"))
    assert set(shown) == {
        "resourceType",
        "id",
        "meta",
        "identifier",
        "active",
        "name",
        "telecom",
        "gender",
        "birthDate",
        "_birthDate",
        "deceasedBoolean",
        "address",
        "managingOrganization",
    }
    assert shown["meta"]["tag"] == patient["meta"]["tag"] + TAG
    assert shown["name"] == patient["name"]


def test_summary_text_and_data(patient):
    assert set(shortened(definitions(), patient, Presentation("text"))) == {"resourceType", "id", "meta", "text"}
    assert set(shortened(definitions(), patient, Presentation("data"))) == (set(patient) | {"meta"}) - {"text"}


def test_elements_bring_their_extensions_and_choice_types_along(patient):
    shown = shortened(definitions(), patient, Presentation(None, ("birthDate", "deceased")))
    assert set(shown) == {"resourceType", "id", "meta", "birthDate", "_birthDate", "deceasedBoolean"}


def test_a_tag_that_is_there_already_is_not_doubled(patient):
    once = shortened(definitions(), patient, Presentation("data"))
    assert shortened(definitions(), once, Presentation("data"))["meta"]["tag"] == patient["meta"]["tag"] + TAG


def test_the_original_is_not_changed(patient):
    before = json.dumps(patient)
    shortened(definitions(), patient, Presentation("true"))
    shortened(definitions(), patient, Presentation(None, ("name",)))
    assert json.dumps(patient) == before


def test_parameters_are_read():
    assert presentation([("_elements", "name, gender"), ("_elements", "name,id")]) == Presentation(None, ("name", "gender", "id"))
    assert presentation([("_summary", "false")]).whole
