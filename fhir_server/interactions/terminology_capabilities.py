"""The TerminologyCapabilities: which code systems are known here, and what the terminology operations can do.

Specification: https://hl7.org/fhir/R4/terminologycapabilities.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.interactions.about import about
from fhir_server.interactions.context import Context
from fhir_server.model.library import order
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.countries import countries
from fhir_server.terminology.units import units

EXPANSION = ("filter", "offset", "count", "activeOnly", "includeDesignations", "includeDefinition", "excludeNotForUI", "displayLanguage")
"""Parameters of `$expand` that change what it answers."""


def terminology_statement(context: Context, base: str, started: int) -> dict[str, Any]:
    """The TerminologyCapabilities of this server under `base`; `started`: milliseconds since 1970."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for url, version, row in _known(context):
        rows.setdefault(url, {}).setdefault(version, row)
    return {
        "resourceType": "TerminologyCapabilities",
        "id": "fhir-server",
        "name": "FhirServerTerminology",
        "title": "FHIR R4 server: terminology",
        **about(base, started),
        "codeSystem": [_system(url, rows[url]) for url in sorted(rows)],
        "expansion": {
            "hierarchical": False,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in EXPANSION],
            "textFilter": "Each word of the filter begins a word of one of the texts of a concept; Chinese is found anywhere in them.",
        },
        "codeSearch": "all",
        "validateCode": {"translations": False},
        "translation": {"needsMap": True},
        "closure": {"translation": False},
    }


def _system(url: str, versions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    newest = max(versions, key=order)
    made: dict[str, Any] = {"uri": url}
    listed = [
        {**({"code": version} if version else {}), "isDefault": version == newest, **row["version"]} for version, row in versions.items()
    ]
    if any(len(row) > 1 or "code" in row for row in listed):
        made["version"] = listed
    made["subsumption"] = any(row["subsumption"] for row in versions.values())
    return made


def _known(context: Context) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """(url, version, what is said of it), what a site has before what R4 brings."""
    validating = context.parts.get("validating")
    for table in (*(validating.large.all() if validating else ()), units(), countries()):
        yield table.url, table.version, _of_table(table)
    if validating:
        library = validating.library
        for canonical in [f"{url}|{version}" for url in library.urls("CodeSystem") for version in library.versions(url)]:
            resource = library.find(canonical.removesuffix("|"))
            if resource is not None and resource.get("resourceType") == "CodeSystem" and resource.get("content") != "supplement":
                yield str(resource["url"]), str(resource.get("version", "")), _of_resource(resource)
    for resource in context.definitions.resources("CodeSystem"):
        if resource.get("content") != "supplement":
            yield str(resource.get("url")), str(resource.get("version", "")), _of_resource(resource)


def _of_table(table: CodeSystem) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if table.language:
        said["language"] = [table.language]
    if table.properties:
        said["property"] = list(table.properties)
    hierarchy = not table.endless and len(table.parents) > 0
    return {"version": said, "subsumption": hierarchy}


def _of_resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if resource.get("compositional") is True:
        said["compositional"] = True
    if resource.get("language"):
        said["language"] = [resource["language"]]
    filters = [
        {"code": row["code"], "op": row["operator"]} for row in resource.get("filter") or () if row.get("code") and row.get("operator")
    ]
    if filters:
        said["filter"] = filters
    properties = [row["code"] for row in resource.get("property") or () if row.get("code")]
    if properties:
        said["property"] = properties
    nested = any(row.get("concept") for row in resource.get("concept") or ())
    return {"version": said, "subsumption": nested or resource.get("hierarchyMeaning") == "is-a"}
