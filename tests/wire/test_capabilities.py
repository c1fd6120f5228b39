"""The capabilities interaction and OpenAPI over HTTP. https://hl7.org/fhir/R4/http.html#capabilities, https://hl7.org/fhir/R4/capabilitystatement.html"""

from __future__ import annotations

import httpx
import pytest

from fhir_server.model.definitions import definitions
from fhir_server.validation.structure import validate
from tests.wire.resources import outcome


@pytest.fixture(scope="module")
def statement(server):
    return httpx.get(server.base + "/metadata").json()


def test_the_statement_is_valid(statement):
    assert [issue for issue in validate(statement) if issue.severity in ("error", "fatal")] == []


def test_the_statement_names_version_kind_and_formats(statement, server):
    assert (statement["fhirVersion"], statement["kind"], statement["status"]) == ("4.0.1", "instance", "active")
    assert "application/fhir+json" in statement["format"]
    assert statement["implementation"]["url"] == server.base
    assert statement["software"]["name"]


def test_all_resource_types_are_served_alike(statement):
    resources = statement["rest"][0]["resource"]
    assert [entry["type"] for entry in resources] == sorted(definitions().resource_types)
    assert len(resources) == 146  # the 148 codes of http://hl7.org/fhir/resource-types without Resource and DomainResource
    wanted = {"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"}
    assert all({interaction["code"] for interaction in entry["interaction"]} == wanted for entry in resources)


def test_system_interactions_are_told(statement):
    codes = {interaction["code"] for interaction in statement["rest"][0]["interaction"]}
    assert codes == {"transaction", "batch", "search-system", "history-system"}


def test_each_official_search_parameter_is_listed_with_its_definition(statement):
    patient = next(entry for entry in statement["rest"][0]["resource"] if entry["type"] == "Patient")
    listed = {parameter["name"]: parameter for parameter in patient["searchParam"]}
    assert listed["birthdate"] == {
        "name": "birthdate",
        "definition": "http://hl7.org/fhir/SearchParameter/individual-birthdate",
        "type": "date",
    }
    assert {"_id", "_lastUpdated", "_tag", "_profile", "family", "identifier", "general-practitioner"} <= set(listed)
    assert "Patient:general-practitioner" in patient["searchInclude"]
    assert "Observation:subject" in patient["searchRevInclude"]


def test_every_operation_that_is_listed_answers(statement, client):
    """An operation that the statement names is not an unknown one (its input may be wrong)."""
    for operation in statement["rest"][0].get("operation", ()):
        answer = client.post("$" + operation["name"], json={"resourceType": "Parameters"})
        assert answer.status_code not in (404, 405, 500), operation


def test_the_statement_is_cached_by_its_tag(client):
    first = client.get("metadata")
    assert client.get("metadata", headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_modes(client):
    normative = client.get("metadata?mode=normative").json()
    assert "Patient" in {entry["type"] for entry in normative["rest"][0]["resource"]}
    assert "CarePlan" not in {entry["type"] for entry in normative["rest"][0]["resource"]}
    outcome(client.get("metadata?mode=other"), 400)


def test_the_code_systems_that_are_known_are_listed(client):
    """https://hl7.org/fhir/R4/terminologycapabilities.html"""
    made = client.get("metadata?mode=terminology").json()
    assert made["resourceType"] == "TerminologyCapabilities"
    listed = {one["uri"]: one for one in made["codeSystem"]}
    assert listed["http://hl7.org/fhir/administrative-gender"]["version"][0] == {"code": "4.0.1", "isDefault": True}
    assert listed["http://unitsofmeasure.org"]["version"][0]["property"] == ["canonical"]
    assert listed["http://terminology.hl7.org/CodeSystem/v3-ActCode"]["subsumption"] is True
    assert "filter" in {one["name"] for one in made["expansion"]["parameter"]}
    issues = client.post("$validate", json=made).json()["issue"]
    assert [one for one in issues if one["severity"] in ("error", "fatal")] == []

    url = "http://example.org/CodeSystem/of-the-site"
    for version in ("1.9", "1.10"):
        system = {"resourceType": "CodeSystem", "url": url, "version": version, "status": "active", "content": "complete"}
        assert client.post("CodeSystem", json=system | {"concept": [{"code": "a"}]}).status_code == 201
    (mine,) = [one for one in client.get("metadata?mode=terminology").json()["codeSystem"] if one["uri"] == url]
    assert {one["code"]: one["isDefault"] for one in mine["version"]} == {"1.9": False, "1.10": True}


def test_the_statement_is_readable_from_any_web_page(client):
    answer = client.get("metadata", headers={"Origin": "https://app.example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"


def test_openapi_describes_what_is_served(client):
    document = client.get("openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]["/Patient/{id}"]) == {"get", "put", "patch", "delete"}
    assert set(document["paths"]["/CarePlan"]) == {"get", "post"}
    names = {parameter.get("name") for parameter in document["paths"]["/Observation"]["get"]["parameters"]}
    assert {"code", "date", "patient"} <= names
    references = set(_references(document))
    for reference in references:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def _references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_openapi_operation_ids_are_unique(client):
    paths = client.get("openapi.json").json()["paths"]
    ids = [call["operationId"] for path in paths.values() for call in path.values()]
    assert len(ids) == len(set(ids))


def test_the_documentation_page_lists_types(server):
    page = httpx.get(server.root + "/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "Observation" in page.text and "openapi.json" in page.text
