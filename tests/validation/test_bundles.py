"""The rules of a Bundle as a whole, and of Parameters.

https://hl7.org/fhir/R4/bundle.html#invs (bdl-1 to bdl-12), https://hl7.org/fhir/R4/parameters.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.judge import errors_of, patient, verdict

PATIENT = patient(id="p")
REQUEST = {"method": "POST", "url": "Patient"}
RESPONSE = {"status": "201"}
DOCUMENT = {"identifier": {"system": "urn:x", "value": "1"}, "timestamp": "2024-01-01T00:00:00Z"}
COMPOSITION = {
    "resourceType": "Composition",
    "status": "final",
    "type": {"text": "x"},
    "date": "2024",
    "author": [{"display": "x"}],
    "title": "t",
}
HEADER = {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": "urn:y"}}


def bundle(kind: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {}), **more}


def broken(resource: dict[str, Any]) -> list[tuple[str, str]]:
    """(rule, expression) of each invariant that is broken."""
    assert all(issue.code == "invariant" for issue in errors_of(resource)), errors_of(resource)
    return [(issue.diagnostics.rsplit("(", 1)[1].rstrip(")"), issue.expression[0]) for issue in errors_of(resource)]


@pytest.mark.parametrize(
    "good",
    [
        bundle("collection", {"resource": PATIENT}),
        bundle("searchset", {"resource": PATIENT, "search": {"mode": "match", "score": 0.5}}, total=1),
        bundle("searchset", total=0),
        bundle("transaction", {"resource": PATIENT, "request": REQUEST}),
        bundle("batch", {"request": {"method": "GET", "url": "Patient/1"}}),
        bundle("transaction-response", {"response": RESPONSE}),
        bundle("batch-response", {"resource": PATIENT, "response": RESPONSE}),
        bundle("history", {"request": {"method": "DELETE", "url": "Patient/1"}, "response": {"status": "204"}}, total=1),
        bundle("document", {"resource": COMPOSITION}, **DOCUMENT),
        bundle("message", {"resource": HEADER}),
        bundle("transaction"),
    ],
    ids=range(11),
)
def test_bundles_as_they_should_be(good: dict[str, Any]) -> None:
    assert verdict(good) == (200, [])


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "transaction-response", "batch-response"])
def test_total_only_in_a_searchset_or_history(kind: str) -> None:
    assert broken(bundle(kind, total=1)) == [("bdl-1", "Bundle.total")]


def test_search_only_in_a_searchset() -> None:
    entry = {"resource": PATIENT, "search": {"mode": "match"}}
    assert broken(bundle("collection", entry)) == [("bdl-2", "Bundle.entry[0].search")]


@pytest.mark.parametrize("kind", ["transaction", "batch", "history"])
def test_request_is_needed(kind: str) -> None:
    entry = {"resource": PATIENT, **({"response": RESPONSE} if kind == "history" else {})}
    assert broken(bundle(kind, entry)) == [("bdl-3", "Bundle.entry[0].request")]


@pytest.mark.parametrize("kind", ["collection", "searchset", "transaction-response", "batch-response"])
def test_request_is_prohibited(kind: str) -> None:
    entry = {"resource": PATIENT, "request": REQUEST, **({"response": RESPONSE} if "response" in kind else {})}
    assert broken(bundle(kind, entry)) == [("bdl-3", "Bundle.entry[0].request")]


@pytest.mark.parametrize("kind", ["transaction-response", "batch-response", "history"])
def test_response_is_needed(kind: str) -> None:
    entry = {"resource": PATIENT, **({"request": REQUEST} if kind == "history" else {})}
    assert broken(bundle(kind, entry)) == [("bdl-4", "Bundle.entry[0].response")]


@pytest.mark.parametrize("kind", ["collection", "searchset", "transaction", "batch"])
def test_response_is_prohibited(kind: str) -> None:
    entry = {"resource": PATIENT, "response": RESPONSE, **({"request": REQUEST} if kind in ("transaction", "batch") else {})}
    assert broken(bundle(kind, entry)) == [("bdl-4", "Bundle.entry[0].response")]


def test_an_entry_has_a_resource_a_request_or_a_response() -> None:
    assert broken(bundle("collection", {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"})) == [("bdl-5", "Bundle.entry[0]")]


def test_full_urls_are_unique() -> None:
    entry = {"fullUrl": "http://x/Patient/p", "resource": PATIENT}
    other = {"fullUrl": "http://x/Patient/q", "resource": patient(id="q")}
    assert broken(bundle("collection", entry, other, entry)) == [("bdl-7", "Bundle.entry[2].fullUrl")]


def test_full_urls_may_repeat_with_other_versions_and_in_a_history() -> None:
    versions = [{"fullUrl": "http://x/Patient/p", "resource": patient(id="p", meta={"versionId": version})} for version in "123"]
    assert verdict(bundle("collection", *versions)) == (200, [])
    assert broken(bundle("collection", *versions, versions[1])) == [("bdl-7", "Bundle.entry[3].fullUrl")]
    past = [{**versions[0], "request": {"method": "PUT", "url": "Patient/p"}, "response": RESPONSE}] * 2
    assert verdict(bundle("history", *past)) == (200, [])


def test_a_full_url_names_no_version() -> None:
    entry = {"fullUrl": "http://x/Patient/p/_history/1", "resource": PATIENT}
    assert broken(bundle("collection", entry)) == [("bdl-8", "Bundle.entry[0].fullUrl")]


@pytest.mark.parametrize("identifier", [None, {"value": "1"}, {"system": "urn:x"}])
def test_a_document_has_an_identifier_with_system_and_value(identifier: dict[str, Any] | None) -> None:
    more = {**DOCUMENT, "identifier": identifier} if identifier else {"timestamp": DOCUMENT["timestamp"]}
    assert broken(bundle("document", {"resource": COMPOSITION}, **more)) == [("bdl-9", "Bundle.identifier")]


def test_a_document_has_a_timestamp() -> None:
    assert broken(bundle("document", {"resource": COMPOSITION}, identifier=DOCUMENT["identifier"])) == [("bdl-10", "Bundle.timestamp")]


@pytest.mark.parametrize("entries", [[{"resource": PATIENT}], [{"resource": PATIENT}, {"resource": COMPOSITION}], []])
def test_a_document_begins_with_a_composition(entries: list[dict[str, Any]]) -> None:
    assert broken(bundle("document", *entries, **DOCUMENT)) == [("bdl-11", "Bundle.entry[0].resource")]


@pytest.mark.parametrize("entries", [[{"resource": PATIENT}], []])
def test_a_message_begins_with_a_header(entries: list[dict[str, Any]]) -> None:
    assert broken(bundle("message", *entries)) == [("bdl-12", "Bundle.entry[0].resource")]


def test_all_broken_rules_are_told_at_once() -> None:
    wrong = bundle(
        "document", {"resource": PATIENT, "search": {"mode": "match"}, "request": REQUEST}, {"fullUrl": "http://x/_history/1"}, total=1
    )
    assert {rule for rule, _ in broken(wrong)} == {"bdl-1", "bdl-2", "bdl-3", "bdl-5", "bdl-8", "bdl-9", "bdl-10", "bdl-11"}


def test_resources_of_entries_are_validated_with_their_place() -> None:
    entries = [
        {"resource": patient(gender="x")},
        {"resource": patient(colour=1)},
        {"resource": {"resourceType": "Patint"}},
        {"resource": "x"},
    ]
    status, found = verdict(bundle("collection", *entries))
    assert status == 400
    assert found == [
        ("code-invalid", "Bundle.entry[0].resource.gender"),
        ("structure", "Bundle.entry[1].resource.colour"),
        ("structure", "Bundle.entry[2].resource"),
        ("structure", "Bundle.entry[3].resource"),
    ]


@pytest.mark.parametrize("kind", ["set", "Transaction", "subscription-notification"])
def test_the_type_of_a_bundle_is_one_of_nine(kind: str) -> None:
    assert ("code-invalid", "Bundle.type") in verdict(bundle(kind))[1]


def test_a_bundle_in_a_bundle_has_its_own_rules() -> None:
    inner = bundle("collection", {"resource": PATIENT}, total=1)
    assert broken(bundle("collection", {"resource": inner})) == [("bdl-1", "Bundle.entry[0].resource.total")]


@pytest.mark.parametrize("entry", [None, {}, "x", [], [None], [{}], ["x"], [[]]])
def test_entries_of_a_wrong_form_are_told_and_break_nothing(entry: Any) -> None:
    for kind in ("transaction", "document", "searchset", "collection"):
        assert verdict({"resourceType": "Bundle", "type": kind, "entry": entry})[0] in (400, 422)


@pytest.mark.parametrize("kind", [None, 1, [], {}])
def test_a_type_of_a_wrong_form_is_told(kind: Any) -> None:
    assert ("structure", "Bundle.type") in verdict({"resourceType": "Bundle", "type": kind, "entry": [{"resource": PATIENT}]})[1]


def test_without_a_type_its_rules_say_nothing() -> None:
    """The missing type is told; what an entry needs depends on it."""
    entry = {"resource": PATIENT, "request": REQUEST, "search": {"mode": "match"}}
    assert verdict({"resourceType": "Bundle", "entry": [entry], "total": 1}) == (422, [("required", "Bundle.type")])


# --- Parameters


def parameters(*given: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(given)}


@pytest.mark.parametrize(
    "good",
    [
        {"name": "a", "valueString": "x"},
        {"name": "a", "resource": PATIENT},
        {"name": "a", "part": [{"name": "b", "valueBoolean": True}, {"name": "c", "part": [{"name": "d", "valueCode": "x"}]}]},
        {"name": "a", "_valueString": {"extension": [{"url": "urn:x", "valueCode": "y"}]}},
    ],
    ids=["value", "resource", "part", "extension"],
)
def test_parameters_as_they_should_be(good: dict[str, Any]) -> None:
    assert verdict(parameters(good)) == (200, [])


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"name": "a", "valueString": "x", "resource": PATIENT}, "parameter[0]"),
        ({"name": "a", "valueString": "x", "part": [{"name": "b", "valueCode": "x"}]}, "parameter[0]"),
        ({"name": "a"}, "parameter[0]"),
        ({"name": "a", "part": [{"name": "b"}]}, "parameter[0].part[0]"),
    ],
)
def test_a_parameter_has_one_of_value_resource_and_parts(bad: dict[str, Any], place: str) -> None:
    """inv-1"""
    assert broken(parameters(bad)) == [("inv-1", f"Parameters.{place}")]


def test_parameters_are_validated_to_the_depth() -> None:
    wrong = parameters(
        {"name": "a", "part": [{"valueCode": "x"}, {"name": "c", "resource": patient(gender="x")}]}, {"name": "d", "valueFoo": 1}
    )
    status, found = verdict(wrong)
    assert status == 400
    assert [where for _, where in found if where.startswith("Parameters.parameter[0]")] == [
        "Parameters.parameter[0].part[0].name",
        "Parameters.parameter[0].part[1].resource.gender",
    ]
    assert ("structure", "Parameters.parameter[1].valueFoo") in found
