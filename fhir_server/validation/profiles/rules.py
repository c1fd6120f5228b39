"""What a profile adds to the structure of its type, compiled from its snapshot: only what is not true of each resource of the type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fhir_server.fhirpath import Expression
from fhir_server.model.definitions import Binding, ElementDef, TypeDef
from fhir_server.validation.profiles.narratives import Control
from fhir_server.validation.snapshot.tree import Node


@dataclass(slots=True)
class Invariant:
    """A constraint of a profile. `fault`: why its expression cannot be compiled, where it cannot."""

    key: str
    severity: str
    human: str
    expression: Expression | None
    fault: str = ""


@dataclass(slots=True)
class Type:
    """A permitted type with the profiles of which the value must meet one, those of what it refers to, and how it may refer."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    aggregation: tuple[str, ...] = ()


@dataclass(slots=True)
class Rules:
    """What holds for one element. `types` is None where the profile narrows none; `id` is that of the element in the snapshot."""

    id: str
    node: Node
    types: tuple[Type, ...] | None = None
    fixed: tuple[str, Any] | None = None
    """(type, value)"""
    pattern: tuple[str, Any] | None = None
    lowest: tuple[str, Any] | None = None
    highest: tuple[str, Any] | None = None
    max_length: int | None = None
    binding: Binding | None = None
    narrative: Control | None = None
    invariants: list[Invariant] = field(default_factory=list)
    groups: list[GroupRules] = field(default_factory=list)
    min: int = 0
    max: int | None = None
    """Occurrences of a slice."""
    slicing: Slicing | None = None
    """How the elements of this slice are sliced again."""

    @property
    def says_nothing(self) -> bool:
        return not (
            self.types or self.fixed or self.pattern or self.lowest or self.highest or self.max_length or self.binding or self.invariants
            or self.groups or self.narrative
        )  # fmt: skip


@dataclass(slots=True)
class Slicing:
    """`discriminators`: (type, path) each. `rules`: open, closed or openAtEnd."""

    discriminators: tuple[tuple[str, str], ...]
    rules: str
    ordered: bool
    slices: list[Rules]
    default: Rules | None = None
    """The slice `@default`: what belongs to no other one."""


@dataclass(slots=True)
class GroupRules:
    """What holds for all elements of one name: how many (None: as the type says), each of them (`whole`), and slices."""

    element: ElementDef
    holder: TypeDef
    min: int = 0
    max: int | None = None
    whole: Rules | None = None
    slicing: Slicing | None = None
    only: bool = False
    """The holder is one of several types of a choice: elements of another type have none of these."""


@dataclass(slots=True)
class Profile:
    """A compiled profile. `canonical` with its version; `faults`: what of it cannot be checked, and why."""

    canonical: str
    type: str
    root: Rules
    definition: dict[str, Any]
    faults: list[str] = field(default_factory=list)
