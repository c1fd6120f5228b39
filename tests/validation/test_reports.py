"""How faults are told: all at once, each with its expression, in English and Chinese; 400 for what cannot be read, else 422.

https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/http.html#create (400 and 422)
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from fhir_server import fhirpath
from fhir_server.errors import FhirError, operation_outcome
from fhir_server.model.definitions import definitions
from fhir_server.validation.structure import MAX_ISSUES, check, status_of, validate
from tests.validation.judge import patient, verdict

MANY = {
    "resourceType": "Patient",
    "gender": "maleX",
    "birthDate": "2023-02-29",
    "colour": "red",
    "active": "yes",
    "name": [{"given": [1], "use": "nick"}, {}],
    "contact": [{"gender": "x", "organization": {"reference": "Patient/1"}}],
    "link": [{"type": "seealso"}],
    "managingOrganization": {"reference": "#o"},
    "contained": [{"resourceType": "Practitioner", "id": "p"}],
    "deceasedBoolean": False,
    "deceasedDateTime": "2024",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script/>x</div>'},
    "extension": [{"url": "urn:x"}],
}
FAULTS = {
    "Patient.gender": "code-invalid",
    "Patient.birthDate": "value",
    "Patient.colour": "structure",
    "Patient.active": "structure",
    "Patient.name[0].given[0]": "structure",
    "Patient.name[0].use": "code-invalid",
    "Patient.name[1]": "invariant",
    "Patient.contact[0].gender": "code-invalid",
    "Patient.contact[0].organization.reference": "value",
    "Patient.link[0].other": "required",
    "Patient.managingOrganization.reference": "invariant",
    "Patient.contained[0]": "invariant",
    "Patient.deceased": "structure",
    "Patient.text.div": "invariant",
    "Patient.extension[0]": "invariant",
}


def test_all_faults_are_told_at_once_each_with_its_expression_and_code() -> None:
    assert {issue.expression[0]: issue.code for issue in validate(MANY)} == FAULTS
    assert len(validate(MANY)) == len(FAULTS)


def test_each_message_begins_with_its_expression_in_both_languages() -> None:
    for issue in validate(MANY):
        assert issue.diagnostics.startswith(issue.expression[0] + ": ")
        assert issue.zh is not None and issue.zh.startswith(issue.expression[0] + "：")
        assert re.search("[\u4e00-\u9fff]", issue.zh), issue.zh
        assert not re.search("[\u4e00-\u9fff]", issue.diagnostics), issue.diagnostics


def test_each_expression_is_fhirpath_and_leads_to_the_fault() -> None:
    """What is there is found by its expression; what is missing gives nothing."""
    for place, code in FAULTS.items():
        if place == "Patient.colour":
            continue  # no element of R4
        found = fhirpath.compile(place).evaluate(MANY)
        assert bool(found) is (code != "required"), place


def test_expressions_of_bundles_are_fhirpath() -> None:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient()}, {"resource": patient(gender="x")}]}
    (issue,) = validate(bundle)
    assert [item.value for item in fhirpath.compile(issue.expression[0]).evaluate(bundle)] == ["x"]


def test_issue_codes_are_of_the_value_set() -> None:
    codes = {code["code"] for code in _concepts(definitions().resource("http://hl7.org/fhir/issue-type") or {})}
    assert {issue.code for issue in validate(MANY)} | {"duplicate", "too-costly"} <= codes


def _concepts(system: dict[str, Any]) -> list[dict[str, Any]]:
    return [inner for concept in system.get("concept", ()) for inner in (concept, *_concepts(concept))]


@pytest.mark.parametrize("chinese", [False, True])
def test_the_outcome_of_a_refusal_is_valid_itself(chinese: bool) -> None:
    with pytest.raises(FhirError) as refused:
        check(MANY)
    outcome = refused.value.outcome(chinese=chinese)
    assert verdict(outcome) == (200, [])
    assert all(("text" in issue.get("details", {})) is chinese for issue in outcome["issue"])
    assert verdict(operation_outcome([])) == (200, [])


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        # readable, but against a rule
        (patient(gender="maleX"), 422),
        (patient(link=[{"type": "seealso"}]), 422),
        (patient(managingOrganization={"reference": "Patient/1"}), 422),
        (patient(name=[{}]), 422),
        (patient(deceasedBoolean=True, deceasedDateTime="2024"), 422),
        # not readable as R4
        (patient(colour="red"), 400),
        (patient(active="true"), 400),
        (patient(birthDate="2023-02-29"), 400),
        (patient(name={"family": "x"}), 400),
        (patient(name=[]), 400),
        ({"resourceType": "Patint"}, 400),
        # both: what cannot be read comes first
        (patient(gender="maleX", colour="red"), 400),
    ],
)
def test_400_for_what_cannot_be_read_and_422_for_what_breaks_a_rule(resource: dict[str, Any], status: int) -> None:
    with pytest.raises(FhirError) as refused:
        check(resource)
    assert refused.value.status == status == status_of(refused.value.issues)


EMPTY = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">\n</div>'}
"""A narrative that an official example has, and that is a warning (docs/decisions/0011-flawed-examples.md)."""


def test_warnings_do_not_refuse() -> None:
    resource = patient(text=EMPTY)
    assert [issue.severity for issue in validate(resource)] == ["warning"]
    check(resource)


def test_a_valid_resource_has_no_issues() -> None:
    assert validate(patient(gender="male", birthDate="2024-02-29")) == []


def test_the_list_of_issues_has_an_end() -> None:
    issues = validate(patient(name=[{"family": 1}] * (MAX_ISSUES * 3)))
    assert len(issues) == MAX_ISSUES + 1
    assert (issues[-1].code, issues[-1].severity) == ("too-costly", "information")
    assert status_of(issues) == 400


def test_many_warnings_do_not_hide_an_error() -> None:
    entries = [{"fullUrl": f"http://x/Patient/a{number}", "resource": patient(text=EMPTY)} for number in range(MAX_ISSUES * 2)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*entries, entries[0]], "total": 1}
    assert {"Bundle.entry[200].fullUrl", "Bundle.total"} <= {issue.expression[0] for issue in validate(bundle) if issue.severity == "error"}
    assert sum(issue.severity == "warning" for issue in validate(bundle)) == MAX_ISSUES
    told = [{"resource": patient(text=EMPTY)} for _ in range(MAX_ISSUES * 2)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [*told, {"resource": patient(gender="maleX")}]}
    assert verdict(bundle) == (422, [("code-invalid", "Bundle.entry[200].resource.gender")])


def test_one_validation_does_not_show_in_the_next() -> None:
    """The checks are compiled once and shared; what one finds is its own."""
    with pytest.raises(FhirError):
        check(patient(contained=[{"resourceType": "Patient", "id": "a"}] * (MAX_ISSUES + 20)))
    assert validate(patient(managingOrganization={"reference": "Organization/1"})) == []


def test_what_a_client_sent_is_shown_safely() -> None:
    (issue,) = validate(patient(gender="a\u202eb\u0007" + "x" * 500))
    assert "\u202e" not in issue.diagnostics and "\u0007" not in issue.diagnostics
    assert len(issue.diagnostics) < 500
    (issue,) = validate(patient(**{"x" * 10_000: 1}))
    assert len(issue.expression[0]) < 200


@pytest.mark.parametrize("name", ["a b", "a.b", "a-b", "1a", "a'b", "a`b", "a\\b", "值", "value[x]", "a\u202eb", "", "$this"])
def test_a_strange_name_is_a_delimited_identifier(name: str) -> None:
    """https://hl7.org/fhirpath/N1/#identifiers"""
    (issue,) = validate(patient(**{name: 1}))
    fhirpath.compile(issue.expression[0])
    assert issue.expression[0].startswith("Patient.`") and issue.expression[0].isprintable()
