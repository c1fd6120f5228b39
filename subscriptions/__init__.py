"""Subscriptions, jobs and the follow-up engine: everything that reads the change feed and acts on it.

`build` puts the room together out of a server's parts; the application starts and stops what it gives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.auth.gate import ALL_SEEING, Principal
from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.context import Context
from fhir_server.observability.metrics import Gauge
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import EveryParameter
from fhir_server.search.parser import Include, Parser
from fhir_server.search.query import Criterion
from fhir_server.search.values_of import Scope
from fhir_server.storage.port import Store
from subscriptions import requests
from subscriptions.admission import check_subscription
from subscriptions.channel import Channel
from subscriptions.criteria import Criteria, compile_criteria
from subscriptions.delivering import Deliveries
from subscriptions.delivery.caller import Caller
from subscriptions.delivery.circuits import Circuits
from subscriptions.delivery.endpoint import EndpointPolicy
from subscriptions.delivery.log import DeliveryLog
from subscriptions.delivery.notifier import Notifier
from subscriptions.desk import Desk
from subscriptions.followup import loader, pathway
from subscriptions.followup.canonical import DEFAULT_BASE, Canonical
from subscriptions.followup.engine import CareEngine
from subscriptions.followup.sending import Sender
from subscriptions.handlers import Subscriptions
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Kind, Kinds, Services
from subscriptions.jobs.runner import Jobs
from subscriptions.observed import Observed
from subscriptions.retention import Retention
from subscriptions.sockets.endpoint import Endpoint
from subscriptions.sockets.hub import Hub
from subscriptions.sockets.tokens import SECRET
from subscriptions.table import Table
from subscriptions.topics.catalogue import CODE as TOPIC
from subscriptions.topics.catalogue import Topics
from subscriptions.triggers import OWN
from subscriptions.viewing import Viewer
from subscriptions.watch import Watch, watch_of

__all__ = ["Running", "build"]

log = logging.getLogger("fhir_server.jobs")


@dataclass(slots=True)
class Running:
    """The room of one process: `start` it after the store is open, `stop` it before the store is closed.

    `check(resource)`: issues (422) of a Subscription that a client wants to write; to be asked before each create and update.
    `jobs`: the runner, with `counts`, `lag()`, `unknown()`, `leading` for metrics and `settle()` for the tick; `readers`: those it drives.
    """

    jobs: Jobs
    check: Callable[[dict[str, Any]], list[Issue]]
    topics: Topics
    base: Callable[[], str]
    _canonical: Canonical
    _pathways: list[pathway.Pathway]
    _caller: Caller
    hub: Hub
    _retention: Retention
    readers: tuple[FeedReader, ...]
    _observed: Observed

    async def start(self) -> Running:
        """Put the shipped pathways into the store and begin to work; gives itself, to be stopped."""
        try:
            written = await loader.install(self._canonical, self._pathways, self.jobs.services)
            if written:
                log.info("%d resources of the shipped pathways were put into the store", written)
            await self._retention.begin(self.jobs.services)
        except FhirError as fault:
            # A full or read-only disk: reads are served all the same, and the next start tries again.
            log.error("the shipped pathways could not be put into the store: %s", fault)
        await self.jobs.start()
        return self

    async def gauges(self) -> list[Gauge]:
        """For the metrics page: how far readers lag, what waits and runs by lane, dead letters."""
        return await self._observed.gauges()

    async def stop(self, grace: float = 8.0) -> None:
        """Finish what runs within `grace` seconds."""
        await self.hub.stop()
        await self.jobs.stop(grace)
        await self._caller.close()


def build(
    context: Context,
    store: Store,
    indexer: Indexer,
    channels: Sequence[Channel] = (),
    *,
    kinds: Iterable[Kind] = (),
    readers: Iterable[FeedReader] = (),
    environment: Mapping[str, str] = os.environ,
    subscriber: Callable[[Mapping[str, Any]], Principal] = lambda subscription: ALL_SEEING,
) -> Running:
    """The room of a server. `indexer` is that of its store; `channels` in the order in which messages try them.

    `kinds` and `readers` are those of higher rooms; `subscriber` says in whose name a Subscription's notifications are read. The room is
    hung into `context.parts["jobs"]`.
    Raises ValueError for settings that cannot be used, PathwayError for a wrong file.
    """
    settings = context.settings
    policy = EndpointPolicy.of(settings.endpoint_allow, loopback=settings.auth == "off" and settings.env != "production")
    zone = ZoneInfo(settings.time_zone)
    every = EveryParameter(context.search)
    parser = Parser(every, Scope(zone))
    types = tuple(context.definitions.resource_types)
    services = Services(context.gate.own(), store, context.clock, subscriber=subscriber)
    canonical = Canonical((environment.get("FOLLOWUP_CANONICAL") or DEFAULT_BASE).rstrip("/"))
    pathways = pathway.load()
    caller = Caller(policy)

    def compile(text: str) -> Criteria:
        return compile_criteria(text, parser, types)

    def stored_topics() -> Criterion:
        return parser.criteria("Basic", f"code={TOPIC}").where

    def includes(type: str, pairs: Sequence[tuple[str, str]]) -> tuple[Include, ...]:
        return parser.search((type,), pairs).includes

    topics = Topics(services, stored_topics, compile, types, includes)
    read_topics = Topics(services, stored_topics, compile, types, includes)
    """The reader's own: as they were at its place in the feed."""

    def watch(subscription: Mapping[str, Any]) -> Watch:
        return watch_of(subscription, compile, topics.find)

    def read_watch(subscription: Mapping[str, Any]) -> Watch:
        return watch_of(subscription, compile, read_topics.find)

    async def complaint(subscription: Mapping[str, Any]) -> str:
        await topics.fresh()
        try:
            watch(subscription)
        except FhirError as fault:
            return fault.issues[0].diagnostics
        return ""

    def base() -> str:
        return context.own_bases[0] if context.own_bases else ""

    table = Table(read_watch, lambda: (every.newest(), read_topics.generation))
    mail = next((channel for channel in channels if channel.code == "email"), None)
    viewer = context.parts["viewer"] = Viewer(context, topics.find)
    circuits, lines = Circuits(), DeliveryLog()
    deliveries = Deliveries(Notifier(caller, base, context.clock, mail), viewer, circuits, lines, services)
    subscriptions = Subscriptions(table, read_topics, indexer, complaint, deliveries, services, lambda: context.own_bases)
    retention = Retention(settings.done_job_days, settings.delivery_log_days, settings.event_days)
    inbox = next((channel for channel in channels if not channel.external), None)
    engine = CareEngine(canonical, pathways, services, _numbers(context), zone, inbox)
    own = [*subscriptions.kinds(), *engine.kinds(), Sender(canonical, channels, zone).kind(), retention.kind(), *requests.kinds(context)]
    all_kinds = Kinds([*own, *kinds])
    all_readers = (replace(subscriptions.reader(), triggers=OWN), engine.reader(), *readers)
    jobs = Jobs(services, all_kinds, all_readers)
    observed = Observed(jobs, lines, circuits)
    if (metrics := context.parts.get("metrics")) is not None:
        metrics.watch(observed.counted)
    room = Running(
        jobs,
        lambda resource: check_subscription(resource, watch, policy, mail=mail is not None),
        topics,
        base,
        canonical,
        pathways,
        caller,
        Hub(services, viewer, base),
        retention,
        all_readers,
        observed,
    )
    context.parts["topics"] = topics
    context.parts["desk"] = Desk(deliveries, services)
    origins = context.parts.get("origins")
    if origins is not None:
        context.parts["sockets"] = Endpoint(room.hub, lambda: store.secret(SECRET), context.clock, origins.welcome)
    context.parts["jobs"] = room
    return room


def _numbers(context: Context) -> Callable[[str, str], int]:
    def number(type: str, code: str) -> int:
        parameter = context.search.get(type, code)
        if parameter is None:
            raise LookupError(f"{type} has no search parameter '{code}'")
        return parameter.sources[0].number

    return number
