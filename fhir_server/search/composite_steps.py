"""The values of composite parameters out of a resource: those of each element together.

Decision: docs/decisions/0046-composites.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.fhirpath.typed import Values, typed_paths
from fhir_server.search.composites import Component, Place, joined, parts_of
from fhir_server.search.extract import Collector, Extractor, extractor_of
from fhir_server.search.parameters import Parameter, Registry
from fhir_server.search.values import Key, Range

Step = Callable[[dict[str, Any], Collector], None]
Taken = Callable[[dict[str, Any], dict[str, Any], Collector], Collector]
"""(element, resource, where the values will go) -> the values of one component"""
Members = frozenset[str] | None
_OF_RESOURCE = "%resource."


def composite_steps(registry: Registry, parameter: Parameter) -> list[tuple[Members, Members, Step]]:
    """(members without which a step finds nothing, members that it reads, step) for what is posted under the parameter's own number."""
    found: list[tuple[Members, Members, Step]] = []
    for part in parts_of(registry, parameter):
        if not part.element or part.number != parameter.number:
            continue
        for path in typed_paths(part.element, parameter.resource_type):
            takers = [_taker(registry, parameter, path.type or "", part.element, component) for component in part.components]
            beyond = any(component.expression.startswith(_OF_RESOURCE) for component in part.components)
            found.append((path.roots, None if beyond else path.reads, _step(parameter.number, path.values, takers)))
    return found


def _taker(registry: Registry, parameter: Parameter, start: str, element: str, component: Component) -> Taken:
    """Takes the values of one component."""
    expression, type = component.expression, parameter.resource_type
    of_resource = expression.startswith(_OF_RESOURCE)
    if of_resource:
        whole = f"{type}.{expression.removeprefix(_OF_RESOURCE)}"
        paths = typed_paths(whole, type)
    else:
        whole = f"{element}.{expression}"
        paths = typed_paths(expression, type, start)
    pairs: list[tuple[Values, Extractor]] = []
    for path in paths:
        extract = extractor_of(registry.definitions, component.parameter, path.type or "", whole)
        if extract is not None:
            pairs.append((path.values, extract))

    def taken(value: dict[str, Any], resource: dict[str, Any], into: Collector) -> Collector:
        own = Collector(into.zone, into.own_bases)
        for values, extract in pairs:
            for one in values(resource if of_resource else value):
                extract(one, 0, own)
        return own

    return taken


def _step(number: int, elements: Values, takers: list[Taken]) -> Step:
    def step(resource: dict[str, Any], into: Collector) -> None:
        for slot, element in enumerate(elements(resource)):
            if element.__class__ is not dict:
                continue
            first, *others = [take(element, resource, into) for take in takers]
            for token in first.keys:
                _post(number, joined(token.space, token.value), slot, others, into)

    return step


def _post(number: int, token: str, slot: int, others: list[Collector], into: Collector) -> None:
    """With one other component its values say all; with several the place of the element tells which belong together."""
    if len(others) == 1:
        slot = 0
    for at, other in enumerate(others):
        for key in other.keys:
            into.keys[Key(number, token, Place(slot, at, key.space, key.value).text())] = None
        for one in other.ranges:
            into.ranges[Range(number, token, Place(slot, at, one.space, one.value).text(), one.low, one.high)] = None
