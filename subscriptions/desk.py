"""What a person does about Subscriptions and jobs at the console: look, pause and resume, send again, try the endpoint.

Specification: docs/subscriptions.md (the monitor)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.storage.port import Job, Record, Unit
from subscriptions.delivering import DELIVER, Deliveries
from subscriptions.delivery.circuits import TurnedAway
from subscriptions.delivery.log import Attempt, Minute, attempts_of, last_minutes
from subscriptions.events import HELD, count_of, events_of, held, held_record, state_of
from subscriptions.jobs.kinds import Services
from subscriptions.rewriting import kept
from subscriptions.table import IN_FORCE
from subscriptions.watch import names_topic

Resource = dict[str, Any]
Noted = Callable[[], Sequence[Record]]

MOST_REPLAYED = 1000
"""Events that are sent once more at once."""
_COUNTED = 1000
_LOOKS = 40


class Desk:
    """`id` is that of a Subscription. Raises FhirError: 404 for one that is not there, 409 and 422 for what cannot be done."""

    def __init__(self, deliveries: Deliveries, services: Services) -> None:
        self._deliveries, self._services = deliveries, services

    async def hold(self, id: str, by: str, noted: Noted = tuple) -> None:
        """Pause: events are numbered and kept in order, nothing is sent. 422 for a websocket, which has no queue.

        `noted`: records of the action, to be kept in the same unit.
        """
        subscription = await self._read(id)
        if subscription["channel"].get("type") == "websocket":
            what = f"Subscription/{id}: a websocket has no queue that could be paused; its client asks for what it missed with $events"
            raise FhirError.of(422, "not-supported", what, zh=f"Subscription/{id}：websocket 没有可暂停的队列，客户端可用 $events 补取")
        if await held(self._services, id) is None:
            await self._services.gate.transact(self._services.principal, kept(await held_record(self._services, id, by), *noted()))

    async def release(self, id: str) -> int:
        """Resume: what waits is sent now; how many notifications that are."""
        await self._read(id)
        store, now = self._services.store, self._services.clock()
        await store.delete_record(HELD, id)
        number = await store.hasten_jobs(DELIVER, id, now)
        for _ in range(_LOOKS):
            # One that has just looked, and found the pause, is about to be put back.
            first = next(iter(await store.list_jobs("open", DELIVER, key=id, limit=1)), None)
            if first is None or not first["running"]:
                break
            await asyncio.sleep(0.05)
            number = max(number, await store.hasten_jobs(DELIVER, id, now))
        return number

    async def held(self, id: str) -> tuple[int, str] | None:
        """Since when (milliseconds since 1970) and by whom a Subscription is paused; None where it is not."""
        return await held(self._services, id)

    async def retry(self, job: int) -> bool:
        """A job back to work at once: a dead letter, or one that waits for its next attempt. False where there is none."""
        store, now = self._services.store, self._services.clock()
        found = await store.job(job)
        if found is not None and found["state"] == "dead":
            # What was sent before it must not keep a person from sending it.
            return await store.revive_job(job, now, {**found["payload"], "replay": True} if found["kind"] == DELIVER else None)
        return await store.hasten_job(job, now)

    async def set_aside(self, job: int, by: str) -> bool:
        """A waiting job to the dead letters, so that the next of its key can go. False where there is none, or it runs now."""
        found = await self._services.store.job(job)
        if found is None:
            return False
        before = f"; {found['error']}" if found["error"] else ""
        return await self._services.store.set_aside_job(job, f"set aside by {by} / 由 {by} 移出队列{before}")

    async def replay(self, id: str, first: int, last: int, noted: Noted = tuple) -> int:
        """Send the events with these numbers of a topic-based Subscription once more, with their numbers; how many there are.

        `noted`: records of the action, to be kept in the same unit.
        """
        subscription = await self._read(id)
        if not names_topic(str(subscription.get("criteria", ""))):
            what = f"Subscription/{id}: the events of a search are not kept; only those of a topic can be sent again"
            raise FhirError.of(422, "not-supported", what, zh=f"Subscription/{id}：检索式订阅不保存事件，只有主题订阅可以重发")
        if subscription["channel"].get("type") == "websocket":
            what = f"Subscription/{id}: the client of a websocket asks for events with $events"
            raise FhirError.of(422, "not-supported", what, zh=f"Subscription/{id}：websocket 客户端须用 $events 补取事件")
        if subscription.get("status") not in IN_FORCE:
            what = f"Subscription/{id} is {subscription.get('status')}: nothing is sent"
            raise FhirError.of(409, "conflict", what, zh=f"Subscription/{id} 的状态为 {subscription.get('status')}，不会发送")
        if not 1 <= first <= last or last - first >= MOST_REPLAYED:
            what = f"the numbers {first} to {last} are no range of at most {MOST_REPLAYED} events from 1 on"
            raise FhirError.of(422, "value", what, zh=f"{first} 至 {last} 不是从 1 开始、最多 {MOST_REPLAYED} 个事件的范围")
        events = await events_of(self._services, id, first, last)
        now, born = self._services.clock(), (await state_of(self._services, id)).born
        jobs = [Job(DELIVER, id, {**event._asdict(), "rid": born, "replay": True}, now) for event in events]
        await self._services.gate.transact(self._services.principal, Unit.of(jobs=jobs, records=noted()))
        return len(events)

    async def test(self, id: str) -> Attempt:
        """Send one notification without an event now, and say what was answered. 409 while the endpoint has no place for it."""
        subscription = await self._read(id)
        if subscription["channel"].get("type") == "websocket":
            what = f"Subscription/{id}: a websocket is tried by its client, which binds it"
            raise FhirError.of(422, "not-supported", what, zh=f"Subscription/{id}：websocket 由客户端绑定时测试")
        try:
            return await self._deliveries.beat(subscription, self._services, "test")
        except TurnedAway as away:
            raise FhirError.of(409, "throttled", f"Subscription/{id}: {away}", zh=f"Subscription/{id}：地址正忙，请稍后再试") from None

    async def waiting(self, id: str) -> tuple[int, int]:
        """How many notifications wait (1,000 at most are counted), and when the oldest one's change was; (0, 0) for none."""
        jobs = await self._services.store.list_jobs("open", DELIVER, key=id, limit=_COUNTED)
        return (len(jobs), int(jobs[0]["payload"]["time"])) if jobs else (0, 0)

    async def dead(self, id: str, limit: int = 100) -> list[dict[str, Any]]:
        """Notifications of a Subscription among the dead letters, as `Store.list_jobs` has them."""
        return await self._services.store.list_jobs("dead", DELIVER, key=id, limit=limit)

    async def log(self, id: str, limit: int = 100) -> Sequence[Attempt]:
        """The last attempts of a Subscription, newest first."""
        return await attempts_of(self._services, id, limit)

    async def minutes(self, limit: int = 60) -> Sequence[Minute]:
        """The last minutes in which anything was sent, oldest first."""
        return await last_minutes(self._services, limit)

    async def events(self, id: str) -> int:
        """How many events a Subscription has had."""
        return await count_of(self._services, id)

    def circuit(self, subscription: Resource) -> str:
        """State of the circuit of its endpoint in this process: closed, open or half-open."""
        return self._deliveries.circuit(subscription, self._services)

    async def _read(self, id: str) -> Resource:
        stored = await self._services.gate.read(self._services.principal, "Subscription", id)
        if stored is None or stored.deleted:
            raise FhirError.of(404, "not-found", f"Subscription/{id} is not there", zh=f"没有 Subscription/{id}")
        found: Resource = json_codec.loads(stored.body)
        return found
