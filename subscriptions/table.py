"""The subscriptions that are in force, by resource type, as of a place in the change feed.

Each version is compared only with the subscriptions that existed when it was written, also when the reader runs late or anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.search.query import Query
from fhir_server.storage.port import Position, Stored
from subscriptions.index import Entry, Watchers
from subscriptions.jobs.kinds import Services
from subscriptions.watch import Watch

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.subscriptions")

IN_FORCE = {"requested", "active", "error"}
"""A subscription in `error` still collects its notifications: they are delivered once the endpoint answers again."""
_PAGE = 500


_NOBODY = Watchers()


class Table:
    """`watch` turns a Subscription into what it watches; raises FhirError for what cannot be.

    `generation` tells which search parameters and topics there are: when it changes, all Subscriptions are read again.
    """

    def __init__(self, watch: Callable[[Resource], Watch], generation: Callable[[], Any] = lambda: 0) -> None:
        self._watch = watch
        self._generation = generation
        self._known = generation()
        self._said: dict[str, tuple[Resource, int]] = {}
        self._by_type: dict[str, Watchers] = {}
        self._types: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._types)

    def of(self, type: str) -> Watchers:
        """The subscriptions on a resource type."""
        return self._by_type.get(type) or _NOBODY

    def renew(self) -> None:
        """Read the Subscriptions again where search parameters or topics have changed."""
        now = self._generation()
        if now == self._known:
            return
        self._known = now
        self._by_type.clear()
        self._types.clear()
        for id, (said, since) in self._said.items():
            self._enter(id, said, since)

    def apply(self, stored: Stored) -> Resource | None:
        """Take a version of a Subscription into account; gives its content, None for a deletion."""
        self._forget(stored.id)
        if stored.deleted:
            return None
        subscription: Resource = json_codec.loads(stored.body)
        if subscription.get("status") in IN_FORCE:
            said: Resource = {name: subscription[name] for name in ("criteria", "_criteria", "channel") if name in subscription}
            self._said[stored.id] = (said, stored.rid)
            self._enter(stored.id, said, stored.rid)
        return subscription

    def _enter(self, id: str, said: Resource, since: int) -> None:
        try:
            watch = self._watch(said)
        except FhirError as fault:
            # Admission refuses such criteria; this one came in another way (an import, an older version of this server), or the site
            # has taken back a search parameter or a topic that it names.
            log.warning("Subscription/%s is not served: %s", id, fault)
            return
        for type in watch.types:
            self._by_type.setdefault(type, Watchers()).add(
                type, Entry(id, watch, since, said.get("channel", {}).get("type") == "websocket")
            )
        self._types[id] = watch.types

    def complaint(self, subscription: Resource) -> str:
        """Why a Subscription is not served, '' when it is."""
        try:
            self._watch(subscription)
        except FhirError as fault:
            return fault.issues[0].diagnostics
        return ""

    def _forget(self, id: str) -> None:
        self._said.pop(id, None)
        for type in self._types.pop(id, ()):
            self._by_type[type].remove(id)

    async def prepare(self, services: Services, position: int) -> None:
        """Put the table to its state right after the version with the sequence number `position`."""
        self._by_type.clear()
        self._types.clear()
        self._said.clear()
        later = await self._later(services, position)
        after: Position | None = None
        while True:
            page = await services.gate.search(services.principal, Query(("Subscription",), limit=_PAGE), after)
            for stored in page.items:
                if stored.rid <= position:
                    self.apply(stored)
            after = page.next
            if after is None:
                break
        for stored in later:
            self.apply(stored)

    async def _later(self, services: Services, position: int) -> list[Stored]:
        """For each Subscription written after `position` the version that was in force there."""
        found: dict[str, Stored] = {}
        after: Position | None = None
        while True:
            page = await services.gate.history(services.principal, "Subscription", limit=_PAGE, after=after)
            for stored in page.items:
                if stored.rid <= position:
                    return await self._before(services, found)
                found[stored.id] = stored
            after = page.next
            if after is None:
                return await self._before(services, found)

    async def _before(self, services: Services, first_later: dict[str, Stored]) -> list[Stored]:
        previous = [await services.store.previous(stored) for stored in first_later.values()]
        return [stored for stored in previous if stored is not None]
