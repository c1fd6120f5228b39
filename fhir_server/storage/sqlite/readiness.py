"""Whether the index can answer a query now: nothing is answered from an index that is still being filled.

Each search reads the state of the index with the snapshot that it sees, in the statement that it needs anyway.
Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

import sqlite3

from fhir_server.errors import FhirError
from fhir_server.search.custom import Customs, customs_in
from fhir_server.search.errors import index_not_ready, not_ready
from fhir_server.search.query import Query
from fhir_server.storage.sqlite import customs as table
from fhir_server.storage.sqlite.keys import Keys

STATE = "SELECT (SELECT max(rid) FROM version), floor, reach, generation, building, origin FROM state"
WHOLE = 2
"""`state.building` while the whole index is made anew."""
INDEX = "index"
"""Name of the fingerprint of the index rules among the store's secrets."""


class Changed(Exception):
    """A reader in a thread saw parameters that this process does not know yet; it reads again after `renew`."""


class Readiness:
    """One process's view. `customs` None: nothing can be defined. `fingerprint`: the rules of this process ('' = any)."""

    def __init__(self, keys: Keys, customs: Customs | None, fingerprint: str) -> None:
        self._keys, self._customs, self._fingerprint = keys, customs, fingerprint
        self._generation = 0

    def at(self, db: sqlite3.Connection, query: Query, snapshot: int | None, *, far: bool = False) -> int:
        """The snapshot at which a query is answered. Raises FhirError 503 (not ready), 410 (the index was made anew since), Changed."""
        last, floor, reach, generation, building, origin = db.execute(STATE).fetchone()
        self._keys.reach = max(self._keys.reach, reach)
        if generation != self._generation:
            if far:
                raise Changed
            self.renew(db, generation)
        if building == WHOLE:
            raise index_not_ready(*whole_progress(db))
        if snapshot is not None and snapshot < origin:
            raise _gone()
        if self._customs is not None and self._customs.ever:
            self._check(db, query, snapshot)
        return snapshot if snapshot is not None else max(last or 0, floor)

    def within(self, db: sqlite3.Connection, query: Query, building: int) -> None:
        """The same for a query inside the write transaction, which knows the parameters of its time."""
        if building == WHOLE:
            raise index_not_ready(*whole_progress(db))
        if self._customs is not None and self._customs.ever:
            self._check(db, query, None)

    def _check(self, db: sqlite3.Connection, query: Query, snapshot: int | None) -> None:
        assert self._customs is not None
        for number in customs_in(query):
            custom = self._customs.of_number(number)
            if custom is None:
                what = "A search parameter was changed while the search was read; send it again"
                raise FhirError.of(503, "transient", what, headers=[("Retry-After", "1")], zh="检索过程中有检索参数被更改；请重新发送")
            if not custom.ready:
                one = custom.definition
                raise not_ready(one.type, one.code, *table.progress(db, one.type, one.code))
            if snapshot is not None and snapshot < custom.since:
                raise _gone()

    def renew(self, db: sqlite3.Connection, generation: int | None = None) -> None:
        """Learn what is indexed now. Raises FhirError 503 when another version of the server has made the index by rules of its own."""
        if generation is None:
            (generation,) = db.execute("SELECT generation FROM state").fetchone()
        if generation == self._generation:
            return
        if self._fingerprint and stored_fingerprint(db) not in (None, self._fingerprint.encode()):
            what = "The store's index is made by another version of this server now, or for another time zone; restart this process"
            raise FhirError.of(
                503,
                "transient",
                what,
                headers=[("Retry-After", "30")],
                zh="存储的索引现在由本服务器的另一个版本建立，或按另一个时区建立；请重启此进程",
            )
        if self._customs is not None:
            self._customs.take(table.load(db), generation)
        self._generation = generation


def stored_fingerprint(db: sqlite3.Connection) -> bytes | None:
    """The rules by which the index was made."""
    row = db.execute("SELECT value FROM secret WHERE name = ?", (INDEX,)).fetchone()
    return row[0] if row else None


def whole_progress(db: sqlite3.Connection) -> tuple[int, int]:
    """How many resources the index holds, of how many, while it is made anew."""
    row = db.execute("SELECT done, max(total, done) FROM reindexing WHERE ended IS NULL AND types = '[]'").fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _gone() -> FhirError:
    return FhirError.of(
        410, "expired", "The index was made anew since the first page; start the search again", zh="自第一页以来索引已重建；请重新开始检索"
    )
