"""The cursors of connections: a search, and where in it a page begins, encrypted like the server's own paging links.

Specification: https://hl7.org/fhir/R4/graphql.html#searching
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.search.cursor import fingerprint, sign, verify
from fhir_server.search.query import Position

MOST_WALKED = 10_000
"""How far from the first page a page is found by walking to it."""
_REMEMBERED = 16
"""How many pages back a cursor knows the way without walking."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One page of a connection. `start`: the position that it begins behind; without it, and `offset` not 0, the way there is walked.

    `pairs`: the search; `size`: resources on a page; `path`: the `fhirpath` argument; `snapshot`: the state that all pages show (0: now).
    `before`: (offset, start) of pages before this one, the nearest last.
    """

    pairs: tuple[tuple[str, str], ...]
    size: int
    path: str | None = None
    snapshot: int = 0
    offset: int = 0
    start: Position | None = None
    total: int | None = None
    before: tuple[tuple[int, Position | None], ...] = ()

    def following(self, start: Position) -> Leaf:
        """The page after this one."""
        before = (*self.before, (self.offset, self.start))[-_REMEMBERED:]
        return replace(self, offset=self.offset + self.size, start=start, before=before)

    def first(self) -> Leaf:
        """The first page."""
        return replace(self, offset=0, start=None, before=())

    def previous(self) -> Leaf | None:
        """The page before this one, if there is one and a way to it."""
        if self.offset == 0:
            return None
        if self.before:
            offset, start = self.before[-1]
            return replace(self, offset=offset, start=start, before=self.before[:-1])
        offset = max(0, self.offset - self.size)
        return replace(self, offset=offset, start=None) if offset <= MOST_WALKED else None

    def last(self) -> Leaf | None:
        """The last page, where the total is known and there is a way to it."""
        if self.total is None or self.size == 0:
            return None
        offset = max(0, (self.total - 1) // self.size) * self.size
        if offset == self.offset:
            return self
        return replace(self, offset=offset, start=None, before=()) if offset <= MOST_WALKED else None


def _plain(start: Position | None) -> list[Any] | None:
    return None if start is None else [start.snapshot, start.rid, list(start.values), start.total]


def _position(found: Any) -> Position | None:
    return None if found is None else Position(found[0], found[1], tuple(found[2]), found[3])


def cursor_of(context: Context, type: str, leaf: Leaf) -> str:
    """The text of a cursor; it says nothing to clients, and ends with the life of a paging link."""
    before = [[offset, _plain(start)] for offset, start in leaf.before]
    values = (leaf.pairs, leaf.size, leaf.path, _plain(leaf.start), leaf.total, before)
    expires = context.clock() + context.settings.cursor_seconds * 1000
    return sign(Position(leaf.snapshot, leaf.offset, values), fingerprint("graphql", type), context.secret, expires)


def leaf_of(context: Context, type: str, cursor: str) -> Leaf:
    """The page of a cursor. Raises FhirError 400 (changed, or of another connection), 410 (expired)."""
    try:
        found = verify(cursor, fingerprint("graphql", type), context.secret, context.clock())
    except FhirError as fault:
        if fault.status == 410:
            raise
        text = f"{type}Connection(_cursor:): this cursor was changed, or is of another connection; begin again without it"
        raise FhirError.of(
            400, "invalid", text, zh=f"{type}Connection(_cursor:)：此游标已被改动，或属于另一个 connection；请去掉它重新开始"
        ) from None
    pairs, size, path, start, total, before = found.values
    return Leaf(
        tuple((name, value) for name, value in pairs), size, path, found.snapshot, found.rid, _position(start), total,
        tuple((offset, _position(one)) for offset, one in before),
    )  # fmt: skip
