"""Bundles put together from prepared bytes: stored resources are copied, never parsed.

Specification: https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from fhir_server.interactions.headers import instant
from fhir_server.storage.port import Stored


class Link(NamedTuple):
    """A Bundle.link: relation (self, next, ...) and absolute URL."""

    relation: str
    url: str


def bundle(type: str, entries: Sequence[bytes], links: Sequence[Link], total: int | None, now: int) -> bytes:
    """A Bundle of rendered entries; `total` only where known, `now` in milliseconds since 1970."""
    head = [f'{{"resourceType":"Bundle","meta":{{"lastUpdated":"{instant(now)}"}},"type":"{type}"']
    if total is not None:
        head.append(f',"total":{total}')
    if links:
        rendered = ",".join(f'{{"relation":"{link.relation}","url":{orjson.dumps(link.url).decode()}}}' for link in links)
        head.append(f',"link":[{rendered}]')
    start = "".join(head).encode()
    if not entries:
        return start + b"}"
    return b"".join((start, b',"entry":[', b",".join(entries), b"]}"))


def search_entry(base: str, stored: Stored, body: bytes, mode: str) -> bytes:
    """An entry of a searchset; mode match or include."""
    head = f'{{"fullUrl":"{base}/{stored.type}/{stored.id}","resource":'
    return b"".join((head.encode(), body, b',"search":{"mode":"match"}}' if mode == "match" else b',"search":{"mode":"include"}}'))


def outcome_entry(outcome: bytes) -> bytes:
    """An entry of a searchset with an OperationOutcome about the search itself."""
    return b'{"resource":' + outcome + b',"search":{"mode":"outcome"}}'
