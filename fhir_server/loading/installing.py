"""Installs a FHIR package into the store: its conformance resources as resources, all of them or none.

Several versions stand side by side: the id of each resource carries the package's version, its canonical is what others name.
Specification: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir_server.auth.gate import ALL_SEEING
from fhir_server.errors import Issue
from fhir_server.interactions.context import Context
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.model.packages import Package
from fhir_server.search.query import KeyMatch, Query
from fhir_server.storage.port import Record, Unit, Write
from fhir_server.validation import structure

PACKAGE = "urn:fhir-server:package"
"""System of the tag that says from which package a resource comes."""
NEEDS_INDEXING = frozenset({"SearchParameter"})
"""Types that change how searches work: installed on demand only."""
_NO_ID = re.compile(r"[^A-Za-z0-9\-.]+")


@dataclass(slots=True)
class Installed:
    """What an installation came to. `refused`: (name of the resource, its issues); `missing`: packages that it builds upon."""

    package: str
    types: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    refused: list[tuple[str, list[Issue]]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)


def id_of(resource: dict[str, Any], package: Package) -> str:
    """The id under which a resource of a package is stored: its own with the version, or a digest where that is too long."""
    plain = _plain(resource, package)
    return plain if len(plain) <= 64 else distinct(resource, package)


def distinct(resource: dict[str, Any], package: Package) -> str:
    """An id that tells resources of one package apart by their canonicals."""
    digest = hashlib.sha256(f"{resource.get('url')}|{resource.get('version')}|{package.id}".encode()).hexdigest()[:16]
    return f"{_plain(resource, package)[:47]}-{digest}"


def _plain(resource: dict[str, Any], package: Package) -> str:
    return _NO_ID.sub("-", f"{resource.get('id') or resource.get('name') or 'resource'}-{package.version}")


def prepared(package: Package, *, search_parameters: bool = False) -> tuple[list[dict[str, Any]], Installed]:
    """The resources as they will be stored, and what was left out. A guide that the package lacks is made from its manifest."""
    report = Installed(package.id)
    held = list(package.resources)
    if not any(one.get("resourceType") == "ImplementationGuide" for one in held):
        held.append(_guide(package))
    ids = {f"{one['resourceType']}/{one.get('id')}": f"{one['resourceType']}/{id_of(one, package)}" for one in held}
    ready: dict[str, dict[str, Any]] = {}
    for one in held:
        kind = one["resourceType"]
        if kind in NEEDS_INDEXING and not search_parameters:
            report.passed_over[kind] += 1
            continue
        resource = {**_linked(one, ids), "id": id_of(one, package)}
        if kind in definitions().types and "version" in definitions().types[kind].elements:  # a NamingSystem of R4 has none
            resource.setdefault("version", package.version)
        meta = resource.get("meta") or {}
        if isinstance(meta, dict):  # else the structure refuses it below
            meta = {key: value for key, value in meta.items() if key not in ("versionId", "lastUpdated")}
            tags = meta.get("tag") or []
            own = [tag for tag in tags if not (isinstance(tag, dict) and tag.get("system") == PACKAGE)] if isinstance(tags, list) else []
            resource["meta"] = {**meta, "tag": [*own, {"system": PACKAGE, "code": package.id}]}
        text = resource.get("text")
        if isinstance(text, dict) and "div" not in text:
            del resource["text"]  # what compilers leave of a narrative that was not made
        issues = [issue for issue in structure.validate(resource) if issue.severity in ("error", "fatal")]
        if issues:
            report.refused.append((f"{kind} {one.get('url') or one.get('id')}", issues))
            continue
        place = f"{kind}/{resource['id']}"
        if place in ready and ready[place].get("url") != resource.get("url"):  # two of one id, or none: told apart by their canonical
            resource["id"] = distinct(resource, package)
            place = f"{kind}/{resource['id']}"
        if ready.setdefault(place, resource) is resource:
            report.types[kind] += 1
        else:
            report.passed_over[f"{kind} that stands in it twice"] += 1
    return list(ready.values()), report


def _guide(package: Package) -> dict[str, Any]:
    base = package.canonical or f"urn:fhir-package:{package.name}"
    return {
        "resourceType": "ImplementationGuide", "id": _NO_ID.sub("-", package.name), "url": f"{base}/ImplementationGuide/{package.name}",
        "version": package.version, "name": re.sub(r"\W+", "_", package.title or package.name), "title": package.title or package.name,
        "status": "active", "packageId": package.name, "fhirVersion": ["4.0.1"],
    }  # fmt: skip


def _linked(value: Any, ids: dict[str, str]) -> Any:
    """A copy in which references to resources of the package lead to where they are stored."""
    if isinstance(value, dict):
        return {
            key: ids.get(inner, inner) if key == "reference" and isinstance(inner, str) else _linked(inner, ids)
            for key, inner in value.items()
        }
    return [_linked(one, ids) for one in value] if isinstance(value, list) else value


async def install(
    context: Context, package: Package, *, search_parameters: bool = False, noted: Callable[[], Sequence[Record]] = tuple
) -> Installed:
    """Store the package in one unit, with the records of the action that `noted` gives.

    Raises FhirError where the store refuses it as a whole.
    """
    ready, report = prepared(package, search_parameters=search_parameters)
    for one in [one for one in ready if context.gate.asks(one["resourceType"])]:
        fault = await context.gate.refusal(ALL_SEEING, Write("PUT", one["resourceType"], one["id"], one))
        if fault is not None:  # a topic that could not be watched
            report.refused.append((f"{one['resourceType']} {one['id']}", fault.issues))
            report.types[one["resourceType"]] -= 1
            ready.remove(one)
    writes = [Write("PUT", one["resourceType"], one["id"], one) for one in ready]
    commit = await context.gate.transact(ALL_SEEING, Unit.of(*writes, records=noted()))
    report.changed = sum(outcome.result in ("created", "updated") for outcome in commit.outcomes)
    there = {name.partition("#")[0] for name in await installed(context)}
    report.missing = [f"{name}#{version}" for name, version in package.dependencies.items() if name not in there and name not in _CORE]
    return report


_CORE = frozenset({"hl7.fhir.r4.core", "hl7.fhir.r4.examples", "hl7.terminology", "hl7.terminology.r4", "hl7.fhir.uv.extensions.r4"})


async def installed(context: Context) -> list[str]:
    """`name#version` of all packages that are here, by their tags."""
    number = context.search.numbers_of("_tag", ("ImplementationGuide",))["ImplementationGuide"]
    query = Query(("ImplementationGuide",), KeyMatch(number, PACKAGE, None), limit=1000)
    page = await context.gate.search(ALL_SEEING, query)
    found = {tag["code"] for one in page.items for tag in json_codec.loads(one.body)["meta"]["tag"] if tag.get("system") == PACKAGE}
    return sorted(found)
