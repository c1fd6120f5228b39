"""What is kept of a Subscription's events: how many there were, and of topics each one, to be asked for again.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html
"""

from __future__ import annotations

from fhir_server.storage.port import Record
from subscriptions.delivery.notification import Event
from subscriptions.jobs.kinds import Services

COUNTS, EVENTS = "subscription-count", "subscription-event"
"""Collections of records."""


def event_record(id: str, event: Event) -> Record:
    """An event to be kept; a second one of the same number refuses the unit."""
    return Record(EVENTS, f"{id}/{event.number:015d}", event._asdict(), {"subscription": id}, only_new=True)


async def count_of(services: Services, id: str) -> int:
    """How many events a Subscription has had."""
    record = await services.store.record(COUNTS, id)
    return int(record.data["count"]) if record else 0


async def events_of(services: Services, id: str, first: int, last: int) -> list[Event]:
    """The events of a topic-based Subscription with numbers from `first` to `last`, in order."""
    found = []
    for number in range(first, last + 1):
        record = await services.store.record(EVENTS, f"{id}/{number:015d}")
        if record is not None:
            found.append(Event(**record.data))
    return found
