"""What a profile demands of a resource, rule by rule.

Specification: https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html, https://hl7.org/fhir/R4/extensibility.html
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.validation.profiled import BASE, OWN, broken, extension, found, profile, room

PATIENT = {"resourceType": "Patient"}
LOINC = "http://loinc.org"


def observation(**more):
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


# --- cardinality, types, values


def test_an_element_that_the_profile_requires_is_missing() -> None:
    (issue,) = found(PATIENT, profile("p", "Patient", {"path": "birthDate", "min": 1}))
    assert (issue.rule, issue.expression, issue.profile) == ("cardinality", ("Patient.birthDate",), OWN + "p")
    assert issue.diagnostics.startswith("Patient.birthDate: ") and issue.zh and issue.zh.startswith("Patient.birthDate：")


def test_an_element_that_the_profile_forbids_or_limits() -> None:
    demands = profile("p", "Patient", {"path": "photo", "max": "0"}, {"path": "name", "max": "1"})
    resource = PATIENT | {"photo": [{"title": "x"}], "name": [{"text": "a"}, {"text": "b"}]}
    assert broken(resource, demands) == [("cardinality", "Patient.name"), ("cardinality", "Patient.photo")]


def test_children_count_for_each_parent() -> None:
    demands = profile("p", "Patient", {"path": "name"}, {"path": "name.family", "min": 1})
    assert broken(PATIENT | {"name": [{"family": "a"}, {"text": "b"}]}, demands) == [("cardinality", "Patient.name[1].family")]
    assert broken(PATIENT, demands) == []


def test_a_choice_takes_only_the_types_that_are_left() -> None:
    demands = profile("p", "Observation", {"path": "value[x]", "type": [{"code": "Quantity"}, {"code": "string"}]})
    assert broken(observation(valueString="x"), demands) == []
    assert broken(observation(valueBoolean=True), demands) == [("type", "Observation.value")]


def test_fixed_is_exact_and_pattern_is_at_least() -> None:
    coding = {"coding": [{"system": LOINC, "code": "1-8"}]}
    fixed, pattern = (profile(kind, "Observation", {"path": "code", f"{kind}CodeableConcept": coding}) for kind in ("fixed", "pattern"))
    more = observation(code={"coding": [{"system": "urn:y", "code": "z"}, {"system": LOINC, "code": "1-8", "display": "one"}]})
    assert broken(more, pattern) == [] and broken(more, fixed) == [("fixed", "Observation.code")]
    assert broken(observation(code=coding), fixed) == []
    (issue,) = found(observation(code={"coding": [{"system": LOINC, "code": "2-6"}]}), pattern)
    assert (issue.rule, issue.expression) == ("pattern", ("Observation.code",)) and "1-8" in issue.diagnostics


@pytest.mark.parametrize(("value", "rules"), [(5, []), (0, ["min-value"]), (11, ["max-value"])])
def test_lowest_and_highest_values(value, rules) -> None:
    demands = profile("p", "Observation", {"path": "value[x]", "type": [{"code": "integer"}], "minValueInteger": 1, "maxValueInteger": 10})
    assert [rule for rule, _ in broken(observation(valueInteger=value), demands)] == rules


def test_the_greatest_length() -> None:
    demands = profile("p", "Patient", {"path": "name"}, {"path": "name.text", "maxLength": 3})
    assert broken(PATIENT | {"name": [{"text": "李小龙"}]}, demands) == []
    assert broken(PATIENT | {"name": [{"text": "abcd"}]}, demands) == [("max-length", "Patient.name[0].text")]


def test_an_invariant_of_the_profile() -> None:
    constraint = {"key": "own-1", "severity": "error", "human": "A family name is due", "expression": "name.family.exists()"}
    demands = profile("p", "Patient")
    demands["differential"]["element"][0]["constraint"] = [constraint]
    assert broken(PATIENT, demands) == [("own-1", "Patient")]
    assert broken(PATIENT | {"name": [{"family": "x"}]}, demands) == []


# --- bindings

SET = {
    "resourceType": "ValueSet", "url": "http://example.org/ValueSet/v", "status": "active",
    "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}, {"code": "b"}]}]},
}  # fmt: skip


@pytest.mark.parametrize(("strength", "severity"), [("required", "error"), ("extensible", "warning"), ("preferred", None)])
def test_a_binding_is_as_strong_as_it_says(strength, severity) -> None:
    demands = profile("p", "Observation", {"path": "code", "binding": {"strength": strength, "valueSet": SET["url"]}})
    inside, outside = (observation(code={"coding": [{"system": "urn:s", "code": code}]}) for code in ("a", "c"))
    known = room(demands, SET)
    assert [one for one in known.validate(inside, [demands["url"]]) if one.rule == "binding"] == []
    assert [one.severity for one in known.validate(outside, [demands["url"]]) if one.rule == "binding"] == ([severity] if severity else [])


def test_a_value_set_that_is_not_here_is_told_and_refuses_nothing() -> None:
    demands = profile("p", "Observation", {"path": "code", "binding": {"strength": "required", "valueSet": "http://elsewhere/vs"}})
    issues = room(demands).validate(observation(code={"coding": [{"system": "urn:s", "code": "a"}]}), [demands["url"]])
    assert [(one.severity, one.rule) for one in issues if one.profile] == [("warning", "binding-unknown")]


def test_a_code_that_its_system_does_not_have() -> None:
    resource = PATIENT | {"maritalStatus": {"coding": [{"system": "http://hl7.org/fhir/administrative-gender", "code": "purple"}]}}
    assert broken(resource) == [("code", "Patient.maritalStatus.coding[0].code")]


# --- slicing


def sliced(discriminator, *slices, rules="open", ordered=False, path="identifier", type="Patient"):
    kind, where = discriminator
    slicing = {"discriminator": [{"type": kind, "path": where}], "rules": rules, "ordered": ordered}
    rows = [{"path": path, "slicing": slicing}]
    for name, more, *below in slices:
        rows.append({"path": path, "sliceName": name, **more})
        rows += [{**one, "path": f"{path}.{one['path']}"} for one in below]
    return profile("s", type, *rows)


MRN, CARD = ({"path": "system", "min": 1, "fixedUri": uri} for uri in ("urn:mrn", "urn:card"))


def ids(*systems):
    return PATIENT | {"identifier": [{"system": system, "value": "1"} for system in systems]}


def test_a_slice_counts_its_own_elements() -> None:
    demands = sliced(("value", "system"), ("mrn", {"min": 1, "max": "1"}, MRN), ("card", {"max": "1"}, CARD))
    assert broken(ids("urn:mrn", "urn:other"), demands) == []
    assert broken(ids("urn:card"), demands) == [("cardinality", "Patient.identifier")]
    assert broken(ids("urn:mrn", "urn:mrn"), demands) == [("cardinality", "Patient.identifier")]


def test_the_rules_of_a_slice_hold_for_its_elements_only() -> None:
    demands = sliced(("value", "system"), ("mrn", {}, MRN, {"path": "use", "min": 1}))
    assert broken(ids("urn:other", "urn:mrn"), demands) == [("cardinality", "Patient.identifier[1].use")]


def test_a_closed_slicing_takes_nothing_else() -> None:
    demands = sliced(("value", "system"), ("mrn", {}, MRN), rules="closed")
    assert broken(ids("urn:mrn", "urn:other"), demands) == [("slicing-closed", "Patient.identifier[1]")]


def test_an_ordered_slicing_keeps_its_order() -> None:
    demands = sliced(("value", "system"), ("mrn", {}, MRN), ("card", {}, CARD), ordered=True)
    assert broken(ids("urn:mrn", "urn:card"), demands) == []
    assert broken(ids("urn:card", "urn:mrn"), demands) == [("slicing-order", "Patient.identifier[1]")]


def test_open_at_end_has_its_slices_first() -> None:
    demands = sliced(("value", "system"), ("mrn", {}, MRN), rules="openAtEnd")
    assert broken(ids("urn:mrn", "urn:other"), demands) == []
    assert broken(ids("urn:other", "urn:mrn"), demands) == [("slicing-order", "Patient.identifier[1]")]


def test_slices_by_pattern() -> None:
    vital = {"path": "", "patternCodeableConcept": {"coding": [{"system": "urn:c", "code": "vital"}]}}
    demands = sliced(
        ("pattern", "$this"),
        ("vital", {"min": 1, "patternCodeableConcept": vital["patternCodeableConcept"]}),
        path="category",
        type="Observation",
    )
    assert broken(observation(category=[{"coding": [{"system": "urn:c", "code": "vital", "display": "x"}]}]), demands) == []
    assert broken(observation(category=[{"text": "vital"}]), demands) == [("cardinality", "Observation.category")]


def test_slices_by_existence() -> None:
    ended, running = {"path": "period", "max": "0"}, {"path": "period", "min": 1}
    demands = sliced(("exists", "period"), ("for ever", {"max": "1"}, ended), ("for a time", {}, running))
    one = {"value": "1"}
    assert broken(PATIENT | {"identifier": [one, one | {"period": {"start": "2020"}}]}, demands) == []
    assert broken(PATIENT | {"identifier": [one, one]}, demands) == [("cardinality", "Patient.identifier")]


def test_slices_by_type() -> None:
    demands = profile(
        "p", "Observation", {"path": "value[x]", "slicing": {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"}},
        {"path": "value[x]", "sliceName": "valueQuantity", "type": [{"code": "Quantity"}]}, {"path": "value[x].unit", "min": 1},
    )  # fmt: skip
    assert broken(observation(valueString="x"), demands) == []
    assert broken(observation(valueQuantity={"value": 1}), demands) == [("cardinality", "Observation.value.unit")]


def test_slices_of_entries_by_profile() -> None:
    inner = profile("inner", "Patient", {"path": "birthDate", "min": 1})
    demands = profile(
        "b", "Bundle", {"path": "entry", "slicing": {"discriminator": [{"type": "profile", "path": "resource"}], "rules": "open"}},
        {"path": "entry", "sliceName": "who", "min": 1},
        {"path": "entry.resource", "min": 1, "type": [{"code": "Patient", "profile": [inner["url"]]}]},
    )  # fmt: skip

    def bundle(**patient):
        return {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:uuid:1", "resource": PATIENT | patient}]}

    assert broken(bundle(birthDate="2000"), demands, inner) == []
    assert broken(bundle(), demands, inner) == [("cardinality", "Bundle.entry")]


def test_a_slice_is_sliced_again() -> None:
    slicing = {"discriminator": [{"type": "value", "path": "use"}], "rules": "open"}
    demands = sliced(
        ("value", "system"),
        ("mrn", {"slicing": slicing}, MRN),
        ("mrn/old", {"max": "1"}, MRN, {"path": "use", "min": 1, "fixedCode": "old"}),
    )
    old = {"system": "urn:mrn", "value": "1", "use": "old"}
    assert broken(PATIENT | {"identifier": [old, {**old, "use": "usual"}]}, demands) == []
    assert broken(PATIENT | {"identifier": [old, old]}, demands) == [("cardinality", "Patient.identifier")]


# --- extensions


def test_an_extension_meets_its_definition() -> None:
    known = extension("e", "string", ("element", "Patient"))
    assert broken(PATIENT | {"extension": [{"url": OWN + "e", "valueString": "x"}]}, beside=(known,)) == []
    wrong = PATIENT | {"extension": [{"url": OWN + "e", "valueBoolean": True}]}
    assert broken(wrong, beside=(known,)) == [("type", "Patient.extension[0].value")]


def test_an_extension_stands_where_its_definition_allows() -> None:
    known = extension("e", "string", ("element", "HumanName.family"))
    value = {"url": OWN + "e", "valueString": "x"}
    assert broken(PATIENT | {"name": [{"family": "a", "_family": {"extension": [value]}}]}, beside=(known,)) == []
    assert broken(PATIENT | {"extension": [value]}, beside=(known,)) == [("extension-context", "Patient.extension[0]")]


def test_a_modifier_stands_among_the_modifiers() -> None:
    known = extension("m", "boolean", ("element", "Patient"), modifier=True)
    value = {"url": OWN + "m", "valueBoolean": True}
    assert broken(PATIENT | {"modifierExtension": [value]}, beside=(known,)) == []
    assert broken(PATIENT | {"extension": [value]}, beside=(known,)) == [("extension-modifier", "Patient.extension[0]")]


def test_an_unknown_modifier_is_an_error_and_another_extension_is_not() -> None:
    value = {"url": "http://elsewhere.org/e", "valueBoolean": True}
    assert broken(PATIENT | {"modifierExtension": [value]}) == [("extension-unknown", "Patient.modifierExtension[0]")]
    assert broken(PATIENT | {"extension": [value]}) == []
    strict = room(refuses_unknown=True).validate(PATIENT | {"extension": [value]})
    assert [one.rule for one in strict if one.severity == "error"] == ["extension-unknown"]


def test_a_part_that_a_complex_extension_does_not_have() -> None:
    animal = BASE + "patient-animal"
    good, bad = ({"url": url, "valueCodeableConcept": {"text": "x"}} for url in ("species", "colour"))
    assert broken(PATIENT | {"extension": [{"url": animal, "extension": [good]}]}) == []
    assert broken(PATIENT | {"extension": [{"url": animal, "extension": [good, bad]}]}) == [
        ("extension-part", "Patient.extension[0].extension[1]")
    ]


# --- references, contained resources, profiles of profiles


def test_the_target_of_a_reference_meets_one_of_the_profiles() -> None:
    target = profile("who", "Patient", {"path": "birthDate", "min": 1})
    demands = profile("p", "Observation", {"path": "subject", "type": [{"code": "Reference", "targetProfile": [target["url"]]}]})

    def about(**patient):
        return observation(contained=[PATIENT | {"id": "p"} | patient], subject={"reference": "#p"})

    assert broken(about(birthDate="2000"), demands, target) == []
    assert broken(about(), demands, target) == [("target-profile", "Observation.subject")]
    assert broken(observation(subject={"reference": "Group/1"}), demands, target) == [("target-type", "Observation.subject")]


def test_a_reference_is_contained_where_the_profile_says_so() -> None:
    types = [{"code": "Reference", "targetProfile": [BASE + "Patient"], "aggregation": ["contained"]}]
    demands = profile("p", "Observation", {"path": "subject", "type": types})
    assert broken(observation(contained=[PATIENT | {"id": "p"}], subject={"reference": "#p"}), demands) == []
    assert broken(observation(subject={"reference": "Patient/1"}), demands) == [("aggregation", "Observation.subject")]


def test_declared_profiles_count_and_unknown_ones_are_told() -> None:
    demands = profile("p", "Patient", {"path": "birthDate", "min": 1}, version="2.0")
    known = room(demands)
    named = PATIENT | {"meta": {"profile": [demands["url"], "http://elsewhere.org/p"]}}
    issues = [one for one in known.validate(named) if one.rule in ("cardinality", "profile-unknown")]
    assert [(one.severity, one.expression[0]) for one in issues] == [("error", "Patient.birthDate"), ("warning", "Patient.meta.profile[1]")]


def test_a_version_that_is_named_is_the_one_that_counts() -> None:
    old, new = (
        profile("p", "Patient", {"path": name, "min": 1}, version=version)
        for name, version in (("gender", "1.0.1"), ("birthDate", "1.10.0"))
    )
    for named, missing in (("", "birthDate"), ("|1.0.1", "gender"), ("|1.0", "gender"), ("|1", "birthDate")):
        resource = PATIENT | {"meta": {"profile": [old["url"] + named]}}
        assert broken(resource, beside=(old, new)) == [("cardinality", f"Patient.{missing}")], named


def test_a_profile_upon_a_profile() -> None:
    base = profile("base", "Patient", {"path": "name", "min": 1})
    demands = profile("p", "Patient", {"path": "birthDate", "min": 1}, base=base["url"])
    assert broken(PATIENT, demands, base) == [("cardinality", "Patient.name"), ("cardinality", "Patient.birthDate")]


def test_a_profile_for_another_type_is_told() -> None:
    demands = profile("p", "Observation")
    assert broken(PATIENT, demands) == [("profile-type", "Patient")]


def test_a_profile_that_cannot_be_used_is_an_error_where_it_is_named() -> None:
    demands = profile("p", "Patient", {"path": "colour", "min": 1})
    (issue,) = found(PATIENT, demands)
    assert issue.rule == "profile-unknown" and "Patient.colour" in issue.diagnostics


def test_profiles_that_lean_on_each_other_end() -> None:
    one = profile(
        "one", "Patient", {"path": "link"}, {"path": "link.other", "type": [{"code": "Reference", "targetProfile": [OWN + "one"]}]}
    )
    linked = PATIENT | {"id": "a", "link": [{"other": {"reference": "Patient/a"}, "type": "seealso"}]}
    assert broken(linked, one, resolve={"Patient/a": linked}.get) == []
    base = profile("x", "Patient", base=OWN + "x")
    assert [rule for rule, _ in broken(PATIENT, base)] == ["profile-unknown"]


# --- R4's own rules


def test_invariants_of_r4_are_told_with_their_key_in_both_languages() -> None:
    (issue,) = found(PATIENT | {"contact": [{"gender": "male"}]})
    assert (issue.rule, issue.code, issue.expression) == ("pat-1", "invariant", ("Patient.contact[0]",))
    assert "contact" in issue.diagnostics and issue.zh and "（pat-1）" in issue.zh and "必须" in issue.zh


def test_a_key_that_r4_uses_twice_is_looked_at_in_each_place() -> None:
    task = {"resourceType": "Task", "status": "requested", "intent": "order", "authoredOn": "2024-02-01", "lastModified": "2024-01-01"}
    assert broken(task) == [("inv-1", "Task")]


def test_what_is_contained_is_looked_at_too() -> None:
    inner = {"resourceType": "Patient", "id": "p", "contact": [{"gender": "male"}]}
    resource = observation(contained=[inner], subject={"reference": "#p"})
    assert broken(resource) == [("pat-1", "Observation.contained[0].contact[0]")]


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ({"fullUrl": "http://x/Patient/other", "resource": PATIENT | {"id": "1"}}, "bundle-fullurl"),
        ({"fullUrl": "Patient/1", "resource": PATIENT | {"id": "1"}}, "bundle-fullurl"),
        ({"resource": PATIENT | {"id": "1"}}, "bundle-fullurl"),
    ],
)
def test_entries_have_the_identity_that_they_say(entry, rule) -> None:
    """https://hl7.org/fhir/R4/bundle.html#bundle-unique"""
    assert [one for one, _ in broken({"resourceType": "Bundle", "type": "collection", "entry": [entry]})] == [rule]


