"""A CodeSystem as a table of concepts with its hierarchy.

Specification: https://hl7.org/fhir/R4/codesystem.html, properties: https://hl7.org/fhir/R4/codesystem-concept-properties.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Subsumption = Literal["equivalent", "subsumes", "subsumed-by", "not-subsumed"]
_UPWARDS = frozenset({"parent", "subsumedBy"})
_NO_LONGER = frozenset({"retired", "inactive", "withdrawn"})


@dataclass(frozen=True, slots=True)
class Concept:
    """A code with its texts. `properties`: (code of the property, its value as in JSON) in the order of the definition."""

    code: str
    display: str = ""
    definition: str = ""
    properties: tuple[tuple[str, Any], ...] = ()
    designations: tuple[Mapping[str, Any], ...] = ()

    def values_of(self, name: str) -> list[Any]:
        """All values of one property."""
        return [value for code, value in self.properties if code == name]

    @property
    def abstract(self) -> bool:
        """Whether it is only there to group others and must not be chosen."""
        return True in self.values_of("notSelectable") or True in self.values_of("abstract")

    @property
    def inactive(self) -> bool:
        """Whether it must not be used any more."""
        return True in self.values_of("inactive") or not _NO_LONGER.isdisjoint(
            value for value in self.values_of("status") if isinstance(value, str)
        )


@dataclass(slots=True)
class CodeSystem:
    """The concepts of one code system in the order of their definition. `whole`: all of its codes are known here."""

    url: str
    version: str = ""
    case_sensitive: bool = True
    whole: bool = True
    concepts: dict[str, Concept] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    children: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _folded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> CodeSystem:
        """The table of a CodeSystem resource. Nesting and the properties parent, subsumedBy and child make the hierarchy."""
        made = cls(
            resource.get("url", ""),
            resource.get("version", ""),
            resource.get("caseSensitive", True) is not False,
            resource.get("content") == "complete",
        )
        edges: list[tuple[str, str]] = []
        made._take(resource.get("concept") or (), None, edges)
        above: dict[str, list[str]] = {}
        below: dict[str, list[str]] = {}
        for parent, child in dict.fromkeys(edges):
            if parent in made.concepts and child in made.concepts and parent != child:
                above.setdefault(child, []).append(parent)
                below.setdefault(parent, []).append(child)
        made.parents = {code: tuple(codes) for code, codes in above.items()}
        made.children = {code: tuple(codes) for code, codes in below.items()}
        if not made.case_sensitive:
            made._folded = {code.casefold(): code for code in made.concepts}
        return made

    def _take(self, rows: Iterable[Mapping[str, Any]], parent: str | None, edges: list[tuple[str, str]]) -> None:
        for row in rows:
            code = row["code"]
            properties = tuple((one["code"], _value(one)) for one in row.get("property", ()))
            self.concepts[code] = Concept(
                code, row.get("display", ""), row.get("definition", ""), properties, tuple(row.get("designation", ()))
            )
            if parent is not None:
                edges.append((parent, code))
            for name, value in properties:
                if name in _UPWARDS:
                    edges.append((str(value), code))
                elif name == "child":
                    edges.append((code, str(value)))
            self._take(row.get("concept") or (), code, edges)

    def find(self, code: str) -> Concept | None:
        """The concept of a code; upper and lower case are one where the system says so."""
        found = self.concepts.get(code)
        if found is None and not self.case_sensitive:
            found = self.concepts.get(self._folded.get(code.casefold(), ""))
        return found

    def below(self, code: str) -> Iterator[str]:
        """The code and all that it subsumes, each once, nearest first; nothing for an unknown code."""
        return self._closure(code, self.children)

    def above(self, code: str) -> Iterator[str]:
        """The code and all that subsume it, each once, nearest first; nothing for an unknown code."""
        return self._closure(code, self.parents)

    def _closure(self, code: str, steps: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
        start = self.find(code)
        if start is None:
            return
        seen, queue = {start.code}, [start.code]
        for current in queue:  # grows while it is walked
            yield current
            for following in steps.get(current, ()):
                if following not in seen:
                    seen.add(following)
                    queue.append(following)

    def subsumes(self, a: str, b: str) -> Subsumption | None:
        """How code `a` relates to code `b`; None where one of them is unknown."""
        first, second = self.find(a), self.find(b)
        if first is None or second is None:
            return None
        if first.code == second.code:
            return "equivalent"
        if first.code in self.above(second.code):
            return "subsumes"
        return "subsumed-by" if second.code in self.above(first.code) else "not-subsumed"


def _value(row: Mapping[str, Any]) -> Any:
    value = next((value for name, value in row.items() if name.startswith("value")), None)
    return value.get("code") if isinstance(value, dict) else value
