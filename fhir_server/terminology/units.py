"""UCUM as a code system: its codes are made by a grammar, so that they are read and not listed.

Specification: https://hl7.org/fhir/R4/ucum.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from fhir_server.terminology.code_systems import CodeSystem, Concept
from fhir_server.terminology.ucum import UcumError, parse
from fhir_server.terminology.ucum.table import VERSION, table
from fhir_server.terminology.value_sets import NotEnumerable

UCUM = "http://unitsofmeasure.org"


class _Units(Mapping[str, Concept]):
    """Code -> concept, for whatever the grammar reads. `added`: what supplements have said more of."""

    def __init__(self, added: Mapping[str, Concept] | None = None) -> None:
        self.added = added or {}

    def __getitem__(self, code: str) -> Concept:
        if code in self.added:
            return self.added[code]
        try:
            unit = parse(code)
        except UcumError:
            raise KeyError(code) from None
        return Concept(code, properties=(("canonical", unit.base),))

    def __iter__(self) -> NoReturn:
        raise NotEnumerable(
            f"the codes of UCUM ({UCUM}) are made by a grammar and cannot be listed", f"UCUM（{UCUM}）的编码由语法生成，无法列出"
        )

    def __len__(self) -> int:
        return len(table().atoms)


@dataclass(slots=True)
class Units(CodeSystem):
    """UCUM; a concept has no text of its own, and the property `canonical`: its base units."""

    @property
    def endless(self) -> bool:
        """Prefixes and powers make codes without end."""
        return True

    def as_property(self, name: str, text: str) -> str:
        """`canonical` names a kind of unit by any unit of it, as R4's all-time-units does by `a`."""
        concept = self.find(text) if name == "canonical" else None
        return str(concept.values_of("canonical")[0]) if concept else text

    def _with(self, added: Mapping[str, Concept]) -> Any:
        return _Units(added)

    def _closure(self, code: str, steps: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
        if self.find(code) is not None:  # UCUM knows no hierarchy
            yield code


def units() -> Units:
    """UCUM in the version of the table."""
    made = Units(UCUM, VERSION, name="UCUM", content="not-present", properties={"canonical": "string"})
    made.concepts = _Units()  # type: ignore[assignment]
    return made
