"""The 1,400 official search parameters: each expression compiles, has static types, and gives what other engines give.

https://hl7.org/fhir/R4/searchparameter-registry.html, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import fhirpathpy
import pytest
from fhirpathpy.models import models

from fhir_server import fhirpath
from fhir_server.fhirpath.typed import stand_in, typed_paths
from fhir_server.model.definitions import SearchParameterDef, definitions

Examples = dict[str, dict[str, Any]]


def parameters_of(resource_type: str) -> list[SearchParameterDef]:
    bases = {resource_type, "Resource", "DomainResource"}
    return [one for one in definitions().search_parameters if one.expression and bases & set(one.base)]


def canonical(values: list[Any]) -> list[str]:
    """Values in a form that two engines can share: numbers as numbers, order aside."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal) or (isinstance(value, int | float) and not isinstance(value, bool)):
            return float(value)
        return str(value)

    return sorted(
        json.dumps(value if isinstance(value, bool | str | dict) else plain(value), sort_keys=True, default=plain) for value in values
    )


def test_all_official_expressions_compile() -> None:
    expressions = {one.expression for one in definitions().search_parameters if one.expression}
    assert len(expressions) > 1300
    for expression in expressions:
        fhirpath.compile(expression)


def test_every_official_expression_has_static_types_on_every_base() -> None:
    for resource_type in definitions().resource_types:
        for parameter in parameters_of(resource_type):
            for path in typed_paths(parameter.expression, resource_type):
                assert path.type is not None, parameter.expression
                assert path.type in definitions().types, path.type


def test_typed_functions_and_the_general_engine_agree_on_all_official_examples(examples: Examples) -> None:
    compared = Counter[bool]()
    for name, resource in examples.items():
        kind = resource["resourceType"]
        for parameter in parameters_of(kind):
            typed = [value for path in typed_paths(parameter.expression, kind) for value in path.values(resource)]
            general = fhirpath.compile(parameter.expression).evaluate(resource, resolve=stand_in)
            # A union drops what is equal; the index takes it twice without harm.
            left, right = set(canonical(typed)), set(canonical([item.value for item in general if item.value is not None]))
            assert left == right, (name, parameter.expression)
            compared[bool(left)] += 1
    assert compared[True] > 4000


def test_values_have_the_type_that_was_promised(examples: Examples) -> None:
    """The general engine says each value's type; the typed functions must have said the same before."""
    for resource in examples.values():
        kind = resource["resourceType"]
        for parameter in parameters_of(kind):
            promised = {path.type for path in typed_paths(parameter.expression, kind) if path.values(resource)}
            given = fhirpath.compile(parameter.expression).evaluate(resource, resolve=stand_in)
            types = {"boolean" if item.type == "System.Boolean" else item.type for item in given if item.value is not None}
            concrete = {name if name != "Resource" else kind for name in promised}
            assert types <= promised or all(definitions().is_subtype(one, "Resource") for one in types - concrete), parameter.expression


_RESOLVE = re.compile(r"where\(resolve\(\) is (\w+)\)")
_AS = re.compile(r"\((\w+(?:\.\w+)+) as (\w+)\)")
NOT_THERE = {
    "QuestionnaireResponse.item.where(hasExtension('http://hl7.org/fhir/StructureDefinition/questionnaireresponse-isSubject'))"
    ".answer.value.ofType(Reference)": "fhirpathpy has no hasExtension()",
}


def for_the_oracle(expression: str) -> str:
    """The same question in words that fhirpathpy has: it knows no resolve(), and takes `as` for single items only."""
    return _AS.sub(r"\1.ofType(\2)", _RESOLVE.sub(r"where(reference.startsWith('\1/'))", expression))


