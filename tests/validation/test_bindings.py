"""Which codes an element takes: required bindings refuse, weaker ones do not.

https://hl7.org/fhir/R4/terminologies.html#strength
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from tests.validation.judge import errors_of, observation, patient, the_error, verdict

CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def test_a_code_outside_of_a_required_binding_is_told_with_element_value_and_rule() -> None:
    issue = the_error(patient(gender="maleX"))
    assert (issue.code, issue.expression, issue.syntax) == ("code-invalid", ("Patient.gender",), False)
    for part in (
        "Patient.gender",
        "'maleX'",
        "required value set http://hl7.org/fhir/ValueSet/administrative-gender",
        "female, male, other",
    ):
        assert part in issue.diagnostics
    assert issue.zh and all(part in issue.zh for part in ("Patient.gender", "'maleX'", "administrative-gender", "允许"))


@pytest.mark.parametrize(
    ("where", "good", "bad"),
    [  # each list as its page of the specification gives it
        ("gender", ["male", "female", "other", "unknown"], ["Male", "m", "MALE", "maleX", "男"]),
    ],
)
def test_gender(where: str, good: list[str], bad: list[str]) -> None:
    assert all(verdict(patient(**{where: code})) == (200, []) for code in good)
    assert all(verdict(patient(**{where: code})) == (422, [("code-invalid", f"Patient.{where}")]) for code in bad)


@pytest.mark.parametrize(
    "code", ["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"]
)  # https://hl7.org/fhir/R4/valueset-observation-status.html
def test_observation_status(code: str) -> None:
    assert verdict(observation(status=code)) == (200, [])
    assert verdict(observation(status=code.title())) == (422, [("code-invalid", "Observation.status")])


def test_every_enumerable_required_code_element_takes_its_codes_and_no_other() -> None:
    """All elements of type code with a required binding, of every resource, at the top level."""
    checked = 0
    for name in definitions().resource_types:
        for element in definitions().types[name].elements.values():
            binding = element.binding
            if element.types and element.types[0].code == "code" and binding and binding.strength == "required":
                codes = definitions().codes(binding.value_set)
                if codes is None:
                    continue
                checked += 1
                several = element.max is None
                for code, good in ((min(codes), True), ("no-such-code", False)):
                    found = errors_of({"resourceType": name, element.name: [code] if several else code})
                    place = f"{name}.{element.name}" + ("[0]" if several else "")
                    assert (("code-invalid", (place,)) not in [(issue.code, issue.expression) for issue in found]) is good, place
    assert checked > 120


@pytest.mark.parametrize(
    ("concept", "status"),
    [
        ({"coding": [{"system": CLINICAL, "code": "active"}]}, 200),
        ({"coding": [{"system": CLINICAL, "code": "active"}, {"system": "urn:own", "code": "x"}]}, 200),
        ({"coding": [{"system": CLINICAL, "code": "activ"}]}, 422),
        ({"coding": [{"system": "urn:own", "code": "active"}]}, 422),
        ({"coding": [{"code": "active"}]}, 422),
        ({"text": "active"}, 422),
        ({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}, 200),
    ],
)
def test_a_required_concept_needs_a_coding_of_the_value_set(concept: dict[str, Any], status: int) -> None:
    """https://hl7.org/fhir/R4/terminologies.html#required: "at least one Coding ... SHALL be from the value set" """
    resource = {"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": concept}
    assert verdict(resource) == (status, [] if status == 200 else [("code-invalid", "Condition.clinicalStatus")])


@pytest.mark.parametrize(
    "resource",
    [
        patient(maritalStatus={"coding": [{"system": "urn:own", "code": "x"}]}),  # extensible
        patient(maritalStatus={"text": "ledig"}),
        patient(language="xx-own"),  # preferred, at most a language tag
        patient(contact=[{"relationship": [{"coding": [{"system": "urn:own", "code": "x"}]}]}]),  # extensible
        observation(category=[{"coding": [{"system": "urn:own", "code": "x"}]}]),  # preferred
        observation(interpretation=[{"text": "hoch"}]),  # extensible
        {"resourceType": "Encounter", "status": "planned", "class": {"system": "urn:own", "code": "x"}},  # extensible Coding
    ],
    ids=range(7),
)
def test_weaker_bindings_do_not_refuse(resource: dict[str, Any]) -> None:
    assert verdict(resource) == (200, [])


@pytest.mark.parametrize(
    ("type_name", "good"),
    [("text/plain", True), ("application/fhir+json; fhirVersion=4.0", True), ("image/svg+xml", True), ("application/vnd.ms-excel", True),
     ("textplain", False), ("text/", False), ("/plain", False), ("text plain/x", False)],
)  # fmt: skip
def test_media_types_have_their_form(type_name: str, good: bool) -> None:
    """The value set of BCP 13 has no list; the form is that of RFC 6838."""
    resource = patient(photo=[{"contentType": type_name}])
    assert verdict(resource) == ((200, []) if good else (422, [("code-invalid", "Patient.photo[0].contentType")]))


@pytest.mark.parametrize(
    ("tag", "good"),
    [("zh", True), ("zh-CN", True), ("zh-Hans-CN", True), ("en-US", True), ("de-CH-1996", True), ("sl-rozaj", True), ("x-own", True),
     ("i-klingon", True), ("es-419", True), ("chinese language", False), ("zh_CN", False), ("-zh", False), ("zh-", False), ("中文", False)],
)  # fmt: skip
def test_languages_have_the_form_of_bcp_47(tag: str, good: bool) -> None:
    assert verdict(patient(language=tag)) == ((200, []) if good else (422, [("code-invalid", "Patient.language")]))


@pytest.mark.parametrize(
    ("currency", "good"), [("CNY", True), ("EUR", True), ("cny", False), ("RMB ", False), ("Yuan", False), ("¥", False)]
)
def test_currencies_have_three_capitals(currency: str, good: bool) -> None:
    status, found = verdict({"resourceType": "Invoice", "status": "draft", "totalNet": {"value": 1, "currency": currency}})
    assert (status == 200) is good
    assert [where for _, where in found] == ([] if good else ["Invoice.totalNet.currency"])


def test_an_empty_required_concept_is_told_once() -> None:
    resource = {"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": {}}
    assert verdict(resource) == (422, [("invariant", "Condition.clinicalStatus")])


def test_codings_of_a_wrong_kind_are_told_where_they_stand() -> None:
    resource = {"resourceType": "Condition", "subject": {"display": "x"}, "clinicalStatus": {"coding": ["active"]}}
    assert ("structure", "Condition.clinicalStatus.coding[0]") in verdict(resource)[1]
    resource["clinicalStatus"] = {"coding": [{"system": 1, "code": ["active"]}]}
    assert verdict(resource)[0] == 400