def test_what_a_document_refers_to_is_in_it() -> None:
    """https://hl7.org/fhir/R4/documents.html#content"""
    composition = {
        "resourceType": "Composition", "id": "c", "status": "final", "type": {"text": "x"}, "date": "2024-01-01", "title": "t",
        "author": [{"reference": "Practitioner/1"}],
    }  # fmt: skip
    entries = [{"fullUrl": "http://x/Composition/c", "resource": composition}]
    document = {
        "resourceType": "Bundle", "type": "document", "identifier": {"system": "urn:s", "value": "1"}, "timestamp": "2024-01-01T00:00:00Z",
        "entry": entries,
    }  # fmt: skip
    assert broken(document) == [("document-reference", "Bundle.entry[0].resource.author[0]")]
    entries.append({"fullUrl": "http://x/Practitioner/1", "resource": {"resourceType": "Practitioner", "id": "1"}})
    assert broken(document) == []


# --- hostile and broken definitions


def test_expressions_that_could_run_for_ever_end(monkeypatch) -> None:
    for pattern in ("^(a|aa)+$", "^(a|a)*$", "^(a?){30}a{30}$", "^(a+)+$"):
        constraint = {"key": "own-1", "severity": "error", "human": "x", "expression": f"name.all(family.matches('{pattern}'))"}
        demands = profile("p", "Patient")
        demands["differential"]["element"][0]["constraint"] = [constraint]
        for text, due in (("a" * 60, []), ("a" * 60 + "!", ["error"])):
            issues = room(demands).validate(PATIENT | {"name": [{"family": text}]}, [demands["url"]])
            assert [one.severity for one in issues if one.rule == "own-1"] == due, pattern
    demands["differential"]["element"][0]["constraint"][0]["expression"] = "('a').repeat($this & 'a').count() > 0"
    issues = room(demands).validate(PATIENT, [demands["url"]])
    assert [one.severity for one in issues if one.rule == "own-1"] == ["warning"]


