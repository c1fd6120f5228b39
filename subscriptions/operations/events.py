"""Subscription `$events`: notifications of events once more, by their numbers.

Specification: conformance.md K16,
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html
"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked
from subscriptions.delivery.notification import CONTENTS, bundle_of, less, status_of, wish_of
from subscriptions.events import count_of, events_of
from subscriptions.operations.status import subscription_of
from subscriptions.viewing import Viewer
from subscriptions.watch import names_topic

MOST = 500
"""Events in one answer; who wants more asks on with the next number."""


async def events(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with a history Bundle of the events from `eventsSinceNumber` to `eventsUntilNumber`, both among them.

    `content` may ask for less than the Subscription does, never for more. Raises FhirError 400, 404, 410.
    """
    asked = Asked("events", request, ("eventsSinceNumber", "eventsUntilNumber", "content"))
    subscription = await subscription_of(context, request, id or "")
    if not names_topic(str(subscription.get("criteria", ""))):
        what = "$events is for topic-based Subscriptions; these criteria are a search"
        raise FhirError.of(400, "not-supported", what, "Subscription.criteria", zh="$events 只用于基于主题的订阅")
    services = context.parts["jobs"].jobs.services
    count = await count_of(services, str(subscription["id"]))
    first, last = max(1, asked.number("eventsSinceNumber") or 1), asked.number("eventsUntilNumber")
    last = min(count if last is None else last, count, first + MOST - 1)
    said = asked.text("content")
    allowed = wish_of(subscription.get("channel", {})).content or CONTENTS[0]
    if said is not None and said not in CONTENTS:
        what = f"content={said[:40]} is not one of {', '.join(CONTENTS)}"
        raise FhirError.of(400, "value", what, "content", zh=f"content={said[:40]} 无效，应为 {', '.join(CONTENTS)}")
    content = allowed if said is None else less(said, allowed)
    found = await events_of(services, str(subscription["id"]), first, last)
    for event in found:
        content = less(content, event.content)
    viewer: Viewer = context.parts["viewer"]
    seen = await viewer.seen(found, content, request.principal, request.base)
    status = status_of("query-event", subscription, request.base, count, found, focus=content != "empty", seen=seen)
    bundle = bundle_of(status, subscription, request.base, context.clock(), found, content, seen)
    return Response(200, json_codec.dumps(bundle))


OPERATION = Operation(
    "events",
    events,
    "subscription-events",
    frozenset({"instance"}),
    types=("Subscription",),
    definition="http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-events",
    title="Notifications of events once more",
)
