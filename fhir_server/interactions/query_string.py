"""Query strings and forms as (name, value) pairs.

Specification: https://hl7.org/fhir/R4/http.html#parameters, https://hl7.org/fhir/R4/search.html#Introduction
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from fhir_server.errors import FhirError

_MOST = 1000
FORMATTING = frozenset({"_format", "_pretty"})
"""Parameters that concern the form of the answer alone."""
PRESENTATION = FORMATTING | {"_summary", "_elements"}


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        what = f"The query part '{text[:80]}' is not UTF-8 in percent encoding"
        raise FhirError.of(400, "value", what, zh=f"查询部分“{text[:80]}”不是百分号编码的 UTF-8") from None


def pairs(query: str) -> list[tuple[str, str]]:
    """The pairs of a query string or form, in order, decoded; parts without '=' have the value ''. Raises FhirError 400."""
    parts = query.split("&")
    if len(parts) > _MOST:
        raise FhirError.of(400, "too-costly", f"More than {_MOST} parameters in one request", zh=f"一次请求最多 {_MOST} 个参数")
    found = []
    for part in parts:
        if part:
            name, _, value = part.partition("=")
            found.append((_decoded(name), _decoded(value)))
    return found


def encoded(pairs: Iterable[tuple[str, str]]) -> str:
    """The pairs as a query string; what FHIR uses as its own punctuation stays readable."""
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])


_SAFE = ":/,$*-._~@!()';?"
_PLAIN = re.compile(r"[A-Za-z0-9:/,$*\-._~@!()';?|]*", re.ASCII)


def _quoted(text: str) -> str:
    return text.replace("|", "%7C") if _PLAIN.fullmatch(text) else quote(text, safe=_SAFE)
