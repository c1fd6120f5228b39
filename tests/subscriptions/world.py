"""A real store with the subscriptions room, its runner working in the background or by `settle`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import subscriptions
from fhir_server.auth.gate import ALL_SEEING, Gate, Principal
from fhir_server.errors import Issue
from fhir_server.interactions.context import Context
from fhir_server.interactions.registration import Registry as Operations
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.settings import Settings
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from integrations.channels.inbox import Inbox
from subscriptions.channel import Channel
from subscriptions.desk import Desk
from subscriptions.jobs.clock import Clock, system_clock

Resource = dict[str, Any]
REGISTRY = Registry(definitions())


@dataclass
class World:
    store: SqliteStore
    room: subscriptions.Running
    desk: Desk

    async def put(self, *resources: Resource) -> int:
        """Write in one unit; the last sequence number."""
        writes = [Write("PUT", r["resourceType"], r["id"], r) for r in resources]
        return (await self.store.transact(Unit.of(*writes))).rid

    async def delete(self, type: str, id: str) -> None:
        await self.store.transact(Unit.of(Write("DELETE", type, id)))

    async def read(self, type: str, id: str) -> Resource:
        stored = await self.store.read(type, id)
        assert stored is not None
        return json_codec.loads(stored.body)

    def check(self, resource: Resource) -> list[Issue]:
        return self.room.check(resource)

    async def settle(self) -> None:
        await self.room.jobs.settle()


@asynccontextmanager
async def world(
    folder: Path,
    *,
    clock: Clock = system_clock,
    running: bool = False,
    channels: tuple[Channel, ...] = (),
    gate: type[Gate] = Gate,
    principal: Principal = ALL_SEEING,
    **settings: Any,
):
    """The room over a store in `folder`; loopback endpoints are allowed as with sign-in off. `channels`: beside the inbox; `principal`: in
    whose name notifications are read."""
    zone = ZoneInfo("Asia/Shanghai")
    indexer = Indexer(REGISTRY, zone)
    store = SqliteStore(folder, index=indexer.index, type_names=definitions().resource_types)
    await store.open()
    context = Context(gate(store), definitions(), REGISTRY, Operations(), Settings(**settings), b"s" * 32, zone, clock)
    context.own_bases = ("http://fhir.example.org/fhir",)
    room = subscriptions.build(context, store, indexer, [Inbox(), *channels], environment={}, subscriber=lambda one: principal)
    if running:
        await room.start()
    try:
        yield World(store, room, context.parts["desk"])
    finally:
        await room.stop(grace=0.5)
        await store.close()


def subscription(endpoint: str, id: str = "s1", criteria: str = "Observation?code=http://loinc.org|2823-3", **more: Any) -> Resource:
    channel = {"type": "rest-hook", "endpoint": endpoint, **more.pop("channel", {})}
    base = {"resourceType": "Subscription", "id": id, "status": "requested", "reason": "test", "criteria": criteria}
    return {**base, "channel": channel, **more}


def observation(id: str, code: str = "2823-3", **more: Any) -> Resource:
    coding = {"system": "http://loinc.org", "code": code}
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [coding]}, **more}
