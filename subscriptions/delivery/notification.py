"""The notification Bundle of a topic-based Subscription in R4: its status as Parameters, then what it tells of.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html, conformance.md K7–K13
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


class Sight(NamedTuple):
    """What is told of an event: its version, resources beside it, and (code, query) of what may be asked for."""

    version: Stored
    beside: tuple[Stored, ...] = ()
    related: tuple[tuple[Mapping[str, Any], str], ...] = ()


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
    seen: Mapping[int, Sight] | None = None,
) -> Resource:
    """The Parameters of a status: `kind` is handshake, heartbeat, event-notification, query-status or query-event.

    `count`: events since the Subscription began. `focus`: the events name their resources, and the topic is told; only those do which
    the subscriber may see (`seen`, by event number), the others are told by their number alone.
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
        if focus and (sight := (seen or {}).get(event.number)) is not None:
            parts.append({"name": "focus", "valueReference": {"reference": f"{base}/{event.type}/{event.id}"}})
            parts += [{"name": "additional-context", "valueReference": {"reference": _place(base, one)}} for one in sight.beside]
            parts += [_related(*one) for one in sight.related]
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
    status: Resource, subscription: Resource, base: str, now: int, events: Sequence[Event], content: str, seen: Mapping[int, Sight]
) -> Resource:
    """The Bundle of a notification. `seen`: event number -> what it tells of, where the subscriber may see that."""
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
        shown = [(event, seen[event.number]) for event in events if event.number in seen]
        entries += [_entry(event, base, sight.version if content == "full-resource" else None) for event, sight in shown]
        told_of = {(event.type, event.id) for event, _ in shown}
        beside = {(one.type, one.id): one for _, sight in shown for one in sight.beside if content == "full-resource"}
        entries += [_beside(one, base) for place, one in beside.items() if place not in told_of]
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{_GUIDE}backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(now),
        "entry": entries,
    }


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


def _beside(version: Stored, base: str) -> Resource:
    return {
        "fullUrl": _place(base, version),
        "resource": told(version),
        "request": {"method": "GET", "url": f"{version.type}/{version.id}"},
        "response": {"status": "200"},
    }


def _place(base: str, version: Stored) -> str:
    return f"{base}/{version.type}/{version.id}"


def _related(kind: Mapping[str, Any], query: str) -> Resource:
    coding = [{"name": "query-type", "valueCoding": dict(kind)}] if kind else []
    return {"name": "related-query", "part": [*coding, {"name": "query", "valueString": query}]}


def told(version: Stored) -> Resource:
    """The content of a version as it may be sent: of a Subscription without what may be keys to other servers.

    These are the values of its headers, and the query of its endpoint.
    """
    content: Resource = json_codec.loads(version.body)
    channel = content.get("channel")
    if version.type != "Subscription" or not isinstance(channel, dict):
        return content
    kept = dict(channel)
    if "header" in kept:
        kept["header"] = [f"{str(line).partition(':')[0]}: {HIDDEN}" for line in kept["header"]]
    endpoint, question, _ = str(kept.get("endpoint", "")).partition("?")
    if question:
        kept["endpoint"] = f"{endpoint}?{HIDDEN}"
    return {**content, "channel": kept}