@pytest.mark.parametrize("pattern", [r"^(\\.[a-z]+)*$", "^[1-9][0-9]{5}(19|20)[0-9]{2}[0-9X]$", r"^\\d{1,3}(\\.\\d{1,3}){3}$"])
def test_expressions_that_are_harmless_are_evaluated(pattern) -> None:
    constraint = {"key": "own-1", "severity": "error", "human": "x", "expression": f"id.matches('{pattern}')"}
    demands = profile("p", "Patient")
    demands["differential"]["element"][0]["constraint"] = [constraint]
    assert broken(PATIENT | {"id": "!"}, demands) == [("own-1", "Patient")]


def test_nobody_redefines_r4() -> None:
    other = {"resourceType": "Questionnaire", "url": BASE + "Patient", "status": "draft"}
    narrow = profile("Patient", "Patient", {"path": "birthDate", "min": 1}) | {"url": BASE + "Patient"}
    demands = profile("p", "Patient", {"path": "gender", "min": 1})
    for stored in (other, narrow):
        assert broken(PATIENT, demands, beside=(stored,)) == [("cardinality", "Patient.gender")]


def test_versions_of_any_form_are_compared() -> None:
    old, new = (
        profile("p", "Patient", {"path": path, "min": 1}, version=version) for path, version in (("gender", "1"), ("birthDate", "²"))
    )
    assert len(broken(PATIENT, old, beside=(new,))) == 1


