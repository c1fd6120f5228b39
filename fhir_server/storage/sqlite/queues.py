"""The store's methods for jobs, leases and records, over the functions of `jobs` and `records`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fhir_server.model import json_codec
from fhir_server.storage.port import ClaimedJob, JobCount, StoredRecord
from fhir_server.storage.sqlite import jobs, records
from fhir_server.storage.sqlite.committer import Action, Committer
from fhir_server.storage.sqlite.faults import translated
from fhir_server.storage.sqlite.readers import Readers


def system_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Queues:
    """Part of the store; `_db` is the connection of its readers on the event loop."""

    _db: sqlite3.Connection
    _file: str
    _committer: Committer
    _readers: Readers
    _clock: Callable[[], int]

    def _asked(self, question: Callable[..., Any], *args: Any) -> Any:
        try:
            return question(self._db, *args)
        except sqlite3.Error as error:
            raise translated(error, self._file) from error

    async def _act(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        """Small work inside a write transaction."""
        act: Action = lambda writer: action(writer.db)  # noqa: E731
        return await self._committer.submit(act)

    async def claim_jobs(self, now: int, *, kinds: Sequence[str], limit: int = 10, lease: int = 60_000, train: int = 1) -> list[ClaimedJob]:
        due = self._asked(jobs.next_due, kinds, system_clock())
        if due is None or due > now:
            return []
        claimed: list[ClaimedJob] = await self._act(lambda db: jobs.claim(db, now, system_clock(), kinds, limit, lease, train))
        return claimed

    async def renew_jobs(self, jobs_: Sequence[tuple[int, str]], lease: int) -> None:
        await self._act(lambda db: jobs.renew(db, jobs_, system_clock() + lease))

    async def release_jobs(self, jobs_: Sequence[tuple[int, str]]) -> None:
        await self._act(lambda db: jobs.release(db, jobs_))

    async def retry_job(self, id: int, lease: str, due: int, error: str) -> None:
        await self._act(lambda db: jobs.retry(db, id, lease, due, error))

    async def bury_job(self, id: int, lease: str, error: str) -> None:
        await self._act(lambda db: jobs.bury(db, id, lease, self._clock(), error))

    async def revive_job(self, id: int, due: int, payload: dict[str, Any] | None = None) -> bool:
        packed = None if payload is None else json_codec.dumps(payload)
        revived: bool = await self._act(lambda db: jobs.revive(db, id, due, system_clock(), packed))
        return revived

    async def set_aside_job(self, id: int, error: str) -> bool:
        done: bool = await self._act(lambda db: jobs.set_aside(db, id, self._clock(), system_clock(), error))
        return done

    async def hasten_job(self, id: int, due: int) -> bool:
        done: bool = await self._act(lambda db: jobs.hasten_one(db, id, due, system_clock()))
        return done

    async def hasten_jobs(self, kind: str, key: str, due: int) -> int:
        number: int = await self._act(lambda db: jobs.hasten(db, kind, key, due, system_clock()))
        return number

    async def list_jobs(
        self,
        state: str | None = None,
        kind: str | None = None,
        after: int = 0,
        limit: int = 100,
        key: str | None = None,
        *,
        tried: bool = False,
    ) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._asked(jobs.listed, system_clock(), state, kind, after, limit, key, tried)
        return listed

    async def job(self, id: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._asked(jobs.one, system_clock(), id)
        return found

    async def count_jobs(self) -> list[JobCount]:
        # In a thread: going through a long queue takes as long as a hundred requests.
        try:
            counted: list[JobCount] = await self._readers.in_thread(lambda db, codec: jobs.counted(db, system_clock()))
        except sqlite3.Error as error:
            raise translated(error, self._file) from error
        return counted

    async def next_due(self, kinds: Sequence[str]) -> int | None:
        due: int | None = self._asked(jobs.next_due, kinds, system_clock())
        return due

    async def prune_jobs(self, done_before: int) -> int:
        pruned = 0
        while part := await self._act(lambda db: jobs.prune(db, done_before)):
            pruned += part
        return pruned

    async def acquire_lease(self, name: str, owner: str, duration: int) -> bool:
        held: bool = await self._act(lambda db: jobs.acquire(db, name, owner, duration, system_clock()))
        return held

    async def lease_holder(self, name: str) -> str | None:
        holder: str | None = self._asked(jobs.holder, name, system_clock())
        return holder

    # --- records
    async def record(self, collection: str, key: str) -> StoredRecord | None:
        found: StoredRecord | None = self._asked(records.get, collection, key)
        return found

    async def records(
        self, collection: str, attributes: Mapping[str, str] | None = None, *, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> list[StoredRecord]:
        listed: list[StoredRecord] = self._asked(records.listed, collection, attributes or {}, after, limit, newest_first)
        return listed

    async def delete_record(self, collection: str, key: str) -> bool:
        deleted: bool = await self._act(lambda db: records.delete(db, collection, key))
        return deleted

    async def prune_records(self, collection: str, before: int) -> int:
        pruned = 0
        while part := await self._act(lambda db: records.prune(db, collection, before)):
            pruned += part
        return pruned
