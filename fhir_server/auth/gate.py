"""The one gate between the store and everything that hands resources out or takes them in.

Interactions, operations, jobs and deliveries reach the store only through a `Gate` and a `Principal`. The principal becomes
(a) a criterion that is added to each query and (b) a check on each resource that is about to leave or to be written.
Until the authorization server exists there is one principal, which may do all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.auth.hooks import ByType, Foreseen, Hooks, View
from fhir_server.errors import FhirError
from fhir_server.search.query import And, Criterion, Everything, Query
from fhir_server.storage.opening import Openings
from fhir_server.storage.port import Commit, Page, Position, Purge, Purged, Store, Stored, Unit, Write


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


_NOBODY = ByType()


class Gate:
    """Every read and write of resources, in the name of a principal."""

    def __init__(
        self,
        store: Store,
        snapshot: int | None = None,
        openings: Openings | None = None,
        hooks: Hooks | None = None,
        outer: Gate | None = None,
    ) -> None:
        """`openings` answers what queries ask about value sets and hierarchies; without it such a query is refused.

        `hooks` are asked before each write and before each resource leaves, and told of each commit; `outer` makes this the server's own.
        """
        self._store = store
        self._snapshot = snapshot
        self._openings = openings
        self._hooks = hooks or Hooks()
        self._outer = outer
        self._asked = self._hooks.before_write if outer is None else _NOBODY
        self._masks = self._hooks.before_answer if outer is None else _NOBODY
        self._own: Gate | None = None

    def at(self, snapshot: int) -> Gate:
        """This gate onto the state as of a sequence number, for searches, counts and histories (the reads of one transaction)."""
        return type(self)(self._store, snapshot, self._openings, self._hooks, self._outer)

    def own(self) -> Gate:
        """This gate for the server's own work (jobs, feed readers) and for hooks: the same rights, but no hook is asked again.

        Hooks that are told of commits are told of those that come through here too.
        """
        if self._own is None:
            self._own = type(self)(self._store, self._snapshot, self._openings, self._hooks, self.outer)
        return self._own

    @property
    def outer(self) -> Gate:
        """The gate towards clients: what is handed out by the server's own work is read through it."""
        return self._outer or self

    def asks(self, type: str) -> bool:
        """Whether somebody is asked before resources of a type are written: then their content may come to be another."""
        return bool(self._asked.of(type))

    async def refusal(self, principal: Principal, write: Write) -> FhirError | None:
        """Why a write would be refused by those who are asked before it, without writing it; None where it would not be."""
        return await self._hooks.refusal(View(self.own(), principal), write)

    @property
    def masks(self) -> bool:
        """Whether somebody is asked what of a resource may leave."""
        return self._masks.any

    async def leaving(self, principal: Principal, stored: Stored) -> Stored:
        """A version that the principal may see, as it may leave towards him."""
        if not self._masks.any:
            return stored
        return await self._hooks.leaving(View(self.own(), principal), stored)

    async def _all_leaving(self, principal: Principal, found: list[Stored]) -> list[Stored]:
        if not self._masks.any:
            return found
        view = View(self.own(), principal)
        return [await self._hooks.leaving(view, stored) for stored in found]

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
        if stored is None or not self.may_see(principal, stored):
            return None
        return stored if not self._masks.any else await self.leaving(principal, stored)

    async def read_version(self, principal: Principal, type: str, id: str, version: int) -> Stored | None:
        stored = await self._store.read_version(type, id, version)
        if stored is None or not self.may_see(principal, stored):
            return None
        return stored if not self._masks.any else await self.leaving(principal, stored)

    async def read_many(self, principal: Principal, references: Sequence[tuple[str, str]], snapshot: int | None = None) -> list[Stored]:
        found = await self._store.read_many(references, snapshot)
        return await self._all_leaving(principal, [stored for stored in found if self.may_see(principal, stored)])

    def _fenced(self, principal: Principal, query: Query) -> Query:
        fence = tuple(c for c in (self.criterion(principal, t) for t in query.types) if not isinstance(c, Everything))
        return replace(query, where=And((query.where, *fence))) if fence else query

    async def closed(self, query: Query) -> Query:
        """The query with value sets and hierarchies in place of their names."""
        if not query.open:
            return query
        if self._openings is None:
            raise FhirError.of(501, "not-supported", "Value sets and hierarchies cannot be asked for here", zh="此处不能查询值集和层级")
        return await self._openings.closed(query)

    async def snapshot(self) -> int:
        """The sequence number of the state that searches see now."""
        return await self._store.last_rid() if self._snapshot is None else self._snapshot

    async def search(self, principal: Principal, query: Query, after: Position | None = None) -> Page:
        if query.open:
            query = await self.closed(query)
        snapshot = self._snapshot if after is None else None
        page = await self._store.search(self._fenced(principal, query), after, snapshot)
        if self._masks.any:
            page.items = await self._all_leaving(principal, page.items)
        return page

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
        page.items = await self._all_leaving(principal, [stored for stored in page.items if self.may_see(principal, stored)])
        return page

    async def changes(self, principal: Principal, after: int, limit: int = 1000) -> list[Stored]:
        """What happened after the sequence number `after`, as far as the principal may see it."""
        found = [stored for stored in await self._store.changes(after, limit) if self.may_see(principal, stored)]
        return await self._all_leaving(principal, found)

    async def transact(self, principal: Principal, unit: Unit) -> Commit:
        criteria = tuple([self._fenced(principal, await self.closed(query)) for query in unit.criteria])
        hooks = self._hooks
        view = View(self.own(), principal)
        if not self._asked.any:
            commit = await self._store.transact(Unit(unit.decide, criteria, unit.targets))
        else:
            try:
                commit = await self._store.transact(Unit(hooks.asking(view, unit.decide), criteria, unit.targets))
            except Foreseen as foreseen:
                commit = await hooks.transact(view, self._store, Unit(unit.decide, criteria, unit.targets), foreseen.tried)
        if hooks.after_commit and commit.outcomes:
            hooks.told(view, commit)
        return commit

    async def purge(self, principal: Principal, purge: Purge) -> Purged:
        """Erase for good what the principal may see of it. Those who are asked before deletes are asked, told those who are told.

        Raises FhirError, of whoever refuses, with nothing erased.
        """
        if purge.members is not None:
            purge = replace(purge, members=self._fenced(principal, await self.closed(purge.members)))
        view = View(self.own(), principal)
        for type, id in [place async for place in self._purged(principal, purge)] if self._asked.any else ():
            if fault := await self._hooks.refusal(view, Write("DELETE", type, id)):
                raise fault
        purged = await self._store.purge(purge)
        if self._hooks.after_commit:
            self._hooks.told(view, purged.commit)
        return purged

    async def _purged(self, principal: Principal, purge: Purge) -> AsyncIterator[tuple[str, str]]:
        for place in purge.places:
            yield place
        after: Position | None = None
        while purge.members is not None:
            page = await self.own().search(principal, purge.members, after)
            for stored in page.items:
                yield stored.type, stored.id
            after = page.next
            if after is None:
                return
