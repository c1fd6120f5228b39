"""The CapabilityStatement is valid to the last invariant, and names all that the registration declares.

https://hl7.org/fhir/R4/capabilitystatement.html (cpb-1 to cpb-16), https://hl7.org/fhir/R4/http.html#capabilities
"""

from __future__ import annotations

import httpx
import pytest

from fhir_server import fhirpath
from fhir_server.fhirpath.items import of_object
from fhir_server.interactions.registration import COMPARTMENTS, FORMATS, INTERACTIONS, PATCH_FORMATS
from fhir_server.plugins.shipped import Operations
from fhir_server.validation.structure import validate
from tests.fhirpath.test_invariants import constrained, elements


@pytest.fixture(scope="module", params=["metadata", "metadata?mode=full", "metadata?mode=normative", "metadata?_summary=true"])
def statement(server, request):
    answer = httpx.get(f"{server.base}/{request.param}")
    assert answer.status_code == 200
    return answer.json()


def test_its_structure_is_valid(statement):
    assert validate(statement) == []


def test_its_invariants_hold(statement):
    root = of_object(statement)
    checked = 0
    for element, resource in elements(root, root):
        for value, constraint in constrained(element):
            if constraint.severity != "error":
                continue
            checked += 1
            assert fhirpath.compile(constraint.expression).test(resource, context=value, root=resource) is not False, constraint
    assert checked > 20


def test_every_declared_interaction_is_named(server):
    rest = httpx.get(server.base + "/metadata").json()["rest"][0]
    system = {interaction["code"] for interaction in rest["interaction"]}
    assert system == {one.code for one in INTERACTIONS if one.level == "system"}
    wanted = {one.code for one in INTERACTIONS if one.level != "system"}
    assert all({interaction["code"] for interaction in entry["interaction"]} == wanted for entry in rest["resource"])


def test_every_declared_operation_is_named_at_its_level_and_no_other(server):
    rest = httpx.get(server.base + "/metadata").json()["rest"][0]
    operations = Operations().operations()
    assert operations
    named = {operation["name"] for operation in rest.get("operation", ())}
    assert named == {one.name for one in operations if "system" in one.levels}
    for entry in rest["resource"]:
        named = {operation["name"] for operation in entry.get("operation", ())}
        assert named == {one.name for one in operations if one.levels & {"type", "instance"} and {entry["type"], "*"} & set(one.types)}


def test_formats_and_compartments_are_named(server):
    statement = httpx.get(server.base + "/metadata").json()
    assert set(FORMATS) <= set(statement["format"])
    assert set(PATCH_FORMATS) == set(statement["patchFormat"])
    compartments = {url.rpartition("/")[2] for url in statement["rest"][0].get("compartment", ())}
    assert {one.lower() for one in compartments} == {one.lower() for one in COMPARTMENTS}
