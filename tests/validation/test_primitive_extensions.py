"""`_name`: ids and extensions of primitives, and the nulls that keep both arrays aligned.

https://hl7.org/fhir/R4/json.html#primitive, https://hl7.org/fhir/R4/extensibility.html#Extension (ext-1)
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.judge import patient, verdict

MARK = {"extension": [{"url": "urn:x", "valueCode": "y"}]}


@pytest.mark.parametrize(
    "resource",
    [
        patient(birthDate="1970-03-30", _birthDate={"id": "314159", **MARK}),  # the page's own first example
        patient(_birthDate=MARK),
        patient(birthDate="1970", _birthDate={"id": "a"}),
        {"resourceType": "CodeSystem", "status": "draft", "content": "complete", "concept": [{"code": "au"}]},
        patient(name=[{"given": ["Wei", None], "_given": [None, MARK]}]),  # as the page's example of codes
        patient(name=[{"given": [None, "Wei"], "_given": [MARK, None]}]),
        patient(name=[{"given": [None], "_given": [MARK]}]),
        patient(name=[{"given": ["a", "b"], "_given": [{"id": "x"}, MARK]}]),
        patient(name=[{"given": ["a", "b"], "_given": [{"id": "x"}, None]}]),
        patient(_active=MARK, _gender=MARK, active=True),
        patient(text={"status": "generated", "_status": MARK, "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}),
    ],
    ids=range(11),
)
def test_values_and_extensions_stand_beside_each_other(resource: dict[str, Any]) -> None:
    assert verdict(resource) == (200, [])


@pytest.mark.parametrize(
    ("name", "status", "where"),
    [
        ({"given": ["a", "b"], "_given": [MARK]}, 400, ["_given"]),
        ({"given": ["a"], "_given": [None, MARK]}, 400, ["_given"]),
        ({"_given": [MARK]}, 400, ["_given"]),
        ({"given": [None, "a"]}, 400, ["given[0]"]),
        ({"given": [None, "a"], "_given": [None, MARK]}, 400, ["given[0]", "_given[0]"]),
        ({"given": [None], "_given": [None]}, 400, ["given[0]", "_given[0]"]),
        ({"given": ["a"], "_given": [None, None]}, 400, ["_given", "_given[1]"]),
        ({"given": "a", "_given": [None]}, 400, ["given", "_given[0]"]),
        ({"given": ["a"], "_given": MARK}, 400, ["_given"]),
        ({"given": ["a"], "_given": []}, 400, ["_given"]),
        ({"given": ["a"], "_given": ["x"]}, 400, ["given[0]"]),
        ({"given": ["a"], "_given": [{}]}, 422, ["given[0]"]),
        ({"given": [None], "_given": [{"id": "x"}]}, 422, ["given[0]"]),
        ({"given": ["a"], "_given": [{"extension": []}]}, 400, ["given[0].extension"]),
        ({"given": ["a"], "_given": [{"value": "b"}]}, 400, ["given[0].value"]),
        ({"given": ["a"], "_given": [{"extension": [{"url": "urn:x"}]}]}, 422, ["given[0].extension[0]"]),
    ],
)
def test_arrays_of_values_and_extensions_are_aligned(name: dict[str, Any], status: int, where: list[str]) -> None:
    """JSON null values fill out both arrays; what stands at one place is one element."""
    found = verdict(patient(name=[name]))
    assert found[0] == status
    assert sorted({place for _, place in found[1]}) == sorted(f"Patient.name[0].{place}" for place in where)


@pytest.mark.parametrize(
    ("sibling", "status", "where"),
    [
        ("x", 400, "Patient.birthDate"),
        ([MARK], 400, "Patient.birthDate"),
        ({}, 422, "Patient.birthDate"),
        ({"id": 1}, 400, "Patient.birthDate.id"),
        ({"id": "a b"}, 400, "Patient.birthDate.id"),
        ({"extension": [{"valueCode": "y"}]}, 422, "Patient.birthDate.extension[0].url"),
        ({"extension": [{"url": "urn:x", "valueCode": " y"}]}, 400, "Patient.birthDate.extension[0].value"),
        ({"modifierExtension": [{"url": "urn:x", "valueCode": "y"}]}, 400, "Patient.birthDate.modifierExtension"),
    ],
)
def test_the_sibling_is_an_element(sibling: Any, status: int, where: str) -> None:
    found = verdict(patient(birthDate="1970", _birthDate=sibling))
    assert found[0] == status
    assert where in [place for _, place in found[1]]


@pytest.mark.parametrize("name", ["_id", "_resourceType", "_text", "_name", "_contained"])
def test_only_primitives_have_siblings(name: str) -> None:
    """Resource.id has no extensions in JSON; complex elements hold theirs inside."""
    assert verdict(patient(id="x", **{name: MARK})) == (400, [("structure", f"Patient.{name}")])


@pytest.mark.parametrize(
    ("extension", "status", "where"),
    [
        ({"url": "urn:x", "valueCode": "y"}, 200, None),
        ({"url": "urn:x", "extension": [{"url": "a", "valueString": "b"}]}, 200, None),
        ({"url": "urn:x", "_valueCode": MARK}, 200, None),
        ({"id": "e", "url": "urn:x", "valueCode": "y"}, 200, None),
        ({"url": "urn:x"}, 422, "extension[0]"),
        ({"url": "urn:x", "id": "a"}, 422, "extension[0]"),
        ({"url": "urn:x", "valueCode": "y", **MARK}, 422, "extension[0]"),
        ({"valueCode": "y"}, 422, "extension[0].url"),
        ({"url": "", "valueCode": "y"}, 400, "extension[0].url"),
        ({"url": "urn x", "valueCode": "y"}, 400, "extension[0].url"),
        ({"url": "urn:x", "_url": MARK, "valueCode": "y"}, 400, "extension[0]._url"),
    ],
)
def test_an_extension_has_a_url_and_either_a_value_or_extensions(extension: dict[str, Any], status: int, where: str | None) -> None:
    found = verdict(patient(extension=[extension]))
    assert found[0] == status
    assert [place for _, place in found[1]] == ([f"Patient.{where}"] if where else [])


def test_modifier_extensions_stand_where_the_definition_has_them() -> None:
    assert verdict(patient(modifierExtension=[{"url": "urn:x", "valueCode": "y"}])) == (200, [])
    assert verdict(patient(contact=[{"name": {"family": "x"}, "modifierExtension": [{"url": "urn:x", "valueCode": "y"}]}])) == (200, [])
    status, found = verdict(patient(name=[{"family": "x", "modifierExtension": [{"url": "urn:x", "valueCode": "y"}]}]))
    assert (status, found) == (400, [("structure", "Patient.name[0].modifierExtension")])
