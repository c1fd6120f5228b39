"""What follows from a Subscription: its reader of the change feed, and the jobs that activate, keep alive and end it.

A delivery is a job of the subscription's own key: in order for one subscription, side by side for several. Every event has a number,
without gaps, that is written in the unit that makes its delivery.
Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K5–K14, K19, K22–K24.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from fhir_server.model import json_codec
from fhir_server.search.indexer import Indexer
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import ClaimedJob, Effects, Job, Record, Stored, Unit
from subscriptions.admission import end_of
from subscriptions.delivering import DELIVER, DELIVERIES, Deliveries
from subscriptions.delivery.circuits import TurnedAway
from subscriptions.delivery.notification import Event, wish_of
from subscriptions.events import State, event_record, fingerprint, held, shaken, state_of, state_record
from subscriptions.happenings import happenings
from subscriptions.index import Entry
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Kind, Lane, Later, Services
from subscriptions.rewriting import ended, rewritten
from subscriptions.table import IN_FORCE, Table
from subscriptions.topics.catalogue import Topics
from subscriptions.topics.matching import Change
from subscriptions.watch import names_topic

Resource = dict[str, Any]

ACTIVATE, EXPIRE, HEARTBEAT = "subscription.activate", "subscription.expire", "subscription.heartbeat"
REVIEW = "subscription.review"
GREETINGS = Lane("handshakes", 64)
HANDSHAKES = 3
"""Attempts at a handshake, before the Subscription's status becomes `error`."""


