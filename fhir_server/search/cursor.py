"""Paging links: where a page ended, encrypted and bound to its query, with an end of life.

What a link holds (sort values, sequence numbers, totals) is nobody's business: AES-SIV (RFC 5297) keeps it secret and unchanged.
Specification: https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from fhir_server.errors import FhirError
from fhir_server.search.query import Position

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV


def fingerprint(*parts: object) -> bytes:
    """A short digest of what a cursor belongs to: types, filters, sort order."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=4)
def _cipher(secret: bytes) -> AESSIV:
    # Loaded with the first link, not at the start.
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(hashlib.blake2b(secret, digest_size=32, person=b"paging links").digest())


def sign(position: Position, query: bytes, secret: bytes, expires: int) -> str:
    """The cursor's text; `query` from `fingerprint`, `expires` in milliseconds since 1970."""
    body = orjson.dumps([position.snapshot, position.rid, list(position.values), expires])
    return base64.urlsafe_b64encode(_cipher(secret).encrypt(body, [query])).rstrip(b"=").decode()


def verify(text: str, query: bytes, secret: bytes, now: int) -> Position:
    """The position of a cursor; raises FhirError 400 for one that was changed, belongs to another query, or is too old."""
    from cryptography.exceptions import InvalidTag

    try:
        body = _cipher(secret).decrypt(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), [query])
    except (ValueError, binascii.Error, InvalidTag):
        what = "_cursor: this paging link was changed, or belongs to another search; begin again with the first page"
        raise FhirError.of(400, "invalid", what, zh="_cursor：此分页链接已被改动，或属于另一次检索；请从第一页重新开始") from None
    snapshot, rid, values, expires = orjson.loads(body)
    if now > expires:
        raise FhirError.of(
            410,
            "expired",
            "_cursor: this paging link has expired; begin again with the first page",
            zh="_cursor：此分页链接已过期；请从第一页重新开始",
        )
    return Position(snapshot, rid, tuple(values))