def test_a_differential_that_is_no_elementdefinition_is_told() -> None:
    wrong = profile("p", "Patient", {"path": "name", "max": "abc"})
    assert "structure-snapshot" in [rule for rule, _ in broken(wrong)]
    (issue,) = found(PATIENT, wrong)
    assert issue.rule == "profile-unknown" and "ValueError(" not in issue.diagnostics


def test_a_profile_that_is_asked_for_and_not_here_is_an_error() -> None:
    """https://hl7.org/fhir/R4/resource-operation-validate.html: "if the server cannot validate against the nominated profile, it SHALL
    return an error"."""
    issues = room().validate(PATIENT, ["http://nowhere.org/p"])
    assert [(one.severity, one.rule) for one in issues if one.rule == "profile-unknown"] == [("error", "profile-unknown")]


def test_a_constraint_that_cannot_be_read_is_told_in_the_profile_and_where_it_is_used() -> None:
    demands = profile("p", "Patient")
    constraint = {"key": "own-1", "severity": "error", "human": "x", "expression": "name.where("}
    demands["differential"]["element"][0]["constraint"] = [constraint]
    assert ("structure-constraint", "StructureDefinition.differential.element[0]") in broken(demands)
    issues = room(demands).validate(PATIENT, [demands["url"]])
    assert [(one.severity, one.rule) for one in issues if one.rule == "own-1"] == [("warning", "own-1")]


