"""Small profiles for tests, and what is found against them."""

from __future__ import annotations

from typing import Any

from fhir_server.errors import Issue
from fhir_server.model.library import Library
from fhir_server.validation.profiles import ProfileRoom

BASE = "http://hl7.org/fhir/StructureDefinition/"
OWN = "http://example.org/StructureDefinition/"


def profile(name: str, type: str, *elements: dict[str, Any], base: str = "", **more: Any) -> dict[str, Any]:
    """A StructureDefinition with a differential: `elements` are ElementDefinitions without the type in front of their path."""
    rows: list[dict[str, Any]] = [{"id": type, "path": type}]
    slices: dict[str, str] = {}
    for element in elements:
        parts = [type, *element["path"].split(".")]
        path = ".".join(parts)
        slices = {known: slice for known, slice in slices.items() if path.startswith(known + ".")}
        if "sliceName" in element:
            slices[path] = element["sliceName"]
        prefixes = [".".join(parts[: at + 1]) for at in range(len(parts))]
        id = ".".join(part + (f":{slices[prefix]}" if prefix in slices else "") for part, prefix in zip(parts, prefixes, strict=True))
        rows.append({"id": id, **element, "path": path})
    return {
        "resourceType": "StructureDefinition", "url": OWN + name, "name": name, "status": "active", "abstract": False, "type": type,
        "kind": "complex-type" if type == "Extension" else "resource", "derivation": "constraint", "baseDefinition": base or BASE + type,
        "differential": {"element": rows}, **more,
    }  # fmt: skip


def extension(name: str, value: str, *contexts: tuple[str, str], modifier: bool = False) -> dict[str, Any]:
    """An extension with one value of a type."""
    made = profile(
        name, "Extension", {"path": "url", "fixedUri": OWN + name}, {"path": "value[x]", "min": 1, "type": [{"code": value}]},
        context=[{"type": kind, "expression": expression} for kind, expression in contexts],
    )  # fmt: skip
    if modifier:
        made["differential"]["element"][0] |= {"isModifier": True, "isModifierReason": "it changes the meaning"}
    return made


def room(*resources: dict[str, Any], **options: Any) -> ProfileRoom:
    return ProfileRoom(Library(resources).find, **options)


def found(resource: dict[str, Any], *profiles: dict[str, Any], beside: tuple[dict[str, Any], ...] = (), **options: Any) -> list[Issue]:
    """The errors of a resource against the first profile; the others are known."""
    issues = room(*profiles, *beside).validate(resource, [profiles[0]["url"]] if profiles else [], **options)
    return [issue for issue in issues if issue.severity == "error"]


def broken(resource: dict[str, Any], *profiles: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """(key of the rule, expression) of each error."""
    return [(issue.rule, issue.expression[0]) for issue in found(resource, *profiles, **options)]
