"""The notification Bundle of a topic-based Subscription in R4: its status as Parameters, then what it tells of.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html, conformance.md K7–K13
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_server.auth.gate import Gate, Principal
from fhir_server.interactions.headers import instant
from fhir_server.model import json_codec
from fhir_server.storage.port import Stored
from fhir_server.validation.values import listed
from subscriptions.watch import BACKPORT

Resource = dict[str, Any]

HIDDEN = "***"
CONTENTS = ("empty", "id-only", "full-resource")
_GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_CONTENT, _HEARTBEAT, _TIMEOUT, _MOST = (
    f"{BACKPORT}backport-{name}" for name in ("payload-content", "heartbeat-period", "timeout", "max-count")
)


class Event(NamedTuple):
    """One event of a Subscription. `time`: milliseconds since 1970 of the change; `interaction`: create, update or delete."""

    number: int
    type: str
    id: str
    version: int
    time: int
    interaction: str
    topic: str = ""
    """What was subscribed to, and with how much content; '' of a search."""
    content: str = ""


class Wish(NamedTuple):
    """What the channel of a topic-based Subscription asks for. Seconds; 0 where nothing is said. `content` '' where it is missing."""

    content: str
    heartbeat: int
    timeout: int
    most: int


def wish_of(channel: Mapping[str, Any]) -> Wish:
    """The extensions of a channel, whatever they hold."""
    beside = channel.get("_payload")
    content = _extension(beside if isinstance(beside, dict) else {}, _CONTENT)
    numbers = [_extension(channel, url) for url in (_HEARTBEAT, _TIMEOUT, _MOST)]
    heartbeat, timeout, most = (number if isinstance(number, int) and number > 0 else 0 for number in numbers)
    return Wish(str(content or ""), heartbeat, timeout, most)


def _extension(holder: Mapping[str, Any], url: str) -> Any:
    row = next((one for one in listed(holder, "extension") if one.get("url") == url), {})
    return next((value for key, value in row.items() if key.startswith("value")), None)


def less(content: str, limit: str) -> str:
    """The smaller one of two contents; '' sets no limit."""
    return min(content, limit, key=CONTENTS.index) if content and limit else content


def status_of(
    kind: str,
    subscription: Resource,
    base: str,
    count: int,
    events: Sequence[Event] = (),
    *,
    focus: bool = False,
    status: str = "",
    versions: Mapping[int, Stored] | None = None,
) -> Resource:
    """The Parameters of a status: `kind` is handshake, heartbeat, event-notification, query-status or query-event.

    `count`: events since the Subscription began. `focus`: the events name their resources, and the topic is told; only those do whose
    version the subscriber may see (`versions`, by event number), the others are told by their number alone.
    """
    id = str(subscription.get("id", ""))
    rows: list[Resource] = [{"name": "subscription", "valueReference": {"reference": f"{base}/Subscription/{id}"}}]
    if kind != "event-notification" or focus:
        topic = events[0].topic if events else ""
        rows.append({"name": "topic", "valueCanonical": topic or str(subscription.get("criteria", ""))})
    rows += [
        {"name": "status", "valueCode": status or str(subscription.get("status", ""))},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(count)},
    ]
    for event in events:
        parts: list[Resource] = [
            {"name": "event-number", "valueString": str(event.number)},
            {"name": "timestamp", "valueInstant": instant(event.time)},
        ]
        if focus and event.number in (versions or {}):
            parts.append({"name": "focus", "valueReference": {"reference": f"{base}/{event.type}/{event.id}"}})
        rows.append({"name": "notification-event", "part": parts})
    if subscription.get("error"):
        rows.append({"name": "error", "valueCodeableConcept": {"text": str(subscription["error"])}})
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{_GUIDE}backport-subscription-status-r4"]},
        "parameter": rows,
    }


def bundle_of(
    status: Resource, subscription: Resource, base: str, now: int, events: Sequence[Event], content: str, versions: Mapping[int, Stored]
) -> Resource:
    """The Bundle of a notification. `versions`: event number -> the version that it tells of, of those that the subscriber may see."""
    id = str(subscription.get("id", ""))
    entries: list[Resource] = [
        {
            "fullUrl": f"urn:uuid:{status['id']}",
            "resource": status,
            "request": {"method": "GET", "url": f"{base}/Subscription/{id}/$status"},
            "response": {"status": "200"},
        }
    ]
    if content != "empty":
        for event in events:
            if (version := versions.get(event.number)) is not None:
                entries.append(_entry(event, base, version if content == "full-resource" else None))
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{_GUIDE}backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(now),
        "entry": entries,
    }


async def visible(events: Sequence[Event], content: str, gate: Gate, principal: Principal) -> dict[int, Stored]:
    """Event number -> the version that it tells of, of those that the principal may see now; nothing where the content is empty."""
    found: dict[int, Stored] = {}
    for event in events if content != "empty" else ():
        version = await gate.read_version(principal, event.type, event.id, event.version)
        if version is not None:
            found[event.number] = version
    return found


_METHODS = {"create": ("POST", "201"), "update": ("PUT", "200"), "delete": ("DELETE", "204")}


def _entry(event: Event, base: str, version: Stored | None) -> Resource:
    method, status = _METHODS[event.interaction]
    url = event.type if event.interaction == "create" else f"{event.type}/{event.id}"
    made: Resource = {
        "fullUrl": f"{base}/{event.type}/{event.id}",
        "request": {"method": method, "url": url},
        "response": {"status": status},
    }
    if version is not None and event.interaction != "delete":
        made["resource"] = told(version)
    return made


def told(version: Stored) -> Resource:
    """The content of a version as it may be sent: of a Subscription without what its headers hold, which may be keys to other servers."""
    content: Resource = json_codec.loads(version.body)
    channel = content.get("channel")
    if version.type != "Subscription" or not isinstance(channel, dict) or "header" not in channel:
        return content
    return {**content, "channel": {**channel, "header": [f"{str(line).partition(':')[0]}: {HIDDEN}" for line in channel["header"]]}}
