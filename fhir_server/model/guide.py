"""This product's own implementation guide, made from the tables in `profiles/guide`: profiles, extensions, code systems, examples.

Tables and JSON hold `{c}` where the canonical base of a site stands (setting `FOLLOWUP_CANONICAL`).
Specification: https://hl7.org/fhir/R4/implementationguide.html
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Any

from fhir_server.model.json_codec import loads
from fhir_server.model.packages import Package
from fhir_server.model.references import CORE

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "guide"
CANONICAL = "http://example.org/followup"
"""Base of the canonicals until a site sets its own."""
_DATE = "2026-11-28"


@lru_cache(maxsize=4)
def guide(canonical: str = CANONICAL) -> Package:
    """The guide as a package. Do not change what it holds."""
    about = loads(_text("guide.json", canonical))
    resources = [*_code_systems(canonical), *_extensions(canonical), *_files("profiles", canonical), *_files("others", canonical)]
    resources.append(_implementation_guide(about, canonical, resources))
    for one in resources:
        one.setdefault("version", about["version"])
        one.setdefault("date", _DATE)
        if one["resourceType"] == "NamingSystem":
            del one["version"]
    return Package(
        about["name"], about["version"], canonical, about["title"], ("4.0.1",), {"hl7.fhir.r4.core": "4.0.1"}, resources,
        _files("examples", canonical),
    )  # fmt: skip


def _text(name: str, canonical: str) -> bytes:
    return (FOLDER / name).read_text(encoding="utf-8").replace("{c}", canonical).encode()


def _files(folder: str, canonical: str) -> list[dict[str, Any]]:
    return [loads(_text(f"{folder}/{path.name}", canonical)) for path in sorted((FOLDER / folder).glob("*.json"))]


def _rows(name: str, canonical: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(name, canonical).decode().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def _code_systems(canonical: str) -> list[dict[str, Any]]:
    """The code systems, each with a value set of the same name that has all of its codes. Displays are Chinese, English is beside them."""
    codes: dict[str, list[dict[str, Any]]] = {}
    for row in _rows("codes.tsv", canonical):
        english = {"language": "en", "value": row["en"]}
        chinese = {"language": "zh-CN", "value": row["zh"]}
        codes.setdefault(row["system"], []).append({"code": row["code"], "display": row["zh"], "designation": [chinese, english]})
    found: list[dict[str, Any]] = []
    for row in _rows("systems.tsv", canonical):
        name = "".join(part.capitalize() for part in row["id"].split("-"))
        value_set = f"{canonical}/ValueSet/{row['id']}"
        head = {"name": name, "title": f"{row['zh']} {row['en']}", "status": "active", "language": "zh-CN"}
        found.append(
            {"resourceType": "CodeSystem", "id": row["id"], "url": row["url"], **head, "content": "complete", "caseSensitive": True}
            | {"valueSet": value_set, "count": len(codes[row["id"]]), "concept": codes[row["id"]]}
        )
        found.append(
            {"resourceType": "ValueSet", "id": row["id"], "url": value_set, **head, "compose": {"include": [{"system": row["url"]}]}}
        )
    return found


def _extensions(canonical: str) -> list[dict[str, Any]]:
    """The extensions: of one value, or of parts ('before:Duration,after:Duration')."""
    found = []
    for row in _rows("extensions.tsv", canonical):
        url, many = f"{canonical}/StructureDefinition/{row['id']}", ":" in row["type"]
        elements = [{"id": "Extension", "path": "Extension", "short": f"{row['zh']} {row['en']}", "max": row["max"]}]
        elements += _parts(row["type"]) if many else [{"id": "Extension.extension", "path": "Extension.extension", "max": "0"}]
        elements.append({"id": "Extension.url", "path": "Extension.url", "fixedUri": url})
        value: dict[str, Any] = {"id": "Extension.value[x]", "path": "Extension.value[x]"}
        value |= {"max": "0"} if many else {"min": 1, "type": [_type(row["type"])]}
        if row["binding"]:
            value["binding"] = {"strength": "required", "valueSet": f"{canonical}/ValueSet/{row['binding']}"}
        found.append(
            {
                "resourceType": "StructureDefinition", "id": row["id"], "url": url, "status": "active", "fhirVersion": "4.0.1",
                "name": "".join(part.capitalize() for part in row["id"].split("-")), "title": f"{row['zh']} {row['en']}",
                "kind": "complex-type", "abstract": False, "type": "Extension", "baseDefinition": CORE + "Extension",
                "context": [{"type": "element", "expression": where} for where in row["contexts"].split(",")], "derivation": "constraint",
                "differential": {"element": [*elements, value]},
            }
        )  # fmt: skip
    return found


def _type(said: str) -> dict[str, Any]:
    code, _, target = said.partition("(")
    return {"code": code, "targetProfile": [CORE + target.rstrip(")")]} if target else {"code": code}


def _parts(said: str) -> list[dict[str, Any]]:
    slicing = {"discriminator": [{"type": "value", "path": "url"}], "rules": "closed"}
    rows: list[dict[str, Any]] = [{"id": "Extension.extension", "path": "Extension.extension", "slicing": slicing}]
    for part in said.split(","):
        name, _, type = part.partition(":")
        id = f"Extension.extension:{name}"
        rows.append({"id": id, "path": "Extension.extension", "sliceName": name, "max": "1"})
        rows.append({"id": f"{id}.url", "path": "Extension.extension.url", "fixedUri": name})
        rows.append({"id": f"{id}.value[x]", "path": "Extension.extension.value[x]", "min": 1, "type": [_type(type)]})
    return rows


def _implementation_guide(about: dict[str, Any], canonical: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    listed = [
        {
            "reference": {"reference": f"{one['resourceType']}/{one['id']}"}, "name": str(one.get("title") or one["name"]),
            "exampleBoolean": False,
        }
        for one in resources
    ]  # fmt: skip
    return {
        "resourceType": "ImplementationGuide", "id": about["id"], "name": "FollowupGuide",
        "url": f"{canonical}/ImplementationGuide/{about['id']}", "title": about["title"], "status": "active",
        "description": about["description"],
        "packageId": about["name"], "license": "CC0-1.0", "fhirVersion": ["4.0.1"], "definition": {"resource": listed},
    }  # fmt: skip
