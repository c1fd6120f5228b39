"""Entity tags and HTTP dates.

Specification: https://hl7.org/fhir/R4/http.html#versions, https://www.rfc-editor.org/rfc/rfc9110 sections 5.6.7, 8.8 and 13
"""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from fhir_server.model.dates import format_instant

_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*|\s*([^",\s]+)\s*')


def etag(version: int) -> str:
    """The weak entity tag of a version: W/"3"."""
    return f'W/"{version}"'


@lru_cache(maxsize=8192)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def http_date(milliseconds: int) -> str:
    """An instant (milliseconds since 1970) as an HTTP date; whole seconds."""
    return _http_date(milliseconds // 1000)


@lru_cache(maxsize=8192)
def _instant_second(seconds: int) -> str:
    return format_instant(seconds * 1000)[:20]


def instant(milliseconds: int) -> str:
    """`model.dates.format_instant`, remembered by the second: neighbours in time are asked for together."""
    return f"{_instant_second(milliseconds // 1000)}{milliseconds % 1000:03d}Z"


def parse_http_date(text: str) -> int | None:
    """Seconds since 1970, or None where the text is no HTTP date (such a header is ignored, RFC 9110 section 13.1.3)."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def parse_tags(text: str) -> list[str] | None:
    """The opaque values of a list of entity tags, weak or strong, with or without quotes; None for `*` (any)."""
    if text.strip() == "*":
        return None
    return [quoted or bare for quoted, bare in _TAG.findall(text)]
