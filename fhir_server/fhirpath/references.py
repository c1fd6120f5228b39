"""What a reference points to: a contained resource, an entry of the same Bundle, or what the caller's port finds.

Specification: https://hl7.org/fhir/R4/fhirpath.html#functions (resolve), https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.evaluation import Env
from fhir_server.fhirpath.items import Item, of_object
from fhir_server.fhirpath.kinds import UNKNOWN, kind_of
from fhir_server.model.references import parse_reference


def reference_text(item: Any) -> str | None:
    """The text of a Reference, uri, canonical or string; None of anything else."""
    if isinstance(item, str):
        return item
    if item.__class__ is not Item:
        return None
    value = item.value
    text = value.get("reference") if value.__class__ is dict else value
    return text if isinstance(text, str) else None


def reference_type(reference: Any) -> str:
    """The resource type that a Reference's JSON points to, as far as its own text says ('' = unknown)."""
    if reference.__class__ is not dict:
        return ""
    text = reference.get("reference")
    if text.__class__ is str and (found := parse_reference(text).type):
        return found
    kind = reference.get("type")
    return kind if isinstance(kind, str) else ""


def resolved(item: Any, env: Env) -> Item | None:
    """The resource that an item refers to, or None where it cannot be had."""
    text = reference_text(item)
    if text is None:
        return None
    if text.startswith("#"):
        return _contained(item, text[1:], env)
    found = _in_bundle(env.root, item, text)
    if found is None and env.resolve is not None:
        found = env.resolve(text)
    return None if found is None else of_object(found)


def points_to(item: Any, type_name: str, env: Env) -> bool | None:
    """`resolve() is T` of one reference: by the resource if it is at hand, else by what the reference says. None: unknown."""
    text = reference_text(item)
    if text is None or not text.startswith("#"):
        said = reference_type(item.value) if item.__class__ is Item and item.value.__class__ is dict else parse_reference(text or "").type
        if said:
            return type_name in kind_of(said).bases
    found = resolved(item, env)
    return None if found is None else type_name in found.kind.bases


def _container(item: Any) -> list[Item]:
    """The resources around an element, innermost first."""
    around: list[Item] = []
    while item.__class__ is Item:
        if item.value.__class__ is dict and "resourceType" in item.value:
            around.append(item)
        item = item.parent
    return around


def _contained(item: Any, id: str, env: Env) -> Item | None:
    around = _container(item)
    for candidate in (env.resource, env.root):
        if candidate is not None:
            around.append(candidate)
    if not id:
        return around[-1] if around else None
    for resource in around:
        contained = resource.value.get("contained") if resource.value.__class__ is dict else None
        for one in contained if contained.__class__ is list else ():
            if one.__class__ is dict and one.get("id") == id:
                return of_object(one, resource)
    return None


def _in_bundle(root: Item | None, item: Any, text: str) -> dict[str, Any] | None:
    """An entry by its fullUrl, or by type and id where the entry's fullUrl does not contradict."""
    if root is None or root.kind is UNKNOWN or root.value.__class__ is not dict or root.value.get("resourceType") != "Bundle":
        return None
    relative = parse_reference(text)
    for entry in root.value.get("entry") or ():
        resource = entry.get("resource") if entry.__class__ is dict else None
        if resource.__class__ is not dict:
            continue
        if entry.get("fullUrl") == text:
            return resource
        if relative.form == "relative" and resource.get("resourceType") == relative.type and resource.get("id") == relative.id:
            return resource
    return None
