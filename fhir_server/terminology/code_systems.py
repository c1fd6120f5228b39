"""A CodeSystem as a table of concepts with its hierarchy.

Specification: https://hl7.org/fhir/R4/codesystem.html, properties: https://hl7.org/fhir/R4/codesystem-concept-properties.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
        return [value.get("code") if isinstance(value, dict) else value for code, value in self.properties if code == name]

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
    name: str = ""
    language: str = ""
    content: str = "complete"
    """complete, fragment, example, not-present or supplement."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Code of each property that the system defines -> its type (code, Coding, string, boolean, dateTime, integer, decimal)."""
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
            str(resource.get("title") or resource.get("name") or ""),
            str(resource.get("language", "")),
            str(resource.get("content", "")),
            {str(row.get("code")): str(row.get("type", "")) for row in resource.get("property") or ()},
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
            code = row.get("code")
            if not isinstance(code, str):  # only an extension says why there is none
                self._take(row.get("concept") or (), parent, edges)
                continue
            properties = tuple((one["code"], _value(one)) for one in row.get("property", ()) if "code" in one)
            self.concepts[code] = Concept(
                code, row.get("display", ""), row.get("definition", ""), properties, tuple(row.get("designation", ()))
            )
            if parent is not None:
                edges.append((parent, code))
            for name, value in properties:
                other = str(value.get("code")) if isinstance(value, dict) else str(value)
                if name in _UPWARDS:
                    edges.append((other, code))
                elif name == "child":
                    edges.append((code, other))
            self._take(row.get("concept") or (), code, edges)

    @property
    def endless(self) -> bool:
        """Whether its codes are made by a grammar, so that no list of them ends."""
        return False

    def as_property(self, name: str, text: str) -> str:
        """The value of a property that a filter means by a text."""
        return text

    @property
    def listed(self) -> bool:
        """Whether all concepts are at hand; of a large system they are looked up."""
        return isinstance(self.concepts, dict)

    def supplemented(self, others: Iterable[Mapping[str, Any]]) -> CodeSystem:
        """This system with the designations and properties that supplements (CodeSystem resources) add to its concepts."""
        added: dict[str, Concept] = {}
        for other in others:
            rows = CodeSystem.of(other)
            for code, more in rows.concepts.items():
                mine = added.get(code) or self.concepts.get(code)
                if mine is None:
                    continue
                texts = more.designations
                if more.display and more.display != mine.display:
                    texts = ({"language": rows.language, "value": more.display} if rows.language else {"value": more.display}, *texts)
                new = tuple(one for one in texts if one not in mine.designations)
                added[code] = replace(mine, designations=(*mine.designations, *new), properties=(*mine.properties, *more.properties))
        return replace(self, concepts=self._with(added)) if added else self

    def _with(self, added: Mapping[str, Concept]) -> Any:
        """The concepts with some of them told anew."""
        return {**self.concepts, **added}

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
    return next((value for name, value in row.items() if name.startswith("value")), None)
