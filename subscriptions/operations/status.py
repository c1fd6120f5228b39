"""Subscription `$status`: the state of one Subscription, or of those that are asked for.

Specification: conformance.md K15,
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked
from fhir_server.search.query import Everything, Ids, Or, Position, Query
from fhir_server.storage.port import Stored
from subscriptions.delivery.notification import status_of
from subscriptions.events import count_of

STATES = ("requested", "active", "error", "off")
MOST = 1000
"""Subscriptions in one answer."""


async def subscription_of(context: Context, request: Request, id: str) -> dict[str, Any]:
    """The Subscription of the address. Raises FhirError 404, 410."""
    stored = await context.gate.read(request.principal, "Subscription", id)
    if stored is None:
        raise unknown("Subscription", id)
    if stored.deleted:
        raise gone(stored)
    found: dict[str, Any] = json_codec.loads(stored.body)
    return found


async def status(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with a searchset of one Parameters each. On an instance no parameter counts. Raises FhirError 400, 404, 410."""
    if id is not None:
        found = [await subscription_of(context, request, id)]
    else:
        asked = Asked("status", request, ("id", "status"), ("id", "status"))
        found = await _asked_for(context, request, asked.words("id"), asked.words("status"))
    services = context.parts["jobs"].jobs.services
    entries = []
    for subscription in found:
        count = await count_of(services, str(subscription["id"]))
        told = status_of("query-status", subscription, request.base, count)
        entries.append({"fullUrl": f"urn:uuid:{told['id']}", "resource": told, "search": {"mode": "match"}})
    answer: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "timestamp": instant(context.clock()), "total": len(entries)}
    return Response(200, json_codec.dumps({**answer, "entry": entries} if entries else answer))


async def _asked_for(context: Context, request: Request, ids: list[str], states: list[str]) -> list[dict[str, Any]]:
    strange = [one for one in states if one not in STATES]
    if strange:
        what = f"status={strange[0][:40]} is not one of {', '.join(STATES)}"
        raise FhirError.of(400, "value", what, "status", zh=f"status={strange[0][:40]} 无效，应为 {', '.join(STATES)}")
    where = Or(tuple(Ids((one,)) for one in ids)) if ids else Everything()
    found: list[dict[str, Any]] = []
    after: Position | None = None
    while len(found) < MOST:
        page = await context.gate.search(request.principal, Query(("Subscription",), where, limit=MOST), after)
        found += [one for one in map(_content, page.items) if not states or one.get("status") in states]
        after = page.next
        if after is None:
            break
    return found[:MOST]


def _content(stored: Stored) -> dict[str, Any]:
    found: dict[str, Any] = json_codec.loads(stored.body)
    return found


OPERATION = Operation(
    "status",
    status,
    "subscription-status",
    frozenset({"type", "instance"}),
    types=("Subscription",),
    definition="http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-status",
    title="The state of a Subscription and how many events it has had",
)
