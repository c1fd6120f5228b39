"""The code systems and value sets that are known here, worked out when they are first asked for.

Specification: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fhir_server.model.references import split_canonical
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.countries import ISO_3166, countries
from fhir_server.terminology.units import UCUM, units
from fhir_server.terminology.value_sets import Content, NotEnumerable, content_of

KEPT = 200
"""Code systems, and value sets, that stay worked out."""
DEEPEST = 30
"""Value sets that may import each other in a row."""
Source = Callable[[str], Mapping[str, Any] | None]
"""Canonical (perhaps with |version) -> the resource, or None."""
Large = Callable[[str, str], CodeSystem | None]
Supplements = Callable[[str], Iterable[Mapping[str, Any]]]


class Terminology:
    """Answers from the resources that `source` finds."""

    def __init__(self, source: Source, supplements: Supplements | None = None, large: Large | None = None) -> None:
        """`supplements`: URL of a code system -> the CodeSystem resources that supplement it.

        `large`: (url, version) -> a code system that is no resource, which comes before those that are.
        """
        self._source, self._supplements, self._large = source, supplements, large
        self._systems: OrderedDict[str, CodeSystem | None] = OrderedDict()
        self._sets: OrderedDict[str, Content] = OrderedDict()

    def code_system(self, url: str, version: str = "") -> CodeSystem | None:
        """A code system by its URL, or None where it is not here."""
        canonical = f"{url}|{version}" if version else url
        if canonical in self._systems:
            self._systems.move_to_end(canonical)
            return self._systems[canonical]
        made: CodeSystem | None = units() if url == UCUM else self._large(url, version) if self._large else None
        resource = self._source(canonical) if made is None else None
        made = made or (CodeSystem.of(resource) if resource is not None and resource.get("resourceType") == "CodeSystem" else None)
        made = made or (countries() if url == ISO_3166 and not version else None)
        if made is not None and self._supplements is not None:
            made = made.supplemented(self._of_version(url, made.version))
        _keep(self._systems, canonical, made)
        return made

    def value_set(self, canonical: str) -> Content | None:
        """The content of a value set, or None where it is not here. Raises NotEnumerable where its content cannot be told."""
        return self._content(canonical, ())

    def of_resource(self, resource: Mapping[str, Any]) -> CodeSystem:
        """A CodeSystem resource as a table, with what supplements add."""
        made = CodeSystem.of(resource)
        return made.supplemented(self._of_version(made.url, made.version)) if self._supplements is not None else made

    def _of_version(self, url: str, version: str) -> Iterator[Mapping[str, Any]]:
        """The supplements of a version of a system: those that name it, or none."""
        for one in self._supplements(url) if self._supplements is not None else ():
            _, wanted, _ = split_canonical(str(one.get("supplements", "")))
            if not wanted or version == wanted or version.startswith(wanted + "."):
                yield one

    def normal(self, system: str, code: str) -> str:
        """The code as its system writes it, where upper and lower case are one there."""
        found = self.code_system(system)
        concept = found.find(code) if found is not None and not found.case_sensitive else None
        return concept.code if concept else code

    def find(self, canonical: str) -> Mapping[str, Any] | None:
        """The resource of a canonical, or None."""
        return self._source(canonical)

    def content(self, resource: Mapping[str, Any]) -> Content:
        """The content of a value set that is given as a resource. Raises NotEnumerable."""
        return content_of(resource, self.code_system, lambda other: self._imported(other, ()))

    def _imported(self, other: str, within: tuple[str, ...]) -> Content:
        """The content of a value set that others import, the outermost first in `within`."""
        if len(within) > DEEPEST:
            raise NotEnumerable(f"value sets import each other more than {DEEPEST} deep", f"值集的相互引用超过 {DEEPEST} 层")
        if other in within:
            raise NotEnumerable(f"the value set {other} imports itself", f"值集 {other} 引用了自身")
        found = self._content(other, within)
        if found is None:
            raise NotEnumerable(f"the imported value set {other} is not here", f"没有所引用的值集 {other}")
        return found

    def _content(self, canonical: str, within: tuple[str, ...]) -> Content | None:
        if canonical in self._sets:
            self._sets.move_to_end(canonical)
            return self._sets[canonical]
        resource = self._source(canonical)
        if resource is None or resource.get("resourceType") != "ValueSet":
            return None

        made = content_of(resource, self.code_system, lambda other: self._imported(other, (*within, canonical)))
        _keep(self._sets, canonical, made)
        return made


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)
