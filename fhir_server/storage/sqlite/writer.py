"""One unit inside the write transaction: questions answered, preconditions checked, rows written.

All checks of a unit precede its first row, so a refused unit leaves nothing and does not disturb the others of its group.
Large units write as they go, behind a savepoint.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.search.values import IndexValues
from fhir_server.storage.body import changed_members, same_content, with_meta
from fhir_server.storage.port import Commit, Effects, Facts, Outcome, Record, Stored, Unit, Write
from fhir_server.storage.sqlite import gaps, jobs, records
from fhir_server.storage.sqlite.customs import Claims
from fhir_server.storage.sqlite.entries import SPAN_SHIFT, Entries, entries_of, pack_references
from fhir_server.storage.sqlite.gaps import NOTHING, Gaps, without
from fhir_server.storage.sqlite.keys import TYPE_PARAMETER, Keys, Term, TermWriter
from fhir_server.storage.sqlite.schema import METHOD_NUMBER, METHODS
from fhir_server.storage.sqlite.tools import Part, Tools


class Unfinished(Exception):
    """A unit failed while its rows were made: what is in the transaction cannot be told from what others of the group wrote."""


LARGE_UNIT = 200
"""Writes from which on a unit is flushed as it goes."""
SLICE_SECONDS = 0.003
"""Longest stretch of work between two chances for others on the event loop."""

CURRENT = (
    "SELECT v.rid, v.version, v.updated, v.method, v.body, v.clinical FROM resource r JOIN version v ON v.rid = r.rid "
    "WHERE r.type = ? AND r.id = ?"
)


@dataclass(slots=True)
class Current:
    """A resource as the transaction sees it; `stored.body` is expanded, `clinical` the sort value of its postings."""

    stored: Stored
    clinical: int
    content: dict[str, Any] | None = None
    """The body as it was parsed, if it was."""


class Writer:
    """Works on the one write connection; used by one committer, between BEGIN IMMEDIATE and COMMIT."""

    def __init__(self, db: sqlite3.Connection, keys: Keys, tools: Tools) -> None:
        self.db = db
        self.terms = TermWriter(db, keys, tools.types, tools.uncounted)
        self._keys = keys
        self._tools = tools
        self._epoch = -1
        self.generation = -1
        self.building = 0
        """As in `state`: 1 while some parameters are being filled, 2 while the whole index is."""
        self.gaps: Gaps | None = None
        self.defined = False
        """Whether this transaction changes what is indexed."""
        self._first_defined: int | None = None
        self.rid = 0
        self.updated = 0
        self._fresh: dict[tuple[str, str], Current] = {}
        self._versions: list[tuple[Any, ...]] = []
        self._resources: list[tuple[int, str, int]] = []
        self._old: list[tuple[int, str, int, int]] = []
        self._superseded: list[tuple[int, int, int]] = []
        self._postings: list[tuple[int, int, int]] = []
        self._texts: list[tuple[int, str, int, str]] = []
        self._ranges: list[tuple[int, Any, int, Any]] = []

    # --- the group
    def begin(self) -> None:
        """Read what the transaction starts from; call right after BEGIN IMMEDIATE."""
        last, updated, floor, epoch, reach, generation, self.building = self.db.execute(
            "SELECT (SELECT max(rid) FROM version), (SELECT updated FROM version ORDER BY rid DESC LIMIT 1), "
            "floor, epoch, reach, generation, building FROM state"
        ).fetchone()
        if generation != self.generation:
            self._tools.renew(self.db, generation)
            self.generation = generation
        self._first_defined = None
        self.gaps = gaps.load(self.db, self._tools.types, self._tools.known()) if self.building else None
        if epoch != self._epoch:
            self.terms.forget()
            self._epoch = epoch
        self._keys.reach = max(self._keys.reach, reach)
        self.rid = max(last or 0, floor)
        self.updated = max(self._tools.clock(), updated or 0)
        self._fresh.clear()

    def abandon(self) -> None:
        """After ROLLBACK: forget everything that was to be written."""
        self._clear()
        self._fresh.clear()
        self.terms.forget()
        self._epoch = self.generation = -1
        self.defined = False

    def look_again(self) -> None:
        """The gaps have changed within this transaction."""
        self.building = self.db.execute("SELECT building FROM state").fetchone()[0]
        self.gaps = gaps.load(self.db, self._tools.types, self._tools.known()) if self.building else None

    def _clear(self) -> None:
        for rows in (self._versions, self._resources, self._old, self._superseded, self._postings, self._texts, self._ranges):
            rows.clear()

    def flush(self) -> None:
        """Write the gathered rows."""
        many = self.db.executemany
        if self._versions:
            many(
                "INSERT INTO version(rid, type, id, version, updated, method, clinical, refs, body) VALUES (?,?,?,?,?,?,?,?,?)",
                self._versions,
            )
            many("INSERT INTO resource(type, id, rid) VALUES (?,?,?) ON CONFLICT DO UPDATE SET rid = excluded.rid", self._resources)
        if self._old:
            many("INSERT INTO old(type, id, version, rid) VALUES (?,?,?,?)", self._old)
        if self._superseded:
            many("INSERT INTO superseded(rid, until, at) VALUES (?,?,?)", self._superseded)
        self.terms.flush()
        if self._postings:
            self._postings.sort()
            many("INSERT OR IGNORE INTO posting(key, sort, rid) VALUES (?,?,?)", self._postings)
        if self._texts:
            many("INSERT INTO text(parameter, folded, rid, exact) VALUES (?,?,?,?)", self._texts)
        if self._ranges:
            many("INSERT OR IGNORE INTO range(key, low, rid, high) VALUES (?,?,?,?)", self._ranges)
        if self._first_defined is not None:
            # What this transaction writes is not indexed by the parameters that it defines.
            self.db.execute("UPDATE parameter SET upto = ? WHERE number >= ?", (self.rid, self._first_defined))
        self._clear()

    # --- questions
    def current(self, type: str, id: str) -> Current | None:
        """The current version, with what this group has written so far."""
        fresh = self._fresh.get((type, id))
        if fresh is not None:
            return fresh
        number = self._tools.types.get(type)
        row = self.db.execute(CURRENT, (number, id)).fetchone() if number is not None else None
        if row is None:
            return None
        rid, version, updated, method, blob, clinical = row
        return Current(Stored(rid, type, id, version, updated, METHODS[method], self._tools.codec.unpack(blob)), clinical)

    def facts(self, unit: Unit) -> Facts:
        """The answers to the unit's criteria and targets."""
        matches: list[list[tuple[str, str]]] = []
        if unit.criteria:
            self.flush()
            matches = [self._tools.match(self.db, query) for query in unit.criteria]
        known: dict[tuple[str, str], Stored | None] = {}
        for at in (*unit.targets, *(found for each in matches for found in each)):
            if at not in known:
                current = self.current(*at)
                known[at] = current.stored if current else None
        return Facts(matches, known)

    # --- the unit
    def apply(self, unit: Unit) -> Generator[None, None, Commit]:
        """Carry out a unit; yields now and then so that a large one can be interleaved with other work."""
        effects = unit.decide(self.facts(unit))
        if effects.records or effects.done_jobs or effects.positions:
            self._check(effects)
        if len(effects.writes) < LARGE_UNIT:
            return (yield from self._write_all(effects, large=False))
        self.flush()
        self.db.execute("SAVEPOINT unit")
        fresh, rid = dict(self._fresh), self.rid
        try:
            commit = yield from self._write_all(effects, large=True)
            self.flush()
        except BaseException:
            self._clear()
            self.terms.forget()
            self._fresh, self.rid = fresh, rid
            if self.db.in_transaction:
                self.db.execute("ROLLBACK TO unit")
                self.db.execute("RELEASE unit")
            raise
        self.db.execute("RELEASE unit")
        return commit

    def _check(self, effects: Effects) -> None:
        records.check_new(self.db, effects.records)
        jobs.check_leases(self.db, effects.done_jobs)
        jobs.check_positions(self.db, effects.positions)

    def _write_all(self, effects: Effects, *, large: bool) -> Generator[None, None, Commit]:
        """Plan each write, then make the rows; a small unit makes no row before its last write is planned."""
        outcomes: list[Outcome] = []
        planned: list[tuple[Current | None, Current, dict[str, Any] | None, Entries | None]] = []
        ahead: dict[tuple[str, str], Current] = {}
        rid = self.rid
        claims: Claims | None = None
        started = perf_counter()
        for write in effects.writes:
            at = (write.type, write.id)
            before = ahead.get(at) or self.current(*at)
            outcome, after, entries = self._plan(write, before, rid + 1)
            outcomes.append(outcome)
            if after is not None:
                if write.type == "SearchParameter" and self._tools.wanted is not None:
                    claims = claims or Claims(self.db)
                    claims.add(write.id, self._tools.wanted(write.resource) if write.resource else [])
                rid += 1
                ahead[at] = after
                planned.append((before, after, write.resource, entries))
            if perf_counter() - started > SLICE_SECONDS:
                if large:
                    self._take(planned, ahead, rid)
                    planned, ahead = [], {}
                    if len(self._postings) > 4000:
                        self.flush()
                yield
                started = perf_counter()
        concluded: Sequence[Record] = ()
        if effects.conclude is not None:
            # Before the last rows: of a small unit nothing is written yet, so that it can still be refused.
            concluded = yield from effects.conclude(Commit(outcomes, rid))
            records.check_new(self.db, concluded)
        self._take(planned, ahead, rid)
        if claims is not None:
            self.define(claims)
        if effects.jobs or effects.records or concluded or effects.done_jobs or effects.positions:
            records.put(self.db, [*effects.records, *concluded], self._tools.clock(), self._tools.dumps)
            jobs.add(self.db, effects.jobs, self._tools.dumps)
            jobs.finish(self.db, effects.done_jobs, self._tools.clock())
            jobs.advance(self.db, effects.positions)
        return Commit(outcomes, rid)

    def define(self, claims: Claims) -> None:
        """Write what SearchParameters of this transaction ask for."""
        first = claims.write(self._keys)
        if first is not None:
            self.defined = True
            self._first_defined = first if self._first_defined is None else min(first, self._first_defined)

    def _plan(self, write: Write, before: Current | None, rid: int) -> tuple[Outcome, Current | None, Entries | None]:
        """What a write comes to: its outcome, and the new version with its index entries unless nothing changes."""
        old = before.stored if before else None
        live = old is not None and not old.deleted
        _require(write, old, live)
        if write.method == "DELETE":
            if old is None or not live:
                return Outcome("unchanged", old), None, None
            gone = Stored(rid, write.type, write.id, old.version + 1, self.updated, "DELETE", b"")
            return Outcome("deleted", gone), Current(gone, 0), None
        resource = write.resource
        if resource is None:
            raise ValueError(f"{write.method} of {write.type}/{write.id} without a resource")
        if write.type not in self._tools.types:
            raise FhirError.of(
                404, "not-supported", f"{write.type} is not a resource type of this store", zh=f"{write.type} 不是此存储中的资源类型"
            )
        if live and before is not None and self._unchanged(before, resource):
            return Outcome("unchanged", old), None, None
        version = old.version + 1 if old else 1
        canonical = with_meta(resource, write.type, write.id, version, self.updated)
        body = self._tools.dumps(canonical)
        entries = entries_of(write.type, self._tools.index(canonical), self._tools.clinical.get(write.type))
        stored = Stored(rid, write.type, write.id, version, self.updated, write.method, body)
        return Outcome("updated" if live else "created", stored), Current(stored, entries.clinical), entries

    def _unchanged(self, before: Current, resource: dict[str, Any]) -> bool:
        """Whether the content equals the current one, `meta.versionId` and `meta.lastUpdated` aside."""
        old = before.stored
        same = with_meta(resource, old.type, old.id, old.version, old.updated)
        if self._tools.dumps(same) == old.body:
            return True
        content = before.content = self._tools.loads(old.body)
        return content == same and same_content(content, same)

    # --- rows
    def _take(
        self,
        planned: Iterable[tuple[Current | None, Current, dict[str, Any] | None, Entries | None]],
        ahead: dict[tuple[str, str], Current],
        rid: int,
    ) -> None:
        try:
            for before, after, resource, entries in planned:
                self._rows(before, after, resource, entries)
        except FhirError as fault:
            raise Unfinished(f"{after.stored.type}/{after.stored.id}: {fault}") from fault
        self._fresh.update(ahead)
        self.rid = rid

    def _rows(self, before: Current | None, after: Current, resource: dict[str, Any] | None, entries: Entries | None) -> None:
        stored = after.stored
        type_number = self._tools.types[stored.type]
        counted: Collection[int] | None = None
        if before is not None:
            old = before.stored
            self._old.append((type_number, old.id, old.version, old.rid))
            if not old.deleted:
                self._superseded.append((old.rid, stored.rid, stored.updated))
                missing = NOTHING if self.gaps is None else self.gaps.missing(old.rid, type_number)
                part = None if missing is None else self._part(before, resource)
                if missing is not None:
                    self._uncount(before, part, missing)
                if part is not None:
                    counted = {*part[0], *missing} if missing else part[0]
        refs = self.index_rows(entries, stored.rid, counted) if entries is not None else None
        blob = self._tools.codec.pack(stored.body)
        method = METHOD_NUMBER[stored.method]
        self._versions.append((stored.rid, type_number, stored.id, stored.version, stored.updated, method, after.clinical, refs, blob))
        self._resources.append((type_number, stored.id, stored.rid))

    def _part(self, before: Current, resource: dict[str, Any] | None) -> Part | None:
        """The part of the index in which two versions may differ; None: all of it."""
        if resource is None or self._tools.part is None:
            return None
        if before.content is None:
            before.content = self._tools.loads(before.stored.body)
        return self._tools.part(before.stored.type, changed_members(before.content, resource))

    def _uncount(self, before: Current, part: Part | None, missing: Collection[int]) -> None:
        """The keys of a version that is no longer live, as far as its successor may not have them; those `missing` were never counted."""
        if part is None:
            self.count(without(self.entries_of_stored(before.stored, before.content), missing), -1)
        elif part[0]:
            type, content = before.stored.type, before.content or {}
            self.count(without(self.entries_of(type, part[1](content)), missing), -1, part[0])

    def index_rows(self, entries: Entries, rid: int, counted: Collection[int] | None) -> bytes | None:
        """Rows of a live version; returns its packed references. `counted`: numbers that it counts under; None: all, and its type."""
        terms = self.terms
        keys, references = terms.post(entries.forms, 1, counted)
        clinical = entries.clinical
        postings = self._postings
        postings.append((keys[0], 0, rid))
        postings.extend([(key, clinical, rid) for key in keys[1:]])
        if entries.texts:
            self._texts.extend([(parameter, folded, rid, exact) for (parameter, folded), exact in entries.texts.items()])
        plain, quantities = entries.plain, entries.quantities
        if plain:
            self._ranges.extend([(key, low, rid, high) for key, low, high in plain])
            self._count_plain(entries, 1, counted)
        if quantities:
            rows = [(terms.key(form), low, rid, high) for form, low, high in quantities]
            self._ranges.extend(rows)
            self._count_quantities(entries, 1, counted)
        return pack_references(references)

    def _count_plain(self, entries: Entries, delta: int, counted: Collection[int] | None) -> None:
        self.terms.count_all({key for key, _, _ in entries.plain if counted is None or key >> SPAN_SHIFT in counted}, delta)

    def _count_quantities(self, entries: Entries, delta: int, counted: Collection[int] | None) -> set[int]:
        terms = self.terms
        keys = {terms.key(form) for form, _, _ in entries.quantities if counted is None or form[0] in counted}
        terms.count_all(keys, delta)
        return keys

    def entries_of(self, type: str, values: IndexValues) -> Entries:
        """Index values as rows."""
        return entries_of(type, values, self._tools.clinical.get(type))

    def loads(self, blob: bytes) -> dict[str, Any]:
        """The resource in a blob."""
        return self._tools.loads(self.unpack(blob))

    def parsed(self, body: bytes) -> dict[str, Any]:
        """The resource in a body."""
        return self._tools.loads(body)

    def find_type(self, type: str) -> Term | None:
        """Key and number of all live resources of a type."""
        return self._keys.find(self.db, TYPE_PARAMETER, type, "")

    def index(self, resource: dict[str, Any]) -> IndexValues:
        """All index values of a resource."""
        return self._tools.index(resource)

    def count(self, entries: Entries, delta: int, counted: Collection[int] | None = None) -> set[int]:
        """Count a version's keys (-1: it is no longer live), those of the parameters `counted` only; returns its term keys."""
        keys = set(self.terms.post(entries.forms, delta, counted)[0])
        self._count_plain(entries, delta, counted)
        return keys | self._count_quantities(entries, delta, counted)

    def unpack(self, blob: bytes) -> bytes:
        """The body in a blob."""
        return self._tools.codec.unpack(blob)

    def forget(self, type: str, id: str) -> None:
        """A resource was erased in this transaction."""
        self._fresh.pop((type, id), None)

    def entries_of_stored(self, stored: Stored, content: dict[str, Any] | None = None) -> Entries:
        """The index entries of a version, computed again from its body (`content`: as it was parsed before)."""
        resource = content if content is not None else self._tools.loads(stored.body)
        return entries_of(stored.type, self._tools.index(resource), self._tools.clinical.get(stored.type))


def _require(write: Write, old: Stored | None, live: bool) -> None:
    """The preconditions of one write. Raises FhirError 409 or 412."""
    what = f"{write.type}/{write.id}"
    if write.if_match == 0:
        if live:
            raise FhirError.of(
                412,
                "conflict",
                f"{what} must not exist, but version {old.version if old else 0} does",
                what,
                zh=f"{what} 应不存在，但已有版本 {old.version if old else 0}",
            )
    elif write.if_match is not None and (old is None or old.version != write.if_match):
        there = f"its current version is {old.version}" if old else "it does not exist"
        there_zh = f"其当前版本为 {old.version}" if old else "它不存在"
        raise FhirError.of(
            412,
            "conflict",
            f"If-Match asks for version {write.if_match} of {what}, but {there}",
            what,
            zh=f"If-Match 要求 {what} 的版本为 {write.if_match}，但{there_zh}",
        )
    if write.method == "POST" and old is not None:
        raise FhirError.of(409, "duplicate", f"{what} exists already; a create needs a new id", what, zh=f"{what} 已存在；创建需要新的 id")