class Subscriptions:
    """Reader and handlers. `indexer` makes the index values of a resource, for criteria that need them.

    `table` and `topics` are the reader's own: as of its place in the feed. `complaint` tells why a Subscription is not served now;
    `bases` gives the base URLs of this server.
    """

    def __init__(
        self,
        table: Table,
        topics: Topics,
        indexer: Indexer,
        complaint: Callable[[Resource], Awaitable[str]],
        deliveries: Deliveries,
        services: Services,
        bases: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._table, self._topics, self._indexer, self._complaint = table, topics, indexer, complaint
        self._deliveries, self._services, self._bases = deliveries, services, bases

    def reader(self) -> FeedReader:
        """The reader `subscriptions`."""
        return FeedReader("subscriptions", self.react, self._prepare)

    def kinds(self) -> list[Kind]:
        """The job kinds of subscriptions."""
        quick = Backoff.exponential(200, 60_000)
        return [
            Kind(ACTIVATE, self.activate, GREETINGS, quick, limit=20),
            self._deliveries.kind(),
            Kind(REVIEW, self.review, backoff=quick, limit=20),
            Kind(EXPIRE, self.expire, backoff=quick, limit=20, timer=True),
            Kind(HEARTBEAT, self.beat, DELIVERIES, quick, limit=3, timeout=15.0, timer=True),
        ]

    async def _prepare(self, position: int) -> None:
        await self._topics.prepare(position)
        self._table.renew()
        await self._table.prepare(self._services, position)

    # --- the reader

    async def react(self, changes: list[Stored]) -> Effects:
        """Deliveries for every version that is watched, in commit order; activation and end of the Subscriptions themselves.

        A topic and a Subscription count from the version after their own, as they were when that one was written.
        """
        jobs: list[Job] = []
        records: list[Record] = []
        states: dict[str, State] = {}
        now = self._services.clock()
        lost = self._table.renew()
        for stored in changes:
            for entry, change in [*await self._told(stored), *await self._happened(stored)]:
                before = states.get(entry.id) or await state_of(self._services, entry.id)
                state = states[entry.id] = before._replace(events=before.events + 1)
                self._number(entry, change, stored, state, jobs, records, now)
            if stored.type == "Basic":
                self._topics.apply(stored)
                lost += self._table.renew()
            elif stored.type == "Subscription":
                subscription = self._table.apply(stored)
                if subscription is not None and await self._created(stored):
                    before = states.get(stored.id) or await state_of(self._services, stored.id)
                    if before.born < stored.rid:  # else it is read once more
                        states[stored.id] = State(0, stored.rid)
                jobs += self._own_jobs(stored, subscription, now)
        jobs += [Job(REVIEW, id, {"id": id}, now) for id in dict.fromkeys(lost)]
        records += [state_record(id, state) for id, state in states.items()]
        return Effects(jobs=jobs, records=records)

    async def _created(self, stored: Stored) -> bool:
        before = await self._services.store.previous(stored)
        return before is None or before.deleted

    async def _told(self, stored: Stored) -> list[tuple[Entry, Change]]:
        watchers = self._table.of(stored.type)
        if not watchers.everyone:
            return []
        before = await self._services.store.previous(stored) if watchers.look_back else None
        change = Change(stored, before, json_codec.loads, self._indexer.index)

        def keyed() -> IndexValues:
            content = change.focus_content
            return self._indexer.only(stored.type, watchers.parameters)(content) if content is not None else IndexValues()

        candidates = watchers.candidates(keyed)
        return [(entry, change) for entry in candidates if entry.since < stored.rid and entry.watch.wants(change)]

    async def _happened(self, stored: Stored) -> list[tuple[Entry, Change]]:
        """Events of the world outside that a new Provenance tells, and who wants to know."""
        if stored.type != "Provenance" or stored.deleted or not self._table.awaits_events or not await self._created(stored):
            return []
        told: dict[tuple[str, str, str], tuple[Entry, Change]] = {}
        async for code, change in happenings(stored, self._services, self._table.codes, self._indexer.index, self._bases()):
            for entry in self._table.awaiting(code):
                if entry.since < stored.rid and entry.watch.wants_event(code, change):
                    # However often and by how many codes the Provenance names a target, it is one event.
                    told.setdefault((entry.id, change.stored.type, change.stored.id), (entry, change))
        return list(told.values())

    def _number(self, entry: Entry, change: Change, cause: Stored, state: State, jobs: list[Job], records: list[Record], now: int) -> None:
        """One event with its number: the delivery, and of a topic what is kept, so that it can be asked for again (`$events`)."""
        focus = change.focus
        event = Event(state.events, focus.type, focus.id, focus.version, cause.updated, change.interaction, entry.topic, entry.content)
        if not entry.socket:
            jobs.append(Job(DELIVER, entry.id, {**event._asdict(), "rid": cause.rid}, now))
        if entry.watch.looks_back or entry.socket:
            records.append(event_record(entry.id, state.born, event))

    def _own_jobs(self, stored: Stored, subscription: Resource | None, now: int) -> list[Job]:
        if subscription is None:
            return []
        jobs = []
        payload = {"id": stored.id, "version": stored.version}
        if subscription.get("status") == "requested":
            jobs.append(Job(ACTIVATE, stored.id, payload, now))
        heartbeat = wish_of(subscription.get("channel", {})).heartbeat if subscription.get("status") == "active" else 0
        socket = subscription.get("channel", {}).get("type") == "websocket"  # its connections keep themselves alive
        if heartbeat and not socket and names_topic(str(subscription.get("criteria", ""))):
            jobs.append(Job(HEARTBEAT, stored.id, payload, now + heartbeat * 1000, f"{stored.id}/{stored.version}"))
        end = end_of(subscription)
        if end is not None and subscription.get("status") in IN_FORCE and not _past(subscription, stored):
            jobs.append(Job(EXPIRE, stored.id, payload, end, f"{stored.id}/{stored.version}"))
        return jobs

    # --- the jobs

    async def activate(self, job: ClaimedJob, services: Services) -> Unit:
        """requested → active, and an error text of earlier days goes; → error for what is not served or does not answer the handshake.

        A rest-hook on a topic is asked first (K5, K9). Raises Later while it may still answer.
        """
        id = str(job.payload["id"])
        stored = await services.gate.read(services.principal, "Subscription", id)
        if stored is None or stored.deleted:
            return Unit(lambda facts: Effects())
        asked = json_codec.loads(stored.body)
        complaint = await self._complaint(asked)
        channel = asked["channel"]
        socket = channel.get("type") == "websocket"  # it is greeted when it is bound
        if not complaint and not socket and asked.get("status") == "requested" and names_topic(str(asked.get("criteria", ""))):
            try:
                complaint = await self._deliveries.greet(asked, services)
            except TurnedAway as away:
                raise Later(str(away), away.pause) from None
            if complaint and job.attempts < HANDSHAKES:
                raise Later(complaint)
        if not complaint:
            await services.store.hasten_jobs(DELIVER, id, services.clock())

        def change(subscription: Resource) -> Resource | None:
            if subscription.get("status") != "requested" or fingerprint(subscription["channel"]) != fingerprint(channel):
                return None  # what was asked is no longer what is there; its own job follows
            rest = {name: value for name, value in subscription.items() if name != "error"}
            return {**rest, "status": "error", "error": complaint} if complaint else {**rest, "status": "active"}

        return rewritten(id, change)

    async def review(self, job: ClaimedJob, services: Services) -> Unit:
        """A Subscription whose topic or search parameter is gone is told so: error, with the reason."""
        id = str(job.payload["id"])
        stored = await services.gate.read(services.principal, "Subscription", id)
        complaint = "" if stored is None or stored.deleted else await self._complaint(json_codec.loads(stored.body))

        def change(subscription: Resource) -> Resource | None:
            told = complaint and subscription.get("status") in ("requested", "active")
            return {**subscription, "status": "error", "error": complaint} if told else None

        return rewritten(id, change)

    async def beat(self, job: ClaimedJob, services: Services) -> Effects:
        """A heartbeat where nothing else was sent for the period; the next one is due a period later. Ends with the version that asked."""
        stored = await services.gate.read(services.principal, "Subscription", job.key)
        if stored is None or stored.deleted or stored.version != job.payload["version"]:
            return Effects()
        subscription = json_codec.loads(stored.body)
        period = wish_of(subscription["channel"]).heartbeat * 1000
        now = services.clock()
        due = self._deliveries.reached(stored.id) + period
        if due <= now:
            due = now + period
            if await shaken(services, stored.id, subscription["channel"]) and not await held(services, stored.id):
                # A heartbeat that fails is no event: deliveries are what sets the status.
                with contextlib.suppress(TurnedAway):
                    await self._deliveries.beat(subscription, services)
        return Effects(jobs=[Job(HEARTBEAT, stored.id, dict(job.payload), due, f"{stored.id}/{stored.version}/{due}")])

    async def expire(self, job: ClaimedJob, services: Services) -> Unit:
        """`end` has come: off."""
        now = services.clock()

        def change(subscription: Resource) -> Resource | None:
            return {**subscription, "status": "off"} if ended(subscription, now) and subscription.get("status") in IN_FORCE else None

        return rewritten(str(job.payload["id"]), change)


def _past(subscription: Resource, stored: Stored) -> bool:
    """Whether a Subscription came in as the record of one that had failed and ended: it stays as it was sent and delivers nothing."""
    return subscription.get("status") == "error" and ended(subscription, stored.updated)
