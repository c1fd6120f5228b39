"""Items as what is to be written: single resources under ids of their own, or a Bundle that is to be executed.

Specification: https://hl7.org/fhir/R4/bundle.html, https://hl7.org/fhir/R4/http.html#update
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.content import without_server_meta
from fhir_server.interactions.ids import is_id
from fhir_server.interactions.rewrite import base_of, find_links, rewrite
from fhir_server.loading.journal import digest
from fhir_server.loading.report import Refusal, refusal
from fhir_server.loading.sources import Item
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.validation import structure

_EXECUTED = frozenset({"transaction", "batch"})


@lru_cache(maxsize=1)
def _known_types() -> frozenset[str]:
    return frozenset(definitions().resource_types)


class Single(NamedTuple):
    """One resource to be written under its id. `entry` is its index in a Bundle, else -1."""

    item: Item
    entry: int
    resource: dict[str, Any]


@dataclass(slots=True)
class Executed:
    """A transaction or batch Bundle, to be carried out as such. `name` is the digest of its content."""

    item: Item
    bundle: dict[str, Any]
    name: str


def read(item: Item) -> Iterator[Single | Executed | Refusal]:
    """What an item holds. Nothing is validated yet but that it is JSON of a known resource type."""
    try:
        resource = json_codec.loads(item.body)
    except FhirError as error:
        yield refusal(item.source, item.line, None, error)
        return
    if resource.get("resourceType") != "Bundle":
        yield _single(item, -1, resource)
    elif resource.get("type") in _EXECUTED:
        yield Executed(item, resource, digest(item.body))
    else:
        yield from _from_bundle(item, resource)


def _single(item: Item, entry: int, resource: Any) -> Single | Refusal:
    type = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(type, str) or type not in _known_types():
        error = FhirError.of(
            400,
            "invalid",
            f"resourceType is {type!r}: no resource type of FHIR R4",
            zh=f"resourceType 为 {type!r}：不是 FHIR R4 的资源类型",
        )
        return refusal(item.source, item.line, resource, error, entry)
    without_server_meta(resource)
    if "id" not in resource:
        resource["id"] = own_id(item, entry)
    return Single(item, entry, resource)


def own_id(item: Item, entry: int) -> str:
    """The id of a resource that brings none: the same whenever the same place of the same file is loaded, so that nothing is doubled."""
    return str(uuid.UUID(digest(b"%s|%d|%d|%s" % (item.source.encode(), item.line, entry, item.body))))


def checked(single: Single) -> Refusal | None:
    """The reason to refuse a resource, or None when its structure is right."""
    resource = single.resource
    if not (isinstance(resource["id"], str) and is_id(resource["id"])):
        error = FhirError.of(
            400,
            "value",
            f"The id {resource['id']!r} is not an id: 1 to 64 of A-Z, a-z, 0-9, '-' and '.'",
            f"{resource['resourceType']}.id",
            zh=f"id {resource['id']!r} 不合法：应为 1 至 64 个字符，只含 A-Z、a-z、0-9、“-”和“.”",
        )
        return refusal(single.item.source, single.item.line, resource, error, single.entry)
    issues = [issue for issue in structure.validate(resource) if issue.severity in ("error", "fatal")]
    if not issues:
        return None
    status = 400 if any(issue.syntax for issue in issues) else 422
    return refusal(single.item.source, single.item.line, resource, FhirError(status, issues), single.entry)


def met(single: Single, errors: Callable[[dict[str, Any]], list[Issue]] | None) -> Refusal | None:
    """The reason to refuse what breaks R4's invariants or a profile, where the site asks for that (`errors` finds them)."""
    issues = errors(single.resource) if errors else []
    return refusal(single.item.source, single.item.line, single.resource, FhirError(422, issues), single.entry) if issues else None


def _from_bundle(item: Item, bundle: dict[str, Any]) -> Iterator[Single | Refusal]:
    """The resources of a collection, searchset, document, message or history; links between them become `Type/id`."""
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        if entries is not None or not isinstance(bundle.get("type"), str):
            error = FhirError.of(
                400,
                "structure",
                "The Bundle has no type, or an entry that is no array",
                "Bundle",
                zh="Bundle 没有 type，或其 entry 不是数组",
            )
            yield refusal(item.source, item.line, bundle, error)
        return
    known: dict[str, str] = {}
    singles: list[tuple[str, Single]] = []
    for index, entry in enumerate(entries):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if resource is None and isinstance(entry, dict):
            continue  # a deletion in a history, or an outcome without content
        if isinstance(resource, dict) and resource.get("resourceType") == "OperationOutcome" and bundle.get("type") == "searchset":
            continue  # what the server had to say about the search
        held = _single(item, index, resource)
        if isinstance(held, Refusal):
            yield held
            continue
        full_url = entry.get("fullUrl")
        singles.append((full_url if isinstance(full_url, str) else "", held))
        if isinstance(full_url, str):
            known[full_url] = f"{held.resource['resourceType']}/{held.resource['id']}"
    for full_url, single in singles:
        if known:
            rewrite(find_links(single.resource, known), base_of(full_url), known)
        yield single


def repeatable(bundle: dict[str, Any], item: Item) -> dict[str, Any]:
    """A batch whose creates have ids of their own, so that carrying it out again after a kill doubles nothing.

    Conditional creates stay: they find what they have made.
    """
    for index, entry in enumerate(bundle.get("entry") or ()):
        request = entry.get("request") if isinstance(entry, dict) else None
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(request, dict) or not isinstance(resource, dict) or request.get("method") != "POST" or "ifNoneExist" in request:
            continue
        if request.get("url") == resource.get("resourceType"):
            resource["id"] = own_id(item, index)
            entry["request"] = {**request, "method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    return bundle
