"""References and canonicals, taken apart. https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/datatypes.html#canonical"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.json_codec import dumps, loads
from fhir_server.model.references import ID, Reference, parse_reference, references_in, split_canonical, texts_in


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Patient/1", ("relative", "", "Patient", "1", "")),
        ("Patient/a-1.B/_history/3", ("relative", "", "Patient", "a-1.B", "3")),
        ("http://example.org/fhir/Patient/1", ("absolute", "http://example.org/fhir", "Patient", "1", "")),
        ("https://example.org:8443/a/b/Patient/1/_history/2", ("absolute", "https://example.org:8443/a/b", "Patient", "1", "2")),
        ("#p", ("fragment", "", "", "p", "")),
        ("#", ("fragment", "", "", "", "")),
        ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520", ("urn", "", "", "", "")),
        ("urn:oid:1.2.3", ("urn", "", "", "", "")),
        ("Patient?identifier=urn:mrn|1", ("conditional", "", "Patient", "", "")),
        ("http://example.org/anything", ("other", "", "", "", "")),
        ("Patient", ("other", "", "", "", "")),
        ("Patient/", ("other", "", "", "", "")),
        ("/Patient/1", ("other", "", "", "", "")),
        ("patient/1", ("other", "", "", "", "")),
        ("Patient/1\n", ("other", "", "", "", "")),
        ("Patient/" + "a" * 65, ("other", "", "", "", "")),
        ("http://example.org/fhir?x=/Patient/1", ("other", "", "", "", "")),
        ("ftp://example.org/Patient/1", ("other", "", "", "", "")),
        ("", ("other", "", "", "", "")),
    ],
)
def test_each_form_is_known(text: str, wanted: tuple[str, ...]) -> None:
    found = parse_reference(text)
    assert (found.form, found.base, found.type, found.id, found.version) == wanted
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("http://hl7.org/fhir/ValueSet/my-valueset|0.8", ("http://hl7.org/fhir/ValueSet/my-valueset", "0.8", "")),
        ("http://x/y", ("http://x/y", "", "")),
        ("http://x/y#vs1", ("http://x/y", "", "vs1")),
        ("http://x/y|1.0#vs1", ("http://x/y", "1.0", "vs1")),
        ("#q", ("", "", "q")),
        ("urn:oid:1.2|2024", ("urn:oid:1.2", "2024", "")),
    ],
)
def test_a_canonical_has_url_version_and_fragment(text: str, parts: tuple[str, str, str]) -> None:
    assert split_canonical(text) == parts


def test_all_references_are_found_in_document_order() -> None:
    resource = {
        "resourceType": "Observation",
        "contained": [{"resourceType": "Patient", "managingOrganization": {"reference": "Organization/1"}}],
        "subject": {"reference": "#p", "extension": [{"url": "urn:x", "valueReference": {"reference": "Patient/2"}}]},
        "performer": [{"reference": "Practitioner/3"}, {"display": "none"}],
        "focus": [{"reference": 1}],
    }
    assert [found["reference"] for found in references_in(resource)] == ["Organization/1", "#p", "Patient/2", "Practitioner/3"]
    next(references_in(resource))["reference"] = "Organization/9"
    assert resource["contained"][0]["managingOrganization"]["reference"] == "Organization/9", "they are the objects themselves"  # type: ignore[index]


@pytest.mark.parametrize(
    ("id", "good"),
    [("a", True), ("A-1.b", True), ("a" * 64, True), ("a" * 65, False), ("", False), ("a_b", False), ("ä", False), ("a\n", False)],
)
def test_ids(id: str, good: bool) -> None:
    assert bool(ID.match(id)) is good


def test_a_reference_is_a_value() -> None:
    assert parse_reference("Patient/1") == Reference("relative", "Patient/1", "", "Patient", "1", "")


def test_references_are_read_off_canonical_json_without_parsing_it(corpus: Any) -> None:
    """The same as a walk through each official example finds; and no text of a string is taken for one."""
    from tests.wire.resources import official_examples

    examples = 0
    for name, content in official_examples(corpus):
        resource = loads(content) if isinstance(content, bytes) else content
        examples += 1
        # A Reference is named before what it holds in the walk, and behind its extensions in the text.
        assert sorted(texts_in(dumps(resource))) == sorted(found["reference"] for found in references_in(resource)), name
    assert examples > 500
    sly = {
        "resourceType": "Basic",
        "note": '{"reference":"Patient/1"}',
        "a": {"reference": 'x"y\\z/é'},
        "b": '"reference":"',
        "c": "Patient/2",
    }
    assert texts_in(dumps(sly)) == ['x"y\\z/é']
