"""A ValueSet's `compose` worked out: the codes that are known, and the systems of which all codes are in it.

Specification: https://hl7.org/fhir/R4/valueset.html#compositions, filters: https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.regex import pattern
from fhir_server.terminology.code_systems import CodeSystem, Concept

Coding = tuple[str, str]
"""(system, code)"""
Systems = Callable[[str, str], CodeSystem | None]
"""(url, version or '') -> the code system, or None where it is not here."""


class NotEnumerable(Exception):
    """The content cannot be told from what is here; the message says what is missing. `zh`: the message in Chinese."""

    def __init__(self, english: str, zh: str) -> None:
        super().__init__(english)
        self.zh = zh


class Unfit(Set[str]):
    """The codes of an endless system that do not fit: one can ask for each, and cannot list them."""

    def __init__(self, system: str, fits: Callable[[str], bool]) -> None:
        self._system, self._fits = system, fits

    @classmethod
    def _from_iterable(cls, codes: Iterable[Any]) -> Any:
        return frozenset(codes)

    def __contains__(self, code: object) -> bool:
        return not (isinstance(code, str) and self._fits(code))

    def __iter__(self) -> NoReturn:
        raise NotEnumerable(f"the codes of {self._system} cannot be listed", f"{self._system} 的编码无法列出")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __and__(self, other: Set[Any]) -> Unfit:
        return Unfit(self._system, lambda code: code not in self or code not in other)

    def inverted(self) -> Unfit:
        """The codes that do fit."""
        return Unfit(self._system, lambda code: code in self)

    def __or__(self, other: Set[Any]) -> Unfit:  # type: ignore[override]
        return Unfit(self._system, lambda code: code not in self and code not in other)

    __rand__, __ror__ = __and__, __or__  # type: ignore[assignment]


@dataclass(slots=True)
class Content:
    """`codes`: (system, code) -> display, in order. `systems`: systems that are in it as a whole and whose codes are not all known here,
    with the codes that are excluded."""

    codes: dict[Coding, str] = field(default_factory=dict)
    systems: dict[str, Set[str]] = field(default_factory=dict)

    def has(self, system: str, code: str) -> bool:
        """Whether the code is in it."""
        return (system, code) in self.codes or (system in self.systems and code not in self.systems[system])

    def enumerated(self) -> dict[Coding, str]:
        """All codes. Raises NotEnumerable where a whole system is in it whose codes are not known here."""
        if self.systems:
            listed = ", ".join(sorted(self.systems))
            raise NotEnumerable(f"the codes of {listed} are not known here", f"本机没有 {listed} 的编码")
        return self.codes

    def join(self, other: Content) -> None:
        """Become the union of both."""
        for coding, display in other.codes.items():
            self.codes.setdefault(coding, display)
        for system, excluded in other.systems.items():
            self.systems[system] = self.systems[system] & excluded if system in self.systems else excluded

    def meet(self, other: Content) -> Content:
        """What is in both."""
        codes = {coding: display for coding, display in self.codes.items() if other.has(*coding)}
        codes.update({coding: display for coding, display in other.codes.items() if coding not in codes and self.has(*coding)})
        shared = self.systems.keys() & other.systems.keys()
        return Content(codes, {system: self.systems[system] | other.systems[system] for system in shared})

    def without(self, other: Content) -> Content:
        """What is in this and not in the other."""
        codes = {coding: display for coding, display in self.codes.items() if not other.has(*coding)}
        systems: dict[str, Set[str]] = {}
        for system, excluded in self.systems.items():
            held = other.systems.get(system)
            if isinstance(held, Unfit):
                systems[system] = excluded | held.inverted()
            elif held is not None:  # only what the other leaves out of the system stays
                codes.update({(system, code): "" for code in held - excluded if not other.has(system, code)})
            else:
                systems[system] = excluded | {code for its_system, code in other.codes if its_system == system}
        return Content(codes, systems)


def content_of(resource: Mapping[str, Any], systems: Systems, imported: Callable[[str], Content]) -> Content:
    """The content of a ValueSet resource: its `compose`, or its stored expansion where it has no other.

    `imported(canonical)`: the content of another value set. Raises NotEnumerable for a filter over a system that is not here.
    """
    compose = resource.get("compose")
    if not compose:
        return Content(dict(_expanded(resource.get("expansion", {}).get("contains", ()))))
    whole = Content()
    for row in compose.get("include", ()):
        whole.join(_selected(row, systems, imported))
    for row in compose.get("exclude", ()):
        whole = whole.without(_selected(row, systems, imported))
    return whole


def _expanded(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Coding, str]]:
    for row in rows:
        if row.get("code") and not row.get("abstract"):
            yield (row.get("system", ""), row["code"]), row.get("display", "")
        yield from _expanded(row.get("contains", ()))


def _selected(row: Mapping[str, Any], systems: Systems, imported: Callable[[str], Content]) -> Content:
    """One include or exclude: what its system part and all of its value sets have in common."""
    found: Content | None = None
    url = row.get("system")
    if url:
        found = _of_system(row, url, systems(url, row.get("version", "")))
    for canonical in row.get("valueSet", ()):
        other = imported(canonical)
        found = other if found is None else found.meet(other)
    return found or Content()


def _of_system(row: Mapping[str, Any], url: str, system: CodeSystem | None) -> Content:
    if row.get("concept"):
        displays = {concept["code"]: concept.get("display", "") for concept in row["concept"]}
        known = system.concepts if system else {}
        return Content({(url, code): display or (known[code].display if code in known else "") for code, display in displays.items()})
    filters = row.get("filter", ())
    if system is not None and system.endless and filters:
        said = [(one.get("property", ""), one.get("op", ""), str(one.get("value", ""))) for one in filters]
        tests = [_filter(system, name, operator, system.as_property(name, value)) for name, operator, value in said]

        def fits(code: str) -> bool:
            concept = system.find(code)
            return concept is not None and all(test(concept) for test in tests)

        return Content({}, {url: Unfit(url, fits)})
    if system is not None and not system.listed and not filters:
        return Content({}, {url: frozenset()})
    if system is None or not system.whole:
        if filters:
            names = ", ".join(f"{one.get('property')} {one.get('op')} {one.get('value')}" for one in filters)
            raise NotEnumerable(
                f"the filter {names} needs the code system {url}, which is not here", f"过滤条件 {names} 需要代码系统 {url}，但本机没有"
            )
        return Content({}, {url: frozenset()})
    chosen: Iterable[Concept] = system.concepts.values()
    first = filters[0] if filters and not system.listed else {}
    if first.get("op") in ("is-a", "descendent-of"):  # of a large system only what is below is read
        chosen = (system.concepts[code] for code in system.below(str(first.get("value", ""))))
    for one in filters:
        test = _filter(system, one.get("property", ""), one.get("op", ""), str(one.get("value", "")))
        chosen = [concept for concept in chosen if test(concept)]
    return Content({(url, concept.code): concept.display for concept in chosen})


def _filter(system: CodeSystem, property: str, operator: str, value: str) -> Callable[[Concept], bool]:
    """Raises NotEnumerable for an operator that FHIR does not define."""
    if operator in ("is-a", "descendent-of", "is-not-a"):
        below = set(system.below(value))
        if operator == "descendent-of" and (found := system.find(value)):
            below.discard(found.code)
        return (lambda concept: concept.code not in below) if operator == "is-not-a" else (lambda concept: concept.code in below)
    if operator == "generalizes":
        above = set(system.above(value))
        return lambda concept: concept.code in above
    if operator == "exists":
        return lambda concept: bool(_values(system, concept, property)) == (value == "true")
    if operator == "=":
        return lambda concept: value in _values(system, concept, property)
    if operator in ("in", "not-in"):
        wanted = set(value.split(","))
        return lambda concept: wanted.isdisjoint(_values(system, concept, property)) == (operator == "not-in")
    if operator == "regex":

        def fits(concept: Concept) -> bool:
            try:
                return any(pattern(value).fullmatch(one) for one in _values(system, concept, property))
            except FhirPathError as fault:
                raise NotEnumerable(
                    f"the regular expression '{value[:80]}' cannot be used: {fault}", f"正则表达式“{value[:80]}”不能使用：{fault}"
                ) from None

        return fits
    raise NotEnumerable(f"the filter operator '{operator}' is not one of FHIR R4", f"过滤运算符“{operator}”不属于 FHIR R4")


def _values(system: CodeSystem, concept: Concept, name: str) -> list[str]:
    """The values of a property as texts; code, display, definition, parent and child are properties of every system."""
    if name in ("code", "concept"):
        return [concept.code]
    if name in ("display", "definition"):
        text: str = getattr(concept, name)
        return [text] if text else []
    if name in ("parent", "child"):
        return list((system.parents if name == "parent" else system.children).get(concept.code, ()))
    return [("true" if value else "false") if isinstance(value, bool) else str(value) for value in concept.values_of(name)]
