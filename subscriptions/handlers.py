"""What follows from a Subscription: its reader of the change feed, and the jobs that activate, deliver, keep alive and end it.

A delivery is a job of the subscription's own key: in order for one subscription, side by side for several. It reads the Subscription
as it is at the moment of sending. Every event has a number, without gaps, that is written in the unit that makes its delivery.
Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K5–K14, K19, K22–K24.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fhir_server.model import json_codec
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import ClaimedJob, Effects, Facts, Job, Record, Stored, Unit, Write
from subscriptions.admission import end_of
from subscriptions.delivery.notification import Event, wish_of
from subscriptions.delivery.notifier import Notifier
from subscriptions.events import State, count_of, event_of, event_record, fingerprint, shaken, shaken_record, state_of, state_record
from subscriptions.index import Entry
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Kind, Lane, Later, Services
from subscriptions.table import IN_FORCE, Table
from subscriptions.topics.catalogue import Topics
from subscriptions.topics.matching import Change
from subscriptions.watch import names_topic

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.subscriptions")

ACTIVATE, DELIVER, EXPIRE = "subscription.activate", "subscription.deliver", "subscription.expire"
HEARTBEAT = "subscription.heartbeat"
DELIVERIES = Lane("deliveries", 64, train=20)
GREETINGS = Lane("handshakes", 8)
ERROR_AFTER = 4
"""Failed attempts in a row after which the Subscription's status becomes `error`; attempts go on, without an end."""
HANDSHAKES = 3
"""Attempts at a handshake, before the Subscription's status becomes `error`."""
UNTIL_SHAKEN = 250
"""Milliseconds between two looks whether the handshake is over."""
PAUSES = Backoff.exponential(1_000, 60_000, jitter=0.2)


