"""Bundles beyond their invariants: identities of entries, what searchsets hold, and documents that are whole.

Specification: https://hl7.org/fhir/R4/bundle.html#bundle-unique, https://hl7.org/fhir/R4/bundle.html#references, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fhir_server.model.references import ABSOLUTE, parse_reference
from fhir_server.validation.profiles.spots import Spot
from fhir_server.validation.report import Path, shown

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context

_WITHOUT = frozenset({"transaction", "batch", "transaction-response", "batch-response"})
_RESTFUL = re.compile(r"(https?://.*/)([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")


def check_bundle(spot: Spot, context: Context) -> None:
    """All of a Bundle."""
    kind = spot.value.get("type")
    entries = spot.value.get("entry")
    rows = [(index, one) for index, one in enumerate(entries) if isinstance(one, dict)] if isinstance(entries, list) else []
    types = context.room.known.resource_types
    for index, entry in rows:
        _identity(entry, str(kind), (spot.path, "entry", index), context, types)
        if kind == "searchset":
            _found(entry, (spot.path, "entry", index), context)
    if kind == "document" and rows:
        _document([entry for _, entry in rows], spot.path, context)


def _identity(entry: dict[str, Any], kind: str, path: Path, context: Context, types: tuple[str, ...]) -> None:
    full, resource = entry.get("fullUrl"), entry.get("resource")
    add = context.report.add
    if full is None:
        if isinstance(resource, dict) and kind not in _WITHOUT and resource.get("resourceType") != "OperationOutcome":
            english = f"an entry of a {kind} needs a fullUrl, the identity of its resource"
            add("required", (path, "fullUrl", -1), english, f"{kind} 的条目需要 fullUrl（资源的身份）", rule="bundle-fullurl")
        return
    if not isinstance(full, str):
        return
    if not ABSOLUTE.match(full):
        english = f"fullUrl must be absolute, not {shown(full)}"
        add("value", (path, "fullUrl", -1), english, f"fullUrl 必须是绝对地址，而不是 {shown(full)}", rule="bundle-fullurl")
        return
    found = _RESTFUL.match(full)
    if found and found[2] in types and isinstance(resource, dict) and kind not in _WITHOUT:
        have = f"{resource.get('resourceType')}/{resource.get('id', '')}"
        if have != f"{found[2]}/{found[3]}":
            english = f"fullUrl {shown(full)} names {found[2]}/{found[3]}, but the resource is {have}"
            chinese = f"fullUrl {shown(full)} 指向 {found[2]}/{found[3]}，但资源是 {have}"
            add("value", (path, "fullUrl", -1), english, chinese, rule="bundle-fullurl")


def _found(entry: dict[str, Any], path: Path, context: Context) -> None:
    search, resource = entry.get("search"), entry.get("resource")
    mode = search.get("mode") if isinstance(search, dict) else None
    if not isinstance(resource, dict):
        return
    kind = resource.get("resourceType")
    if mode == "outcome" and kind != "OperationOutcome":
        english = f"an entry of the mode outcome holds an OperationOutcome, not a {kind}"
        context.report.add(
            "structure", (path, "resource", -1), english, f"outcome 条目必须是 OperationOutcome，而不是 {kind}", rule="bundle-outcome"
        )
    elif kind != "OperationOutcome" and mode != "outcome" and not isinstance(resource.get("id"), str):
        context.report.add("required", (path, "resource", -1), "a resource that was found has an id", "搜索结果必须有 id", rule="bundle-id")


def _document(entries: list[dict[str, Any]], path: Path, context: Context) -> None:
    """What the Composition refers to is in the Bundle, and all that is in it is reached from there."""
    by_url = {str(one["fullUrl"]): at for at, one in enumerate(entries) if isinstance(one.get("fullUrl"), str)}
    links: dict[int, set[int]] = {at: set() for at in range(len(entries))}
    for at, entry in enumerate(entries):
        resource = entry.get("resource")
        full = str(entry.get("fullUrl", ""))
        base = found[1] if (found := _RESTFUL.match(full)) else ""
        for reference, where in _references(resource, ((path, "entry", at), "resource", -1)):
            target = _target(reference, base, by_url)
            if target is not None:
                links[at].add(target)
                links[target].add(at)
            elif at == 0 and parse_reference(reference).form == "relative":
                english = f"{shown(reference)} is not in the document: no entry has it as its fullUrl"
                context.report.add(
                    "not-found", where, english, f"文档中没有 {shown(reference)}（没有条目的 fullUrl 与之对应）", rule="document-reference"
                )
    reached, queue = {0}, [0]
    for at in queue:
        for other in links[at] - reached:
            reached.add(other)
            queue.append(other)
    for at, entry in enumerate(entries):
        if at not in reached and isinstance(entry.get("resource"), dict):
            english = "nothing leads from the Composition to this entry, nor from it to what the Composition leads to"
            context.report.add(
                "structure", (path, "entry", at), english, "从 Composition 无法到达此条目", severity="warning", rule="document-reach"
            )


def _target(reference: str, base: str, by_url: dict[str, int]) -> int | None:
    parsed = parse_reference(reference)
    if parsed.form == "relative":
        return by_url.get(f"{base}{parsed.type}/{parsed.id}") if base else None
    return by_url.get(reference.partition("/_history/")[0])


def _references(value: Any, path: Path) -> Iterator[tuple[str, Path]]:
    """(reference, path) of each Reference below; those to contained resources aside."""
    if not isinstance(value, dict):
        return
    reference = value.get("reference")
    if isinstance(reference, str) and not reference.startswith("#"):
        yield reference, path
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _references(inner, (path, name, -1))
        elif isinstance(inner, list):
            for index, one in enumerate(inner):
                yield from _references(one, (path, name, index))
