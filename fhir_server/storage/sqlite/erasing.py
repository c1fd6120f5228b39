"""Taking versions out of the index: those that no cursor can see any more (sweep), and those that must vanish (`erase`)."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.storage.port import Stored
from fhir_server.storage.sqlite import full_text
from fhir_server.storage.sqlite.customs import Claims
from fhir_server.storage.sqlite.gaps import NOTHING, without
from fhir_server.storage.sqlite.schema import METHODS
from fhir_server.storage.sqlite.writer import Writer

VERSION = "SELECT rid, type, id, version, updated, method, body, clinical FROM version"


def remove_entries(writer: Writer, stored: Stored, clinical: int) -> None:
    """Delete the index rows of one version; counts are the caller's affair."""
    entries = writer.entries_of_stored(stored)
    keys = [writer.terms.key(form) for form in entries.forms]
    rows = [(keys[0], 0, stored.rid), *((key, clinical, stored.rid) for key in keys[1:])]
    writer.db.executemany("DELETE FROM posting WHERE key = ? AND sort = ? AND rid = ?", rows)
    if entries.texts:
        writer.db.execute("DELETE FROM text WHERE rid = ?", (stored.rid,))
    if entries.plain or entries.quantities:
        writer.db.execute("DELETE FROM range WHERE rid = ?", (stored.rid,))


def sweep(writer: Writer, names: Sequence[str], before: int, limit: int) -> int:
    """Remove the entries of up to `limit` versions that were superseded before a time; returns how many."""
    rows = writer.db.execute(
        "SELECT v.rid, v.type, v.id, v.version, v.updated, v.method, v.body, v.clinical FROM superseded s "
        "CROSS JOIN version v ON v.rid = s.rid WHERE s.at < ? ORDER BY s.at LIMIT ?",
        (before, limit),
    ).fetchall()
    for row in rows:
        remove_entries(writer, _stored(writer, names, row), row[7])
        writer.db.execute("DELETE FROM superseded WHERE rid = ?", (row[0],))
    return len(rows)


def erase(writer: Writer, names: Sequence[str], type: int, id: str) -> int:
    """Remove every version of a resource, its index rows, and the terms that only it had."""
    db = writer.db
    at = (type, id)
    rows = db.execute(
        f"{VERSION} WHERE rid IN (SELECT rid FROM resource WHERE type = ? AND id = ? "
        "UNION ALL SELECT rid FROM old WHERE type = ? AND id = ?)",
        (*at, *at),
    ).fetchall()
    if not rows:
        return 0
    db.execute("UPDATE state SET floor = max(floor, (SELECT max(rid) FROM version)), epoch = epoch + 1")
    full_text.drop(db)
    (current,) = db.execute("SELECT rid FROM resource WHERE type = ? AND id = ?", at).fetchone()
    keys: set[int] = set()
    for row in rows:
        stored = _stored(writer, names, row)
        if not stored.deleted:
            entries = writer.entries_of_stored(stored)
            keys |= writer.count(entries, 0)
            missing = NOTHING if writer.gaps is None else writer.gaps.missing(stored.rid, type)
            if stored.rid == current and missing is not None:
                writer.count(without(entries, missing), -1)
            remove_entries(writer, stored, row[7])
        db.execute("DELETE FROM superseded WHERE rid = ?", (stored.rid,))
        db.execute("DELETE FROM version WHERE rid = ?", (stored.rid,))
    db.execute("DELETE FROM resource WHERE type = ? AND id = ?", at)
    db.execute("DELETE FROM old WHERE type = ? AND id = ?", at)
    _remove_terms(writer, keys)
    writer.forget(names[type], id)
    if names[type] == "SearchParameter":
        claims = Claims(db)
        claims.add(id, [])
        writer.define(claims)
    return len(rows)


def erase_past(writer: Writer, names: Sequence[str], type: int, id: str) -> int:
    """Remove every version of a deleted resource but its deletion, their index rows, and the terms that only they had; how many."""
    db = writer.db
    rows = db.execute(f"{VERSION} WHERE rid IN (SELECT rid FROM old WHERE type = ? AND id = ?)", (type, id)).fetchall()
    keys: set[int] = set()
    for row in rows:
        stored = _stored(writer, names, row)
        if not stored.deleted:
            keys |= writer.count(writer.entries_of_stored(stored), 0)
            remove_entries(writer, stored, row[7])
        db.execute("DELETE FROM superseded WHERE rid = ?", (stored.rid,))
        db.execute("DELETE FROM version WHERE rid = ?", (stored.rid,))
    db.execute("DELETE FROM old WHERE type = ? AND id = ?", (type, id))
    db.execute("UPDATE state SET epoch = epoch + 1")
    _remove_terms(writer, keys)
    return len(rows)


def _remove_terms(writer: Writer, keys: set[int]) -> None:
    """Of these, the terms that no version has any more."""
    writer.terms.flush()
    writer.db.executemany(
        "DELETE FROM term WHERE key = ?1 AND n <= 0 AND NOT EXISTS (SELECT 1 FROM posting WHERE key = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM range WHERE key = ?1)",
        [(key,) for key in keys],
    )
    writer.terms.forget()


def _stored(writer: Writer, names: Sequence[str], row: Sequence[object]) -> Stored:
    rid, type, id, version, updated, method, blob = row[:7]
    return Stored(rid, names[type], id, version, updated, METHODS[method], writer.unpack(blob))  # type: ignore[index,arg-type,call-overload]