def test_codes_of_systems_that_are_not_here_are_undecided_and_units_are_looked_up() -> None:
    whole = {**SET, "compose": {"include": [{"system": LOINC}]}}
    units = {**SET, "url": SET["url"] + "u", "compose": {"include": [{"system": "http://unitsofmeasure.org"}]}}
    rows = []
    for one, coding in ((whole, {"system": LOINC, "code": "x"}), (units, {"system": "http://unitsofmeasure.org", "code": "kg"}),
                        (units, {"system": "http://unitsofmeasure.org", "code": "bogus"})):  # fmt: skip
        demands = profile("p", "Observation", {"path": "code", "binding": {"strength": "required", "valueSet": one["url"]}})
        issues = room(demands, one).validate(observation(code={"coding": [coding]}), [demands["url"]])
        rows.append([(issue.severity, issue.rule) for issue in issues if issue.rule.startswith("binding")])
    assert rows == [[("warning", "binding-unknown")], [], [("error", "binding")]]


def test_upper_and_lower_case_are_one_where_the_system_says_so() -> None:
    system = {
        "resourceType": "CodeSystem", "url": "urn:ci", "status": "active", "content": "complete", "caseSensitive": False,
        "concept": [{"code": "a"}],
    }  # fmt: skip
    one = {**SET, "compose": {"include": [{"system": "urn:ci"}]}}
    demands = profile("p", "Observation", {"path": "code", "binding": {"strength": "required", "valueSet": one["url"]}})
    resource = observation(code={"coding": [{"system": "urn:ci", "code": "A"}]})
    assert broken(resource, demands, beside=(one, system)) == []


