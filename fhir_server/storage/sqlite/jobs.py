"""Jobs, leases and reader positions: plain functions on a connection, run inside the committer's transactions.

At most one open job of each (kind, key) carries `head = 1`; only heads are looked at when jobs are claimed, so a long
queue behind one unreachable receiver costs nothing.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from fhir_server.storage.port import ClaimedJob, Job, JobCount, LeaseLost

OPEN, DONE, DEAD = 0, 1, 2
STATES = ("open", "done", "dead")


# --- as part of a unit
def check_leases(db: sqlite3.Connection, done: Sequence[tuple[int, str]]) -> None:
    """Raise LeaseLost unless each job is open under that lease."""
    for id, lease in done:
        row = db.execute("SELECT lease, state FROM job WHERE id = ?", (id,)).fetchone()
        if row is None or row[0] != lease or row[1] != OPEN:
            raise LeaseLost(f"job {id}")


def check_positions(db: sqlite3.Connection, positions: Mapping[str, tuple[int, int]]) -> None:
    """Raise LeaseLost unless each reader stands where it is expected."""
    for name, (expected, _) in positions.items():
        if position(db, name) != expected:
            raise LeaseLost(f"position {name}")


def add(db: sqlite3.Connection, jobs: Sequence[Job], dumps: Callable[[Any], bytes]) -> None:
    """Put jobs into the queue; one whose unique name is known is left out."""
    for job in jobs:
        if job.unique is not None:
            made = db.execute("INSERT INTO job_unique VALUES (?, ?) ON CONFLICT DO NOTHING", (job.kind, job.unique)).rowcount
            if not made:
                continue
        db.execute(
            "INSERT INTO job(kind, key, due, payload, head) VALUES (?1, ?2, ?3, ?4, "
            "NOT EXISTS (SELECT 1 FROM job WHERE kind = ?1 AND key = ?2 AND state = 0))",
            (job.kind, job.key, job.due, dumps(job.payload)),
        )


def finish(db: sqlite3.Connection, done: Sequence[tuple[int, str]], now: int) -> None:
    """Mark jobs done; the next of their keys may run."""
    for id, _ in done:
        _leave(db, id, DONE, now, None)


def advance(db: sqlite3.Connection, positions: Mapping[str, tuple[int, int]]) -> None:
    """Move readers of the change feed."""
    for name, (_, new) in positions.items():
        db.execute("INSERT INTO reader(name, rid) VALUES (?, ?) ON CONFLICT DO UPDATE SET rid = excluded.rid", (name, new))


def _leave(db: sqlite3.Connection, id: int, state: int, now: int, error: str | None) -> None:
    """A job leaves the queue for `state`; its follower becomes the head."""
    kind, key = db.execute(
        "UPDATE job SET state = ?, head = 0, lease = NULL, lease_until = 0, ended = ?, error = coalesce(?, error) WHERE id = ? "
        "RETURNING kind, key",
        (state, now, error, id),
    ).fetchone()
    _promote(db, kind, key)


def _promote(db: sqlite3.Connection, kind: str, key: str) -> None:
    db.execute(
        "UPDATE job SET head = 1 WHERE id = (SELECT min(id) FROM job WHERE kind = ?1 AND key = ?2 AND state = 0) "
        "AND NOT EXISTS (SELECT 1 FROM job WHERE kind = ?1 AND key = ?2 AND state = 0 AND head = 1)",
        (kind, key),
    )


# --- for the runner
def claim(
    db: sqlite3.Connection, now: int, system_now: int, kinds: Sequence[str], limit: int, lease: int, train: int = 1
) -> list[ClaimedJob]:
    """Lease due jobs, oldest due first, each with up to `train` - 1 followers of its key."""
    rows = db.execute(
        "SELECT id FROM job WHERE state = 0 AND head = 1 AND kind IN (SELECT value FROM json_each(?)) AND due <= ? AND lease_until <= ? "
        "ORDER BY due, id LIMIT ?",
        (json.dumps(list(kinds)), now, system_now, limit),
    ).fetchall()
    claimed = []
    for (id,) in rows:
        head = _lease(db, id, system_now + lease)
        claimed.append(head)
        if train > 1:
            followers = db.execute(
                "SELECT id, due FROM job WHERE kind = ? AND key = ? AND state = 0 AND id > ? ORDER BY id LIMIT ?",
                (head.kind, head.key, id, train - 1),
            ).fetchall()
            claimed += [_lease(db, follower, system_now + lease) for follower, _ in takewhile(lambda row: row[1] <= now, followers)]
    return claimed


def _lease(db: sqlite3.Connection, id: int, until: int) -> ClaimedJob:
    token = secrets.token_hex(12)
    kind, key, payload, due, attempts = db.execute(
        "UPDATE job SET lease = ?, lease_until = ?, attempts = attempts + 1 WHERE id = ? RETURNING kind, key, payload, due, attempts",
        (token, until, id),
    ).fetchone()
    return ClaimedJob(id, kind, key, json.loads(payload), due, attempts, token)


def renew(db: sqlite3.Connection, jobs: Sequence[tuple[int, str]], until: int) -> None:
    """Keep what still runs; a lease that has been taken over is left alone."""
    db.executemany("UPDATE job SET lease_until = ? WHERE id = ? AND lease = ? AND state = 0", [(until, *job) for job in jobs])


def release(db: sqlite3.Connection, jobs: Sequence[tuple[int, str]]) -> None:
    """Give back what was not begun."""
    db.executemany(
        "UPDATE job SET lease = NULL, lease_until = 0, attempts = attempts - 1 WHERE id = ? AND lease = ? AND state = 0", list(jobs)
    )


def retry(db: sqlite3.Connection, id: int, lease: str, due: int, error: str) -> None:
    """Back into the queue for a later time. Raises LeaseLost."""
    check_leases(db, [(id, lease)])
    db.execute("UPDATE job SET lease = NULL, lease_until = 0, due = ?, error = ? WHERE id = ?", (due, error, id))


def bury(db: sqlite3.Connection, id: int, lease: str, now: int, error: str) -> None:
    """To the dead letters. Raises LeaseLost."""
    check_leases(db, [(id, lease)])
    _leave(db, id, DEAD, now, error)


def revive(db: sqlite3.Connection, id: int, due: int, system_now: int, payload: bytes | None) -> bool:
    """A dead letter back to the queue, in the place that its number gives it; a job of its key that runs now ends first."""
    row = db.execute("SELECT kind, key FROM job WHERE id = ? AND state = 2", (id,)).fetchone()
    if row is None:
        return False
    db.execute(
        "UPDATE job SET state = 0, head = 0, due = ?, attempts = 0, ended = NULL, payload = coalesce(?, payload) WHERE id = ?",
        (due, payload, id),
    )
    db.execute("UPDATE job SET head = 0 WHERE kind = ? AND key = ? AND state = 0 AND head = 1 AND lease_until <= ?", (*row, system_now))
    _promote(db, *row)
    return True


def set_aside(db: sqlite3.Connection, id: int, now: int, system_now: int, error: str) -> bool:
    """An open job that nobody runs to the dead letters."""
    if db.execute("SELECT 1 FROM job WHERE id = ? AND state = 0 AND lease_until <= ?", (id, system_now)).fetchone() is None:
        return False
    _leave(db, id, DEAD, now, error)
    return True


def hasten_one(db: sqlite3.Connection, id: int, due: int, system_now: int) -> bool:
    """Make an open job due."""
    return bool(
        db.execute("UPDATE job SET due = min(due, ?) WHERE id = ? AND state = 0 AND lease_until <= ?", (due, id, system_now)).rowcount
    )


def hasten(db: sqlite3.Connection, kind: str, key: str, due: int, system_now: int) -> int:
    """Make the open jobs of a key due."""
    return db.execute(
        "UPDATE job SET due = min(due, ?) WHERE kind = ? AND key = ? AND state = 0 AND lease_until <= ?", (due, kind, key, system_now)
    ).rowcount


def prune(db: sqlite3.Connection, before: int, limit: int = 5000) -> int:
    """Forget jobs that were done before a time, a bounded number at once; their unique names stay known."""
    return db.execute("DELETE FROM job WHERE id IN (SELECT id FROM job WHERE state = 1 AND ended < ? LIMIT ?)", (before, limit)).rowcount


def acquire(db: sqlite3.Connection, name: str, owner: str, duration: int, system_now: int) -> bool:
    """Take or renew a named lease."""
    return bool(
        db.execute(
            "INSERT INTO lease(name, owner, until) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET owner = ?2, until = ?3 "
            "WHERE owner = ?2 OR until <= ?4",
            (name, owner, system_now + duration, system_now),
        ).rowcount
    )


# --- questions
_LISTED = ("id", "kind", "key", "due", "attempts", "state", "error", "payload", "running")
_COLUMNS = "id, kind, key, due, attempts, state, error, payload, lease_until > :now"


def _row(row: Sequence[Any]) -> dict[str, Any]:
    values = (*row[:5], STATES[row[5]], row[6], json.loads(row[7]), row[5] == OPEN and bool(row[8]))
    return dict(zip(_LISTED, values, strict=True))


def listed(
    db: sqlite3.Connection,
    system_now: int,
    state: str | None,
    kind: str | None,
    after: int,
    limit: int,
    key: str | None,
    tried: bool = False,
) -> list[dict[str, Any]]:
    """Jobs in the order of their numbers. Raises ValueError for an unknown state."""
    wanted: dict[str, Any] = {"state": None if state is None else STATES.index(state), "kind": kind, "key": key}
    # Only what is asked for stands in the statement, so that the indexes of open jobs and of dead ones serve it.
    tests = [f"{name} = {int(value)}" if name == "state" else f"{name} = :{name}" for name, value in wanted.items() if value is not None]
    tests += ["attempts > 0 AND lease_until <= :now"] * tried
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM job WHERE {' AND '.join(['id > :after', *tests])} ORDER BY id LIMIT :limit",
        {**wanted, "after": after, "limit": limit, "now": system_now},
    ).fetchall()
    return [_row(row) for row in rows]


def one(db: sqlite3.Connection, system_now: int, id: int) -> dict[str, Any] | None:
    """A job as it is listed."""
    row = db.execute(f"SELECT {_COLUMNS} FROM job WHERE id = :id", {"id": id, "now": system_now}).fetchone()
    return _row(row) if row else None


def counted(db: sqlite3.Connection, system_now: int) -> list[JobCount]:
    """Open and dead jobs by kind."""
    found = []
    for state in (OPEN, DEAD):
        rows = db.execute(
            "SELECT kind, count(*), min(due), sum(lease_until > ?1), sum(attempts > 0 AND lease_until <= ?1) FROM job "
            f"WHERE state = {state} GROUP BY kind ORDER BY kind",
            (system_now,),
        ).fetchall()
        for kind, number, due, running, waiting in rows:
            found.append(JobCount(kind, STATES[state], number, due, *((running, waiting) if state == OPEN else ())))
    return found


def holder(db: sqlite3.Connection, name: str, system_now: int) -> str | None:
    """Who holds a named lease now."""
    row = db.execute("SELECT owner FROM lease WHERE name = ? AND until > ?", (name, system_now)).fetchone()
    return row[0] if row else None


def next_due(db: sqlite3.Connection, kinds: Sequence[str], system_now: int) -> int | None:
    """The earliest due time of a job that could be claimed then (not one that runs now)."""
    row = db.execute(
        "SELECT min(due) FROM job WHERE state = 0 AND head = 1 AND kind IN (SELECT value FROM json_each(?)) AND lease_until <= ?",
        (json.dumps(list(kinds)), system_now),
    ).fetchone()
    return row[0]


def position(db: sqlite3.Connection, name: str) -> int:
    """Where a reader of the change feed stands."""
    row = db.execute("SELECT rid FROM reader WHERE name = ?", (name,)).fetchone()
    return row[0] if row else 0
