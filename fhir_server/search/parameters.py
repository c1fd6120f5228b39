"""The search parameters of every resource type, numbered, with those that need no index entries of their own.

`patient` is `subject` restricted to Patients, `combo-code` is `code` together with `component-code`: such derived parameters are found by
comparing expressions, and the parser puts their sources in their place.
Specification: https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_server.model.definitions import Definitions, SearchParameterDef
from fhir_server.search.errors import not_ready

SHARED = ("_tag", "_profile", "_security", "_source")
"""Parameters of all resources that are indexed like any other (`_id` and `_lastUpdated` are the store's own)."""
CONTAINED = 7999
"""Number under which a resource posts `<its type>/<type of a contained resource>`."""
CUSTOM = 8000
"""First number of parameters that a site defines itself (`search.custom`)."""

_CLINICAL = {
    "AdverseEvent": "date", "AllergyIntolerance": "date", "Appointment": "date", "AuditEvent": "date", "Basic": "created",
    "CarePlan": "date",
    "ClinicalImpression": "date", "Communication": "sent", "CommunicationRequest": "authored", "Composition": "date",
    "Condition": "onset-date", "Consent": "date", "DetectedIssue": "identified", "DeviceRequest": "authored-on", "DiagnosticReport": "date",
    "DocumentReference": "date", "Encounter": "date", "EpisodeOfCare": "date", "FamilyMemberHistory": "date", "Flag": "date",
    "Goal": "start-date", "ImagingStudy": "started", "Immunization": "date", "List": "date", "Media": "created",
    "MedicationAdministration": "effective-time", "MedicationRequest": "authoredon", "MedicationStatement": "effective",
    "NutritionOrder": "datetime", "Observation": "date", "Procedure": "date", "Provenance": "recorded",
    "QuestionnaireResponse": "authored", "RequestGroup": "authored", "RiskAssessment": "date", "ServiceRequest": "authored",
    "Specimen": "collected", "Task": "authored-on",
}  # fmt: skip
"""The clinical date of a type: the parameter whose value orders its resources in time."""

_CODES = {
    "AllergyIntolerance": "code", "Condition": "code", "DiagnosticReport": "code", "Immunization": "vaccine-code",
    "MedicationAdministration": "code", "MedicationRequest": "code", "MedicationStatement": "code", "Observation": "code",
    "Procedure": "code",
    "ServiceRequest": "code",
}  # fmt: skip
"""Types whose resources are asked for by patient and code together."""

SPELLED = ("name", "family", "given", "phonetic")
"""String parameters whose Chinese values are found by pinyin, too; that is posted under the number after theirs."""
NEAR = "near"
"""The special parameter of Locations."""
_RENAMED = {
    "patient-extensions-Patient-mothersMaidenName": "patient-mothersMaidenName",
    "observation-geneticsAminoAcidChangeName": "observation-geneticsAminoAcidChange",
}
"""Extensions that the expressions of official parameters call by another name than their own definitions: both names count."""
_RESOLVED = re.compile(r"(.*)\.where\(resolve\(\) is (\w+)\)\Z", re.S)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a parameter's values are posted: the number, and for references the only target type that counts (None = all)."""

    number: int
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter of one resource type.

    `number` is unique among all types; `sources` says under which numbers its values are posted (its own, unless it is derived);
    `identifier` is the number of `:identifier` keys of a reference, of `:of-type` keys of a token about Identifiers, of longitudes, and of
    spellings of names.
    `targets` of a reference: type names ('Resource' = any).
    """

    number: int
    code: str
    type: str
    resource_type: str
    expression: str
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()
    url: str = ""
    sources: tuple[Source, ...] = ()
    identifier: int = 0

    @property
    def derived(self) -> bool:
        return self.sources != (Source(self.number),)


class Definition(NamedTuple):
    """A parameter that a site defines, for one resource type; `second`: whether it needs two numbers."""

    type: str
    code: str
    kind: str
    expression: str
    targets: tuple[str, ...] = ()
    url: str = ""
    second: bool = False


class Custom(NamedTuple):
    """A definition under its number; `ready` from the sequence number `since` on, when all resources were indexed by it."""

    number: int
    definition: Definition
    ready: bool
    since: int = 0


def _parts(parameter: SearchParameterDef, resource_type: str) -> frozenset[str]:
    """The union's parts that begin at this type, without outer brackets."""
    found = set()
    for part in parameter.expression.split("|"):
        text = part.strip()
        while text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            text = text[1:-1].strip()
        if re.match(rf"\(*{resource_type}\b", text) or parameter.base == ("Resource",):
            found.add(text)
    return frozenset(found)


def _named_right(expression: str) -> str:
    for wrong, right in _RENAMED.items():
        if wrong in expression:
            return f"{expression} | {expression.replace(wrong, right)}"
    return expression


@dataclass(slots=True)
class _Draft:
    """A parameter before its sources are known."""

    number: int
    definition: SearchParameterDef
    parts: frozenset[str]
    sources: tuple[Source, ...] = field(default=())


def _derive(drafts: list[_Draft]) -> None:
    """Find the sources of derived parameters among those of the same type and kind."""
    plain: list[_Draft] = []
    for draft in sorted(drafts, key=lambda one: (len(one.parts), any(_RESOLVED.match(part) for part in one.parts), one.definition.code)):
        draft.sources = _restricted(draft, plain) or _covered(draft, plain) or (Source(draft.number),)
        if draft.sources == (Source(draft.number),):
            plain.append(draft)


def _restricted(draft: _Draft, plain: list[_Draft]) -> tuple[Source, ...]:
    if draft.definition.type != "reference" or len(draft.parts) != 1:
        return ()
    found = _RESOLVED.match(next(iter(draft.parts)))
    if not found:
        return ()
    for other in plain:
        if other.definition.type == "reference" and other.parts == {found[1].strip()}:
            return (Source(other.number, found[2]),)
    return ()


def _covered(draft: _Draft, plain: list[_Draft]) -> tuple[Source, ...]:
    if draft.definition.type in ("composite", "special") or not draft.parts:
        return ()
    chosen, rest = [], set(draft.parts)
    candidates = [one for one in plain if one.definition.type == draft.definition.type and one.parts and one.parts <= draft.parts]
    for other in sorted(candidates, key=lambda one: -len(one.parts)):
        if other.parts <= rest:
            chosen.append(Source(other.number))
            rest -= other.parts
    return tuple(chosen) if not rest else ()


def has_second(definition: SearchParameterDef) -> bool:
    """Whether values are posted under a second number: Identifiers of references and of tokens that name them, longitudes of `near`,
    the spelling of Chinese names."""
    kind = definition.type
    if kind == "string":
        return definition.code in SPELLED
    return kind == "reference" or (kind == "token" and "identifier" in definition.expression.lower()) or definition.code == NEAR


_EXAMPLES = "http://hl7.org/fhir/SearchParameter/example"
"""The official package holds three examples of SearchParameters, of which one would take the place of Condition.subject."""


class Registry:
    """All parameters by resource type and code. Numbers follow from the definitions alone, so every process agrees on them."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._by_type: dict[str, dict[str, Parameter]] = {}
        self._by_number: dict[int, Parameter] = {}
        self.clinical: dict[str, int] = {}
        """type -> number of its clinical date"""
        self.memory: dict[tuple[Any, ...], Any] = {}
        """What the parser remembers of parameters with their values."""
        self.memory_of_composites: dict[tuple[str, int], Any] = {}
        self.patient_code: dict[str, tuple[int, int, int]] = {}
        """type -> numbers of (reference to the patient, code, key of both)"""
        self.customs: dict[int, Custom] = {}
        """What the site defines itself, by number."""
        self.generation = 0
        """Grows with each change of `customs`."""
        self.progress: Callable[[str, str], tuple[int, int]] = lambda type, code: (0, 0)
        """(type, code) -> how many resources are indexed by a parameter, of how many."""
        self.look: Callable[[], None] = lambda: None
        """Look whether others have changed `customs`."""
        self._building: set[int] = set()
        official = [one for one in definitions.search_parameters if one.expression and not one.url.startswith(_EXAMPLES)]
        shared = {one.code: one for one in official if one.base == ("Resource",) and one.code in SHARED}
        self._shared_definitions = shared
        next_number = 1
        for resource_type in definitions.resource_types:
            own = {one.code: one for one in official if resource_type in one.base}
            next_number = self._add_type(resource_type, own, shared, next_number)
        if next_number >= CUSTOM:
            raise ValueError("more search parameters than numbers")
        for name, (subject, code) in self._patient_codes():
            self.patient_code[name] = (subject, code, next_number)
            next_number += 1

    def _add_type(self, name: str, own: dict[str, SearchParameterDef], shared: dict[str, SearchParameterDef], number: int) -> int:
        drafts = []
        for _, definition in sorted({**shared, **own}.items(), key=lambda entry: entry[0]):
            drafts.append(_Draft(number, definition, _parts(definition, name)))
            number += 2 if has_second(definition) else 1
        _derive(drafts)
        table = self._by_type[name] = {}
        for draft in drafts:
            one = draft.definition
            identifier = draft.number + 1 if has_second(one) else 0
            parameter = Parameter(
                draft.number, one.code, one.type, name, _named_right(one.expression), one.targets, one.components, one.url, draft.sources,
                identifier,
            )  # fmt: skip
            table[one.code] = parameter
            self._by_number[parameter.number] = parameter
        clinical = table.get(_CLINICAL.get(name, ""))
        if clinical:
            self.clinical[name] = clinical.sources[0].number if len(clinical.sources) == 1 else clinical.number
        return number

    def _patient_codes(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for name, code in sorted(_CODES.items()):
            table = self._by_type[name]
            subject = table.get("subject") or table["patient"]
            yield name, (subject.sources[0].number, table[code].sources[0].number)

    def get(self, resource_type: str, code: str) -> Parameter | None:
        """A parameter of a type (those of all resources included), or None. Raises FhirError 503 for one that is not ready."""
        found = self._by_type.get(resource_type, {}).get(code)
        if self._building and found is not None and found.number in self._building:
            raise not_ready(resource_type, code, *self.progress(resource_type, code))
        return found

    def is_official(self, resource_type: str, code: str) -> bool:
        """Whether the specification itself defines a parameter."""
        found = self._by_type.get(resource_type, {}).get(code)
        return found is not None and found.number < CUSTOM

    def take(self, customs: Iterable[Custom], generation: int) -> None:
        """Put what the site defines in the place of what it defined before."""
        for number, custom in self.customs.items():
            del self._by_type[custom.definition.type][custom.definition.code]
            del self._by_number[number]
        # An upgrade may make a name official that the site has used before: the official one is served.
        taken = [custom for custom in customs if not self.is_official(custom.definition.type, custom.definition.code)]
        self.customs = {custom.number: custom for custom in taken}
        for number, (_, one, _, _) in self.customs.items():
            second = number + 1 if one.second else 0
            sources = (Source(number),)
            parameter = Parameter(number, one.code, one.kind, one.type, one.expression, one.targets, (), one.url, sources, second)
            self._by_type[one.type][one.code] = self._by_number[number] = parameter
        self._building = {number for number, custom in self.customs.items() if not custom.ready}
        self.generation = generation
        self.memory.clear()
        self.memory_of_composites.clear()

    def of(self, resource_type: str) -> list[Parameter]:
        """The parameters of a type's own; of 'Resource' those that all types share."""
        if resource_type == "Resource":
            first = self._by_type[self.definitions.resource_types[0]]
            return [first[code] for code in SHARED if code in first]
        building = self._building
        return [one for code, one in self._by_type.get(resource_type, {}).items() if code not in SHARED and one.number not in building]

    def all_of(self, resource_type: str) -> list[Parameter]:
        """The parameters by which a type is indexed, shared ones and those that are not ready included."""
        return list(self._by_type.get(resource_type, {}).values())

    def numbers_of(self, code: str, types: Iterable[str]) -> dict[str, int]:
        """type -> number under which the values of its parameter `code` are posted; raises KeyError."""
        return {type: self._by_type[type][code].sources[0].number for type in types}

    def number(self, number: int) -> Parameter:
        """The parameter of a number; raises KeyError."""
        return self._by_number[number]

    def codes(self, resource_type: str) -> list[str]:
        """The names by which a type can be searched."""
        return ["_id", "_lastUpdated", "_list", *self._by_type.get(resource_type, {})]


class EveryParameter(Registry):
    """The same registry with the parameters that are not ready yet: for those who look at resources, not at the index (Subscriptions)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known = registry.generation
        self._own_memory: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    @property
    def memory(self) -> dict[tuple[Any, ...], Any]:  # type: ignore[override]
        """What the parser remembers here; it is forgotten in place, because the parser holds it."""
        return self._own_memory

    def newest(self) -> int:
        """The generation of the parameters, after a look for newer ones."""
        self._registry.look()
        if self._known != self._registry.generation:
            self._known = self._registry.generation
            self._own_memory.clear()
        return self._known

    def get(self, resource_type: str, code: str) -> Parameter | None:
        """A parameter of a type, ready or not."""
        return self._registry._by_type.get(resource_type, {}).get(code)
