"""R4's own code systems and value sets, against facts of the published specification.

https://hl7.org/fhir/R4/valueset.html, https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/v3/ActCode/cs.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import NotEnumerable

GENDER = "http://hl7.org/fhir/administrative-gender"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


@pytest.fixture(scope="module")
def room() -> Terminology:
    return Terminology(definitions().resource)


def test_a_system_as_a_whole(room: Terminology) -> None:
    content = room.value_set("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1")
    assert content is not None
    assert {coding: listed.display for coding, listed in content.enumerated().items()} == {
        (GENDER, "male"): "Male",
        (GENDER, "female"): "Female",
        (GENDER, "other"): "Other",
        (GENDER, "unknown"): "Unknown",
    }


def test_is_a_without_the_grouper(room: Terminology) -> None:
    """v3-ActEncounterCode: everything below _ActEncounterCode, but not that code."""
    content = room.value_set("http://terminology.hl7.org/ValueSet/v3-ActEncounterCode")
    assert content is not None
    codes = {code for _, code in content.enumerated()}
    assert {"AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"} == codes


def test_descendent_of_leaves_the_code_itself_out(room: Terminology) -> None:
    content = room.value_set("http://hl7.org/fhir/ValueSet/inactive")
    assert content is not None
    codes = {code for _, code in content.enumerated()}
    assert "_ActMoodPredicate" not in codes
    assert {"CRT", "EVN.CRT", "GOL", "RSK"} <= codes


def test_is_not_a(room: Terminology) -> None:
    content = room.value_set("http://hl7.org/fhir/ValueSet/patient-contactrelationship")
    assert content is not None
    codes = {code for _, code in content.enumerated()}
    assert {"BP", "C", "CP", "E", "EP", "F", "I", "N", "PR", "S", "U"} == codes


def test_two_systems_in_one_set(room: Terminology) -> None:
    content = room.value_set("http://hl7.org/fhir/ValueSet/defined-types")
    assert content is not None
    assert content.has("http://hl7.org/fhir/data-types", "Coding")
    assert content.has("http://hl7.org/fhir/resource-types", "Patient")
    assert not content.has("http://hl7.org/fhir/resource-types", "Coding")


def test_a_system_that_is_not_here_is_in_it_as_a_whole(room: Terminology) -> None:
    content = room.value_set("http://hl7.org/fhir/ValueSet/observation-codes")
    assert content is not None
    assert content.has("http://loinc.org", "8867-4")
    assert not content.has("http://snomed.info/sct", "8867-4")
    with pytest.raises(NotEnumerable, match=r"http://loinc\.org"):
        content.enumerated()


def test_a_filter_over_a_system_that_is_not_here_is_said(room: Terminology) -> None:
    with pytest.raises(NotEnumerable, match=r"SCALE_TYP = Doc.*http://loinc\.org"):
        room.value_set("http://hl7.org/fhir/ValueSet/doc-typecodes")


def test_the_hierarchy_of_v3(room: Terminology) -> None:
    system = room.code_system(ACT)
    assert system is not None
    assert system.subsumes("IMP", "ACUTE") == "subsumes"
    assert system.subsumes("ACUTE", "_ActEncounterCode") == "subsumed-by"
    assert system.subsumes("AMB", "IMP") == "not-subsumed"
    assert system.subsumes("AMB", "AMB") == "equivalent"
    assert system.subsumes("AMB", "nowhere") is None
    assert list(system.below("IMP")) == ["IMP", "ACUTE", "NONAC"]
    assert list(system.above("ACUTE")) == ["ACUTE", "IMP", "_ActEncounterCode", "_ActCareProvisionCode"]
    grouper = system.find("_ActEncounterCode")
    assert grouper is not None and grouper.abstract


def test_all_official_value_sets_are_worked_out_or_say_what_is_missing(room: Terminology) -> None:
    enumerable = whole = missing = 0
    for resource in definitions().resources("ValueSet"):
        try:
            content = room.value_set(resource["url"])
        except NotEnumerable as reason:
            assert "http" in str(reason) or "urn:" in str(reason)
            missing += 1
            continue
        assert content is not None
        enumerable += not content.systems
        whole += bool(content.systems)
    assert enumerable > 1000
    assert missing < 60
    assert enumerable + whole + missing == 1316


def _source(*resources: dict[str, Any]) -> Terminology:
    known: Mapping[str, Any] = {resource["url"]: resource for resource in resources}
    return Terminology(lambda canonical: known.get(canonical.partition("|")[0]))


SYSTEM = {
    "resourceType": "CodeSystem",
    "url": "urn:s",
    "content": "complete",
    "caseSensitive": False,
    "concept": [
        {"code": "A", "display": "Alpha", "concept": [{"code": "B"}, {"code": "C", "property": [{"code": "rank", "valueInteger": 3}]}]},
        {"code": "D", "property": [{"code": "parent", "valueCode": "B"}, {"code": "parent", "valueCode": "C"}]},
        {"code": "E", "property": [{"code": "status", "valueCode": "retired"}, {"code": "ready", "valueBoolean": True}]},
    ],
}


def valueset(url: str, *include: dict[str, Any], exclude: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"resourceType": "ValueSet", "url": url, "compose": {"include": list(include), "exclude": list(exclude)}}


@pytest.mark.parametrize(
    ("filter", "codes"),
    [
        (("concept", "is-a", "B"), "BD"),
        (("concept", "generalizes", "D"), "ABCD"),
        (("concept", "is-not-a", "A"), "E"),
        (("concept", "descendent-of", "A"), "BCD"),
        (("rank", "=", "3"), "C"),
        (("ready", "=", "true"), "E"),
        (("rank", "exists", "true"), "C"),
        (("rank", "exists", "false"), "ABDE"),
        (("code", "in", "A,E,X"), "AE"),
        (("code", "not-in", "A,E"), "BCD"),
        (("code", "regex", "[A-C]"), "ABC"),
        (("display", "=", "Alpha"), "A"),
        (("parent", "=", "C"), "D"),
    ],
)
def test_filters(filter: tuple[str, str, str], codes: str) -> None:
    property, operator, value = filter
    row = {"system": "urn:s", "filter": [{"property": property, "op": operator, "value": value}]}
    content = _source(SYSTEM, valueset("urn:v", row)).value_set("urn:v")
    assert content is not None
    assert "".join(sorted(code for _, code in content.enumerated())) == codes


def test_value_sets_of_one_include_are_intersected_and_includes_united() -> None:
    one = valueset("urn:1", {"system": "urn:s", "concept": [{"code": "A"}, {"code": "B"}]})
    two = valueset("urn:2", {"system": "urn:s", "concept": [{"code": "B"}, {"code": "C"}]})
    both = valueset("urn:both", {"valueSet": ["urn:1", "urn:2"]})
    either = valueset(
        "urn:either", {"valueSet": ["urn:1"]}, {"valueSet": ["urn:2"]}, exclude=({"system": "urn:s", "concept": [{"code": "A"}]},)
    )
    room = _source(SYSTEM, one, two, both, either)
    found = {url: room.value_set(url) for url in ("urn:both", "urn:either")}
    assert found["urn:both"] is not None and set(found["urn:both"].codes) == {("urn:s", "B")}
    assert found["urn:either"] is not None and set(found["urn:either"].codes) == {("urn:s", "B"), ("urn:s", "C")}


def test_what_is_excluded_from_a_system_that_is_not_here() -> None:
    row = {"system": "http://loinc.org"}
    some = {"system": "http://loinc.org", "concept": [{"code": "1-8"}]}
    room = _source(valueset("urn:v", row, exclude=(some,)), valueset("urn:w", {"valueSet": ["urn:v"]}, exclude=(row,)))
    content, rest = room.value_set("urn:v"), room.value_set("urn:w")
    assert content is not None and rest is not None
    assert content.has("http://loinc.org", "2-6") and not content.has("http://loinc.org", "1-8")
    assert not rest.codes and not rest.systems


def test_a_set_that_imports_itself_is_refused() -> None:
    room = _source(valueset("urn:a", {"valueSet": ["urn:b"]}), valueset("urn:b", {"valueSet": ["urn:a"]}))
    with pytest.raises(NotEnumerable, match="imports itself"):
        room.value_set("urn:a")


def test_case_is_told_by_the_system() -> None:
    system = CodeSystem.of(SYSTEM)
    found = system.find("a")
    assert found is not None and found.code == "A"
    strict = CodeSystem.of({**SYSTEM, "caseSensitive": True})
    assert strict.find("a") is None
    assert list(strict.below("A")) == ["A", "B", "C", "D"]
    retired = strict.find("E")
    assert retired is not None and retired.inactive
