"""What follows from a Subscription: its reader of the change feed, and the jobs that activate, deliver and end it.

A delivery is a job of the subscription's own key: in order for one subscription, side by side for several. It reads the Subscription
as it is at the moment of sending. Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K5, K19, K22–K24.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

from fhir_server.model import json_codec
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import ClaimedJob, Effects, Facts, Job, Stored, Unit, Write
from subscriptions.delivery.caller import Caller, CallFailed
from subscriptions.delivery.endpoint import EndpointRefused
from subscriptions.delivery.rest_hook import call_of
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Kind, Lane, Later, Services
from subscriptions.table import IN_FORCE, Entry, Table

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.subscriptions")

ACTIVATE, DELIVER, EXPIRE = "subscription.activate", "subscription.deliver", "subscription.expire"
DELIVERIES = Lane("deliveries", 64, train=20)
ERROR_AFTER = 4
"""Failed attempts in a row after which the Subscription's status becomes `error`; attempts go on, without an end."""
PAUSES = Backoff.exponential(1_000, 60_000, jitter=0.2)


class Subscriptions:
    """Reader and handlers. `index` makes the index values of a resource, for criteria that need them."""

    def __init__(self, table: Table, index: Callable[[Resource], IndexValues], caller: Caller, services: Services) -> None:
        self._table, self._index, self._caller, self._services = table, index, caller, services

    def reader(self) -> FeedReader:
        """The reader `subscriptions`."""
        return FeedReader("subscriptions", self.react, self._prepare)

    def kinds(self) -> list[Kind]:
        """The job kinds of subscriptions."""
        quick = Backoff.exponential(200, 60_000)
        return [
            Kind(ACTIVATE, self.activate, backoff=quick, limit=20),
            Kind(DELIVER, self.deliver, DELIVERIES, PAUSES, limit=None, timeout=15.0),
            Kind(EXPIRE, self.expire, backoff=quick, limit=20, timer=True),
        ]

    async def _prepare(self, position: int) -> None:
        await self._table.prepare(self._services, position)

    # --- the reader

    async def react(self, changes: list[Stored]) -> Effects:
        """Deliveries for every version that meets criteria, in commit order; activation and end of the Subscriptions themselves."""
        jobs: list[Job] = []
        now = self._services.clock()
        self._table.renew()
        for stored in changes:
            if not stored.deleted:
                jobs += self._deliveries(stored, now)
            if stored.type == "Subscription":
                jobs += self._own_jobs(stored, self._table.apply(stored), now)
        return Effects(jobs=jobs)

    def _deliveries(self, stored: Stored, now: int) -> list[Job]:
        entries = [entry for entry in self._table.of(stored.type) if entry.since < stored.rid]
        if not entries:
            return []
        payload = {"type": stored.type, "id": stored.id, "version": stored.version, "rid": stored.rid}
        return [Job(DELIVER, entry.id, payload, now) for entry in self._matching(entries, stored)]

    def _matching(self, entries: list[Entry], stored: Stored) -> list[Entry]:
        if all(entry.criteria.everything for entry in entries):
            return entries
        values = self._index(json_codec.loads(stored.body))
        return [entry for entry in entries if entry.criteria.meets(stored, values)]

    def _own_jobs(self, stored: Stored, subscription: Resource | None, now: int) -> list[Job]:
        if subscription is None:
            return []
        jobs = []
        payload = {"id": stored.id, "version": stored.version}
        if subscription.get("status") == "requested":
            jobs.append(Job(ACTIVATE, stored.id, payload, now))
        if subscription.get("end") and subscription.get("status") in IN_FORCE and not _past(subscription, stored):
            jobs.append(Job(EXPIRE, stored.id, payload, end_of(subscription), f"{stored.id}/{stored.version}"))
        return jobs

    # --- the jobs

    async def activate(self, job: ClaimedJob, services: Services) -> Unit:
        """requested → active, and an error text of earlier days goes; → error for criteria that are not served (not admitted by us)."""

        def change(subscription: Resource) -> Resource | None:
            if subscription.get("status") != "requested":
                return None
            kept = {name: value for name, value in subscription.items() if name != "error"}
            complaint = self._table.complaint(str(subscription.get("criteria", "")))
            return {**kept, "status": "error", "error": complaint} if complaint else {**kept, "status": "active"}

        return _changed(str(job.payload["id"]), change)

    async def expire(self, job: ClaimedJob, services: Services) -> Unit:
        """`end` has come: off."""
        now = services.clock()

        def change(subscription: Resource) -> Resource | None:
            over = subscription.get("end") and end_of(subscription) <= now
            return {**subscription, "status": "off"} if over and subscription.get("status") in IN_FORCE else None

        return _changed(str(job.payload["id"]), change)

    async def deliver(self, job: ClaimedJob, services: Services) -> None:
        """Send one notification. Raises Later while the endpoint does not take it."""
        stored = await services.gate.read(services.principal, "Subscription", job.key)
        if stored is None or stored.deleted:
            return
        subscription = json_codec.loads(stored.body)
        if subscription.get("status") not in IN_FORCE or (subscription.get("end") and end_of(subscription) <= services.clock()):
            return
        payload = job.payload
        version = await services.gate.read_version(services.principal, payload["type"], payload["id"], payload["version"])
        if version is None:
            return
        fault = await self._send(subscription["channel"], version)
        if fault:
            if job.attempts >= ERROR_AFTER:
                await self._mark(stored.id, fault, services)
            raise Later(fault)

    async def _send(self, channel: Resource, version: Stored) -> str:
        """'' when the endpoint took it, else what went wrong, without secrets."""
        call = call_of(channel, version)
        try:
            answer = await self._caller.call(*call)
        except (EndpointRefused, CallFailed) as fault:
            return f"{call.method} {_shown(call.url)}: {fault}"
        return "" if 200 <= answer.status < 300 else f"{call.method} {_shown(call.url)}: HTTP {answer.status}"

    async def _mark(self, id: str, fault: str, services: Services) -> None:
        """Say in the Subscription that deliveries fail; an error that is there already is not written again."""

        def change(subscription: Resource) -> Resource | None:
            return {**subscription, "status": "error", "error": fault} if subscription.get("status") == "active" else None

        log.warning("Subscription/%s: deliveries fail, its status is error", id)
        await services.gate.transact(services.principal, _changed(id, change))


def _past(subscription: Resource, stored: Stored) -> bool:
    """Whether a Subscription came in as the record of one that had failed and ended: it stays as it was sent and delivers nothing."""
    return subscription.get("status") == "error" and end_of(subscription) <= stored.updated


def end_of(subscription: Resource) -> int:
    """`Subscription.end` (an instant) in milliseconds since 1970."""
    return round(dt.datetime.fromisoformat(str(subscription["end"])).timestamp() * 1000)


def _shown(url: str) -> str:
    """A URL for an error text: without its query, which may hold a token."""
    return url.partition("?")[0]


def _changed(id: str, change: Callable[[Resource], Resource | None]) -> Unit:
    """A unit that rewrites the current Subscription; nothing where it is gone or `change` answers None."""
    target = ("Subscription", id)

    def decide(facts: Facts) -> Effects:
        current = facts.current.get(target)
        if current is None or current.deleted:
            return Effects()
        changed = change(json_codec.loads(current.body))
        return Effects([Write("PUT", *target, _without_store_meta(changed))] if changed else [])

    return Unit(decide, targets=(target,))


def _without_store_meta(resource: Resource) -> Resource:
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest
