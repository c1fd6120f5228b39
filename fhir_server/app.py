"""Composition root: builds one worker's server out of its rooms, starts and stops what runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import subscriptions
from fhir_server.auth.audit import Trail
from fhir_server.auth.gate import ALL_SEEING, Gate
from fhir_server.deferred import Asgi, Deferred
from fhir_server.errors import FhirError
from fhir_server.health import LIVE, READY, Health
from fhir_server.interactions.asgi import PREFIX, FhirApplication
from fhir_server.interactions.content import checked
from fhir_server.interactions.context import Context
from fhir_server.interactions.origin import Origins
from fhir_server.interactions.traced import TracedApplication
from fhir_server.interactions.validating import Validating
from fhir_server.model.definitions import definitions
from fhir_server.observability import tracing
from fhir_server.observability.logs import AccessLog, log
from fhir_server.observability.metrics import RequestMetrics, SharedSnapshots
from fhir_server.observability.slow import SlowSearches
from fhir_server.observability.traced_store import traced
from fhir_server.plugins import Plugins, installed, shipped
from fhir_server.search.custom import Customs
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry as SearchRegistry
from fhir_server.search.words import Wording
from fhir_server.settings import Settings
from fhir_server.storage.conformance import StoredConformance
from fhir_server.storage.opening import Openings
from fhir_server.storage.port import Store
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.terminology.large import LargeSystems
from integrations import hl7v2
from integrations.channels.inbox import COLLECTION as INBOX
from integrations.hl7v2.journal import COLLECTION as JOURNAL

SOCKETS = "/fhir/ws"
_PUBLISH_SECONDS = 1.0


class Application:
    """One worker: the ASGI callable, its store, and its background parts.

    `background`: (name, start) of parts to start after the store; `start()` gives an object with `async stop()`.
    """

    def __init__(self, context: Context, store: Store, fhir: FhirApplication, others: Deferred) -> None:
        self.context, self.store, self.fhir, self.others = context, store, fhir, others
        self._health = Health(store.check)
        self.background: list[tuple[str, Callable[[], Awaitable[Any]]]] = []
        self.mllp_address = ""
        self._running: list[tuple[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._access: AccessLog | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path.startswith(PREFIX) and scope["type"] == "http" and (len(path) == len(PREFIX) or path[len(PREFIX)] == "/"):
            await self.fhir(scope, receive, send)
        elif path in (LIVE, READY) and scope["type"] == "http":
            await self._health(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.others(scope, receive, send)

    async def _socket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        sockets = self.context.parts.get("sockets")
        if sockets is not None and scope.get("path", "").rstrip("/") == SOCKETS:
            await sockets(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: 403

    async def start(self) -> None:
        """Start the background parts. What was started is stopped again if a later part fails."""
        try:
            for name, begin in self.background:
                self._running.append((name, await begin()))
        except BaseException:
            await self.stop()
            raise

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something again and again until the end, and once more then."""

        async def repeat() -> None:
            try:
                while True:
                    await asyncio.sleep(seconds)
                    try:
                        action()
                    except OSError as fault:  # a full disk passes; the action goes on when it has
                        log().warning("a repeated action failed", error=str(fault))
            finally:
                action()

        self._tasks.append(asyncio.get_running_loop().create_task(repeat()))

    async def stop(self) -> None:
        """Stop the background parts in the reverse order, then close the store: all is durable after it."""
        for name, part in reversed(self._running):
            try:
                await part.stop()
            except Exception:
                log().exception("a part did not stop in order", part=name)
        self._running.clear()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.store.close()


def _store(settings: Settings, search: SearchRegistry, indexer: Indexer, customs: Customs, metrics: RequestMetrics) -> SqliteStore:
    """The embedded store, not open."""
    return SqliteStore(
        settings.data_dir,
        index=indexer.index,
        part=indexer.part,
        type_names=search.definitions.resource_types,
        durability=settings.synchronous,
        group_ms=settings.group_commit_ms,
        search_seconds=settings.search_seconds,
        cursor_seconds=settings.cursor_seconds,
        clinical=search.clinical,
        patient_code=search.patient_code,
        fingerprint=indexer.fingerprint,
        customs=customs,
        words=Wording(search),
        observed=metrics.committed,
    )


