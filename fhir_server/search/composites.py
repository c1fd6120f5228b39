"""Composite parameters: several values that stand in the same element.

Where the element is the resource itself, or occurs once, the components' own parameters say all. Where it repeats (the components of an
Observation), the values of each element are posted together: the first one, a token, takes the place of the system.
Specification: https://hl7.org/fhir/R4/search.html#combining. Decision: docs/decisions/0046-composites.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fhir_server.fhirpath.kinds import kind_of
from fhir_server.search.parameters import Parameter, Registry

PAIR = "\x1e"
"""Between system and code where both are one text; FHIR strings hold no such character."""


@dataclass(frozen=True, slots=True)
class Component:
    """One value of a composite: the parameter that says its kind, and its path from the element."""

    parameter: Parameter
    expression: str


@dataclass(frozen=True, slots=True)
class Part:
    """One branch of a composite. `element`: path of a repeating element whose values are posted under `number`; '' where the
    components' own parameters are asked."""

    components: tuple[Component, ...]
    element: str = ""
    number: int = 0


def parts_of(registry: Registry, parameter: Parameter) -> tuple[Part, ...]:
    """The branches of a composite parameter; remembered by the registry."""
    at = ("composite", parameter.number)
    found: tuple[Part, ...] | None = registry.memory_of_composites.get(at)
    if found is None:
        pieces = [piece.strip() for piece in parameter.expression.split("|")]
        mine = [piece for piece in pieces if piece.partition(".")[0] == parameter.resource_type]
        found = registry.memory_of_composites[at] = tuple(_part(registry, parameter, piece) for piece in mine)
    return found


def _part(registry: Registry, parameter: Parameter, piece: str) -> Part:
    """Another composite with the same components that is about this piece only serves for it, too."""
    alike = [
        one
        for one in registry.all_of(parameter.resource_type)
        if one.type == "composite" and one.expression.strip() == piece and _expressions(one) == _expressions(parameter)
    ]
    chosen = parameter if parameter in alike or not alike else alike[0]
    components = tuple(
        Component(_defined(registry, parameter.resource_type, url, f"{piece}.{expression}"), expression)
        for url, expression in chosen.components
    )
    return Part(components, piece, chosen.number) if _repeats(piece) else Part(components)


def _expressions(parameter: Parameter) -> list[str]:
    return [expression for _, expression in parameter.components]


def _defined(registry: Registry, type: str, url: str, path: str) -> Parameter:
    """The parameter of a component: the one of its path, else the one of its URL (R4 has exchanged those of `relationship`)."""
    known = registry.all_of(type)
    for one in known:
        if one.expression == path:
            return one
    for one in known:
        if one.url == url:
            return one
    raise LookupError(f"{type} has no search parameter {url}")


def _repeats(path: str) -> bool:
    """Whether the element of a path may occur more than once in a resource."""
    root, *names = path.split(".")
    kind = kind_of(root)
    for name in names:
        field = kind.load()[name]
        if field.many:
            return True
        if field.kind is None:
            return False
        kind = field.kind
    return False


def joined(space: str, value: str) -> str:
    """The first component, a token, as one text."""
    return f"{space}{PAIR}{value}"


def parted(text: str) -> tuple[str, str]:
    """The inverse of `joined`."""
    space, _, value = text.partition(PAIR)
    return space, value


class Place(NamedTuple):
    """Another component: `slot` numbers the element (0 where there is no third component), `at` the component; a token, or a unit."""

    slot: int
    at: int
    space: str
    value: str

    def text(self) -> str:
        return f"{self.slot}.{self.at}{PAIR}{self.space}{PAIR}{self.value}"

    @classmethod
    def of(cls, text: str) -> Place:
        place, space, value = text.split(PAIR)
        slot, _, at = place.partition(".")
        return cls(int(slot), int(at), space, value)
