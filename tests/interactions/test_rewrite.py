"""Links that a transaction rewrites (https://hl7.org/fhir/R4/http.html#trules): which elements are links, and which are not."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.interactions.rewrite import base_of, find_links, is_conditional, path_of, rewrite, rewrite_narrative, target_of

UUID = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
OTHER = "urn:oid:1.2.3.4.5"
KNOWN = {UUID: "Patient/123", OTHER: "Organization/acme", "http://example.org/fhir/Patient/7": "Patient/new7"}


def rewritten(resource: dict[str, Any], base: str | None = None) -> dict[str, Any]:
    rewrite(find_links(resource, KNOWN), base, KNOWN)
    return resource


def test_references_are_rewritten_wherever_they_are() -> None:
    observation = {
        "resourceType": "Observation",
        "subject": {"reference": UUID, "display": "x"},
        "performer": [{"reference": OTHER}, {"reference": "Practitioner/1"}],
        "contained": [{"resourceType": "Device", "id": "d", "owner": {"reference": OTHER}}],
        "component": [{"code": {"text": "c"}, "extension": [{"url": "http://x", "valueReference": {"reference": UUID}}]}],
        "effectiveDateTime": "2020",
        "_effectiveDateTime": {"extension": [{"url": "http://x", "valueReference": {"reference": UUID}}]},
    }
    result = rewritten(observation)
    assert result["subject"] == {"reference": "Patient/123", "display": "x"}
    assert result["performer"] == [{"reference": "Organization/acme"}, {"reference": "Practitioner/1"}]
    assert result["contained"][0]["owner"]["reference"] == "Organization/acme"
    assert result["component"][0]["extension"][0]["valueReference"]["reference"] == "Patient/123"
    assert result["_effectiveDateTime"]["extension"][0]["valueReference"]["reference"] == "Patient/123"


def test_references_in_parameters_resources_and_nested_bundles_are_rewritten() -> None:
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "a", "part": [{"name": "b", "valueReference": {"reference": UUID}}]},
            {"name": "c", "resource": {"resourceType": "Flag", "subject": {"reference": UUID}}},
        ],
    }
    result = rewritten(parameters)
    assert result["parameter"][0]["part"][0]["valueReference"]["reference"] == "Patient/123"
    assert result["parameter"][1]["resource"]["subject"]["reference"] == "Patient/123"


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "photo": [{"url": UUID}]},  # Attachment.url: url
        {"resourceType": "Patient", "extension": [{"url": "http://x", "valueUri": UUID}]},
        {"resourceType": "Patient", "extension": [{"url": "http://x", "valueUrl": UUID}]},
        {"resourceType": "Patient", "extension": [{"url": "http://x", "valueUuid": UUID}]},
        {"resourceType": "ImplementationGuide", "definition": {"page": {"nameUrl": UUID, "title": "t", "generation": "html"}}},
        {"resourceType": "Library", "relatedArtifact": [{"type": "documentation", "url": UUID}]},
        {"resourceType": "MessageHeader", "source": {"endpoint": UUID}},
    ],
)
def test_elements_of_the_uri_types_are_rewritten(resource: dict[str, Any]) -> None:
    assert UUID in str(resource)
    assert UUID not in str(rewritten(resource))


def test_uri_lists_are_rewritten() -> None:
    plan = rewritten({"resourceType": "CarePlan", "instantiatesUri": ["http://x", UUID]})
    assert plan["instantiatesUri"] == ["http://x", "Patient/123"]


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "CarePlan", "instantiatesCanonical": [UUID]},
        {"resourceType": "Patient", "identifier": [{"system": "urn:ietf:rfc:3986", "value": UUID}]},
        {"resourceType": "Observation", "valueString": UUID, "note": [{"text": UUID}]},
        {"resourceType": "Observation", "subject": {"display": UUID, "identifier": {"value": UUID}}},
        {"resourceType": "Patient", "extension": [{"url": UUID, "valueString": "x"}]},
    ],
)
def test_canonicals_strings_and_the_name_of_an_extension_stay(resource: dict[str, Any]) -> None:
    before = str(resource)
    assert str(rewritten(resource)) == before


def test_a_versioned_reference_stays_and_a_fragment_is_kept() -> None:
    assert target_of("Patient/1/_history/2", "http://example.org/fhir/", KNOWN) is None
    assert target_of(f"{UUID}#p1", None, KNOWN) == "Patient/123#p1"
    assert target_of("#p1", None, KNOWN) is None


def test_a_relative_reference_belongs_to_the_base_of_its_entry() -> None:
    base = base_of("http://example.org/fhir/Observation/1")
    assert base == "http://example.org/fhir/"
    assert target_of("Patient/7", base, KNOWN) == "Patient/new7"
    assert target_of("Patient/8", base, KNOWN) is None
    assert target_of("Patient/7", base_of(UUID), KNOWN) is None


def test_narrative_links_are_rewritten_and_nothing_else_in_the_text() -> None:
    div = (
        f"""<div xmlns="http://www.w3.org/1999/xhtml"><a href="{UUID}">{UUID}</a> <img alt='x' src='{UUID}#f'/>"""
        f"""<a name="{UUID}">b</a><p>href="{UUID}"</p></div>"""
    )
    resource = rewritten({"resourceType": "Patient", "text": {"status": "generated", "div": div}})
    assert resource["text"]["div"] == (
        f"""<div xmlns="http://www.w3.org/1999/xhtml"><a href="Patient/123">{UUID}</a> <img alt='x' src='Patient/123#f'/>"""
        f"""<a name="{UUID}">b</a><p>href="{UUID}"</p></div>"""
    )


def test_a_narrative_link_may_hold_an_escaped_ampersand() -> None:
    text = rewrite_narrative('<a href="http://x?a=1&amp;b=2">x</a>', lambda link: "Patient/1" if link == "http://x?a=1&b=2" else None)
    assert text == '<a href="Patient/1">x</a>'


@pytest.mark.parametrize(
    ("text", "conditional"),
    [
        ("Patient?identifier=http://x|1", True),
        ("Patient?_id=1", True),
        ("Patient/1", False),
        ("http://example.org/fhir/Patient?identifier=1", False),
        ("Patient?", False),
        ("patient?x=1", False),
    ],
)
def test_a_conditional_reference_is_a_type_with_criteria(text: str, conditional: bool) -> None:
    assert is_conditional(text) is conditional


def test_the_place_of_a_link_is_told_as_fhirpath() -> None:
    resource = {"resourceType": "Observation", "performer": [{"reference": "a"}, {"reference": "b"}]}
    site = find_links(resource, {}).references[1]
    assert path_of(resource, site.holder, site.key) == "Observation.performer[1].reference"
