"""The topics that the product brings, as the Basic resources that R4 has for them.

Their table is `profiles/topics/topics.yaml`; design: followup.md, Annex B.
"""

from __future__ import annotations

from typing import Any

import yaml

from fhir_server import __version__
from fhir_server.model.definitions import FOLDER
from subscriptions.topics.definition import INTERACTIONS

TABLE = FOLDER.parent / "topics" / "topics.yaml"
_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
Resource = dict[str, Any]


def shipped(base: str) -> list[Resource]:
    """The resources; `base`: of the product's canonicals."""
    rows: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return [_basic(row, base) for row in rows]


def _basic(row: dict[str, Any], base: str) -> Resource:
    parts = [
        {"url": f"{_R5}url", "valueUri": f"{base}/SubscriptionTopic/{row['name']}"},
        {"url": f"{_R5}version", "valueString": __version__},
        {"url": f"{_R5}title", "valueString": row["title"]},
        *({"url": f"{_R5}resourceTrigger", "extension": _trigger(one)} for one in row["triggers"]),
    ]
    for type, names in row["filters"].items():
        parts += [
            {
                "url": f"{_R5}canFilterBy",
                "extension": [{"url": "resource", "valueUri": type}, {"url": "filterParameter", "valueString": name}],
            }
            for name in names
        ]
    return {
        "resourceType": "Basic",
        "id": f"topic-{row['name']}",
        "modifierExtension": [{"url": f"{_R5}status", "valueCode": "active"}],
        "extension": parts,
        "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}], "text": row["title"]},
    }


def _trigger(row: dict[str, Any]) -> list[Resource]:
    parts: list[Resource] = [{"url": "resource", "valueUri": f"http://hl7.org/fhir/StructureDefinition/{row['type']}"}]
    parts += [{"url": "supportedInteraction", "valueCode": one} for one in row.get("events", INTERACTIONS)]
    query = [{"url": name, "valueString": row[name]} for name in ("previous", "current") if name in row]
    if query:
        query.append({"url": "resultForCreate", "valueCode": "test-passes" if row.get("fresh") else "test-fails"})
        query.append({"url": "requireBoth", "valueBoolean": "previous" in row and "current" in row})
        parts.append({"url": "queryCriteria", "extension": query})
    if "fhirpath" in row:
        parts.append({"url": "fhirPathCriteria", "valueString": row["fhirpath"]})
    return parts
