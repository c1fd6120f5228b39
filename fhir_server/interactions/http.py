"""A FHIR request and its answer as plain values, between raw ASGI and the interactions.

Specification: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fhir_server.auth.gate import ALL_SEEING, Principal
from fhir_server.interactions.negotiate import Form
from fhir_server.storage.port import Record, Stored

if TYPE_CHECKING:
    from fhir_server.interactions.async_course import Course

FHIR_JSON = "application/fhir+json; charset=utf-8"
FHIR_XML = "application/fhir+xml; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One FHIR request. `path` is below the FHIR base without a leading slash ('Patient/1'); `query` is the raw query string.

    `headers` has lower-case names; `base` is the absolute FHIR base URL of this request without a trailing slash.
    Entries of a Bundle become such requests too: their content comes as `resource`, already parsed by the JSON codec,
    instead of `body`, and `entry` is True (formatting parameters and compression belong to the outer request).
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    base: str = ""
    principal: Principal = ALL_SEEING
    resource: dict[str, Any] | None = None
    entry: bool = False
    transaction: bool = False
    """An entry of a transaction: conditional references (`Patient?identifier=...`) may stand in its content."""
    form: Form = "json"
    """In which form the answer leaves; interactions give JSON."""
    course: Course | None = None
    """Of an asynchronous request that is carried out: what is kept of how far it is."""
    journal: Callable[[Response], Sequence[Record]] | None = None
    """Records that are kept in one unit with what this request writes, made of its answer."""


@dataclass(slots=True)
class Response:
    """An answer: prepared bytes, or a stream of them.

    `stored`: the version of a resource that the answer is about (for `Bundle.entry.response`); `result`: what a write did
    (created, updated, unchanged, deleted, exists); `route`: the route's template for logs and metrics ('Patient/{id}').
    """

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    media_type: str = FHIR_JSON
    stream: AsyncIterator[bytes] | None = None
    stored: Stored | None = None
    result: str = ""
