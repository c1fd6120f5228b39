"""Tells the connections of one process of events, in order, from the events that the store keeps.

Any process may hold a connection: each follows the kept events by itself, so that no delivery job is needed and none is lost with a
process. What happens while a client is away it asks for with `$events`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.storage.port import StoredRecord
from subscriptions.delivery.notification import Event, bundle_of, less, status_of, wish_of
from subscriptions.events import EVENTS, count_of, event_of, state_of
from subscriptions.jobs.bell import rest, ringing
from subscriptions.jobs.kinds import Services
from subscriptions.table import IN_FORCE
from subscriptions.viewing import Viewer
from subscriptions.watch import names_topic

log = logging.getLogger("fhir_server.subscriptions")

QUEUE = 1000
"""Frames that may wait for a slow client before it is let go."""
_PAGE = 500
_POLL = 1.0


@dataclass(slots=True, eq=False)
class Connection:
    """One client. `bound`: Subscription -> its birth and the number of the last event that the client knows of."""

    bound: dict[str, tuple[int, int]] = field(default_factory=dict)
    frames: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    behind: bool = False
    """It took its frames too slowly."""

    def tell(self, frame: str) -> None:
        """Put a frame in the queue."""
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.behind = True


class Hub:
    """The connections of this process, by Subscription."""

    def __init__(self, services: Services, viewer: Viewer, base: Callable[[], str]) -> None:
        self._services, self._viewer, self._base = services, viewer, base
        self._connections: dict[str, set[Connection]] = {}
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()
        """No event is told while a connection learns how many there were."""
        self._last = 0
        self._beats: dict[str, int] = {}
        """Subscription -> time of the next heartbeat, in milliseconds."""
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def bindings(self) -> int:
        """How many Subscriptions are bound, each connection counted."""
        return sum(len(held) for held in self._connections.values())

    async def bind(self, connection: Connection, id: str, *, topic: bool) -> str:
        """Bind a Subscription; '' or why it is refused. A topic is answered with a handshake, a search with `bound <id>`."""
        subscription = await self._read(id)
        if subscription is None or subscription["channel"].get("type") != "websocket":
            return f"Subscription/{id[:64]} is not one that can be bound"
        if subscription.get("status") not in IN_FORCE:
            return f"Subscription/{id} is {subscription.get('status')}"
        if names_topic(str(subscription.get("criteria", ""))) != topic:
            return f"Subscription/{id} is bound by {'bind <id>' if topic else 'bind-with-token <token>'}"
        await self._follow()
        async with self._turn:
            state = await state_of(self._services, id)
            connection.bound[id] = state.born, state.events
            self._connections.setdefault(id, set()).add(connection)
        if topic:
            if id not in self._beats:
                self._beat_later(id, subscription)
            connection.tell(self._frame("handshake", subscription, state.events))
        else:
            connection.tell(f"bound {id}")
        return ""

    def leave(self, connection: Connection) -> None:
        """A connection has ended."""
        for id in connection.bound:
            held = self._connections.get(id, set())
            held.discard(connection)
            if not held:
                self._connections.pop(id, None)
                self._beats.pop(id, None)

    def _beat_later(self, id: str, subscription: dict[str, Any]) -> None:
        """The next heartbeat, a period from now; none where none is wished."""
        if period := wish_of(subscription["channel"]).heartbeat * 1000:
            self._beats[id] = self._services.clock() + period
        else:
            self._beats.pop(id, None)

    async def _beat(self) -> None:
        """Give a sign of life where nothing else was sent for the period."""
        now = self._services.clock()
        for id in [id for id, due in self._beats.items() if due <= now]:
            subscription = await self._read(id)
            if subscription is None or subscription.get("status") not in IN_FORCE:
                self._beats.pop(id, None)
                continue
            self._beat_later(id, subscription)
            frame = self._frame("heartbeat", subscription, await count_of(self._services, id))
            for connection in self._connections.get(id, ()):
                connection.tell(frame)

    async def stop(self) -> None:
        """Let all connections go."""
        if self._unsubscribe:
            self._unsubscribe()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for connection in {one for held in self._connections.values() for one in held}:
            with contextlib.suppress(asyncio.QueueFull):
                connection.frames.put_nowait(None)

    async def _follow(self) -> None:
        """Begin to follow the events; what is there already is not told."""
        if self._task is not None and not self._task.done():
            return
        newest = await self._services.store.records(EVENTS, limit=1, newest_first=True)
        self._last = newest[0].seq if newest else 0
        self._unsubscribe = self._services.store.subscribe(ringing(self._bell))
        self._task = asyncio.get_running_loop().create_task(self._run(), name="websocket hub")

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                while records := await self._services.store.records(EVENTS, after=self._last, limit=_PAGE):
                    for record in records:
                        async with self._turn:
                            await self._told(record)
                        self._last = record.seq
                await self._beat()
            except FhirError as fault:
                log.warning("the websocket hub waits for the store: %s", fault)
            except Exception:
                log.exception("the websocket hub could not tell an event")
                self._last += 1
            await rest(self._bell, _POLL)

    async def _told(self, record: StoredRecord) -> None:
        """Tell one event to those who have bound its Subscription and do not know of it."""
        id, event = record.attributes["subscription"], event_of(record.data)
        place = int(record.data["born"]), event.number
        waiting = [one for one in self._connections.get(id, ()) if one.bound[id] < place]
        if not waiting:
            return
        for connection in waiting:
            connection.bound[id] = place
        subscription = await self._read(id)
        if subscription is None or subscription.get("status") not in IN_FORCE:
            return
        if names_topic(str(subscription.get("criteria", ""))) != bool(event.topic):
            return
        self._beat_later(id, subscription)
        if names_topic(str(subscription.get("criteria", ""))):
            frame = await self._notification(subscription, event)
        else:
            frame = f"ping {id}"
        for connection in waiting:
            connection.tell(frame)

    async def _notification(self, subscription: dict[str, Any], event: Event) -> str:
        services, content = self._services, less(wish_of(subscription["channel"]).content, event.content)
        seen = await self._viewer.seen([event], content, services.subscriber(subscription))
        focus = content != "empty"
        status = status_of("event-notification", subscription, self._base(), event.number, [event], focus=focus, seen=seen)
        bundle = bundle_of(status, subscription, self._base(), services.clock(), [event], content, seen)
        return json_codec.dumps(bundle).decode()

    def _frame(self, kind: str, subscription: dict[str, Any], count: int) -> str:
        focus = wish_of(subscription["channel"]).content != "empty"
        status = status_of(kind, subscription, self._base(), count, focus=focus)
        bundle = bundle_of(status, subscription, self._base(), self._services.clock(), [], "empty", {})
        return json_codec.dumps(bundle).decode()

    async def _read(self, id: str) -> dict[str, Any] | None:
        stored = await self._services.gate.read(self._services.principal, "Subscription", id)
        if stored is None or stored.deleted:
            return None
        found: dict[str, Any] = json_codec.loads(stored.body)
        return found