def test_values_are_those_of_another_engine(examples: Examples) -> None:
    """fhirpathpy on two examples of each type, with every search parameter of the type."""
    seen = Counter[str]()
    compared = Counter[bool]()
    r4 = models["r4"]
    compiled: dict[str, Any] = {}
    for name, resource in sorted(examples.items()):
        kind = resource["resourceType"]
        seen[kind] += 1
        if seen[kind] > 2:
            continue
        plain = json.loads(json.dumps(resource, default=float))
        for parameter in (one for one in definitions().search_parameters if one.expression and kind in one.base):
            if parameter.expression in NOT_THERE or ("resolve()" in parameter.expression and "contained" in resource):
                continue  # what the oracle is asked in place of resolve() does not see contained resources
            question = for_the_oracle(parameter.expression)
            oracle = compiled.get(question) or compiled.setdefault(question, fhirpathpy.compile(question, r4))
            mine = [item.value for item in fhirpath.compile(parameter.expression).evaluate(resource, resolve=stand_in)]
            assert canonical(mine) == canonical(oracle(plain)), (name, parameter.expression)
            compared[bool(mine)] += 1
    assert compared[True] > 900


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ({"reference": "Patient/1"}, True),
        ({"reference": "https://elsewhere.example/fhir/Patient/1/_history/2"}, True),
        ({"reference": "Group/1"}, False),
        ({"type": "Patient", "identifier": {"value": "7"}}, True),
        ({"reference": "urn:uuid:5c5c5c5c-0000-4000-8000-000000000000", "type": "Patient"}, True),
        ({"reference": "urn:uuid:5c5c5c5c-0000-4000-8000-000000000000"}, False),
        ({"reference": "#p"}, True),
        ({"reference": "#g"}, False),
        ({"display": "somebody"}, False),
    ],
)
def test_where_a_reference_points_is_read_off_the_reference(reference: dict[str, Any], found: bool) -> None:
    contained = [{"resourceType": "Patient", "id": "p"}, {"resourceType": "Group", "id": "g"}]
    resource = {"resourceType": "Observation", "subject": reference, "contained": contained}
    expression = "Observation.subject.where(resolve() is Patient)"
    (path,) = typed_paths(expression, "Observation")
    assert (path.type, path.targets) == ("Reference", ("Patient",))
    assert path.values(resource) == ([reference] if found else [])
    given = fhirpath.compile(expression).evaluate(resource, resolve=stand_in)
    assert [item.value for item in given] == ([reference] if found else [])


def test_typed_functions_survive_content_of_another_shape() -> None:
    (path,) = typed_paths("Patient.name.given", "Patient")
    assert path.values({"resourceType": "Patient", "name": {"given": ["A"]}}) == ["A"]
    assert path.values({"resourceType": "Patient", "name": [{"given": "A"}, None, "x", {"given": ["B", None]}]}) == ["A", "B"]
    assert path.values({"resourceType": "Patient", "name": 7}) == []


def test_components_of_composites_start_at_the_element() -> None:
    resource = {"code": {"text": "x"}, "valueQuantity": {"value": 1}}
    by_type = {path.type: path.values(resource) for path in typed_paths("value.as(Quantity)", "Observation", "Observation.component")}
    assert by_type == {"Quantity": [{"value": 1}]}


def test_what_has_no_static_type_goes_through_the_general_engine() -> None:
    (path,) = typed_paths("Patient.name.select(given.first() & ' ' & family)", "Patient")
    assert path.type is None
    (item,) = path.values({"resourceType": "Patient", "name": [{"given": ["A"], "family": "B"}]})
    assert (item.type, item.value) == ("System.String", "A B")
    (deceased,) = typed_paths("Patient.deceased.exists() and Patient.deceased != false", "Patient")
    assert deceased.type == "boolean"
    assert deceased.values({"resourceType": "Patient", "deceasedDateTime": "2020"}) == [True]
    assert deceased.values({"resourceType": "Patient", "deceasedBoolean": False}) == [False]


def test_branches_are_grouped_by_type() -> None:
    found = defaultdict(list)
    for path in typed_paths("Observation.effective", "Observation"):
        found[path.type] += path.values({"resourceType": "Observation", "effectivePeriod": {"start": "2020"}})
    assert set(found) == {"dateTime", "Period", "Timing", "instant"}
    assert found["Period"] == [{"start": "2020"}]
