"""A store that nobody uses is put back to an earlier moment: versions written later are taken away, the index is left to be made anew.

What is exact is what the log of versions knows. Jobs, records and readers of the feed have no history; what becomes of them is a rule:
docs/decisions/0098-backup-restore-purge.md
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from fhir_server.storage.sqlite import files, full_text
from fhir_server.storage.sqlite.backing_up import BackupError
from fhir_server.storage.sqlite.customs import GONE
from fhir_server.storage.sqlite.jobs import DEAD, DONE
from fhir_server.storage.sqlite.readiness import INDEX
from fhir_server.storage.sqlite.versions import first_rid

VERSIONS = (
    "CREATE TEMP TABLE touched AS SELECT DISTINCT type, id FROM version WHERE rid > :rid",
    "DELETE FROM resource WHERE (type, id) IN (SELECT type, id FROM touched)",
    "DELETE FROM old WHERE rid > :rid AND (type, id) IN (SELECT type, id FROM touched)",
    "INSERT INTO resource SELECT o.type, o.id, max(o.rid) FROM touched t CROSS JOIN old o ON o.type = t.type AND o.id = t.id "
    "GROUP BY o.type, o.id",
    "DELETE FROM old WHERE (type, id) IN (SELECT type, id FROM touched) "
    "AND rid = (SELECT r.rid FROM resource r WHERE r.type = old.type AND r.id = old.id)",
    "DROP TABLE touched",
)
"""The current versions become those of the moment: of what was changed later, the last one before."""


class TakenBack(NamedTuple):
    """What was done. `rid`: the sequence number of the moment; `moment`: when that version was written (milliseconds since 1970).

    `jobs`: that run again; `records`: that were taken away; `forgotten`: whether jobs may be missing that were done in between,
    because those done so long ago are no longer kept.
    """

    rid: int
    moment: int
    versions: int
    jobs: int
    records: int
    forgotten: bool


def take_back(
    path: Path, *, rid: int | None = None, time: int | None = None, again: Collection[str] = (), taken_in: Collection[str] = ()
) -> TakenBack:
    """Put a database that nobody has open back to a sequence number or time (milliseconds since 1970), in one transaction.

    A sequence number amid a commit means the whole commit. `again`: kinds of jobs that did nothing but write to the store, so that they
    run again where they were done later; `taken_in`: collections of records which say that something was taken in, so that it can be
    once more. Raises BackupError for a moment before the first version.
    """
    db = files.connect(path, "FULL", cache_kib=24_000)
    try:
        files.migrate(db)
        db.execute("BEGIN IMMEDIATE")
        told = _take_back(db, rid, time, again, taken_in)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return told
    finally:
        db.close()


def _take_back(db: sqlite3.Connection, rid: int | None, time: int | None, again: Collection[str], taken_in: Collection[str]) -> TakenBack:
    if rid is not None:
        row = db.execute("SELECT updated FROM version WHERE rid <= ? ORDER BY rid DESC LIMIT 1", (rid,)).fetchone()
        time = row[0] if row else -1
    assert time is not None
    last = db.execute("SELECT max(rid) FROM version WHERE rid < ?", (first_rid(db, time + 1),)).fetchone()[0]
    if last is None:
        what = "At that moment the store was empty: there is nothing to restore"
        raise BackupError(what, "该时刻数据库尚无内容，没有可恢复的数据")
    (moment,) = db.execute("SELECT updated FROM version WHERE rid = ?", (last,)).fetchone()
    later = db.execute("SELECT updated FROM version WHERE rid > ? ORDER BY rid LIMIT 1", (last,)).fetchone()
    if later is None:
        return TakenBack(last, moment, 0, 0, 0, False)
    db.execute("UPDATE state SET floor = max(floor, (SELECT max(rid) FROM version))")
    for statement in VERSIONS:
        db.execute(statement, {"rid": last} if ":rid" in statement else ())
    versions = db.execute("DELETE FROM version WHERE rid > ?", (last,)).rowcount
    _forget_index(db)
    db.execute("UPDATE reader SET rid = ?1 WHERE rid > ?1", (last,))
    jobs, forgotten = _jobs(db, later[0], again)
    return TakenBack(last, moment, versions, jobs, _records(db, later[0], taken_in), forgotten)


def _forget_index(db: sqlite3.Connection) -> None:
    """The next opening makes the index anew, and takes up the search parameters that the SearchParameters of the moment ask for."""
    db.execute("DELETE FROM secret WHERE name = ?", (INDEX,))
    db.execute("UPDATE parameter SET state = ?", (GONE,))
    full_text.drop(db)


def _jobs(db: sqlite3.Connection, later: int, again: Collection[str]) -> tuple[int, bool]:
    """Reopen the jobs of some kinds that ended at `later` or after; how many, and whether some that did may be forgotten already."""
    # Names that were used by what is gone must not keep away what takes its place.
    db.execute("DELETE FROM job_unique")
    (oldest,) = db.execute("SELECT min(ended) FROM job WHERE state = ?", (DONE,)).fetchone()
    reopened = db.execute(
        "UPDATE job SET state = 0, attempts = 0, ended = NULL, error = NULL WHERE state IN (?, ?) AND ended >= ? "
        "AND kind IN (SELECT value FROM json_each(?))",
        (DONE, DEAD, later, json.dumps(list(again))),
    ).rowcount
    db.execute("UPDATE job SET head = 0 WHERE head = 1")
    db.execute("UPDATE job SET head = 1 WHERE id IN (SELECT min(id) FROM job WHERE state = 0 GROUP BY kind, key)")
    return reopened, oldest is not None and oldest > later


def _records(db: sqlite3.Connection, later: int, taken_in: Collection[str]) -> int:
    which = "collection IN (SELECT value FROM json_each(?1)) AND updated >= ?2"
    args = (json.dumps(list(taken_in)), later)
    rows = f"(SELECT r.collection, r.seq FROM record r WHERE {which})"
    db.execute(f"DELETE FROM record_attribute WHERE (collection, seq) IN {rows}", args)
    return db.execute(f"DELETE FROM record WHERE {which}", args).rowcount
