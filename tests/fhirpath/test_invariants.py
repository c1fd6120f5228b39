"""The invariants of FHIR's own definitions: all compile, and hold for the official examples.

https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server import fhirpath
from fhir_server.fhirpath import FhirPathError, Item
from fhir_server.fhirpath.items import add_member, children, of_object
from fhir_server.model.definitions import Constraint, definitions

BREAKERS = {
    ("txt-1", "eventdefinition-example.json"): "the narrative is an empty div",
    ("txt-2", "eventdefinition-example.json"): "the narrative is an empty div",
    ("que-7", "questionnaire-example-bluebook.json"): "R4 wrote `answer is Boolean` for `boolean`: a FHIR boolean is no System.Boolean",
}
"""Invariants of severity error that an official example does not meet, with the reason."""


def test_every_invariant_of_every_definition_compiles() -> None:
    expressions = {
        constraint["expression"]
        for definition in definitions().resources("StructureDefinition")
        for element in definition.get("snapshot", {}).get("element", ())
        for constraint in element.get("constraint", ())
        if "expression" in constraint
    }
    assert len(expressions) > 190
    for expression in expressions:
        fhirpath.compile(expression)


def constrained(item: Item) -> Iterator[tuple[Item, Constraint]]:
    """The constraints of an element's type on itself, and of its elements on their values."""
    types = definitions().types
    if item.type not in types:
        return
    for constraint in types[item.type].constraints:
        yield item, constraint
    for element in types[item.type].elements.values():
        if element.constraints:
            values: list[Any] = []
            add_member(item, element.name, values)
            for constraint in element.constraints:
                for value in values:
                    yield value, constraint


def elements(item: Item, resource: Item) -> Iterator[tuple[Item, Item]]:
    """Every element with the resource that it stands in."""
    yield item, resource
    for child in children(item):
        inside = child if isinstance(child.value, dict) and "resourceType" in child.value else resource
        yield from elements(child, inside)


def test_every_invariant_holds_for_the_official_examples(examples: dict[str, dict[str, Any]]) -> None:
    checked, broken = 0, set()
    for name, content in examples.items():
        root = of_object(content)
        for element, resource in elements(root, root):
            for value, constraint in constrained(element):
                try:
                    holds = fhirpath.compile(constraint.expression).test(resource, context=value, root=_root(resource))
                except FhirPathError as fault:
                    raise AssertionError(f"{constraint.key} on {name}: {fault}") from fault
                checked += 1
                # Empty is no violation: the constraint has nothing to say where its elements are not there.
                if holds is False and constraint.severity == "error":
                    broken.add((constraint.key, name))
    assert broken == set(BREAKERS)
    assert checked > 25_000


def _root(resource: Item) -> Item:
    """%rootResource: the container of a contained resource; an entry of a Bundle is its own."""
    parent = resource.parent
    return parent if parent is not None and parent.kind.resource and parent.type != "Bundle" else resource


def test_an_invariant_that_is_broken_is_seen() -> None:
    contact = fhirpath.focus({"gender": "male"}, "Patient.contact")
    pat_1 = next(one for one in definitions().types["Patient"].elements["contact"].constraints if one.key == "pat-1")
    assert fhirpath.compile(pat_1.expression).test({"resourceType": "Patient"}, context=contact) is False
    ref_1 = next(one for one in definitions().types["Reference"].constraints if one.key == "ref-1")
    dangling = {"resourceType": "Observation", "subject": {"reference": "#p"}}
    subject = fhirpath.focus(dangling["subject"], "Reference")
    assert fhirpath.compile(ref_1.expression).test(dangling, context=subject) is False
    contained = {**dangling, "contained": [{"resourceType": "Patient", "id": "p"}]}
    assert fhirpath.compile(ref_1.expression).test(contained, context=subject) is True
