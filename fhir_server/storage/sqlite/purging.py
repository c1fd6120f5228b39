"""`$purge`: all versions of resources vanish but a last one, a deletion without content, in one unit with the record of it.

Decision: docs/decisions/0098-backup-restore-purge.md
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from time import perf_counter
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.storage.port import Purge, Purged, Stored, Unit, Write
from fhir_server.storage.sqlite import erasing, full_text, records
from fhir_server.storage.sqlite.filling import IS_ASIDE
from fhir_server.storage.sqlite.schema import DELETED
from fhir_server.storage.sqlite.writer import SLICE_SECONDS, Writer

MOST = 50_000
"""Most members that one unit erases: others wait for its end to write."""
LAST_CONTENTS = (
    "SELECT v.type, v.id, p.body FROM version v CROSS JOIN resource r ON r.type = v.type AND r.id = v.id AND r.rid = v.rid "
    "CROSS JOIN old o ON o.type = v.type AND o.id = v.id AND o.version = v.version - 1 CROSS JOIN version p ON p.rid = o.rid "
    "WHERE v.rid > ? AND v.method = ? AND p.method <> ?"
)
RECORDS = "SELECT r.key FROM record_attribute a CROSS JOIN record r ON r.seq = a.seq WHERE a.collection = ? AND a.name = ? AND a.value = ?"
Place = tuple[str, str]
All = Callable[[sqlite3.Connection, Any], list[Stored]]


def deleted_members(
    db: sqlite3.Connection,
    names: Sequence[str],
    purge: Purge,
    after: int,
    unpack: Callable[[bytes], bytes],
    loads: Callable[[bytes], dict[str, Any]],
) -> list[Place]:
    """The members that were deleted after a sequence number, judged by their last content."""
    wanted = set(purge.members.types) if purge.members else set()
    found: list[Place] = []
    for type, id, blob in db.execute(LAST_CONTENTS, (after, DELETED, DELETED)):
        if names[type] in wanted and purge.clue in (body := unpack(blob)):
            content = loads(body)
            if purge.belongs(content) and not purge.spared(content):
                found.append((names[type], id))
    return found


def purge(
    writer: Writer, names: Sequence[str], purge: Purge, upto: int, deleted: Sequence[Place], matches: All
) -> Generator[None, None, Purged]:
    """Inside a write transaction. `deleted`: members deleted up to the sequence number `upto`; `matches`: all matches of a query.

    Raises FhirError before anything is written.
    """
    db = writer.db
    places: dict[Place, None] = dict.fromkeys(purge.places)
    spared: list[Place] = []
    if purge.members is not None:
        live = matches(db, purge.members)
        if len(live) > MOST:
            what = f"More than {MOST} resources would be erased at once; erase the largest parts of the record by themselves first"
            raise FhirError.of(422, "too-costly", what, zh=f"一次清除的资源超过 {MOST} 个，请先单独清除其中最大的部分")
        for stored in live:
            at = (stored.type, stored.id)
            if at not in places and purge.spared(writer.parsed(stored.body)):
                spared.append(at)
            else:
                places[at] = None
            yield
        since = deleted_members(db, names, purge, upto, writer.unpack, writer.parsed)
        for at in (*deleted, *since):
            current = writer.current(*at)
            if current is not None and current.stored.deleted:
                places[at] = None
    numbers = {name: number for number, name in enumerate(names) if name}
    places = {(type, id): None for type, id in places if type in numbers}
    for type, id in list(places):
        for body in _bodies(writer, numbers[type], id):
            places |= dict.fromkeys(place for place in purge.beside(body) if writer.current(*place) is not None)
        yield
    resources = Counter(type for type, _ in places)
    commit = yield from writer.apply(Unit.of(purge.audit(resources), *(Write("DELETE", type, id) for type, id in places)))
    writer.flush()
    full_text.drop(db)
    for (name,) in db.execute(f"SELECT name FROM sqlite_schema WHERE type = 'table' AND {IS_ASIDE}").fetchall():
        db.execute(f"DROP TABLE {name}")
    versions, started = 0, perf_counter()
    for type, id in places:
        versions += erasing.erase_past(writer, names, numbers[type], id)
        if perf_counter() - started > SLICE_SECONDS:
            yield
            started = perf_counter()
    for named in purge.records:
        for (key,) in db.execute(RECORDS, named).fetchall():
            records.delete(db, named[0], key)
    return Purged(commit, resources, versions, spared, False)


def _bodies(writer: Writer, type: int, id: str) -> list[bytes]:
    rows = writer.db.execute(
        "SELECT body FROM version WHERE method <> ? AND rid IN (SELECT rid FROM resource WHERE type = ? AND id = ? "
        "UNION ALL SELECT rid FROM old WHERE type = ? AND id = ?)",
        (DELETED, type, id, type, id),
    ).fetchall()
    return [writer.unpack(blob) for (blob,) in rows]
