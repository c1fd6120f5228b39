"""The store's port: what every back end promises. Nothing above this room knows a database.

Guarantees, tested for each back end by `tests/contract/`: atomicity, read-your-writes, monotonic versions, no lost update
under concurrency, durable when acknowledged, change feed complete and in order, cursors stable under writes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fhir_server.search.query import Position, Query


class Stored(NamedTuple):
    """One version of one resource as it is kept.

    `rid` numbers all versions of all resources in commit order; `updated` is milliseconds since 1970 (`meta.lastUpdated`);
    `body` is the canonical JSON with final `meta`, empty for a deletion; `method` is POST, PUT, PATCH or DELETE.
    """

    rid: int
    type: str
    id: str
    version: int
    updated: int
    method: str
    body: bytes

    @property
    def deleted(self) -> bool:
        return self.method == "DELETE"


@dataclass(slots=True)
class Write:
    """One change of one resource inside a unit.

    `method`: POST (create: the id must be unused), PUT or PATCH (update, or create under a client's id), DELETE.
    `resource`: the content without `meta.versionId` and `meta.lastUpdated` (the store sets both); None for DELETE.
    `if_match`: the version that must be current, else 412 and the whole unit is refused; 0 = must not exist.
    A PUT or PATCH whose content equals the current one makes no version (outcome 'unchanged').
    """

    method: str
    type: str
    id: str
    resource: dict[str, Any] | None = None
    if_match: int | None = None


class Job(NamedTuple):
    """Something to do later, kept in the store until done. `due`: milliseconds since 1970 of the product clock.

    `unique` (optional): a second job of the same (kind, unique) is not added, also after the first is done.
    Jobs of one (kind, key) run one after the other in the order of their ids; different keys in parallel.
    """

    kind: str
    key: str
    payload: dict[str, Any]
    due: int = 0
    unique: str | None = None


class Record(NamedTuple):
    """A record of the server itself (message journal, inbox, device token ...): not FHIR, found by key or attributes.

    `data` is any JSON-compatible dict (bytes allowed under the name 'raw'); `attributes` are indexed for equality and, with `seq`,
    listed in order of insertion. A record with the same (collection, key) is replaced and keeps its `seq`, unless `only_new`: then the
    unit is refused with RecordExists.
    """

    collection: str
    key: str
    data: dict[str, Any]
    attributes: Mapping[str, str] = {}
    only_new: bool = False


class RecordExists(Exception):
    """A `Record(only_new=True)` met a record of its key; nothing of the unit was written. Carries collection and key."""

    def __init__(self, collection: str, key: str) -> None:
        super().__init__(f"{collection}/{key}")
        self.collection, self.key = collection, key


@dataclass(slots=True)
class Facts:
    """What a unit's `decide` sees of the store, as of the instant of its commit.

    `matches[i]`: (type, id) of at most two resources that meet `Unit.criteria[i]`.
    `current[(type, id)]`: the current version (a deletion included) of each of `Unit.targets` and of each match; None if unknown.
    """

    matches: list[list[tuple[str, str]]]
    current: dict[tuple[str, str], Stored | None]


@dataclass(slots=True)
class Effects:
    """All that one unit changes, atomically."""

    writes: list[Write] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    done_jobs: list[tuple[int, str]] = field(default_factory=list)
    """(job id, lease token): marks them done; a lease that is no longer held refuses the unit with LeaseLost."""
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Reader positions in the change feed: name -> (expected, new); another value than expected refuses the unit with LeaseLost."""
    conclude: Callable[[Commit], Generator[None, None, Sequence[Record]]] | None = None
    """Further records, made of what becomes of the writes and kept with them; it yields now and then where that takes long.

    Pure like `decide`; a FhirError or RecordExists refuses the unit."""


class UnusableStore(Exception):
    """The store's files cannot be used as they are (damaged, cut off, foreign, another layout); the text names the file."""


class LeaseLost(Exception):
    """The job or feed position has been taken over by another runner; nothing of the unit was written."""


@dataclass(slots=True)
class Unit:
    """One transaction. `criteria` and `targets` are answered inside it; `decide` turns the answers into effects.

    `decide` is pure (it may run more than once) and may raise FhirError: then nothing is written and the error reaches the caller.
    """

    decide: Callable[[Facts], Effects]
    criteria: Sequence[Query] = ()
    targets: Sequence[tuple[str, str]] = ()

    @classmethod
    def of(cls, *writes: Write, jobs: Sequence[Job] = (), records: Sequence[Record] = ()) -> Unit:
        """A unit without questions."""
        effects = Effects(list(writes), list(jobs), list(records))
        return cls(lambda facts: effects)


class Outcome(NamedTuple):
    """What became of one write: `created`, `updated`, `unchanged` or `deleted` (of something that was not there: `unchanged`)."""

    result: str
    stored: Stored | None


@dataclass(slots=True)
class Commit:
    """An acknowledged unit: outcomes in the order of `Effects.writes`; `rid` is the last sequence number that it used."""

    outcomes: list[Outcome]
    rid: int


@dataclass(slots=True)
class Page:
    """One page of a search or history. `next` is None on the last page; `total` None when not asked and not free."""

    items: list[Stored]
    next: Position | None = None
    total: int | None = None


class ClaimedJob(NamedTuple):
    """A job under lease; `lease` is the token that `done_jobs`, `retry_job` and `bury_job` want. `attempts` counts this one."""

    id: int
    kind: str
    key: str
    payload: dict[str, Any]
    due: int
    attempts: int
    lease: str


class JobCount(NamedTuple):
    """Jobs of one kind in a state (open or dead). `due`: the earliest due time among them, milliseconds since 1970.

    `running`: open ones that somebody works at now; `waiting`: open ones that failed and wait for their next attempt.
    """

    kind: str
    state: str
    number: int
    due: int
    running: int = 0
    waiting: int = 0


class StoredRecord(NamedTuple):
    seq: int
    key: str
    data: dict[str, Any]
    attributes: dict[str, str]
    updated: int


class Reindexing(NamedTuple):
    """Work over the index of all resources (`types` empty), or of those of some types; `ended` None while it is under way.

    `faults`: resources that could not be indexed; `fault` tells of the first one, or why the work was given up. Times in milliseconds.
    """

    id: int
    types: list[str]
    done: int
    total: int
    faults: int
    fault: str
    began: int
    ended: int | None


@dataclass(slots=True)
class Purge:
    """What is to vanish for good as one unit: all versions of resources but a last one, a deletion without content.

    `places`: (type, id) of those that are named; `members`: what else goes, as of the instant of the unit. `belongs` says of the last
    content of a deleted resource whether it was such a member; `spared` of a member's content that it stays. `beside` names what goes
    with a body (its attachments). `audit` makes the write that keeps what was done, from the number of resources by type.
    Functions are pure and may run more than once.
    """

    places: Sequence[tuple[str, str]]
    audit: Callable[[Mapping[str, int]], Write]
    members: Query | None = None
    belongs: Callable[[dict[str, Any]], bool] = lambda resource: False
    spared: Callable[[dict[str, Any]], bool] = lambda resource: False
    beside: Callable[[bytes], Sequence[tuple[str, str]]] = lambda body: ()
    records: Sequence[tuple[str, str, str]] = ()
    """(collection, attribute, value) of records of the server itself that go too."""
    clue: bytes = b""
    """Bytes that the body of every deleted member holds, so that others need not be parsed."""


class Purged(NamedTuple):
    """What became of a purge: the audit's outcome comes first in `commit`. `spared`: members that stay; `wiped`: whether the store's
    files hold nothing of it any more (False: as soon as those who read now have ended).
    """

    commit: Commit
    resources: Mapping[str, int]
    versions: int
    spared: Sequence[tuple[str, str]]
    wiped: bool


class Store(Protocol):
    """A back end. Times are milliseconds since 1970; `now` is handed in by the caller where the product clock rules."""

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Finish what is in flight, make all durable, release every file."""

    # --- resources
    async def transact(self, unit: Unit) -> Commit:
        """Durable when it returns. Raises FhirError (409, 410, 412, 503, 507 ...), RecordExists, LeaseLost."""

    async def read(self, type: str, id: str) -> Stored | None:
        """The current version (a deletion included), or None."""

    async def read_version(self, type: str, id: str, version: int) -> Stored | None: ...

    async def read_many(self, references: Sequence[tuple[str, str]], snapshot: int | None = None) -> list[Stored]:
        """Current (or as of `snapshot`) versions of those that exist and are not deleted, in the order asked."""

    async def search(self, query: Query, after: Position | None = None, snapshot: int | None = None) -> Page:
        """A page behind `after`; a first page may ask for the state as of the sequence number `snapshot`."""

    async def count(self, query: Query, snapshot: int | None = None) -> int:
        """The exact number of matches (as of `snapshot`)."""

    async def explain(self, query: Query) -> dict[str, Any]:
        """Plan, rows touched, time."""

    async def history(
        self,
        type: str | None = None,
        id: str | None = None,
        *,
        since: int | None = None,
        at: tuple[int, int] | None = None,
        limit: int = 20,
        after: Position | None = None,
        total: bool = False,
        snapshot: int | None = None,
    ) -> Page:
        """Versions, newest first, of one resource, one type, or all; deletions included; of a first page up to `snapshot`.

        `since`: updated at or after. `at`: versions that were current at some time within the closed interval.
        """

    async def changes(self, after: int, limit: int = 1000) -> list[Stored]:
        """Versions with rid > after in order, for readers of the log. Never skips a version that commits later."""

    async def previous(self, stored: Stored) -> Stored | None:
        """The version before this one."""

    async def last_rid(self) -> int: ...

    async def position(self, name: str) -> int:
        """A reader's position in the change feed (0 at first)."""

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` soon after each commit, of this or another process; returns the function that ends it."""

    async def erase(self, type: str, id: str) -> int:
        """Remove every version for good, without a trace; returns how many."""

    async def purge(self, purge: Purge) -> Purged:
        """Erase in one unit, durable when it returns. Raises FhirError (422 for more than can be erased at once, 503 ...)."""

    # --- the index
    async def reindex(self, types: Sequence[str] = ()) -> int:
        """Begin (or join) to index all resources of these types once more; without any, the whole index is made anew. The work's number.

        It goes on in the background, durable, also after a crash. Searches raise FhirError 503 while the whole index is made anew.
        """

    async def reindexing(self, id: int | None = None) -> list[Reindexing]:
        """The state of such work, or of the last ones, newest first."""

    def renew(self) -> None:
        """Learn at once which search parameters another process has defined or finished; searches do so by themselves."""

    # --- jobs
    async def claim_jobs(self, now: int, *, kinds: Sequence[str], limit: int = 10, lease: int = 60_000, train: int = 1) -> list[ClaimedJob]:
        """Due jobs, oldest due first, of at most `limit` (kind, key), none whose key has an earlier open job that is not claimed with it.

        `lease` in milliseconds of system time. `train`: up to so many jobs of one (kind, key), one behind the other in their order.
        """

    async def renew_jobs(self, jobs: Sequence[tuple[int, str]], lease: int) -> None:
        """Keep jobs that still run: each (id, lease token) for `lease` milliseconds of system time from now; lost ones are passed over."""

    async def release_jobs(self, jobs: Sequence[tuple[int, str]]) -> None:
        """Give back claimed jobs that were not begun: (id, lease token) each; the attempt does not count. Lost ones are passed over."""

    async def retry_job(self, id: int, lease: str, due: int, error: str) -> None: ...

    async def bury_job(self, id: int, lease: str, error: str) -> None:
        """To the dead letters."""

    async def revive_job(self, id: int, due: int, payload: dict[str, Any] | None = None) -> bool:
        """A dead letter back to the queue; False where there is none. `payload`: what it carries from now on."""

    async def set_aside_job(self, id: int, error: str) -> bool:
        """An open job that nobody runs now to the dead letters; False where there is none."""

    async def hasten_job(self, id: int, due: int) -> bool:
        """Make one open job due by then at the latest; False where there is none, or it runs now."""

    async def hasten_jobs(self, kind: str, key: str, due: int) -> int:
        """Make the open jobs of a key due by then at the latest; how many there are that nobody runs now."""

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
        """state: open | done | dead. Each with id, kind, key, due, attempts, state, error, payload, running; in the order of ids.

        `tried`: only those that were begun at least once and do not run now.
        """

    async def job(self, id: int) -> dict[str, Any] | None:
        """One job in the form of `list_jobs`."""

    async def count_jobs(self) -> list[JobCount]:
        """How many jobs are open and dead, by kind."""

    async def next_due(self, kinds: Sequence[str]) -> int | None:
        """The earliest due time of an open job."""

    async def prune_jobs(self, done_before: int) -> int:
        """Forget jobs done before that time of the store's clock; their unique names stay known. How many."""

    async def acquire_lease(self, name: str, owner: str, duration: int) -> bool:
        """Be the only holder of `name` for `duration` milliseconds of system time (again to renew)."""

    async def lease_holder(self, name: str) -> str | None:
        """The owner that holds `name` now."""

    # --- records
    async def record(self, collection: str, key: str) -> StoredRecord | None: ...

    async def records(
        self, collection: str, attributes: Mapping[str, str] | None = None, *, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> list[StoredRecord]: ...

    async def delete_record(self, collection: str, key: str) -> bool: ...

    async def prune_records(self, collection: str, before: int) -> int:
        """Remove records that were last written before that time of the store's clock, up to the first younger one. How many.

        In the order of insertion: for collections whose records are written once.
        """

    async def secret(self, name: str) -> bytes:
        """32 random bytes, made once per store and name (signing of cursors and the like)."""

    # --- health
    async def check(self) -> dict[str, Any]:
        """Raises FhirError 503 when writes are impossible; else facts for the readiness page (size, last rid, free bytes ...)."""
