"""The subscriptions that are in force, by resource type, as of a place in the change feed.

Each version is compared only with the subscriptions that existed when it was written, also when the reader runs late or anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.storage.port import Stored
from subscriptions.as_of import versions_at
from subscriptions.delivery.notification import wish_of
from subscriptions.index import Entry, Watchers
from subscriptions.jobs.kinds import Services
from subscriptions.watch import TopicWatch, Watch

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.subscriptions")

IN_FORCE = {"requested", "active", "error"}
"""A subscription in `error` still collects its notifications: they are delivered once the endpoint answers again."""


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
        self._by_event: dict[tuple[str, str], dict[str, Entry]] = {}

    def __len__(self) -> int:
        return len(self._types)

    def of(self, type: str) -> Watchers:
        """The subscriptions on a resource type."""
        return self._by_type.get(type) or _NOBODY

    @property
    def awaits_events(self) -> bool:
        """Whether some Subscription waits for events of the world outside."""
        return bool(self._by_event)

    @property
    def codes(self) -> Collection[tuple[str, str]]:
        """(system, code) of the events that some Subscription waits for."""
        return self._by_event.keys()

    def awaiting(self, code: tuple[str, str]) -> list[Entry]:
        """The Subscriptions that wait for such an event."""
        return list(self._by_event.get(code, {}).values())

    def renew(self) -> list[str]:
        """Read the Subscriptions again where search parameters or topics have changed; those that cannot be served any more."""
        now = self._generation()
        if now == self._known:
            return []
        self._known = now
        before = list(self._types)
        self._by_type.clear()
        self._by_event.clear()
        self._types.clear()
        for id, (said, since) in self._said.items():
            self._enter(id, said, since)
        return [id for id in before if id not in self._types]

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
        channel = said.get("channel", {})
        topic = str(said.get("criteria", "")) if isinstance(watch, TopicWatch) else ""
        content = wish_of(channel).content if topic else ""
        entry = Entry(id, watch, since, channel.get("type") == "websocket", topic, content)
        for type in watch.types:
            self._by_type.setdefault(type, Watchers()).add(type, entry)
        for code in watch.codes:
            self._by_event.setdefault(code, {})[id] = entry
        self._types[id] = watch.types

    def _forget(self, id: str) -> None:
        self._said.pop(id, None)
        for type in self._types.pop(id, ()):
            self._by_type[type].remove(id)
        for code in [code for code, entries in self._by_event.items() if entries.pop(id, None) and not entries]:
            del self._by_event[code]

    async def prepare(self, services: Services, position: int) -> None:
        """Put the table to its state right after the version with the sequence number `position`."""
        self._by_type.clear()
        self._by_event.clear()
        self._types.clear()
        self._said.clear()
        for stored in await versions_at(services, "Subscription", position):
            self.apply(stored)
