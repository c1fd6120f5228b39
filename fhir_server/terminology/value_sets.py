"""A ValueSet's `compose` worked out: the codes that are known, and the systems of which all codes are in it.

Specification: https://hl7.org/fhir/R4/valueset.html#compositions, filters: https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.regex import pattern
from fhir_server.terminology.code_systems import CodeSystem, Concept

Coding = tuple[str, str]
"""(system, code)"""
Systems = Callable[[str, str], CodeSystem | None]
"""(url, version or '') -> the code system, or None where it is not here."""


GROWING = ("http://terminology.hl7.org/CodeSystem/v2-", "http://terminology.hl7.org/CodeSystem/v3-")
"""Tables of v2 and v3, which grow without FHIR; what is here is their state at the time of R4."""


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


@dataclass(frozen=True, slots=True)
class Listed:
    """What a value set itself says of one of its codes. `version`: that of the system of which it was selected, '' where none is named.

    `inactive`: of a stored expansion, None where nothing is said.
    """

    display: str = ""
    version: str = ""
    designations: tuple[Mapping[str, Any], ...] = ()
    inactive: bool | None = None
    abstract: bool = False


_PLAIN = Listed()


@dataclass(slots=True)
class Content:
    """`codes`: (system, code) -> what is said of it, in order. `systems`: systems that are in it as a whole and whose codes are not all
    known here, with the codes that are excluded; `versions`: which version of those is meant, where one is named."""

    codes: dict[Coding, Listed] = field(default_factory=dict)
    systems: dict[str, Set[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def has(self, system: str, code: str) -> bool:
        """Whether the code is in it."""
        return (system, code) in self.codes or (system in self.systems and code not in self.systems[system])

    def enumerated(self) -> dict[Coding, Listed]:
        """All codes. Raises NotEnumerable where a whole system is in it whose codes are not known here."""
        if self.systems:
            listed = ", ".join(f"{url}|{self.versions[url]}" if self.versions.get(url) else url for url in sorted(self.systems))
            raise NotEnumerable(f"the codes of {listed} are not known here", f"本机没有 {listed} 的编码")
        return self.codes

    def join(self, other: Content) -> None:
        """Become the union of both."""
        for coding, listed in other.codes.items():
            self.codes.setdefault(coding, listed)
        for system, excluded in other.systems.items():
            if system in self.systems and self.versions.get(system) != other.versions.get(system):
                self.versions.pop(system, None)  # of several versions none can be named
            elif version := other.versions.get(system):
                self.versions[system] = version
            self.systems[system] = self.systems[system] & excluded if system in self.systems else excluded

    def meet(self, other: Content) -> Content:
        """What is in both."""
        codes = {coding: listed for coding, listed in self.codes.items() if other.has(*coding)}
        codes.update({coding: listed for coding, listed in other.codes.items() if coding not in codes and self.has(*coding)})
        shared = self.systems.keys() & other.systems.keys()
        return Content(
            codes, {system: self.systems[system] | other.systems[system] for system in shared}, {**other.versions, **self.versions}
        )

    def without(self, other: Content) -> Content:
        """What is in this and not in the other."""
        codes = {coding: listed for coding, listed in self.codes.items() if not other.has(*coding)}
        systems: dict[str, Set[str]] = {}
        for system, excluded in self.systems.items():
            held = other.systems.get(system)
            if isinstance(held, Unfit):
                systems[system] = excluded | held.inverted()
            elif held is not None:  # only what the other leaves out of the system stays
                listed = Listed(version=self.versions.get(system, ""))
                codes.update({(system, code): listed for code in held - excluded if not other.has(system, code)})
            else:
                systems[system] = excluded | {code for its_system, code in other.codes if its_system == system}
        return Content(codes, systems, self.versions)


def content_of(resource: Mapping[str, Any], systems: Systems, imported: Callable[[str], Content]) -> Content:
    """The content of a ValueSet resource: its `compose`, or its stored expansion where it has no other.

    `imported(canonical)`: the content of another value set. Raises NotEnumerable for a filter over a system that is not here, or that
    the system cannot answer, and where nothing says what is in it.
    """
    compose = resource.get("compose")
    if not isinstance(compose, Mapping) or not compose:
        expansion = resource.get("expansion")
        if not isinstance(expansion, Mapping):
            raise NotEnumerable("it has neither compose nor expansion, which would say what is in it", "它既没有 compose 也没有 expansion")
        return Content(dict(_expanded(_rows(expansion, "contains"))))
    whole = Content()
    for row in _rows(compose, "include"):
        whole.join(_selected(row, systems, imported))
    for row in _rows(compose, "exclude"):
        whole = whole.without(_selected(row, systems, imported))
    return whole


def _rows(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = holder.get(name)
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _expanded(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Coding, Listed]]:
    for row in rows:
        if code := row.get("code"):
            inactive = row.get("inactive")
            yield (
                (str(row.get("system", "")), str(code)),
                Listed(
                    str(row.get("display", "")),
                    str(row.get("version", "")),
                    tuple(_rows(row, "designation")),
                    inactive if isinstance(inactive, bool) else None,
                    row.get("abstract") is True,
                ),
            )
        yield from _expanded(_rows(row, "contains"))


def _selected(row: Mapping[str, Any], systems: Systems, imported: Callable[[str], Content]) -> Content:
    """One include or exclude: what its system part and all of its value sets have in common."""
    found: Content | None = None
    url = row.get("system")
    if url:
        version = str(row.get("version") or "")
        found = _of_system(row, url, "" if version == "*" else version, systems(url, "" if version == "*" else version))
    for canonical in row.get("valueSet") or ():
        if isinstance(canonical, str):
            other = imported(canonical)
            found = other if found is None else found.meet(other)
    return found or Content()


def _of_system(row: Mapping[str, Any], url: str, version: str, system: CodeSystem | None) -> Content:
    if row.get("concept"):
        return Content(dict(_named(row, url, version, system)))
    filters = _rows(row, "filter")
    said = [(str(one.get("property", "")), str(one.get("op", "")), str(one.get("value", ""))) for one in filters]
    pinned = {url: version} if version else {}
    if system is not None and system.endless and filters:
        tests = [_filter(system, name, operator, system.as_property(name, value)) for name, operator, value in said]

        def fits(code: str) -> bool:
            concept = system.find(code)
            return concept is not None and all(test(concept) for test in tests)

        return Content({}, {url: Unfit(url, fits)}, pinned)
    if system is not None and not system.listed and not filters:
        return Content({}, {url: frozenset()}, pinned)
    if system is None or not system.whole:
        if filters:
            names = ", ".join(" ".join(one) for one in said)
            whole = f"{url}|{version}" if version else url
            raise NotEnumerable(
                f"the filter {names} needs the code system {whole}, which is not here", f"过滤条件 {names} 需要代码系统 {whole}，但本机没有"
            )
        return Content({}, {url: frozenset()}, pinned)
    chosen: Iterable[Concept] = system.concepts.values()
    first = filters[0] if filters and not system.listed else {}
    if first.get("op") in ("is-a", "descendent-of"):  # of a large system only what is below is read
        chosen = (system.concepts[code] for code in system.below(str(first.get("value", ""))))
    for name, operator, value in said:
        test = _filter(system, name, operator, value)
        chosen = [concept for concept in chosen if test(concept)]
    return Content({(url, concept.code): Listed(concept.display, version) for concept in chosen})


def _named(row: Mapping[str, Any], url: str, version: str, system: CodeSystem | None) -> Iterator[tuple[Coding, Listed]]:
    """The codes that a value set names one by one; of a system that is here as a whole those that it has."""
    for one in _rows(row, "concept"):
        code = one.get("code")
        if not isinstance(code, str):
            continue
        concept = system.find(code) if system is not None else None
        if concept is None and system is not None and system.whole and not system.endless and not url.startswith(GROWING):
            continue
        display = str(one.get("display") or (concept.display if concept else ""))
        yield (url, code), Listed(display, version, tuple(_rows(one, "designation")))


def _filter(system: CodeSystem, property: str, operator: str, value: str) -> Callable[[Concept], bool]:
    """Raises NotEnumerable for an operator that FHIR does not define, and for what the system cannot answer."""
    _check_filter(system, property, operator, value)
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
                    f"the regular expression '{value[:80]}' cannot be used: {fault}", f"正则表达式“{value[:80]}”不能使用：{fault.zh}"
                ) from None

        return fits
    raise NotEnumerable(f"the filter operator '{operator}' is not one of FHIR R4", f"过滤运算符“{operator}”不属于 FHIR R4")


_OF_ALL = frozenset({"code", "concept", "display", "definition", "parent", "child", "inactive", "notSelectable", "abstract", "status"})
"""Properties that each system has."""
_HIERARCHY = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})


def _check_filter(system: CodeSystem, property: str, operator: str, value: str) -> None:
    """A filter that cannot be answered is told, never taken for one that nothing meets."""
    known = property in _OF_ALL or property in system.properties or not system.listed
    if not known and not any(property == name for concept in system.concepts.values() for name, _ in concept.properties):
        raise NotEnumerable(
            f"{system.url} has no property '{property[:80]}' by which it could be filtered",
            f"{system.url} 没有可用于过滤的属性“{property[:80]}”",
        )
    if property in ("constraint", "expression") and property not in system.properties:
        raise NotEnumerable(f"filters by {property} are not supported for {system.url}", f"不支持按 {property} 过滤 {system.url}")
    if operator in _HIERARCHY:
        if property not in ("concept", "code"):
            raise NotEnumerable(
                f"'{operator}' asks for a concept, not for '{property[:80]}'", f"“{operator}”只用于 concept，不用于“{property[:80]}”"
            )
        if system.find(value) is None:
            raise NotEnumerable(f"'{value[:80]}' is no code of {system.url}", f"“{value[:80]}”不是 {system.url} 的编码")
    if operator == "exists" and value not in ("true", "false"):
        raise NotEnumerable(f"'exists' needs true or false, not '{value[:80]}'", f"exists 的值应为 true 或 false，而不是“{value[:80]}”")


def _values(system: CodeSystem, concept: Concept, name: str) -> list[str]:
    """The values of a property as texts; code, display, definition, parent and child are properties of every system."""
    if name in ("code", "concept"):
        return [concept.code]
    if name in ("display", "definition"):
        text: str = getattr(concept, name)
        return [text] if text else []
    if name in ("parent", "child"):
        return list((system.parents if name == "parent" else system.children).get(concept.code, ()))
    if name == "inactive":
        return ["true" if concept.inactive else "false"]
    if name in ("notSelectable", "abstract"):
        return ["true" if concept.abstract else "false"]
    return [("true" if value else "false") if isinstance(value, bool) else str(value) for value in concept.values_of(name)]
