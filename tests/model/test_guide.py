"""The product's own implementation guide: valid R4, its examples meet their profiles, it comes out as a package."""

from __future__ import annotations

import pytest

from fhir_server.model.guide import CANONICAL, guide
from fhir_server.model.library import Library
from fhir_server.model.packages import packed, read_package
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate as structure

OWN_SYSTEMS = {
    "tags", "task", "channel", "send-reason", "status-reason", "message-category", "consent-scope", "measures", "basic", "grade", "band",
    "flag", "issue", "order", "role", "topic", "anchor", "stage", "call-outcome", "business-status",
}  # fmt: skip
ROOM = ProfileRoom(Library(guide().resources).find, refuses_unknown=True)
ID = "urn:oid:2.16.156.10011.1.3"


def errors(resource):
    found = [*structure(resource), *ROOM.validate(resource)]
    return [(issue.rule, issue.expression[0], issue.diagnostics) for issue in found if issue.severity == "error"]


@pytest.mark.parametrize("resource", [*guide().resources, *guide().examples], ids=lambda one: f"{one['resourceType']}-{one['id']}")
def test_each_resource_and_example_is_valid(resource) -> None:
    assert errors(resource) == []


def test_each_profile_compiles_without_a_fault() -> None:
    for one in guide().resources:
        if one["resourceType"] == "StructureDefinition":
            profile = ROOM.profile(one["url"])
            assert profile is not None and profile.faults == [], (one["url"], ROOM.fault_of(one["url"]))


def test_the_code_systems_are_all_there_with_chinese_and_english() -> None:
    systems = {one["id"]: one for one in guide().resources if one["resourceType"] == "CodeSystem"}
    sets = {one["id"] for one in guide().resources if one["resourceType"] == "ValueSet"}
    assert OWN_SYSTEMS <= systems.keys() <= sets
    for one in systems.values():
        assert one["count"] == len(one["concept"]) > 0
        codes = [concept["code"] for concept in one["concept"]]
        assert len(set(codes)) == len(codes)
        for concept in one["concept"]:
            assert [row["language"] for row in concept["designation"]] == ["zh-CN", "en"] and all(
                row["value"] for row in concept["designation"]
            )
    assert len(systems["ethnicity"]["concept"]) == 58  # GB/T 3304: 56 groups, other, of foreign origin


def patient(number="110105195806120024", **more):
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "NI"}]}
    return {
        "resourceType": "Patient", "meta": {"profile": [f"{CANONICAL}/StructureDefinition/cn-patient"]}, "name": [{"text": "王小红"}],
        "identifier": [{"type": kind, "system": ID, "value": number}], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "number", ["11010519491231002X", "110101199003070011", "320106197008151234", "310101200011290025", "350203196603150241"]
)
def test_resident_ids_that_are_right(number) -> None:
    """Test vectors of GB 11643-1999."""
    assert errors(patient(number)) == []


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("110105194912310021", "cn-id-2"),  # check digit
        ("11010519490230002X", "cn-id-1"),  # 30 February
        ("440524188001010014", "cn-id-1"),  # born before 1900
        ("11010519491231002", "cn-id-1"),  # 17 digits
        ("11010519491231002x", "cn-id-1"),
    ],
)
def test_resident_ids_that_are_wrong(number, rule) -> None:
    found = errors(patient(number))
    assert rule in [one for one, _, _ in found] and {where for _, where, _ in found} == {"Patient.identifier[0]"}


def test_a_patient_has_a_name_and_a_mobile_number_of_eleven_digits() -> None:
    assert [rule for rule, *_ in errors(patient(name=[{"family": "王"}]))] == ["cardinality"]
    wrong, right = ({"system": "phone", "use": "mobile", "value": value} for value in ("12345", "+8613800138000"))
    assert [rule for rule, *_ in errors(patient(telecom=[wrong]))] == ["cn-tel-1"]
    assert errors(patient(telecom=[right])) == []


def test_a_name_in_other_letters_is_a_warning() -> None:
    issues = ROOM.validate(patient(name=[{"text": "John Smith"}]))
    assert [issue.severity for issue in issues if issue.rule == "cn-name-2"] == ["warning"]


def test_an_ethnic_group_is_one_of_the_list() -> None:
    own = {"url": f"{CANONICAL}/StructureDefinition/ethnicity", "valueCoding": {"system": "urn:oid:2.16.156.10011.2.3.3.3", "code": "60"}}
    assert "binding" in [rule for rule, *_ in errors(patient(extension=[own]))]


def test_it_comes_out_as_a_package_the_same_each_time(tmp_path) -> None:
    (tmp_path / "guide.tgz").write_bytes(packed(guide()))
    assert packed(guide()) == (tmp_path / "guide.tgz").read_bytes()
    made = read_package(tmp_path / "guide.tgz")
    assert made.id == guide().id and len(made.resources) == len(guide().resources) and len(made.examples) == len(guide().examples)


def test_a_site_has_canonicals_of_its_own() -> None:
    other = guide("https://hospital.example.cn/fhir")
    assert all("example.org/followup" not in str(one) for one in [*other.resources, *other.examples])
