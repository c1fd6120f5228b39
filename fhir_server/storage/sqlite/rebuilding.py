"""Makes the whole index anew when it was made by other rules than this version's: other parameters, paths, or time zone.

All in one transaction, so that a crash leaves the old index, and the next start begins again.
Decision: docs/decisions/0047-index-fingerprint.md
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from time import monotonic

from fhir_server.storage.sqlite.writer import Writer

NAME = "index"
"""Name of the fingerprint among the store's secrets."""
CHUNK = 500
PAUSE = 0.2
TOLD_EVERY = 10.0
LIVE = (
    "SELECT v.rid, v.type, v.body FROM version v CROSS JOIN resource r ON r.type = v.type AND r.id = v.id AND r.rid = v.rid "
    "WHERE v.rid > ? AND v.method <> 3 ORDER BY v.rid LIMIT ?"
)
SAVE = "INSERT INTO secret VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


async def ensure(writer: Writer, names: list[str], fingerprint: str) -> int:
    """Rebuild the index unless it has this fingerprint; returns how many resources were indexed. Another process may be at it: wait."""
    while _stored(writer.db) != fingerprint.encode():
        try:
            writer.db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            await asyncio.sleep(PAUSE)
            continue
        try:
            before = _stored(writer.db)
            done = 0 if before == fingerprint.encode() or _is_empty(writer.db) else await _rebuild(writer, names)
            writer.db.execute(SAVE, (NAME, fingerprint.encode()))
            writer.db.commit()
        except BaseException:
            writer.abandon()
            if writer.db.in_transaction:
                writer.db.rollback()
            raise
        return done
    return 0


def _stored(db: sqlite3.Connection) -> bytes | None:
    row = db.execute("SELECT value FROM secret WHERE name = ?", (NAME,)).fetchone()
    return row[0] if row else None


def _is_empty(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM version LIMIT 1").fetchone() is None


async def _rebuild(writer: Writer, names: list[str]) -> int:
    db = writer.db
    log = logging.getLogger(__name__)
    (total,) = db.execute("SELECT count(*) FROM resource").fetchone()
    log.warning("the index was made by other rules than this version's: it is made anew for %d resources", total)
    # Versions before the current ones keep no entries, so paging links that are still under way end here.
    for table in ("posting", "text", "range", "term", "superseded"):
        db.execute(f"DELETE FROM {table}")
    db.execute("DELETE FROM secret WHERE name = 'cursor'")
    db.execute("UPDATE state SET epoch = epoch + 1, reach = 0")
    writer.begin()
    done, last, told = 0, 0, monotonic()
    while rows := db.execute(LIVE, (last, CHUNK)).fetchall():
        for rid, type, blob in rows:
            writer.index_again(rid, names[type], blob)
        writer.flush()
        done, last = done + len(rows), rows[-1][0]
        if monotonic() - told > TOLD_EVERY:
            log.warning("index: %d of %d resources", done, total)
            told = monotonic()
        await asyncio.sleep(0)
    log.warning("the index was made anew: %d resources", done)
    return done
