"""Names of the product's own artefacts: everything under one canonical base `{c}`.

Specification: followup-interface.md; setting FOLLOWUP_CANONICAL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEFAULT_BASE = "http://example.org/followup"

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Canonical:
    """The base and what is built on it."""

    base: str = DEFAULT_BASE

    def url(self, type: str, name: str) -> str:
        return f"{self.base}/{type}/{name}"

    def extension(self, name: str, **value: Any) -> Resource:
        """An extension of the product; `value` is one value[x] member."""
        return {"url": self.url("StructureDefinition", name), **value}

    def coding(self, system: str, code: str, display: str = "") -> Resource:
        coding = {"system": self.url("CodeSystem", system), "code": code}
        return {**coding, "display": display} if display else coding

    def concept(self, system: str, code: str, display: str = "") -> Resource:
        """A CodeableConcept of one of the product's code systems."""
        concept: Resource = {"coding": [self.coding(system, code, display)]}
        return {**concept, "text": display} if display else concept

    @property
    def derivation(self) -> str:
        """The identifier system that keeps derived resources single (followup.md section 3)."""
        return self.url("NamingSystem", "derivation")

    @property
    def source(self) -> str:
        """`meta.source` of what the care engine writes: its own writes come back through the feed and start nothing."""
        return self.url("engine", "care")