class Subscriptions:
    """Reader and handlers. `index` makes the index values of a resource, for criteria that need them.

    `table` and `topics` are the reader's own: as of its place in the feed. `complaint` tells why a Subscription is not served now.
    """

    def __init__(
        self,
        table: Table,
        topics: Topics,
        index: Callable[[Resource], IndexValues],
        complaint: Callable[[Resource], Awaitable[str]],
        notifier: Notifier,
        services: Services,
    ) -> None:
        self._table, self._topics, self._index, self._complaint = table, topics, index, complaint
        self._notifier, self._services = notifier, services
        self._failed: Counter[str] = Counter()
        """Subscription -> attempts in a row that failed in this process."""
        self._random = random.Random()

    def reader(self) -> FeedReader:
        """The reader `subscriptions`."""
        return FeedReader("subscriptions", self.react, self._prepare)

    def kinds(self) -> list[Kind]:
        """The job kinds of subscriptions."""
        quick = Backoff.exponential(200, 60_000)
        return [
            Kind(ACTIVATE, self.activate, GREETINGS, quick, limit=20),
            Kind(DELIVER, self.deliver, DELIVERIES, PAUSES, limit=None, timeout=15.0),
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
        self._table.renew()
        for stored in changes:
            for entry, change in await self._told(stored):
                before = states.get(entry.id) or await state_of(self._services, entry.id)
                state = states[entry.id] = before._replace(events=before.events + 1)
                self._number(entry, change, state, jobs, records, now)
            if stored.type == "Basic":
                self._topics.apply(stored)
                self._table.renew()
            elif stored.type == "Subscription":
                subscription = self._table.apply(stored)
                if subscription is not None and await self._created(stored):
                    before = states.get(stored.id) or await state_of(self._services, stored.id)
                    if before.born < stored.rid:  # else it is read once more
                        states[stored.id] = State(0, stored.rid)
                jobs += self._own_jobs(stored, subscription, now)
        records += [state_record(id, state) for id, state in states.items()]
        return Effects(jobs=jobs, records=records)

    async def _created(self, stored: Stored) -> bool:
        before = await self._services.store.previous(stored)
        return before is None or before.deleted

    async def _outlived(self, stored: Stored, rid: int) -> bool:
        """Whether the Subscription has begun anew since the version with the sequence number `rid`: was deleted or off in between."""
        while stored.rid > rid:
            before = await self._services.store.previous(stored)
            if before is None:
                return stored.version == 1
            if before.deleted or json_codec.loads(before.body).get("status") not in IN_FORCE:
                return True
            stored = before
        return False

    async def _told(self, stored: Stored) -> list[tuple[Entry, Change]]:
        watchers = self._table.of(stored.type)
        if not watchers.everyone:
            return []
        before = await self._services.store.previous(stored) if watchers.look_back else None
        change = Change(stored, before, json_codec.loads, self._index)
        candidates = watchers.candidates(lambda: change.focus_values)
        return [(entry, change) for entry in candidates if entry.since < stored.rid and entry.watch.wants(change)]

    def _number(self, entry: Entry, change: Change, state: State, jobs: list[Job], records: list[Record], now: int) -> None:
        """One event with its number: the delivery, and of a topic what is kept, so that it can be asked for again (`$events`)."""
        focus = change.focus
        event = Event(
            state.events, focus.type, focus.id, focus.version, change.stored.updated, change.interaction, entry.topic, entry.content
        )
        if not entry.socket:
            jobs.append(Job(DELIVER, entry.id, {**event._asdict(), "rid": change.stored.rid}, now))
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
        channel, greeted = asked["channel"], False
        socket = channel.get("type") == "websocket"  # it is greeted when it is bound
        if not complaint and not socket and asked.get("status") == "requested" and names_topic(str(asked.get("criteria", ""))):
            complaint = await self._shake(asked, services)
            if complaint and job.attempts < HANDSHAKES:
                raise Later(complaint)
            greeted = not complaint

        def change(subscription: Resource) -> Resource | None:
            if subscription.get("status") != "requested" or fingerprint(subscription["channel"]) != fingerprint(channel):
                return None  # what was asked is no longer what is there; its own job follows
            kept = {name: value for name, value in subscription.items() if name != "error"}
            return {**kept, "status": "error", "error": complaint} if complaint else {**kept, "status": "active"}

        return _changed(id, change, [shaken_record(id, channel)] if greeted else [])

    async def _shake(self, subscription: Resource, services: Services) -> str:
        """'' when the endpoint answered the handshake."""
        asked = {name: value for name, value in subscription.items() if name != "error"}
        count = await count_of(services, str(subscription["id"]))
        return await self._notifier.tell("handshake", asked, count, status="requested")

    async def beat(self, job: ClaimedJob, services: Services) -> Effects:
        """A heartbeat where nothing else was sent for the period; the next one is due a period later. Ends with the version that asked."""
        stored = await services.gate.read(services.principal, "Subscription", job.key)
        if stored is None or stored.deleted or stored.version != job.payload["version"]:
            return Effects()
        subscription = json_codec.loads(stored.body)
        period = wish_of(subscription["channel"]).heartbeat * 1000
        now = services.clock()
        due = self._notifier.reached(stored.id) + period
        if due <= now:
            due = now + period
            if await shaken(services, stored.id, subscription["channel"]):
                # A heartbeat that fails is no event: deliveries are what sets the status.
                await self._notifier.tell("heartbeat", subscription, await count_of(services, stored.id))
        return Effects(jobs=[Job(HEARTBEAT, stored.id, dict(job.payload), due, f"{stored.id}/{stored.version}/{due}")])

    async def expire(self, job: ClaimedJob, services: Services) -> Unit:
        """`end` has come: off."""
        now = services.clock()

        def change(subscription: Resource) -> Resource | None:
            return {**subscription, "status": "off"} if _ended(subscription, now) and subscription.get("status") in IN_FORCE else None

        return _changed(str(job.payload["id"]), change)

    async def deliver(self, job: ClaimedJob, services: Services) -> None:
        """Send one notification. Raises Later while the endpoint does not take it."""
        stored = await services.gate.read(services.principal, "Subscription", job.key)
        if stored is None or stored.deleted:
            return
        subscription = json_codec.loads(stored.body)
        if subscription.get("status") not in IN_FORCE or _ended(subscription, services.clock()):
            return
        payload = job.payload
        if await self._outlived(stored, payload["rid"]):
            return
        topic = names_topic(str(subscription.get("criteria", "")))
        if topic != bool(payload["topic"]):
            return  # what was a search is a topic now, or the other way round
        if topic and subscription["status"] == "requested":
            raise Later("the handshake comes first", UNTIL_SHAKEN)
        fault = ""
        if topic and not await shaken(services, stored.id, subscription["channel"]):
            fault = await self._shake(subscription, services)
            if not fault:
                await services.gate.transact(services.principal, _kept(shaken_record(stored.id, subscription["channel"])))
        fault = fault or await self._deliver(subscription, job, services, topic=topic)
        if not fault:
            self._failed.pop(stored.id, None)
            return
        self._failed[stored.id] += 1
        if self._failed[stored.id] >= ERROR_AFTER:
            await self._mark(stored.id, fault, services)
        raise Later(fault, PAUSES.pause(self._failed[stored.id], self._random))

    async def _deliver(self, subscription: Resource, job: ClaimedJob, services: Services, *, topic: bool) -> str:
        """'' when the endpoint took the notification, or nothing is left to be told."""
        event = event_of(job.payload)
        version = await services.gate.read_version(services.principal, event.type, event.id, event.version)
        if topic:
            return await self._notifier.tell("event-notification", subscription, event.number, event=event, version=version)
        return "" if version is None else await self._notifier.tell_match(subscription, version, job.payload["rid"])

    async def _mark(self, id: str, fault: str, services: Services) -> None:
        """Say in the Subscription that deliveries fail; an error that is there already is not written again."""

        def change(subscription: Resource) -> Resource | None:
            return {**subscription, "status": "error", "error": fault} if subscription.get("status") == "active" else None

        log.warning("Subscription/%s: deliveries fail, its status is error", id)
        await services.gate.transact(services.principal, _changed(id, change))


def _past(subscription: Resource, stored: Stored) -> bool:
    """Whether a Subscription came in as the record of one that had failed and ended: it stays as it was sent and delivers nothing."""
    return subscription.get("status") == "error" and _ended(subscription, stored.updated)


def _ended(subscription: Resource, now: int) -> bool:
    end = end_of(subscription)
    return end is not None and end <= now


def _kept(record: Record) -> Unit:
    """A unit that keeps a record."""
    return Unit(lambda facts: Effects(records=[record]))


def _changed(id: str, change: Callable[[Resource], Resource | None], records: Sequence[Record] = ()) -> Unit:
    """A unit that rewrites the current Subscription, and keeps records with it; nothing where it is gone or `change` answers None."""
    target = ("Subscription", id)

    def decide(facts: Facts) -> Effects:
        current = facts.current.get(target)
        if current is None or current.deleted:
            return Effects()
        changed = change(json_codec.loads(current.body))
        return Effects([Write("PUT", *target, _without_store_meta(changed))], records=list(records)) if changed else Effects()

    return Unit(decide, targets=(target,))


def _without_store_meta(resource: Resource) -> Resource:
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest
