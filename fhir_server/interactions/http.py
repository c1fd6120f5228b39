"""A FHIR request and its answer as plain values, between raw ASGI and the interactions.

Specification: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fhir_server.auth.gate import ALL_SEEING, Principal


@dataclass(slots=True)
class Request:
    """One FHIR request. `path` is below the FHIR base without a leading slash ('Patient/1'); `query` is the raw query string.

    `headers` has lower-case names; `base` is the absolute FHIR base URL of this request without a trailing slash.
    Entries of a Bundle become such requests too.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    base: str = ""
    principal: Principal = ALL_SEEING


@dataclass(slots=True)
class Response:
    """An answer: prepared bytes, or a stream of them."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    media_type: str = "application/fhir+json; charset=utf-8"
    stream: AsyncIterator[bytes] | None = None
