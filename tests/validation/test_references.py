"""References: forms, permitted target types, and what is contained.

https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/domainresource.html#invs (dom-2 to dom-5), ref-1
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.validation.structure import validate
from tests.validation.judge import errors_of, observation, patient, the_error, verdict


def organization(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Organization", "id": "o", "name": "Acme", **more}


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Patient/a-1.B",
        "Patient/1/_history/2",
        "Group/g",
        "Device/d",
        "Location/l",
        "http://example.org/fhir/Patient/1",
        "https://example.org/Patient/1/_history/3",
        "http://example.org/anything/else",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "urn:oid:1.2.3",
    ],
)
def test_the_forms_of_a_reference(reference: str) -> None:
    """Observation.subject may point to Patient, Group, Device and Location."""
    assert verdict(observation(subject={"reference": reference})) == (200, [])


@pytest.mark.parametrize(
    "reference", ["Practitioner/1", "Medication/x", "http://example.org/fhir/Practitioner/1", "Observation/2/_history/1"]
)
def test_a_target_of_another_type_is_refused(reference: str) -> None:
    issue = the_error(observation(subject={"reference": reference}))
    assert (issue.code, issue.expression, issue.syntax) == ("value", ("Observation.subject.reference",), False)
    assert reference in issue.diagnostics and "Device | Group | Location | Patient" in issue.diagnostics


@pytest.mark.parametrize("reference", ["1", "Patient", "patient/1", "Patient/", "/Patient/1", "Patient/a_b", "Patient/" + "a" * 65])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    assert verdict(observation(subject={"reference": reference})) == (422, [("value", "Observation.subject.reference")])


@pytest.mark.parametrize(
    ("reference", "code"), [("", "structure"), ("Patient/ 1", "value"), (1, "structure"), (None, "structure"), ({}, "structure")]
)
def test_a_reference_is_a_uri(reference: Any, code: str) -> None:
    assert verdict(observation(subject={"reference": reference})) == (400, [(code, "Observation.subject.reference")])


def test_an_unknown_resource_type_is_no_target() -> None:
    assert verdict(observation(subject={"reference": "Patiant/1"})) == (422, [("value", "Observation.subject.reference")])
    assert verdict(observation(focus=[{"reference": "Nothing/1"}])) == (422, [("value", "Observation.focus[0].reference")])


def test_references_without_targets_take_every_type() -> None:
    """Observation.focus is Reference(Any)."""
    for name in definitions().resource_types:
        assert verdict(observation(focus=[{"reference": f"{name}/1"}])) == (200, [])


def test_every_reference_element_refuses_a_type_that_it_does_not_name() -> None:
    """At the top level of every resource, from the definitions' targetProfile."""
    checked = 0
    types = definitions().types
    for name in definitions().resource_types:
        for element in types[name].elements.values():
            targets = {target for ref in element.types if ref.code == "Reference" for target in ref.targets}
            if not targets or "Resource" in targets:
                continue
            foreign = next(kind for kind in ("Linkage", "VisionPrescription", "Schedule", "Basic") if kind not in targets)
            json_name = next(key for key, code in element.json_names.items() if code == "Reference")
            for kind, wanted in ((foreign, True), (sorted(targets)[0], False)):
                value: Any = {"reference": f"{kind}/1"}
                found = errors_of({"resourceType": name, json_name: [value] if element.max != 1 else value})
                place = f"{name}.{element.name}" + ("[0]" if element.max != 1 else "") + ".reference"
                assert (place in [issue.expression[0] for issue in found]) is wanted, place
            checked += 1
    assert checked > 450


@pytest.mark.parametrize(
    "reference",
    [
        {"display": "Peter"},
        {"identifier": {"value": "1"}},
        {"type": "Patient", "display": "x"},
        {"extension": [{"url": "urn:x", "valueCode": "y"}]},
    ],
)
def test_a_reference_may_be_logical(reference: dict[str, Any]) -> None:
    assert verdict(observation(subject=reference)) == (200, [])


@pytest.mark.parametrize(
    ("kind", "reference", "status"),
    [
        ("Patient", "Patient/1", 200),
        ("Group", "Patient/1", 422),
        ("Practitioner", None, 422),
        ("http://example.org/logical", None, 200),
        ("http://hl7.org/fhir/StructureDefinition/Patient", None, 200),
        ("Patiant", None, 422),
        ("a b", None, 400),
    ],
)
def test_the_type_of_a_reference_is_a_permitted_one_and_agrees(kind: str, reference: str | None, status: int) -> None:
    subject = {"type": kind, **({"reference": reference} if reference else {"display": "x"})}
    assert verdict(observation(subject=subject)) == (status, [] if status == 200 else [("value", "Observation.subject.type")])


def test_conditional_references_stand_only_in_transactions_and_batches() -> None:
    """https://hl7.org/fhir/R4/http.html#trules: Patient?identifier=… in the entries of a transaction."""
    resource = observation(subject={"reference": "Patient?identifier=urn:mrn|1"})
    assert verdict(resource) == (422, [("value", "Observation.subject.reference")])
    assert validate(resource, bundle_entry=True) == []
    foreign = observation(subject={"reference": "Practitioner?identifier=1"})
    assert [issue.expression for issue in validate(foreign, bundle_entry=True)] == [("Observation.subject.reference",)]
    entry = {"resource": resource, "request": {"method": "POST", "url": "Observation"}}
    for kind, status in (("transaction", 200), ("batch", 200), ("collection", 422)):
        assert (
            verdict({"resourceType": "Bundle", "type": kind, "entry": [entry if kind != "collection" else {"resource": resource}]})[0]
            == status
        )


