"""References between resources: the forms that they take, and finding them in a resource.

Specification: https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import orjson

CORE = "http://hl7.org/fhir/StructureDefinition/"
"""Where R4 defines its types, its profiles and its extensions."""
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
"""How an absolute URI begins."""
_IN_JSON = re.compile(rb'"reference":"((?:[^"\\]|\\.)*)"')
_BINARY = re.compile(rb'"url":"((?:https?://[^"\\\s?#]+/)?Binary/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?)"')
_LOCAL = re.compile(
    r"(?:(https?://[^\s?#]+)/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?(?:#(\S+))?\Z", re.ASCII
)


class Reference(NamedTuple):
    """A reference, taken apart. `form`: relative, absolute, fragment, urn, conditional, or other.

    `base` is that of an absolute reference to a FHIR server; `type`, `id` and `version` are '' where the form has none.
    """

    form: str
    text: str
    base: str = ""
    type: str = ""
    id: str = ""
    version: str = ""

    def within(self, bases: Collection[str]) -> bool:
        """Whether it leads to a resource of the server with these base URLs."""
        return self.form == "relative" or (self.form == "absolute" and self.base in bases)


def parse_reference(text: str) -> Reference:
    """Take the value of `Reference.reference` apart; never fails."""
    if text.startswith("#"):
        return Reference("fragment", text, id=text[1:])
    if text.startswith(("urn:uuid:", "urn:oid:")):
        return Reference("urn", text)
    found = _LOCAL.match(text)
    if found:
        base, kind, id, version, _ = found.groups()
        return Reference("absolute" if base else "relative", text, base or "", kind, id, version or "")
    if "?" in text and re.match(r"[A-Z][A-Za-z]+\?", text):
        return Reference("conditional", text, type=text.partition("?")[0])
    return Reference("other", text)


def split_canonical(text: str) -> tuple[str, str, str]:
    """A canonical as (url, version, fragment)."""
    text, _, fragment = text.partition("#")
    url, _, version = text.partition("|")
    return url, version, fragment


def texts_in(body: bytes) -> list[str]:
    """The texts of all references of a resource in canonical JSON (no blanks between members), without reading the rest of it.

    Inside of a string each quotation mark is escaped, so no text of one is taken for a reference.
    """
    return [found.decode() if b"\\" not in found else str(orjson.loads(b'"' + found + b'"')) for found in _IN_JSON.findall(body)]


def binaries_in(body: bytes) -> list[str]:
    """The addresses of Binaries that a resource's attachments name, of one in canonical JSON as in `texts_in`."""
    return [found.decode() for found in _BINARY.findall(body)] if b"Binary/" in body else []


def references_in(value: Any) -> Iterator[dict[str, Any]]:
    """All Reference objects with a `reference` text, anywhere in a resource (contained ones included), in document order."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                yield from references_in(inner)
