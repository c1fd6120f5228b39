"""Records of the server itself (journals, inboxes, tokens): plain functions on a connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from fhir_server.storage.port import Record, RecordExists, StoredRecord

COLUMNS = "seq, key, data, raw, attributes, updated"


def check_new(db: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Raise RecordExists when one that must be new is there, or comes twice."""
    seen: set[tuple[str, str]] = set()
    for record in records:
        at = (record.collection, record.key)
        if record.only_new and (at in seen or db.execute("SELECT 1 FROM record WHERE collection = ? AND key = ?", at).fetchone()):
            raise RecordExists(*at)
        seen.add(at)


def put(db: sqlite3.Connection, records: Sequence[Record], now: int, dumps: Callable[[Any], bytes]) -> None:
    """Write records; one of the same key is replaced and keeps its number."""
    for record in records:
        data = dict(record.data)
        raw = data.pop("raw", None)
        if raw is not None and not isinstance(raw, bytes):
            data["raw"], raw = raw, None
        attributes = {name: str(value) for name, value in record.attributes.items()}
        row = db.execute("SELECT seq, attributes FROM record WHERE collection = ? AND key = ?", (record.collection, record.key)).fetchone()
        fields = (now, json.dumps(attributes, ensure_ascii=False), dumps(data), raw)
        if row is None:
            seq = db.execute(
                "INSERT INTO record(collection, key, updated, attributes, data, raw) VALUES (?,?,?,?,?,?)",
                (record.collection, record.key, *fields),
            ).lastrowid
            before: dict[str, str] = {}
        else:
            seq, before = row[0], json.loads(row[1])
            db.execute("UPDATE record SET updated = ?, attributes = ?, data = ?, raw = ? WHERE seq = ?", (*fields, seq))
        _attributes(db, record.collection, seq, before, attributes)


def _attributes(db: sqlite3.Connection, collection: str, seq: int | None, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    for name, value in before.items() - after.items():
        db.execute(
            "DELETE FROM record_attribute WHERE collection = ? AND name = ? AND value = ? AND seq = ?", (collection, name, value, seq)
        )
    db.executemany(
        "INSERT INTO record_attribute VALUES (?,?,?,?)", [(collection, name, value, seq) for name, value in after.items() - before.items()]
    )


def delete(db: sqlite3.Connection, collection: str, key: str) -> bool:
    """Remove a record; False when there was none."""
    row = db.execute("DELETE FROM record WHERE collection = ? AND key = ? RETURNING seq, attributes", (collection, key)).fetchone()
    if row is not None:
        _attributes(db, collection, row[0], json.loads(row[1]), {})
    return row is not None


def prune(db: sqlite3.Connection, collection: str, before: int, limit: int = 1000) -> int:
    """Remove the oldest records of a collection that were last written before a time, a bounded number at once.

    They are looked for in the order of insertion, up to the first one that is younger: made for records that are written once.
    """
    rows = db.execute("SELECT seq, key, updated FROM record WHERE collection = ? ORDER BY seq LIMIT ?", (collection, limit)).fetchall()
    old = [key for _, key, _ in takewhile(lambda row: row[2] < before, rows)]
    for key in old:
        delete(db, collection, key)
    return len(old)


def get(db: sqlite3.Connection, collection: str, key: str) -> StoredRecord | None:
    """One record."""
    row = db.execute(f"SELECT {COLUMNS} FROM record WHERE collection = ? AND key = ?", (collection, key)).fetchone()
    return _stored(row) if row else None


def listed(
    db: sqlite3.Connection, collection: str, attributes: Mapping[str, str], after: int, limit: int, newest_first: bool
) -> list[StoredRecord]:
    """Records with all these attributes, in the order of insertion; `after` is the last `seq` of the page before (0 = from the start)."""
    order, compare = ("DESC", "<") if newest_first else ("ASC", ">")
    pairs = [(name, str(value)) for name, value in attributes.items()]
    parameters: list[Any] = [collection]
    if pairs:
        source = "record_attribute a CROSS JOIN record r ON r.seq = a.seq WHERE a.collection = ? AND a.name = ? AND a.value = ?"
        column = "a.seq"
        parameters += pairs[0]
    else:
        source, column = "record r WHERE r.collection = ?", "r.seq"
    if after or not newest_first:
        source += f" AND {column} {compare} ?"
        parameters.append(after)
    for name, value in pairs[1:]:
        source += (
            f" AND EXISTS (SELECT 1 FROM record_attribute b WHERE b.collection = ? AND b.name = ? AND b.value = ? AND b.seq = {column})"
        )
        parameters += (collection, name, value)
    columns = ", ".join(f"r.{name.strip()}" for name in COLUMNS.split(","))
    rows = db.execute(f"SELECT {columns} FROM {source} ORDER BY {column} {order} LIMIT ?", (*parameters, limit)).fetchall()
    return [_stored(row) for row in rows]


def _stored(row: tuple[Any, ...]) -> StoredRecord:
    seq, key, data, raw, attributes, updated = row
    content = json.loads(data)
    if raw is not None:
        content["raw"] = raw
    return StoredRecord(seq, key, content, json.loads(attributes), updated)
