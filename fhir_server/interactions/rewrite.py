"""Links inside a resource that a transaction has to rewrite: references, uri-like elements and narrative links.

Specification: https://hl7.org/fhir/R4/http.html#trules and https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from fhir_server.model.definitions import definitions

_URI_TYPES = frozenset({"uri", "url", "oid", "uuid"})
_NARRATIVE_LINK = re.compile(r"""(<(?:a|img)\b[^>]*?\s(?:href|src)\s*=\s*)("[^"]*"|'[^']*')""", re.IGNORECASE)
_CONDITIONAL = re.compile(r"[A-Z][A-Za-z]+\?[^?]")
_RESTFUL = re.compile(r"(https?://\S+/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}\Z")

_COMPLEX, _REFERENCE, _URI, _DIV, _RESOURCE = range(5)
_Plan: TypeAlias = dict[str, tuple[int, str]]
_plans: dict[str, _Plan] = {}


class Site(NamedTuple):
    """A place that holds a link: `holder[key]` is `text`."""

    holder: Any
    key: str | int
    text: str


@dataclass(slots=True)
class Links:
    """The links of one resource.

    `references`: all texts of Reference.reference but fragments; `others`: uri, url, oid and uuid elements whose text the
    caller knows; `narratives`: XHTML texts that hold some link.
    """

    references: list[Site] = field(default_factory=list)
    others: list[Site] = field(default_factory=list)
    narratives: list[Site] = field(default_factory=list)


def find_links(resource: dict[str, Any], known: Container[str]) -> Links:
    """The links of a resource, contained resources and extensions included. `canonical` elements are none, as the specification says."""
    links = Links()
    _walk(resource, _plan_of(str(resource.get("resourceType", ""))), links, known)
    return links


def is_conditional(reference: str) -> bool:
    """Whether a reference is a conditional one: `Patient?identifier=...`."""
    return "?" in reference and _CONDITIONAL.match(reference) is not None


def base_of(full_url: str) -> str | None:
    """The base, with its last slash, of a RESTful fullUrl: relative references in that entry belong to it; None for urn: and others."""
    match = _RESTFUL.match(full_url) if full_url.startswith("http") else None
    return match.group(1) if match else None


def target_of(reference: str, base: str | None, known: Mapping[str, str]) -> str | None:
    """What a reference becomes: the known address of the entry that it names, with its `#fragment` kept; None when it names no entry.

    A reference with a version stays as it is. `base` is that of the entry that holds the reference (Bundle, "Resolving references").
    """
    found = known.get(reference)
    if found is None and "#" in reference:
        address, _, fragment = reference.partition("#")
        found = known.get(address)
        return f"{found}#{fragment}" if found is not None and fragment else found
    if found is None and base is not None and ":" not in reference:
        found = known.get(base + reference)
    return found


def rewrite_narrative(div: str, replace: Callable[[str], str | None]) -> str:
    """XHTML whose `<a href>` and `<img src>` are replaced where `replace(link)` gives a text. Nothing else changes."""

    def substitute(match: re.Match[str]) -> str:
        quoted = match.group(2)
        link = quoted[1:-1].replace("&amp;", "&")
        new = replace(link)
        return match.group(0) if new is None else f"{match.group(1)}{quoted[0]}{new}{quoted[0]}"

    return _NARRATIVE_LINK.sub(substitute, div)


def rewrite(links: Links, base: str | None, known: Mapping[str, str]) -> None:
    """Replace, in place, each link that names an entry of the Bundle (`known`: fullUrl -> `Type/id`)."""
    for holder, key, text in links.references:
        target = target_of(text, base, known)
        if target is not None:
            holder[key] = target
    for holder, key, text in links.others:
        holder[key] = known[text]
    for holder, key, text in links.narratives:
        holder[key] = rewrite_narrative(text, lambda link: target_of(link, base, known))


def path_of(resource: dict[str, Any], holder: Any, key: str | int) -> str:
    """The FHIRPath expression of a site below its resource, such as `Observation.subject.reference`; found by identity, for messages."""
    path = _search(resource, holder, str(resource.get("resourceType", "")))
    return f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}"


def _search(node: Any, holder: Any, path: str) -> str | None:
    if node is holder:
        return path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        if isinstance(child, dict | list):
            below = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name.lstrip('_')}"
            found = _search(child, holder, below)
            if found is not None:
                return found
    return None


def _plan_of(type_name: str) -> _Plan:
    """JSON names of a type under which links may be, with what to do there; made once per type."""
    plan = _plans.get(type_name)
    if plan is None:
        plan = _plans[type_name] = _compile(type_name)
    return plan


def _compile(type_name: str) -> _Plan:
    types = definitions().types
    definition = types.get(type_name) if type_name else None
    plan: _Plan = {}
    if definition is None:
        return plan
    for name, (_, code) in definition.by_json.items():
        if code in _URI_TYPES:
            if not (type_name == "Extension" and name == "url"):
                plan[name] = (_URI, "")
            plan["_" + name] = (_COMPLEX, "Element")
        elif code == "xhtml":
            plan[name] = (_DIV, "")
        elif code in ("Resource", "DomainResource"):
            plan[name] = (_RESOURCE, "")
        elif type_name == "Reference" and name == "reference":
            plan[name] = (_REFERENCE, "")
            plan["_" + name] = (_COMPLEX, "Element")
        elif types[code].kind == "primitive":
            plan["_" + name] = (_COMPLEX, "Element")
        else:
            plan[name] = (_COMPLEX, code)
    return plan


def _walk(node: dict[str, Any], plan: _Plan, links: Links, known: Container[str]) -> None:
    for name, value in node.items():
        step = plan.get(name)
        if step is None:
            continue
        kind, below = step
        if kind == _COMPLEX:
            if type(value) is dict:
                _walk(value, _plans.get(below) or _plan_of(below), links, known)
            elif type(value) is list:
                inner = _plans.get(below) or _plan_of(below)
                for item in value:
                    if type(item) is dict:
                        _walk(item, inner, links, known)
        elif kind == _REFERENCE:
            if type(value) is str and not value.startswith("#"):
                links.references.append(Site(node, name, value))
        else:
            _other(node, name, value, kind, links, known)


def _other(node: dict[str, Any], name: str, value: Any, kind: int, links: Links, known: Container[str]) -> None:
    """The rarer kinds of links; lists of uri-like elements and of resources included."""
    if kind == _URI:
        if type(value) is str:
            if value in known:
                links.others.append(Site(node, name, value))
        elif type(value) is list:
            links.others.extend(Site(value, at, text) for at, text in enumerate(value) if type(text) is str and text in known)
    elif kind == _DIV:
        if type(value) is str and ("href" in value or "src" in value or "HREF" in value or "SRC" in value):
            links.narratives.append(Site(node, name, value))
    else:
        for item in value if type(value) is list else (value,):
            if type(item) is dict:
                _walk(item, _plan_of(str(item.get("resourceType", ""))), links, known)