# --- contained resources


def test_a_contained_resource_is_referenced_by_its_id() -> None:
    assert verdict(patient(contained=[organization()], managingOrganization={"reference": "#o"})) == (200, [])


def test_a_fragment_needs_its_contained_resource() -> None:
    issue = the_error(patient(managingOrganization={"reference": "#o"}))
    assert (issue.code, issue.expression) == ("invariant", ("Patient.managingOrganization.reference",))
    assert "ref-1" in issue.diagnostics and "'#o'" in issue.diagnostics


def test_a_contained_resource_of_another_type_is_refused() -> None:
    inner = {"resourceType": "Practitioner", "id": "o"}
    assert verdict(patient(contained=[inner], managingOrganization={"reference": "#o"})) == (
        422,
        [("value", "Patient.managingOrganization.reference")],
    )


def test_a_contained_resource_must_be_referenced() -> None:
    """dom-3"""
    issue = the_error(patient(contained=[organization()]))
    assert (issue.code, issue.expression) == ("invariant", ("Patient.contained[0]",))
    assert "dom-3" in issue.diagnostics
    assert verdict(patient(contained=[{"resourceType": "Organization"}])) == (422, [("invariant", "Patient.contained[0]")])


@pytest.mark.parametrize(
    "resource",
    [
        # by another contained resource, which is referenced itself
        patient(
            contained=[organization(partOf={"reference": "#p"}), {"resourceType": "Organization", "id": "p", "name": "x"}],
            managingOrganization={"reference": "#o"},
        ),
        # by pointing to its container: "#" (https://hl7.org/fhir/R4/references.html#contained)
        patient(contained=[{"resourceType": "Provenance", "id": "v", "target": [{"reference": "#"}], "recorded": "2024-01-01T00:00:00Z",
                            "agent": [{"who": {"display": "x"}}]}]),
        # by a canonical
        {"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "#q",
         "contained": [{"resourceType": "Questionnaire", "id": "q", "status": "draft"}]},
        # by an extension
        patient(contained=[organization()], extension=[{"url": "urn:x", "valueReference": {"reference": "#o"}}]),
        # by a uri
        patient(contained=[organization()], extension=[{"url": "urn:x", "valueUri": "#o"}]),
    ],
    ids=["chain", "container", "canonical", "extension", "uri"],
)  # fmt: skip
def test_ways_to_reference_a_contained_resource(resource: dict[str, Any]) -> None:
    assert verdict(resource) == (200, [])


def test_contained_resources_do_not_contain() -> None:
    """dom-2"""
    inner = organization(contained=[{"resourceType": "Organization", "id": "x", "name": "x"}], partOf={"reference": "#x"})
    found = errors_of(patient(contained=[inner], managingOrganization={"reference": "#o"}))
    assert ("Patient.contained[0].contained",) in [issue.expression for issue in found]
    assert any("dom-2" in issue.diagnostics for issue in found)


@pytest.mark.parametrize(
    ("meta", "place", "rule"),
    [
        ({"versionId": "1"}, "meta.versionId", "dom-4"),
        ({"lastUpdated": "2024-01-01T00:00:00Z"}, "meta.lastUpdated", "dom-4"),
        ({"security": [{"code": "R"}]}, "meta.security", "dom-5"),
    ],
)
def test_contained_resources_have_no_version_and_no_security_label(meta: dict[str, Any], place: str, rule: str) -> None:
    issue = the_error(patient(contained=[organization(meta=meta)], managingOrganization={"reference": "#o"}))
    assert issue.expression == (f"Patient.contained[0].{place}",) and rule in issue.diagnostics


def test_contained_resources_have_other_meta() -> None:
    inner = organization(meta={"profile": ["http://x/y"], "tag": [{"code": "t"}]})
    assert verdict(patient(contained=[inner], managingOrganization={"reference": "#o"})) == (200, [])


def test_two_contained_resources_do_not_share_an_id() -> None:
    found = verdict(patient(contained=[organization(), organization()], managingOrganization={"reference": "#o"}))
    assert found == (422, [("duplicate", "Patient.contained[1]")])


def test_contained_resources_are_validated_whole() -> None:
    inner = organization(nam="x", telecom=[{"system": "pigeon"}], endpoint=[{"reference": "Patient/1"}])
    status, found = verdict(patient(contained=[inner], managingOrganization={"reference": "#o"}))
    assert status == 400
    assert {place for _, place in found} == {
        "Patient.contained[0].nam",
        "Patient.contained[0].telecom[0].system",
        "Patient.contained[0].endpoint[0].reference",
    }


def test_fragments_of_a_bundle_entry_stay_inside_of_it() -> None:
    first = patient(id="a", contained=[organization()], managingOrganization={"reference": "#o"})
    second = patient(id="b", managingOrganization={"reference": "#o"})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": first}, {"resource": second}]}
    assert verdict(bundle) == (422, [("invariant", "Bundle.entry[1].resource.managingOrganization.reference")])
