"""What is kept of a Subscription's events: how many there were, and of topics each one, to be asked for again.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_server.storage.port import Record
from subscriptions.delivery.notification import Event
from subscriptions.jobs.kinds import Services

COUNTS, EVENTS, SHAKEN, HELD = "subscription-count", "subscription-event", "subscription-shaken", "subscription-held"
"""Collections of records."""


class State(NamedTuple):
    """How far a Subscription is. `born`: sequence number of the version that created it; deleted and created again it is another one."""

    events: int = 0
    born: int = 0


async def state_of(services: Services, id: str) -> State:
    """The state of a Subscription; of one without events yet the empty one."""
    record = await services.store.record(COUNTS, id)
    return State(**record.data) if record else State()


async def count_of(services: Services, id: str) -> int:
    """How many events a Subscription has had."""
    return (await state_of(services, id)).events


def state_record(id: str, state: State) -> Record:
    """The state to be kept."""
    return Record(COUNTS, id, state._asdict())


def event_record(id: str, born: int, event: Event) -> Record:
    """An event to be kept; a second one of the same number refuses the unit."""
    data = {**event._asdict(), "born": born}
    return Record(EVENTS, f"{id}/{born}/{event.number:015d}", data, {"subscription": id}, only_new=True)


def event_of(data: Mapping[str, Any]) -> Event:
    """The event in a record or a job."""
    return Event(**{name: data[name] for name in Event._fields})


async def events_of(services: Services, id: str, first: int, last: int) -> list[Event]:
    """The events of a topic-based Subscription with numbers from `first` to `last`, in order."""
    born = (await state_of(services, id)).born
    found = []
    for number in range(first, last + 1):
        record = await services.store.record(EVENTS, f"{id}/{born}/{number:015d}")
        if record is not None:
            found.append(event_of(record.data))
    return found


def fingerprint(channel: Mapping[str, Any]) -> str:
    """What tells one place that notifications go to from another; not readable, as an endpoint may hold a secret."""
    place = json.dumps([channel.get("type"), channel.get("endpoint")])
    return hashlib.sha256(place.encode()).hexdigest()


def shaken_record(id: str, channel: Mapping[str, Any]) -> Record:
    """That a channel has answered the handshake of a Subscription."""
    return Record(SHAKEN, id, {"channel": fingerprint(channel)})


async def shaken(services: Services, id: str, channel: Mapping[str, Any]) -> bool:
    """Whether this channel is the one that answered the handshake last."""
    record = await services.store.record(SHAKEN, id)
    return record is not None and record.data["channel"] == fingerprint(channel)


async def held_record(services: Services, id: str, by: str) -> Record:
    """That a person has paused the deliveries of a Subscription, now."""
    return Record(HELD, id, {"by": by, "since": services.clock(), "born": (await state_of(services, id)).born})


async def held(services: Services, id: str) -> tuple[int, str] | None:
    """Since when (milliseconds since 1970) and by whom deliveries are paused; None where they are not.

    What was paused ends with the Subscription: one that is created anew under its id is not.
    """
    record = await services.store.record(HELD, id)
    if record is None or record.data["born"] != (await state_of(services, id)).born:
        return None
    return int(record.data["since"]), str(record.data["by"])
