"""The job that sends notifications: in the order of the commits, again and again until the endpoint takes them.

It reads the Subscription as it is at the moment of sending. Each attempt leaves a line in the delivery log.
Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K6–K14, K19, K22–K24
Decisions: docs/decisions/0072-deliveries-go-on-in-error.md, 0079-circuits-of-endpoints.md
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.storage.port import ClaimedJob, Effects, Record, Stored
from subscriptions.delivery.circuits import Circuits, TurnedAway
from subscriptions.delivery.log import Attempt, DeliveryLog
from subscriptions.delivery.notification import Event, wish_of
from subscriptions.delivery.notifier import Notifier, Told
from subscriptions.events import count_of, event_of, held, shaken, shaken_record, state_of
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.clock import MINUTE
from subscriptions.jobs.kinds import Hopeless, Kind, Lane, Later, Services
from subscriptions.rewriting import ended, kept, rewritten
from subscriptions.table import IN_FORCE
from subscriptions.viewing import Viewer
from subscriptions.watch import names_topic

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.subscriptions")

DELIVER = "subscription.deliver"
DELIVERIES = Lane("deliveries", 160, train=20)
ERROR_AFTER = 4
"""Failed attempts in a row after which the Subscription's status becomes `error`; attempts go on, without an end."""
UNTIL_SHAKEN = 250
"""Milliseconds between two looks whether the handshake is over."""
UNTIL_RELEASED = MINUTE
"""Milliseconds between two looks at a Subscription that is paused; letting it go rings at once."""
POISON = 20
"""Attempts at a notification that this server cannot make (a fault of its own or of a plug-in) before the dead letters."""
_PASSING = (409, 412, 429, 503, 507)
"""Faults of the store that pass."""
PAUSES = Backoff.exponential(1_000, 60_000, jitter=0.2)


