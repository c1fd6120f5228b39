"""Paging links are secret, unchangeable, bound to one search, and end.

Specification: https://hl7.org/fhir/R4/http.html#paging (a link is opaque to clients), https://hl7.org/fhir/R4/security.html
"""

from __future__ import annotations

import base64

import pytest

from fhir_server.errors import FhirError
from fhir_server.search.cursor import fingerprint, sign, verify
from fhir_server.search.query import Position

SECRET, SEARCH = b"s" * 32, fingerprint("Patient?", "name")
POSITION = Position(123456, 123400, (17, "zhangwei", None, 1_772_323_200_000))


def refused(text: str, search: bytes = SEARCH, secret: bytes = SECRET, now: int = 0) -> int:
    with pytest.raises(FhirError) as fault:
        verify(text, search, secret, now)
    return fault.value.status


def test_a_link_leads_back_to_its_place() -> None:
    assert verify(sign(POSITION, SEARCH, SECRET, 1000), SEARCH, SECRET, 1000) == POSITION


def test_a_link_ends() -> None:
    assert refused(sign(POSITION, SEARCH, SECRET, 1000), now=1001) == 410


def test_a_link_is_of_one_search_and_one_server() -> None:
    link = sign(POSITION, SEARCH, SECRET, 1000)
    assert refused(link, fingerprint("Patient?", "family")) == 400
    assert refused(link, secret=b"t" * 32) == 400


def test_no_bit_of_a_link_can_be_changed() -> None:
    raw = base64.urlsafe_b64decode(sign(POSITION, SEARCH, SECRET, 1000) + "==")
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert refused(base64.urlsafe_b64encode(changed).rstrip(b"=").decode()) == 400
    for text in ("", "a", "====", "ü", "AAAA", "A" * 5000):
        assert refused(text) == 400


def test_a_link_tells_nothing() -> None:
    """Neither the values by which the list is sorted, nor sequence numbers, nor the total; not even which links are near each other."""
    raw = base64.urlsafe_b64decode(sign(POSITION, SEARCH, SECRET, 1000) + "==")
    for told in (b"zhangwei", b"123456", b"123400", b"17", b"1772323200000", b"null", b"[", b","):
        assert raw.find(told) < 0 or len(told) < 3, told
    near = base64.urlsafe_b64decode(sign(POSITION._replace(rid=123401), SEARCH, SECRET, 1000) + "==")
    same = sum(one == other for one, other in zip(raw, near, strict=True))
    assert same < len(raw) // 4