def test_slices_by_what_a_reference_leads_to() -> None:
    who = profile("who", "Organization", {"path": "name", "min": 1})
    slicing = {"discriminator": [{"type": "profile", "path": "resolve()"}], "rules": "open"}
    demands = profile(
        "p", "Patient", {"path": "generalPractitioner", "slicing": slicing},
        {"path": "generalPractitioner", "sliceName": "org", "min": 1, "type": [{"code": "Reference", "targetProfile": [who["url"]]}]},
    )  # fmt: skip
    named = PATIENT | {"generalPractitioner": [{"reference": "Organization/1"}]}
    good, bad = ({"resourceType": "Organization", "id": "1", **more} for more in ({"name": "x"}, {"active": True}))
    assert broken(named, demands, who, resolve={"Organization/1": good}.get) == []
    assert broken(named, demands, who, resolve={"Organization/1": bad}.get) == [("cardinality", "Patient.generalPractitioner")]
    assert broken(named, demands, who) == []  # nothing elsewhere is looked at: the type decides
    by_type = {"discriminator": [{"type": "type", "path": "resolve()"}], "rules": "closed"}
    demands["differential"]["element"][1]["slicing"] = by_type
    assert broken(named, demands, who) == []


def test_a_rule_about_what_is_elsewhere_refuses_only_where_that_is_looked_at() -> None:
    constraint = {"key": "own-1", "severity": "error", "human": "x", "expression": "subject.resolve().active = true"}
    demands = profile("p", "Observation")
    demands["differential"]["element"][0]["constraint"] = [constraint]
    resource = observation(subject={"reference": "Patient/1"})
    assert broken(resource, demands) == []
    assert broken(resource, demands, resolve={"Patient/1": PATIENT | {"active": True}}.get) == []
    assert broken(resource, demands, resolve={"Patient/1": PATIENT}.get) == [("own-1", "Observation")]


def test_search_parameters_may_derive_from_those_of_all_resources() -> None:
    parameter = {
        "resourceType": "SearchParameter", "url": "http://example.org/sp", "name": "X", "status": "active", "description": "x",
        "code": "_id", "base": ["Specimen"], "type": "token", "derivedFrom": "http://hl7.org/fhir/SearchParameter/Resource-id",
    }  # fmt: skip
    assert broken(parameter) == []


def test_children_of_a_choice_hold_for_the_type_that_has_them() -> None:
    wanted = profile("most", "Observation", {"path": "value[x].value", "maxValueDecimal": 100})
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    assert broken(observation | {"valueQuantity": {"value": 150.25}}, wanted) == [("max-value", "Observation.value.value")]
    for value in ({"valueQuantity": {"value": 100}}, {"valueString": "150.25"}, {"valueInteger": 150}, {}):
        assert broken(observation | value, wanted) == []
    unclear = profile("unclear", "Observation", {"path": "value[x].nothing", "min": 1})
    assert [issue.rule for issue in room(unclear).validate(observation, [unclear["url"]])] == ["dom-6", "profile-unknown"]


def test_the_id_of_an_element_stands_once() -> None:
    names = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]
    assert broken(PATIENT | {"name": names}) == []
    assert broken(PATIENT | {"name": names, "_birthDate": {"id": "b"}, "birthDate": "2000"}) == [("element-id", "Patient.birthDate")]
    inner = {"resourceType": "Organization", "id": "o", "name": "x", "alias": ["y"], "_alias": [{"id": "a"}]}
    whole = PATIENT | {"name": names, "contained": [inner], "managingOrganization": {"reference": "#o"}}
    assert broken(whole) == [], "what is contained counts by itself"


