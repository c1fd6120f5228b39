"""The one gate between the store and everything that hands resources out or takes them in.

Interactions, operations, jobs and deliveries reach the store only through a `Gate` and a `Principal`. The principal becomes
(a) a criterion that is added to each query and (b) a check on each resource that is about to leave or to be written.
Until the authorization server exists there is one principal, which may do all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.search.query import And, Criterion, Everything, Query
from fhir_server.storage.opening import Openings
from fhir_server.storage.port import Commit, Page, Position, Store, Stored, Unit


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: name for logs and audit, reference of the FHIR user, role, scopes, purpose, patient in context."""

    name: str
    role: str = "administrator"
    fhir_user: str | None = None
    scopes: frozenset[str] = frozenset({"system/*.cruds"})
    tenant: str | None = None
    purpose: str | None = None
    patient: str | None = None


ALL_SEEING = Principal("system")
"""The principal of `--auth off` and of the server's own jobs."""


class Gate:
    """Every read and write of resources, in the name of a principal."""

    def __init__(
        self,
        store: Store,
        snapshot: int | None = None,
        openings: Openings | None = None,
        written: Callable[[Commit], None] | None = None,
    ) -> None:
        """`openings` answers what queries ask about value sets and hierarchies; without it such a query is refused.

        `written` is told of each commit that went through.
        """
        self._written = written
        self._store = store
        self._snapshot = snapshot
        self._openings = openings

    def at(self, snapshot: int) -> Gate:
        """This gate onto the state as of a sequence number, for searches, counts and histories (the reads of one transaction)."""
        return type(self)(self._store, snapshot, self._openings, self._written)

    def criterion(self, principal: Principal, type: str) -> Criterion:
        """What of `type` the principal may see, as part of the query algebra."""
        return Everything()

    def may_see(self, principal: Principal, stored: Stored) -> bool:
        """Whether this version may leave the server towards the principal."""
        return True

    def require(self, principal: Principal, policy: str) -> None:
        """Raise FhirError 403 unless the principal may use what was registered under `policy`."""

    async def read(self, principal: Principal, type: str, id: str) -> Stored | None:
        stored = await self._store.read(type, id)
        return stored if stored is None or self.may_see(principal, stored) else None

    async def read_version(self, principal: Principal, type: str, id: str, version: int) -> Stored | None:
        stored = await self._store.read_version(type, id, version)
        return stored if stored is None or self.may_see(principal, stored) else None

    async def read_many(self, principal: Principal, references: Sequence[tuple[str, str]], snapshot: int | None = None) -> list[Stored]:
        found = await self._store.read_many(references, snapshot)
        return [stored for stored in found if self.may_see(principal, stored)]

    def _fenced(self, principal: Principal, query: Query) -> Query:
        fence = tuple(c for c in (self.criterion(principal, t) for t in query.types) if not isinstance(c, Everything))
        return replace(query, where=And((query.where, *fence))) if fence else query

    async def closed(self, query: Query) -> Query:
        """The query with value sets and hierarchies in place of their names."""
        if not query.open:
            return query
        if self._openings is None:
            raise FhirError.of(501, "not-supported", "Value sets and hierarchies cannot be asked for here")
        return await self._openings.closed(query)

    async def snapshot(self) -> int:
        """The sequence number of the state that searches see now."""
        return await self._store.last_rid() if self._snapshot is None else self._snapshot

    async def search(self, principal: Principal, query: Query, after: Position | None = None) -> Page:
        if query.open:
            query = await self.closed(query)
        if self._snapshot is None or after is not None:
            return await self._store.search(self._fenced(principal, query), after)
        return await self._store.search(self._fenced(principal, query), None, self._snapshot)

    async def count(self, principal: Principal, query: Query) -> int:
        if query.open:
            query = await self.closed(query)
        if self._snapshot is None:
            return await self._store.count(self._fenced(principal, query))
        return await self._store.count(self._fenced(principal, query), self._snapshot)

    async def explain(self, principal: Principal, query: Query) -> dict[str, Any]:
        if query.open:
            query = await self.closed(query)
        return await self._store.explain(self._fenced(principal, query))

    async def history(self, principal: Principal, type: str | None = None, id: str | None = None, **options: Any) -> Page:
        if self._snapshot is not None:
            options.setdefault("snapshot", self._snapshot)
        page = await self._store.history(type, id, **options)
        page.items = [stored for stored in page.items if self.may_see(principal, stored)]
        return page

    async def changes(self, principal: Principal, after: int, limit: int = 1000) -> list[Stored]:
        """What happened after the sequence number `after`, as far as the principal may see it."""
        return [stored for stored in await self._store.changes(after, limit) if self.may_see(principal, stored)]

    async def transact(self, principal: Principal, unit: Unit) -> Commit:
        criteria = [self._fenced(principal, await self.closed(query)) for query in unit.criteria]
        fenced = Unit(unit.decide, tuple(criteria), unit.targets)
        commit = await self._store.transact(fenced)
        if self._written is not None:
            self._written(commit)
        return commit


def refuse(principal: Principal, what: str) -> FhirError:
    """The one form of a refusal, which tells nothing about what exists."""
    return FhirError.of(403, "forbidden", f"{principal.name} may not {what}")
