"""Signed paging links: where a page ended, bound to its query, with an end of life.

Specification: https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import orjson

from fhir_server.errors import FhirError
from fhir_server.search.query import Position

_TAG = 12


def fingerprint(*parts: object) -> bytes:
    """A short digest of what a cursor belongs to: types, filters, sort order."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def sign(position: Position, query: bytes, secret: bytes, expires: int) -> str:
    """The cursor's text; `query` from `fingerprint`, `expires` in milliseconds since 1970."""
    body = orjson.dumps([position.snapshot, position.rid, list(position.values), expires])
    tag = hmac.new(secret, query + body, hashlib.sha256).digest()[:_TAG]
    return base64.urlsafe_b64encode(tag + body).rstrip(b"=").decode()


def verify(text: str, query: bytes, secret: bytes, now: int) -> Position:
    """The position of a cursor; raises FhirError 400 for one that was changed, belongs to another query, or is too old."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raw = b""
    tag, body = raw[:_TAG], raw[_TAG:]
    if len(tag) != _TAG or not hmac.compare_digest(tag, hmac.new(secret, query + body, hashlib.sha256).digest()[:_TAG]):
        raise FhirError.of(
            400, "invalid", "_cursor: this paging link was changed, or belongs to another search; begin again with the first page"
        )
    snapshot, rid, values, expires = orjson.loads(body)
    if now > expires:
        raise FhirError.of(410, "expired", "_cursor: this paging link has expired; begin again with the first page")
    return Position(snapshot, rid, tuple(values))