NARRATIVE = "http://hl7.org/fhir/StructureDefinition/narrative-"


def narrated(inner: str, **more: Any) -> dict[str, Any]:
    return PATIENT | {"text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{inner}</div>'}} | more


def controlled(name: str, *codes: str) -> dict[str, Any]:
    return profile(name, "Patient", {"path": "text", "extension": [{"url": NARRATIVE + name, "valueCode": code} for code in codes]})


GERMAN, BOTH = '<div xml:lang="de">Hallo</div>', '<div xml:lang="de">Hallo</div><div lang="zh" xml:lang="zh">你好</div>'


@pytest.mark.parametrize(
    ("codes", "inner", "language", "wrong"),
    [
        (("_no",), "Hallo", "de", 0), (("_no",), GERMAN, "de", 1), (("_yes",), GERMAN, "zh", 0), (("_yes",), "Hallo", "de", 1),
        (("_resource",), BOTH, "zh", 0), (("_resource",), GERMAN, "zh", 1), (("_resource",), GERMAN, "", 0),
        (("de", "zh"), BOTH, "", 0), (("de", "zh", "fr"), BOTH, "", 1),
    ],
)  # fmt: skip
def test_a_narrative_is_in_the_languages_that_the_profile_demands(codes, inner, language, wrong) -> None:
    more = {"language": language} if language else {}
    assert broken(narrated(inner, **more), controlled("language-control", *codes)) == [("narrative-language", "Patient.text")] * wrong


@pytest.mark.parametrize(("code", "severities"), [("error", ["error"] * 2), ("warning", ["warning"] * 2), ("success", [])])
def test_the_parts_of_a_narrative_say_where_they_come_from(code, severities) -> None:
    inner = 'Text<h1 class="boilerplate big">A</h1><p>B</p><p class="original">C</p>'
    wanted = controlled("source-control", code)
    issues = room(wanted).validate(narrated(inner), [wanted["url"]])
    assert [issue.severity for issue in issues if issue.rule == "narrative-source"] == severities


def test_names_of_countries_are_known() -> None:
    def at(code: str, display: str) -> dict[str, Any]:
        coding = {"system": "urn:iso:std:iso:3166", "code": code, "display": display}
        return {"resourceType": "Basic", "code": {"text": "x", "coding": [coding]}}

    assert broken(at("BD", "Bangladesh")) == []
    assert broken(at("BD", "Australia")) == [("display", "Basic.code.coding[0].display")]
    assert broken(at("CN-11", "Beijing")) == [], "subdivisions are not here"
    assert broken(at("US", "United States of America (the)")) == [], "a country has many names"


@pytest.mark.parametrize("text", ["x.value as String", "x.value.as(String)"])
def test_string_means_the_string_of_fhir_in_constraints(text: str) -> None:
    constraint = {"key": "k", "severity": "error", "human": "h", "expression": f"({text.replace('x', 'extension')}) = 'a'"}
    wanted = profile("k", "Patient", {"path": "name", "constraint": [constraint]})
    for value, due in (("a", 0), ("b", 1)):
        patient = PATIENT | {"name": [{"text": "n", "extension": [{"url": "http://x.org/e", "valueString": value}]}]}
        assert broken(patient, wanted) == [("k", "Patient.name[0]")] * due


def test_what_of_a_profile_cannot_be_checked_is_told() -> None:
    odd = profile("odd", "Patient", {"path": "name", "min": 1})
    rows = [{"id": "Patient", "path": "Patient"}, {"id": "Patient.nose", "path": "Patient.nose", "min": 1, "max": "1"}]
    odd["snapshot"] = {"element": rows}
    issues = [issue for issue in room(odd).validate(PATIENT, [odd["url"]]) if issue.rule == "profile-part"]
    assert [(issue.severity, "Patient.nose" in issue.diagnostics) for issue in issues] == [("warning", True)]


def test_resources_are_not_held_against_a_logical_model() -> None:
    model = profile("model", "http://x.org/Nose", base=f"{BASE}Element") | {"kind": "logical", "derivation": "specialization"}
    (issue,) = [one for one in room(model).validate(PATIENT, [model["url"]]) if one.rule == "profile-unknown"]
    assert "http://x.org/Nose, which is none of R4's" in issue.diagnostics


@pytest.mark.parametrize("name", ["catalog", "familymemberhistory-genetic"])
def test_elements_that_r4_names_as_if_they_were_slices(name: str) -> None:
    compiled = room().profile(BASE + name)
    assert compiled is not None and compiled.faults == []


def structure_rules(definition: dict[str, Any]) -> list[tuple[str, str]]:
    return [(issue.rule, issue.severity) for issue in room().validate(definition) if issue.rule.startswith("structure-")]


def test_slices_say_how_they_are_told_apart() -> None:
    """https://hl7.org/fhir/R4/profiling.html#slicing: only extensions may leave that out."""
    rows = ({"path": "identifier", "sliceName": "a", "min": 1}, {"path": "identifier.system", "fixedUri": "urn:a"})
    assert structure_rules(profile("p", "Patient", *rows)) == [("structure-snapshot", "error")]
    assert broken(PATIENT, profile("p", "Patient", *rows)) == [("profile-unknown", "Patient")]
    slicing = {"path": "identifier", "slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "open"}}
    assert structure_rules(profile("p", "Patient", slicing, *rows)) == []


@pytest.mark.parametrize("row", [{"path": "link.other", "min": 0}, {"path": "gender", "max": "*"}])
def test_a_profile_permits_no_more_than_its_base(row: dict[str, Any]) -> None:
    assert structure_rules(profile("p", "Patient", row)) == [("structure-snapshot", "error")]


def test_a_base_that_is_not_known_is_told_where_it_is_named() -> None:
    assert structure_rules(profile("p", "Patient", base="http://no/where")) == [("structure-base", "warning")]
    (issue,) = found(PATIENT, {key: value for key, value in profile("p", "Patient").items() if key != "baseDefinition"})
    assert "it has no baseDefinition" in issue.diagnostics


def test_a_profile_that_is_named_twice_is_checked_once() -> None:
    wanted = profile("p", "Patient", {"path": "name", "min": 1}, version="1.0")
    patient = PATIENT | {"meta": {"profile": [wanted["url"], wanted["url"] + "|1.0"]}}
    by_type = {"Patient": [wanted["url"]]}
    issues = room(wanted, by_type=by_type).validate(patient)
    assert [issue.rule for issue in issues if issue.severity == "error"] == ["cardinality"]


def test_rules_together_end_too() -> None:
    bomb = {"key": "z-1", "severity": "error", "human": "x", "expression": "(1|2|3|4|5|6|7|8|9).repeat($this+1).exists()"}
    wanted = profile("p", "Patient", {"path": "name", "constraint": [bomb]})
    started = time.monotonic()
    issues = room(wanted).validate(PATIENT | {"name": [{"family": str(n)} for n in range(60)]}, [wanted["url"]])
    assert [issue.severity for issue in issues if issue.rule == "z-1"] == ["warning"] * 60
    assert time.monotonic() - started < 30  # a second for each took minutes


def test_a_display_may_be_longer_than_the_tables_of_v3() -> None:
    """v3-TribalEntityUS cuts its texts to 50 characters."""
    tribes = room().terminology.code_system("http://terminology.hl7.org/CodeSystem/v3-TribalEntityUS")
    assert tribes is not None
    code, held = next((code, concept.display) for code, concept in tribes.concepts.items() if len(concept.display) == 50)
    coding = {"system": tribes.url, "code": code}
    basic = {"resourceType": "Basic", "code": {"text": "x", "coding": [coding | {"display": held + " and all that follows"}]}}
    assert broken(basic) == []
    basic["code"]["coding"][0]["display"] = "another tribe"
    assert broken(basic) == [("display", "Basic.code.coding[0].display")]


def test_limits_of_another_kind_are_told() -> None:
    kilograms = {"value": 10, "system": "http://unitsofmeasure.org", "code": "kg"}
    wanted = profile("p", "Observation", {"path": "value[x]", "type": [{"code": "Quantity"}], "maxValueQuantity": kilograms})
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    for code, due in (("g", []), ("m", ["warning"])):
        quantity = {"value": 5, "system": "http://unitsofmeasure.org", "code": code}
        issues = room(wanted).validate(observation | {"valueQuantity": quantity}, [wanted["url"]])
        assert [issue.severity for issue in issues if issue.rule == "limit-unknown"] == due


def test_the_default_slice_is_what_belongs_to_no_other() -> None:
    """https://hl7.org/fhir/R4/profiling.html#default-slice"""
    slicing = {"path": "identifier", "slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "closed"}}
    rows = (
        slicing, {"path": "identifier", "sliceName": "a", "max": "1"}, {"path": "identifier.system", "fixedUri": "urn:a"},
        {"path": "identifier", "sliceName": "@default", "max": "1"}, {"path": "identifier.value", "min": 1},
    )  # fmt: skip
    wanted = profile("p", "Patient", *rows)
    a, b, c = {"system": "urn:a"}, {"system": "urn:b", "value": "1"}, {"system": "urn:c"}
    assert broken(PATIENT | {"identifier": [a, b]}, wanted) == []
    assert broken(PATIENT | {"identifier": [a, c]}, wanted) == [("cardinality", "Patient.identifier[1].value")]
    assert broken(PATIENT | {"identifier": [a, b, b]}, wanted) == [("cardinality", "Patient.identifier")]
