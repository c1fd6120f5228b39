"""Links between the entries of a transaction, and conditional references: found before the unit, settled inside it.

Specification: https://hl7.org/fhir/R4/http.html#trules, https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.bundle_entries import Entry, within_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import conditional_query
from fhir_server.interactions.patch import patch_document
from fhir_server.interactions.plan import PlannedWrite
from fhir_server.interactions.rewrite import (
    Links,
    Site,
    base_of,
    find_links,
    is_conditional,
    path_of,
    rewrite,
    rewrite_narrative,
    target_of,
)
from fhir_server.search.query import Query

_SLICE = 50
"""Entries between two chances for others on the event loop."""


@dataclass(slots=True)
class Pending:
    """A link of entry `index` that only the unit can settle: to an entry whose identity criteria decide, or a conditional reference."""

    index: int
    site: Site
    base: str | None
    kind: str
    """reference | other | narrative"""


@dataclass(slots=True)
class BundleLinks:
    """All that is known of a transaction's links before its unit.

    `fixed`: fullUrl -> `Type/id` of entries whose identity is certain; `floating`: fullUrl -> index of entries whose identity
    their criteria decide; `conditional`: conditional reference -> its query, each asked once; `bases`: RESTful bases by entry.
    """

    fixed: dict[str, str] = field(default_factory=dict)
    floating: dict[str, int] = field(default_factory=dict)
    conditional: dict[str, Query] = field(default_factory=dict)
    bases: dict[int, str | None] = field(default_factory=dict)
    pending: dict[int, list[Pending]] = field(default_factory=dict)
    patches: dict[int, list[str]] = field(default_factory=dict)
    """Conditional references that the patch of an entry carries."""

    def settle(self, index: int, resource: dict[str, Any], known: Mapping[str, str], resolved: Mapping[str, str]) -> None:
        """Write the settled links of an entry. May run again with other answers: it starts from the texts as they were sent."""
        for pending in self.pending.get(index, ()):
            holder, key, text = pending.site
            if pending.kind == "narrative":
                holder[key] = rewrite_narrative(text, lambda link, base=pending.base: target_of(link, base, known))  # type: ignore[misc]
            else:
                holder[key] = resolved.get(text) or target_of(text, pending.base, known) or text

    def wanted(self, index: int) -> list[Site]:
        """The conditional references of an entry."""
        return [p.site for p in self.pending.get(index, ()) if p.kind == "reference" and p.site.text in self.conditional]


def addresses(links: BundleLinks, entries: list[Entry], plans: Mapping[int, PlannedWrite]) -> None:
    """Fill in which fullUrl stands for which resource. Raises FhirError 400 naming both entries when two have the same."""
    owner: dict[str, int] = {}
    for entry in entries:
        planned = plans.get(entry.index)
        if not entry.full_url or planned is None or planned.interaction == "delete":
            continue
        first = owner.setdefault(entry.full_url, entry.index)
        if first != entry.index:
            raise FhirError.of(
                400,
                "duplicate",
                f"Bundle.entry[{first}] and Bundle.entry[{entry.index}] have the same fullUrl '{entry.full_url[:200]}' (rule bdl-7)",
                f"Bundle.entry[{first}].fullUrl",
                f"Bundle.entry[{entry.index}].fullUrl",
                zh=f"Bundle.entry[{first}] 和 Bundle.entry[{entry.index}] 的 fullUrl 相同：“{entry.full_url[:200]}”（规则 bdl-7）",
            )
        links.bases[entry.index] = base_of(entry.full_url)
        if planned.criteria:
            links.floating[entry.full_url] = entry.index
        else:
            links.fixed[entry.full_url] = f"{planned.type}/{planned.id}"


async def connect(
    context: Context, links: BundleLinks, entries: list[Entry], plans: Mapping[int, PlannedWrite], errors: dict[int, FhirError]
) -> None:
    """Rewrite what is certain and note what is not. Faulty conditional references go to `errors` by entry index."""
    names: dict[str, Any] = {**links.fixed, **links.floating} if links.floating else dict(links.fixed)
    for number, entry in enumerate(entries):
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        planned = plans.get(entry.index)
        if planned is None or planned.interaction == "delete":
            continue
        try:
            if planned.resource is not None:
                _connect_one(context, links, entry, planned.resource, names)
            else:
                _note_patch(context, links, entry)
        except FhirError as error:
            errors[entry.index] = within_entry(error, entry.index, planned.type)


def _connect_one(context: Context, links: BundleLinks, entry: Entry, resource: dict[str, Any], names: Mapping[str, Any]) -> None:
    found = find_links(resource, names)
    base = links.bases.get(entry.index)
    floating, index = links.floating, entry.index
    waiting: list[Pending] = []
    rest: list[Site] = []
    for site in found.references:
        text = site.text
        if floating and target_of(text, base, floating) is not None:  # type: ignore[arg-type]
            waiting.append(Pending(index, site, base, "reference"))
        elif "?" in text and text not in links.fixed and is_conditional(text):
            _ask(context, links, entry, text, resource, site)
            waiting.append(Pending(index, site, base, "reference"))
        else:
            rest.append(site)
    if floating:
        waiting += [Pending(index, site, base, "other") for site in found.others if site.text in floating]
        waiting += [Pending(index, site, base, "narrative") for site in found.narratives]
        found.others = [site for site in found.others if site.text not in floating]
        found.narratives = []
    if links.fixed and (rest or found.others or found.narratives):
        rewrite(Links(rest, found.others, found.narratives), base, links.fixed)
    if waiting:
        links.pending[index] = waiting


def _ask(context: Context, links: BundleLinks, entry: Entry, text: str, resource: dict[str, Any], site: Site) -> None:
    """Have the unit resolve a conditional reference. Raises FhirError 400 naming the element when its criteria cannot be read."""
    if text in links.conditional:
        return
    type, _, criteria = text.partition("?")
    where = path_of(resource, site.holder, site.key)
    if type not in context.types:
        raise FhirError.of(
            400,
            "value",
            f"The conditional reference '{text[:200]}' names the unknown resource type '{type[:80]}'",
            where,
            zh=f"条件引用“{text[:200]}”中的资源类型“{type[:80]}”未知",
        )
    try:
        links.conditional[text] = conditional_query(context, entry.request, type, criteria)
    except FhirError as error:
        raise FhirError.of(
            error.status,
            error.issues[0].code,
            f"The conditional reference '{text[:200]}': {error.issues[0].diagnostics}",
            where,
            zh=f"条件引用“{text[:200]}”：{error.issues[0].zh or error.issues[0].diagnostics}",
        ) from error


def _note_patch(context: Context, links: BundleLinks, entry: Entry) -> None:
    """The conditional references that a patch document carries: they are asked too, and settled in what the patch makes."""
    texts = _conditional_texts(patch_document(entry.request))
    if texts:
        links.patches[entry.index] = texts
    for text in texts:
        holder = {"reference": text}
        _ask(context, links, entry, text, {"resourceType": entry.route.type, "patch": holder}, Site(holder, "reference", text))


def _conditional_texts(document: Any) -> list[str]:
    """Strings of a patch document that are conditional references: under the name `reference`, or a value at a path that ends so."""
    if isinstance(document, list):
        return [text for item in document for text in _conditional_texts(item)]
    if not isinstance(document, dict):
        return []
    found = [text for value in document.values() for text in _conditional_texts(value)]
    candidates = [document.get("reference")]
    if str(document.get("path", "")).endswith("/reference"):
        candidates.append(document.get("value"))
    parts = document.get("part")
    if isinstance(parts, list) and any(str(p.get("valueString", "")).endswith(".reference") for p in parts if isinstance(p, dict)):
        candidates += [p.get("valueString") for p in parts if isinstance(p, dict) and p.get("name") == "value"]
    return found + [text for text in candidates if isinstance(text, str) and is_conditional(text)]


def settle_patch(links: BundleLinks, index: int, resource: dict[str, Any], known: Mapping[str, str], resolved: Mapping[str, str]) -> None:
    """Rewrite the links that a patch has brought into its result."""
    found = find_links(resource, known)
    rewrite(found, links.bases.get(index), known)
    for holder, key, text in found.references:
        if text in resolved:
            holder[key] = resolved[text]
