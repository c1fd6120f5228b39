"""What a site may refuse that R4 allows: texts that look like HTML, and addresses that only stand in examples.

Specification: https://hl7.org/fhir/R4/security.html#narrative, RFC 2606 (reserved names)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fhir_server.validation.profiles.spots import Spot, below
from fhir_server.validation.report import shown

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context

MARKUP, EXAMPLES = "markup", "examples"
REFUSABLE = (MARKUP, EXAMPLES)
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>|<!--|<!\[CDATA\[|<\?")
_EXAMPLE = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[^/?#]*[.@])?(?:example\.(?:com|net|org)|[^/?#.]+\.(?:example|invalid|test))(?::\d+)?(?:[/?#]|\Z)", re.I
)
_ADDRESSES = frozenset({"uri", "url", "canonical"})


def refusable(text: str) -> frozenset[str]:
    """A comma-separated setting. Raises ValueError for a word that is none of REFUSABLE."""
    words = frozenset(one.strip() for one in text.split(",") if one.strip())
    strange = sorted(words.difference(REFUSABLE))
    if strange:
        raise ValueError(f"'{strange[0]}' is none of {', '.join(REFUSABLE)}")
    return words


def check_refusals(spot: Spot, context: Context) -> None:
    """All texts and addresses of a resource; a resource in it is looked at by itself."""
    refused = context.room.refuses
    todo = [spot]
    while todo:
        holder = todo.pop()
        definition = context.room.known.types.get("Element" if holder.item.kind.primitive else holder.item.kind.name)
        for element in definition.elements.values() if definition is not None else ():
            for one in below(holder, definition, element):  # type: ignore[arg-type]
                kind = one.item.kind
                if kind.resource:
                    continue
                if kind.primitive:
                    _value(one.value, kind.name, one, refused, context)
                if one.object is not None:
                    todo.append(one)


def _value(value: Any, kind: str, spot: Spot, refused: frozenset[str], context: Context) -> None:
    if not isinstance(value, str):
        return
    if MARKUP in refused and kind == "string" and "<" in value and _TAG.search(value):
        english = f"{shown(value)} looks like HTML, which is not allowed in texts here"
        context.report.add("value", spot.path, english, f"{shown(value)} 含有类似 HTML 的标记，此处不允许", rule="markup")
    elif EXAMPLES in refused and kind in _ADDRESSES and _EXAMPLE.match(value):
        english = f"{shown(value)} is an address for examples, which is not allowed here"
        context.report.add("value", spot.path, english, f"{shown(value)} 是示例地址，此处不允许", rule="example-address")
