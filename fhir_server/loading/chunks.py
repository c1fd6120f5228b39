"""Items cut into chunks: always at the same places for the same file, so that the journal can name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fhir_server.loading.sources import Item

CHUNK_ITEMS = 500
CHUNK_BYTES = 4 * 1024 * 1024


class Chunk(NamedTuple):
    """Consecutive items of one source; `number` counts from 0."""

    number: int
    items: list[Item]


def chunked(items: Iterable[Item]) -> Iterator[Chunk]:
    """Chunks of at most CHUNK_ITEMS items; one that has reached CHUNK_BYTES takes no more."""
    number, held, size = 0, [], 0
    for item in items:
        held.append(item)
        size += len(item.body)
        if len(held) >= CHUNK_ITEMS or size >= CHUNK_BYTES:
            yield Chunk(number, held)
            number, held, size = number + 1, [], 0
    if held:
        yield Chunk(number, held)
