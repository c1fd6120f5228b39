"""Resource → index values, compiled once per resource type into straight closures.

Specification: https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.typed import TypedPath, typed_paths
from fhir_server.model.definitions import definitions
from fhir_server.search.composite_steps import composite_steps
from fhir_server.search.extract import BY_KIND, Collector, Extractor, extractor_of, reference
from fhir_server.search.parameters import CONTAINED, CUSTOM, Parameter, Registry
from fhir_server.search.values import MIN_INSTANT, IndexValues, Key

log = logging.getLogger(__name__)

Step = Callable[[dict[str, Any], Collector], None]
_SYSTEM = {
    "System.Boolean": "boolean", "System.String": "string", "System.Integer": "integer", "System.Decimal": "decimal",
    "System.Date": "date", "System.DateTime": "dateTime", "System.Quantity": "Quantity",
}  # fmt: skip
"""The FHIR type that stands for a type of FHIRPath's own."""


class Part(NamedTuple):
    """The part of a type's index that some members of its resources decide.

    `parameters`: numbers of its parameters. `values`: resource → the index values of these parameters only (patient-code keys aside).
    """

    parameters: frozenset[int]
    values: Callable[[dict[str, Any]], IndexValues]


RULES = 6
"""Raised whenever the same parameters give other index values than before, so that stores are indexed anew."""
PARTS = 2000
"""Most parts that are remembered."""


class _Plan(NamedTuple):
    """The steps of a type: by the member that a resource must have for them, those with several such members, and the others."""

    by_member: dict[str, tuple[Step, ...]]
    by_members: tuple[tuple[frozenset[str], Step], ...]
    always: tuple[Step, ...]


class Indexer:
    """Takes index values out of resources. `zone` is that of dates without one, `own_bases` the server's own base URLs."""

    def __init__(self, registry: Registry, zone: ZoneInfo, own_bases: tuple[str, ...] = ()) -> None:
        self._registry = registry
        self._zone = zone
        self._own_bases = own_bases
        self._plans: dict[str, _Plan] = {}
        self._parts: dict[tuple[str, frozenset[str]], Part] = {}
        self._only: dict[tuple[str, frozenset[int]], Callable[[dict[str, Any]], IndexValues]] = {}
        self._told: set[int] = set()
        """Numbers of parameters of whose failing expressions the log was told; plans come and go."""

    @property
    def fingerprint(self) -> str:
        """Names the rules by which values are taken: two indexers with the same one give the same values."""
        rules = hashlib.blake2b(f"{RULES} {self._zone.key} {sorted(self._registry.patient_code.items())}".encode(), digest_size=16)
        for kind in self._registry.definitions.resource_types:
            clinical = self._registry.clinical.get(kind)
            rules.update(f"\n{kind} {clinical}".encode())
            for one in self._registry.all_of(kind):
                if one.number >= CUSTOM:
                    continue  # the store knows these by itself
                rules.update(f"\n{one.number} {one.code} {one.type} {one.expression} {one.components} {one.sources}".encode())
        return rules.hexdigest()

    def index(self, resource: dict[str, Any]) -> IndexValues:
        """All index values of a valid resource; a type that is not R4's gives none."""
        kind = resource["resourceType"]
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = self._compile(kind)
        into = self._collected(resource, plan)
        codes = self._registry.patient_code.get(kind)
        if codes is not None:
            _patient_code(into, *codes)
        return self._values(kind, into)

    def part(self, kind: str, members: frozenset[str]) -> Part:
        """What depends on these members of a resource: two versions that differ in them only have all other index values in common."""
        part = self._parts.get((kind, members))
        if part is None:
            if len(self._parts) >= PARTS:
                self._parts.clear()
            part = self._parts[kind, members] = self._part(kind, members)
        return part

    def _part(self, kind: str, members: frozenset[str]) -> Part:
        # Contained resources decide where a reference leads, so anything may depend on them.
        every = "contained" in members
        touched = [
            parameter
            for parameter in self._registry.all_of(kind)
            if not parameter.derived
            and (every or any(reads is None or not reads.isdisjoint(members) for _, reads, _ in self._steps(parameter)))
        ]
        numbers = frozenset(number for parameter in touched for number in (parameter.number, parameter.identifier) if number)
        if every:
            numbers |= {CONTAINED}
        plan = self._compile(kind, numbers)
        return Part(numbers, lambda resource: self._values(kind, self._collected(resource, plan)))

    def only(self, kind: str, numbers: frozenset[int]) -> Callable[[dict[str, Any]], IndexValues]:
        """What gives the index values of the parameters with these numbers only."""
        made = self._only.get((kind, numbers))
        if made is None:
            if len(self._only) >= PARTS:
                self._only.clear()
            plan = self._compile(kind, numbers)
            made = self._only[kind, numbers] = lambda resource: self._values(kind, self._collected(resource, plan))
        return made

    def forget(self) -> None:
        """The registry has changed."""
        self._plans.clear()
        self._parts.clear()
        self._only.clear()

    def _collected(self, resource: dict[str, Any], plan: _Plan) -> Collector:
        into = Collector(self._zone, self._own_bases, resource)
        by_member, by_members, always = plan
        for member in resource:
            if member in by_member:
                for step in by_member[member]:
                    step(resource, into)
        for members, step in by_members:
            if not members.isdisjoint(resource):
                step(resource, into)
        for step in always:
            step(resource, into)
        return into

    def _values(self, kind: str, into: Collector) -> IndexValues:
        clinical = MIN_INSTANT
        number = self._registry.clinical.get(kind)
        if number is not None:
            for found in into.ranges:
                if found.parameter == number and (clinical == MIN_INSTANT or found.low < clinical):
                    clinical = int(found.low)
        return IndexValues(list(into.keys), list(into.texts), list(into.ranges), clinical)

    def _compile(self, kind: str, numbers: frozenset[int] | None = None) -> _Plan:
        """The steps of all parameters of a type, or of those with these numbers."""
        by_member: dict[str, list[Step]] = {}
        by_members: list[tuple[frozenset[str], Step]] = []
        always: list[Step] = []
        for parameter in self._registry.all_of(kind):
            if parameter.derived or (numbers is not None and numbers.isdisjoint((parameter.number, parameter.identifier))):
                continue
            for roots, _, step in self._steps(parameter):
                if roots is None:
                    always.append(step)
                elif len(roots) == 1:
                    by_member.setdefault(next(iter(roots)), []).append(step)
                else:
                    by_members.append((roots, step))
        if numbers is None or CONTAINED in numbers:
            by_member.setdefault("contained", []).append(_contained)
        return _Plan({member: tuple(steps) for member, steps in by_member.items()}, tuple(by_members), tuple(always))

    def _steps(self, parameter: Parameter) -> list[tuple[frozenset[str] | None, frozenset[str] | None, Step]]:
        """Each step with the members without which it finds nothing, and those that it reads."""
        if parameter.type == "composite":
            return composite_steps(self._registry, parameter)
        extractors = BY_KIND.get(parameter.type)
        if extractors is None:
            return []
        paths = typed_paths(parameter.expression, parameter.resource_type)
        steps = [(path.roots, path.reads, step) for path in paths if (step := self._step(parameter, path, extractors))]
        if parameter.number >= CUSTOM:
            return [(roots, reads, _forgiving(step, parameter, self._told)) for roots, reads, step in steps]
        return steps

    def _step(self, parameter: Parameter, path: TypedPath, extractors: dict[str, Extractor]) -> Step | None:
        number = parameter.number
        if path.type is None:
            return _general(path.values, number, extractors, reference(parameter.identifier))
        extract = extractor_of(self._registry.definitions, parameter, path.type, parameter.expression)
        if extract is None:
            return None
        values = path.values

        def step(resource: dict[str, Any], into: Collector) -> None:
            for value in values(resource):
                extract(value, number, into)

        return step


