"""What is kept of an asynchronous request: the request itself, how far it is, and its result, as records of the store.

One record decides how a request ends: its result may be written only once, so that of two runners, or of a runner and a cancellation,
one comes first. Specification: https://hl7.org/fhir/R5/async-bundle.html. Decision: docs/decisions/0077-asynchronous-requests.md
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from fhir_server.auth.gate import Principal
from fhir_server.interactions.bundle_answer import bundle_answer
from fhir_server.interactions.http import Request
from fhir_server.interactions.negotiate import Form
from fhir_server.storage.port import Job, Record, Store, StoredRecord

REQUEST, FORGET = "async.request", "async.forget"
"""Job kinds: carry a request out; remove what is kept of it. The key is the request's number."""
REQUESTS, BODIES, RESULTS, ENTRIES, PROGRESS, OPEN = (
    "async.request", "async.body", "async.result", "async.entry", "async.progress", "async.open"
)  # fmt: skip
"""Collections of records, by the number of the request; entries by number and index. OPEN names those that wait or run by principal."""
FINISHED, WRITTEN, CANCELLED, FORGOTTEN = "finished", "written", "cancelled", "forgotten"
"""States of a result. WRITTEN: a transaction whose unit is committed, while its reading entries are still to be answered."""
HOUR = 3_600_000
ATTEMPT_SECONDS = 3600
"""Longest attempt. What says that something was done stays at least so long, so that a runner that was overtaken finds it."""
_QUICK = 65_536
"""Bytes up to which packing and unpacking need no thread."""
_SLICE = 131_072
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """A request as it was accepted. `entries`: how many a batch has, else 0; `at`: milliseconds since 1970; `form`: of the answer."""

    id: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    base: str
    principal: Principal
    form: Form
    entries: int
    at: int

    def record(self) -> Record:
        """What is stored of it; a second of this number is refused."""
        data = {**asdict(self), "principal": {**asdict(self.principal), "scopes": sorted(self.principal.scopes)}}
        del data["id"]
        return Record(REQUESTS, self.id, data, only_new=True)

    @classmethod
    def of(cls, record: StoredRecord) -> Kept:
        """The request in a record that is not `gone`."""
        data: dict[str, Any] = dict(record.data)
        who = data.pop("principal")
        return cls(id=record.key, principal=Principal(**{**who, "scopes": frozenset(who["scopes"])}), **data)

    def request(self, body: bytes) -> Request:
        """The request once more."""
        return Request(self.method, self.path, self.query, dict(self.headers), body, self.base, self.principal, form=self.form)


def gone(id: str, principal: str) -> Record:
    """In place of a request that its client has given up: nothing of its content."""
    return Record(REQUESTS, id, {"gone": True, "principal": {"name": principal}})


def open_record(id: str, principal: str | None) -> Record:
    """Names a request that waits or runs; with None: no longer."""
    return Record(OPEN, id, {}, {"principal": principal} if principal is not None else {})


def result_record(id: str, state: str, expires: int, raw: bytes = b"", *, first: bool = True, **more: Any) -> Record:
    """How a request ended. `first`: refused where it has ended already."""
    return Record(RESULTS, id, {"state": state, "expires": expires, "raw": raw, **more}, only_new=first)


def clearing(id: str, entries: int, now: int, expires: int) -> list[Job]:
    """The timers that remove first what the work needed, then the result."""
    return [
        Job(FORGET, id, {"entries": entries, "all": False}, min(expires, now + HOUR)),
        Job(FORGET, id, {"entries": entries, "all": True}, expires),
    ]


async def forget(store: Store, id: str, entries: int, *, all: bool) -> None:
    """Remove what is kept of a request (`all`), or only what its work needed. Doing it again does no harm."""
    keys = [(ENTRIES, f"{id}/{index}") for index in range(entries)]
    keys += [(BODIES, id), (PROGRESS, id), (OPEN, id)]
    if all:
        keys += [(RESULTS, id), (REQUESTS, id)]
    for start in range(0, len(keys), _AT_ONCE):
        await asyncio.gather(*(store.delete_record(*key) for key in keys[start : start + _AT_ONCE]))


def wrapped(entry: bytes) -> bytes:
    """The Bundle at the status address: one entry that tells the outcome of the request."""
    return bundle_answer("batch-response", [entry]).body


async def packed(content: bytes) -> bytes:
    """Compressed; large content in a thread."""
    return zlib.compress(content, 1) if len(content) <= _QUICK else await asyncio.to_thread(zlib.compress, content, 1)


async def unpacked(content: bytes) -> bytes:
    """As it was before `packed`."""
    return zlib.decompress(content) if len(content) <= _QUICK // 8 else await asyncio.to_thread(zlib.decompress, content)


def packing(parts: Iterable[bytes]) -> Generator[None, None, bytes]:
    """As `packed`, inside a unit of the store: yields now and then."""
    packer = zlib.compressobj(1)
    found: list[bytes] = []
    since = 0
    for part in parts:
        found.append(packer.compress(part))
        since += len(part)
        if since > _SLICE:
            since = 0
            yield
    return b"".join((*found, packer.flush()))
