"""At opening: an index that was made by other rules than this version's is emptied, to be made anew while the server works.

Other rules are other parameters, paths, or another time zone. Decision: docs/decisions/0047-index-fingerprint.md
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.search.parameters import Definition
from fhir_server.storage.sqlite import filling
from fhir_server.storage.sqlite.customs import Claims
from fhir_server.storage.sqlite.readiness import INDEX, stored_fingerprint
from fhir_server.storage.sqlite.writer import Writer

PAUSE = 0.05
TRIES = 600
SAVE = "INSERT INTO secret VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


Wanted = Callable[[dict[str, Any]], list[Definition]]
STORED = "SELECT r.id, v.body FROM resource r CROSS JOIN version v ON v.rid = r.rid WHERE r.type = ? AND v.method <> 3 ORDER BY v.rid"


async def ensure(
    writer: Writer, fingerprint: str, now: int, known: Callable[[], set[int]], wanted: Wanted | None, type: int | None
) -> bool:
    """Begin to make the index anew unless it has this fingerprint; whether it was begun. Another process may be at it: wait.

    `wanted`: what a SearchParameter asks for by these rules; `type`: the number of that type. Raises sqlite3.OperationalError when the
    store stays locked.
    """
    for attempt in range(TRIES):
        if stored_fingerprint(writer.db) == fingerprint.encode():
            return False
        try:
            writer.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            if attempt == TRIES - 1:
                raise
            await asyncio.sleep(PAUSE)
            continue
        try:
            begun = False
            if stored_fingerprint(writer.db) != fingerprint.encode():
                if writer.db.execute("SELECT 1 FROM version LIMIT 1").fetchone() is not None:
                    writer.db.execute(SAVE, (INDEX, fingerprint.encode()))
                    writer.begin()
                    if wanted is not None and type is not None:
                        _adopt(writer, wanted, type)
                    filling.begin_whole(writer, now, known())
                    writer.flush()
                    begun = True
                writer.db.execute(SAVE, (INDEX, fingerprint.encode()))
            writer.db.commit()
        except BaseException:
            writer.abandon()
            if writer.db.in_transaction:
                writer.db.rollback()
            raise
        if begun:
            logging.getLogger(__name__).warning("the index was made by other rules than this version's: it is made anew; searches wait")
        return begun
    raise AssertionError("unreachable")


def _adopt(writer: Writer, wanted: Wanted, type: int) -> None:
    """Take up what the stored SearchParameters ask for by the present rules; what stays the same keeps its number."""
    claims = Claims(writer.db)
    for id, blob in writer.db.execute(STORED, (type,)).fetchall():
        try:
            claims.add(id, wanted(writer.loads(blob)))
        except FhirError as fault:
            logging.getLogger(__name__).warning("SearchParameter/%s is not served: %s", id, fault)
    writer.define(claims)