def _forgiving(step: Step, parameter: Parameter, told: set[int]) -> Step:
    """An expression of the site may fail on some resource: then it has no value there, and the write goes on."""

    def forgiving(resource: dict[str, Any], into: Collector) -> None:
        try:
            step(resource, into)
        except Exception as fault:
            if parameter.number not in told:
                told.add(parameter.number)
                log.warning("the expression of %s?%s fails: %s", parameter.resource_type, parameter.code, fault)

    return forgiving


def _general(
    values: Callable[[dict[str, Any]], list[Item]], number: int, extractors: dict[str, Extractor], of_reference: Extractor
) -> Step:
    """A step whose values say their type only when they are there."""

    def step(resource: dict[str, Any], into: Collector) -> None:
        for item in values(resource):
            kind = _SYSTEM.get(item.type, item.type)
            extract = of_reference if kind == "Reference" else extractors.get(kind)
            if extract:
                extract(item.value, number, into)

    return step


def _contained(resource: dict[str, Any], into: Collector) -> None:
    """The types of what a resource contains (`_contained`)."""
    for inner in resource["contained"]:
        into.keys[Key(CONTAINED, "", f"{resource['resourceType']}/{inner.get('resourceType')}")] = None


def _patient_code(into: Collector, subject: int, code: int, both: int) -> None:
    patient = next((key.value for key in into.keys if key.parameter == subject and key.space == "Patient" and key.value), None)
    if patient is not None:
        for key in [key for key in into.keys if key.parameter == code]:
            into.keys[Key(both, patient, f"{key.space}|{key.value}")] = None


def default_indexer(zone: str = "Asia/Shanghai") -> Indexer:
    """An indexer over the official definitions."""
    return Indexer(Registry(definitions()), ZoneInfo(zone))
