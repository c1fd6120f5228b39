"""From a code of one system to codes of another, as a ConceptMap says.

Specification: https://hl7.org/fhir/R4/conceptmap-operation-translate.html, https://hl7.org/fhir/R4/conceptmap.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_BACKWARDS = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
NO_MATCH = frozenset({"unmatched", "disjoint"})

Codings = frozenset[tuple[str, str]]
"""(system, code) of the codings of a concept."""


@dataclass(frozen=True, slots=True)
class Match:
    """One target of a translation, as seen from the code that was asked about; `equivalence`: of http://hl7.org/fhir/concept-map-equivalence."""

    equivalence: str
    system: str
    code: str
    display: str = ""
    version: str = ""
    source: str = ""
    """Canonical of the map."""
    comment: str = ""
    products: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)


def translated(
    resource: Mapping[str, Any],
    system: str,
    code: str,
    *,
    target: str = "",
    reverse: bool = False,
    dependencies: Mapping[str, Codings] | None = None,
) -> Iterator[Match]:
    """The matches of a code in a ConceptMap; to systems other than `target` none, where it is given.

    `dependencies`: property -> codings of what the target may depend on. Where nothing is mapped, the group's `unmapped` answers
    (of `other-map` the caller reads the named map: it comes as a Match without a code whose `source` is that map).
    """
    url = str(resource.get("url", ""))
    for group in _objects(resource.get("group")):
        source, aim = str(group.get("source", "")), str(group.get("target", ""))
        if reverse:
            if system in ("", aim) and target in ("", source):
                yield from _backwards(group, code, source, url)
            continue
        if system not in ("", source) or (target and target != aim):
            continue
        found = False
        for element in _objects(group.get("element")):
            if element.get("code") != code:
                continue
            for one in _objects(element.get("target")):
                if _depends(one, dependencies):
                    found = True
                    yield _match(one, aim, str(group.get("targetVersion", "")), url)
        if not found:
            yield from _unmapped(group, code, aim, url)


def _match(row: Mapping[str, Any], system: str, version: str, url: str) -> Match:
    return Match(
        str(row.get("equivalence", "relatedto")), system, str(row.get("code", "")), str(row.get("display", "")), version, url,
        str(row.get("comment", "")), tuple(_objects(row.get("product"))),
    )  # fmt: skip


def _backwards(group: Mapping[str, Any], code: str, source: str, url: str) -> Iterator[Match]:
    for element in _objects(group.get("element")):
        for one in _objects(element.get("target")):
            if one.get("code") == code:
                said = str(one.get("equivalence", "relatedto"))
                version = str(group.get("sourceVersion", ""))
                yield Match(_BACKWARDS.get(said, said), source, str(element.get("code", "")), str(element.get("display", "")), version, url)


def _unmapped(group: Mapping[str, Any], code: str, aim: str, url: str) -> Iterator[Match]:
    rule = group.get("unmapped")
    if not isinstance(rule, Mapping):
        return
    mode = rule.get("mode")
    if mode == "provided":
        yield Match("relatedto", aim, code, source=url)
    elif mode == "fixed" and rule.get("code"):
        yield Match("relatedto", aim, str(rule["code"]), str(rule.get("display", "")), source=url)
    elif mode == "other-map" and rule.get("url"):
        yield Match("relatedto", aim, "", source=str(rule["url"]))


def _depends(row: Mapping[str, Any], dependencies: Mapping[str, Codings] | None) -> bool:
    """Whether all that a target depends on is given: the value is a code of the system, where one is named."""
    for needed in _objects(row.get("dependsOn")):
        system, code = str(needed.get("system", "")).partition("|")[0], needed.get("value")
        given = (dependencies or {}).get(str(needed.get("property")), frozenset())
        if not any(code == other and system in ("", space) for space, other in given):
            return False
    return True


def _objects(rows: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def fitting(maps: Iterable[Mapping[str, Any]], source: str, target: str) -> Iterator[Mapping[str, Any]]:
    """The maps from one value set to another; '' for any."""
    for one in maps:
        froms = {str(one.get(name)) for name in ("sourceUri", "sourceCanonical") if one.get(name)}
        tos = {str(one.get(name)) for name in ("targetUri", "targetCanonical") if one.get(name)}
        if (not source or source in froms) and (not target or target in tos):
            yield one
