"""The typed view, and the R4B models of `fhir.resources` as a second opinion of what R4 is.

Source: official R4 examples; fhir.resources 8 (R4B). Where R4B differs from R4: docs/decisions/0001-fhir-resources.md
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.typed import ONLY_R4, plain, typed
from fhir_server.validation.structure import validate
from tests.model.test_xml import same
from tests.validation.mutations import MUTATIONS, sites

TAKEN_BY_R4B = {
    "activitydefinition-administer-zika-virus-exposure-assessment.json", "activitydefinition-example.json",
    "activitydefinition-order-serum-zika-dengue-virus-igm.json", "activitydefinition-provide-mosquito-prevention-advice.json",
    "plandefinition-example-cardiology-os.json", "plandefinition-example.json",
}  # fmt: skip
"""Flawed examples in which R4B's models see nothing wrong: they look neither at targets of references nor at codes."""


@pytest.fixture(scope="module")
def resources(index, official) -> list[tuple[str, str, dict[str, Any]]]:
    """(file, state in the index, resource) of the types that both releases have."""
    read = [(name, index[name], json_codec.loads(content)) for name, content in sorted(official.items())]
    return [one for one in read if one[2]["resourceType"] not in ONLY_R4]


def refused(resource: dict[str, Any]) -> bool:
    try:
        typed(resource)
    except FhirError as fault:
        assert fault.status == 422 and fault.issues
        return True
    return False


def test_a_resource_becomes_a_model_and_comes_back() -> None:
    patient = typed({"resourceType": "Patient", "name": [{"family": "王"}], "birthDate": "1970-03", "_gender": {"id": "g"}})
    patient.name[0].given = ["小明"]
    assert plain(patient) == {
        "resourceType": "Patient", "name": [{"family": "王", "given": ["小明"]}], "birthDate": "1970-03", "_gender": {"id": "g"},
    }  # fmt: skip


def test_every_example_comes_back_with_its_digits(resources) -> None:
    """A zone of nought is written Z, base64 without blanks."""
    changed = []
    for name, state, resource in resources:
        if state != "no":
            again = json_codec.loads(json_codec.dumps(plain(typed(resource))))
            if not same(again, json_codec.loads(json_codec.dumps(normal(resource)))):
                changed.append(name)
    assert changed == []


def normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: normal(inner).replace(" ", "") if key == "data" and isinstance(inner, str) else normal(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [normal(one) for one in value]
    return value.removesuffix("+00:00") + "Z" if isinstance(value, str) and value[10:11] == "T" and value.endswith("+00:00") else value


def test_both_take_the_valid_examples_and_refuse_the_flawed_ones(resources) -> None:
    assert [name for name, state, resource in resources if state == "yes" and refused(resource)] == []
    assert {name for name, state, resource in resources if state == "no" and not refused(resource)} == TAKEN_BY_R4B


def test_what_the_models_refuse_is_refused_here(resources) -> None:
    """The other way there is more: formats, codes, targets of references and empty values."""
    chance = random.Random(20261128)
    told, seen = [], 0
    for name, state, resource in resources:
        if state == "yes" and len(json_codec.dumps(resource)) < 20_000:
            for mutated in mutants(resource, chance):
                seen += 1
                if not any(issue.severity == "error" for issue in validate(mutated)) and refused(mutated):
                    told.append((name, mutated))
    assert told == []
    assert seen > 2000


def mutants(resource: dict[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    places = sites(resource)
    for mutation in MUTATIONS:
        mutated = copy.deepcopy(resource)
        if mutation(mutated, chance.choice(places), chance) is not None:
            yield mutated


def test_types_that_only_r4_has() -> None:
    from fhir.resources.R4B import get_fhir_model_class

    def known(name: str) -> bool:
        try:
            return bool(get_fhir_model_class(name))
        except (KeyError, ValueError):
            return False

    assert {name for name in definitions().resource_types if not known(name)} == ONLY_R4
    for wrong, words in (
        ({"resourceType": "MedicinalProduct"}, "R4B does not have"),
        ({"resourceType": "Pation"}, "no resource type"),
        ({}, "None"),
    ):
        with pytest.raises(FhirError, match=words):
            typed(wrong)
    with pytest.raises(FhirError) as told:
        typed({"resourceType": "Patient", "contact": [{"gender": "male", "nose": 1}]})
    assert told.value.issues[0].expression == ("Patient.contact[0].nose",)