class Deliveries:
    """The handler. Failures in a row are counted in this process, as the circuits are."""

    def __init__(self, notifier: Notifier, viewer: Viewer, circuits: Circuits, lines: DeliveryLog, services: Services) -> None:
        self._notifier, self._viewer, self._circuits, self._lines, self._services = notifier, viewer, circuits, lines, services
        self._failed: Counter[str] = Counter()
        """Subscription -> attempts in a row that failed in this process."""
        self._random = random.Random()

    def kind(self) -> Kind:
        """The job kind of deliveries; its key is the Subscription."""
        return Kind(DELIVER, None, DELIVERIES, PAUSES, limit=None, timeout=15.0, train=self.deliver)

    async def deliver(self, jobs: Sequence[ClaimedJob], services: Services) -> tuple[int, Effects]:
        """Send one notification: one event, or of a topic as many as the Subscription wants at once. Raises Later while it is not taken."""
        id = jobs[0].key
        stored = await services.gate.read(services.principal, "Subscription", id)
        if stored is None or stored.deleted:
            return len(jobs), Effects()
        subscription = json_codec.loads(stored.body)
        if subscription.get("status") not in IN_FORCE or ended(subscription, services.clock()):
            return len(jobs), self._dropped(id, jobs, "the Subscription is off")
        if gone := await self._of_before(stored, jobs, services):
            return gone, self._dropped(id, jobs[:gone], "the Subscription was off or deleted since")
        topic = names_topic(str(subscription.get("criteria", "")))
        if topic != bool(jobs[0].payload["topic"]):
            return 1, self._dropped(id, jobs[:1], "the Subscription watches something else now")
        if await held(services, id):
            raise Later("paused", UNTIL_RELEASED)
        if topic and subscription["status"] == "requested":
            raise Later("the handshake comes first", UNTIL_SHAKEN)
        taken = _together(jobs, wish_of(subscription["channel"]).most) if topic else jobs[:1]
        return len(taken), await self._send(subscription, taken, services, topic=topic)

    async def _send(self, subscription: Resource, jobs: Sequence[ClaimedJob], services: Services, *, topic: bool) -> Effects:
        id = str(subscription["id"])
        try:
            with self._place(subscription, services) as settled:
                told = Told()
                if topic and not await shaken(services, id, subscription["channel"]):
                    told = await self.shake(subscription, services)
                records: list[Record] = []
                if not told.fault:
                    told, records = await self._tell(subscription, jobs, services, topic=topic)
                settled(told)
        except TurnedAway as away:
            if away.down:
                await self._not_taken(id, Told(str(away)), services)
            raise Later(str(away), away.pause) from None
        if not told.fault:
            self._failed.pop(id, None)
            return Effects(records=records)
        if records:
            await services.gate.transact(services.principal, kept(*records))
        raise Later(told.fault, await self._not_taken(id, told, services))

    async def _not_taken(self, id: str, told: Told, services: Services) -> int:
        """Count a failure, say it in the Subscription when there are several; the pause until the next attempt."""
        self._failed[id] += 1
        if self._failed[id] >= ERROR_AFTER:
            await self._mark(id, told.fault, services)
        return max(told.pause, PAUSES.pause(self._failed[id], self._random))

    def reached(self, id: str) -> int:
        """When the endpoint of a Subscription was last reached, milliseconds since 1970; 0 for never."""
        return self._notifier.reached(id)

    async def greet(self, subscription: Resource, services: Services) -> str:
        """The handshake of an activation, also where the circuit is open. '' when it was answered; raises TurnedAway."""
        with self._place(subscription, services, asked=True) as settled:
            told = await self.shake(subscription, services)
            settled(told)
        if not told.fault:
            self._failed.pop(str(subscription["id"]), None)
        return told.fault

    def circuit(self, subscription: Resource, services: Services) -> str:
        """State of the circuit of its endpoint: closed, open or half-open."""
        return self._circuits.state(_endpoint(subscription), services.clock())

    @contextmanager
    def _place(self, subscription: Resource, services: Services, *, asked: bool = False) -> Iterator[Callable[[Told], None]]:
        """A place for one call to the endpoint; what is given is to be told how it went. Raises TurnedAway."""
        with self._circuits.place(_endpoint(subscription), services.clock(), asked=asked) as circuit:
            yield lambda told: self._circuits.settled(circuit, services.clock(), told.status if told.down else "")

    async def beat(self, subscription: Resource, services: Services, kind: str = "heartbeat") -> Attempt:
        """A sign of life without an event, or a test, which goes out also where the circuit is open; its line in the log.

        Raises TurnedAway.
        """
        id, began = str(subscription["id"]), services.clock()
        with self._place(subscription, services, asked=kind == "test") as settled:
            if names_topic(str(subscription.get("criteria", ""))):
                told = await self._notifier.tell("heartbeat", subscription, await count_of(services, id))
            else:
                told = await self._notifier.ring(subscription)
            settled(told)
        attempt = _attempt(kind, told, began, services.clock())
        await services.gate.transact(services.principal, kept(*self._lines.lines(id, attempt)))
        return attempt

    async def shake(self, subscription: Resource, services: Services) -> Told:
        """Ask whether the endpoint wants notifications; kept with its line in the log when it does."""
        id = str(subscription["id"])
        asked = {name: value for name, value in subscription.items() if name != "error"}
        began = services.clock()
        told = await self._notifier.tell("handshake", asked, await count_of(services, id), status="requested")
        records = self._lines.lines(id, _attempt("handshake", told, began, services.clock()))
        if not told.fault:
            records.append(shaken_record(id, subscription["channel"]))
        await services.gate.transact(services.principal, kept(*records))
        return told

    async def _tell(
        self, subscription: Resource, jobs: Sequence[ClaimedJob], services: Services, *, topic: bool
    ) -> tuple[Told, list[Record]]:
        """How it went, and the line for the log."""
        id, began = str(subscription["id"]), services.clock()
        events = [event_of(job.payload) for job in jobs]
        try:
            told = await self._told(subscription, jobs, events, services, topic=topic)
        except Exception as fault:
            if isinstance(fault, FhirError) and fault.status in _PASSING:
                raise
            log.exception("Subscription/%s: a notification could not be made", id)
            if jobs[0].attempts >= POISON:
                raise Hopeless(f"the notification could not be made in {POISON} attempts: {type(fault).__name__}") from fault
            told = Told(f"the notification could not be made: {type(fault).__name__}", "could not be made")
        if told is None:
            return Told(), []  # it is erased, or not for the subscriber: there is nothing to tell
        now = services.clock()
        first, last = events[0], events[-1]
        attempt = _attempt("event-notification", told, began, now)
        return told, self._lines.lines(id, attempt._replace(first=first.number, last=last.number, lag=max(0, now - first.time)))

    async def _told(
        self, subscription: Resource, jobs: Sequence[ClaimedJob], events: Sequence[Event], services: Services, *, topic: bool
    ) -> Told | None:
        """How it went; None where there is nothing to tell."""
        content = wish_of(subscription["channel"]).content if topic else "full-resource"
        seen = await self._viewer.seen(events, content, services.subscriber(subscription))
        if topic:
            return await self._notifier.tell("event-notification", subscription, events[-1].number, events=events, seen=seen)
        if not seen:
            return None
        return await self._notifier.tell_match(subscription, seen[events[0].number].version, jobs[0].payload["rid"])

    def _dropped(self, id: str, jobs: Sequence[ClaimedJob], why: str) -> Effects:
        numbers = [event_of(job.payload).number for job in jobs]
        return Effects(records=self._lines.lines(id, Attempt(self._services.clock(), "dropped", numbers[0], numbers[-1], False, why, 0, 0)))

    async def _of_before(self, stored: Stored, jobs: Sequence[ClaimedJob], services: Services) -> int:
        """How many of the first jobs are not sent: the Subscription was off or deleted since. What a person sends again may be older."""
        if jobs[0].payload.get("replay"):
            return int((await state_of(services, stored.id)).born > jobs[0].payload["rid"])
        dated = list(takewhile(lambda job: not job.payload.get("replay"), jobs))
        if not await self._outlived(stored, dated[0].payload["rid"]):
            return 0
        return len(dated) if await self._outlived(stored, dated[-1].payload["rid"]) else 1

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

    async def _mark(self, id: str, fault: str, services: Services) -> None:
        """Say in the Subscription that deliveries fail; an error that is there already is not written again."""

        def change(subscription: Resource) -> Resource | None:
            return {**subscription, "status": "error", "error": fault} if subscription.get("status") == "active" else None

        log.warning("Subscription/%s: deliveries fail, its status is error", id)
        await services.gate.transact(services.principal, rewritten(id, change))


def _endpoint(subscription: Resource) -> str:
    return str(subscription["channel"].get("endpoint", ""))


def _attempt(kind: str, told: Told, began: int, now: int) -> Attempt:
    """The line of a call that tells no event."""
    return Attempt(now, kind, 0, 0, not told.fault, told.status, now - began, 0)


def _together(jobs: Sequence[ClaimedJob], most: int) -> Sequence[ClaimedJob]:
    """The jobs whose events go in one notification: with numbers that follow each other, at most so many (0: one)."""
    number = 1
    while number < min(len(jobs), most or 1) and jobs[number].payload["number"] == jobs[number - 1].payload["number"] + 1:
        number += 1
    return jobs[:number]