async def compose(settings: Settings, port: int, worker: int = 0) -> Application:
    """A worker's server with an open store, not started. `port`: the one that is listened on.

    Raises FhirError, UnusableStore, PluginError.
    """
    zone = ZoneInfo(settings.time_zone)
    known = definitions()
    plugins = Plugins(known.resource_types)
    found = installed(settings.plugins)
    search = SearchRegistry(known)
    origins = Origins(settings, port)
    indexer = Indexer(search, zone, origins.own)
    customs = Customs(search, indexer)
    metrics = RequestMetrics()
    store = traced(_store(settings, search, indexer, customs, metrics))
    conformance = StoredConformance(store)
    shipped.ship(plugins, conformance)
    for one in found:
        plugins.add(one)
    await store.open()
    large = LargeSystems(settings.data_dir)
    openings = Openings(store, known.resource, search.numbers_of("url", ("ValueSet", "CodeSystem")), large)
    gate = Gate(store, openings=openings, hooks=plugins.hooks)
    context = Context(gate, known, search, plugins.operations, settings, await store.secret("cursor"), zone)
    context.own_bases = origins.own
    context.parts["origins"] = origins
    context.parts["store"] = store
    trail = context.parts["audit"] = Trail(store, context.clock)
    plugins.hooks.noted = trail.noted
    context.parts["indexer"] = indexer
    context.parts["records of patients"] = {INBOX: ("patient", "recipient"), JOURNAL: ("patient",)}
    context.parts["validating"] = Validating(context, conformance, large)
    plugins.hooks.event = metrics.event
    plugins.hooks.check = lambda resource: checked(context, resource)
    context.parts["metrics"] = metrics
    slow = context.parts["slow searches"] = SlowSearches(settings.slow_query_ms, metrics)
    access = AccessLog(settings.access_log)
    folder = os.environ.get("FHIR_SERVER_METRICS_FOLDER", "") if settings.workers > 1 else ""
    snapshots = SharedSnapshots(Path(folder), worker) if folder else None
    fhir = (TracedApplication if tracing.on() else FhirApplication)(context, origins, metrics, access)

    def others() -> Asgi:
        from fhir_server import beside
        from fhir_server.console import routes as console

        built = beside.build(context, metrics, snapshots, settings.data_dir)
        built.include_router(console.router(context, ALL_SEEING))
        built.mount("/console/static", console.static_files())
        return built

    app = Application(context, store, fhir, Deferred(others))
    app.background.append(("slow searches", slow.start))
    app.every(_PUBLISH_SECONDS, access.flush)
    if snapshots is not None:
        app.every(_PUBLISH_SECONDS, lambda: snapshots.publish(metrics))
    if worker == 0 and plugins.loaded:
        app.background.append(("trail", lambda: _note_plugins(plugins, trail)))
    _add_background(app, plugins, indexer, worker)
    shipped.ship_admissions(plugins, app.context.parts["jobs"], customs)
    return app


async def _note_plugins(plugins: Plugins, trail: Trail) -> Plugins:
    """Record which plug-ins of others this start has loaded."""
    try:
        for one in plugins.loaded:
            await trail.note("system", "plugin-load", f"{one.name} {one.version}".strip(), ", ".join(one.hooks))
    except FhirError as fault:  # a full disk: reads are served all the same
        log().error("the loading of plug-ins could not be recorded", status=fault.status)
    return plugins


def _add_background(app: Application, plugins: Plugins, indexer: Indexer, worker: int) -> None:
    """Jobs with their feed readers in every worker (a lease lets one of them work), the MLLP listener in the first."""
    settings = app.context.settings
    room = subscriptions.build(app.context, app.store, indexer, plugins.channels, readers=plugins.readers)
    app.background.append(("plug-ins", plugins.start))
    app.background.append(("jobs", room.start))
    if worker == 0 and settings.mllp_port != "off":

        async def listen() -> Any:
            running = await hl7v2.start(app.context, app.store, plugins.messages, plugins.segments)
            app.mllp_address = running.address
            return running

        app.background.append(("mllp", listen))
