"""Subscription `$get-ws-binding-token`: a token with which a websocket binds Subscriptions.

Specification: conformance.md K20,
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-get-ws-binding-token.html
"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked
from subscriptions.operations.status import subscription_of
from subscriptions.sockets.endpoint import MOST_BOUND, PATH
from subscriptions.sockets.tokens import SECRET, signed
from subscriptions.table import IN_FORCE
from subscriptions.watch import names_topic


async def get_ws_binding_token(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with token, expiration, subscriptions and websocket-url. Raises FhirError 400, 404, 410, 422."""
    ids = [id] if id is not None else Asked("get-ws-binding-token", request, ("id",), ("id",)).words("id")
    if not ids or len(ids) > MOST_BOUND:
        what = f"$get-ws-binding-token needs 1 to {MOST_BOUND} ids of Subscriptions"
        raise FhirError.of(400, "required", what, "id", zh=f"$get-ws-binding-token 需要 1 到 {MOST_BOUND} 个订阅 id")
    for one in ids:
        subscription = await subscription_of(context, request, one)
        if subscription.get("channel", {}).get("type") != "websocket":
            what = f"Subscription/{one} has another channel than websocket"
            raise FhirError.of(422, "not-supported", what, "id", zh=f"Subscription/{one} 的通道不是 websocket")
        if subscription.get("status") not in IN_FORCE or not names_topic(str(subscription.get("criteria", ""))):
            what = f"Subscription/{one} is not one on a topic that is in force (status {subscription.get('status')})"
            raise FhirError.of(422, "not-supported", what, "id", zh=f"Subscription/{one} 不是生效中的主题订阅")
    expires = context.clock() + context.settings.ws_token_seconds * 1000
    token = signed(ids, expires, await context.parts["store"].secret(SECRET))
    address = request.base.removesuffix("/fhir").replace("http", "ws", 1) + PATH
    rows = [
        {"name": "token", "valueString": token},
        {"name": "expiration", "valueDateTime": instant(expires)},
        *({"name": "subscription", "valueString": one} for one in ids),
        {"name": "websocket-url", "valueUrl": address},
    ]
    return Response(200, json_codec.dumps({"resourceType": "Parameters", "parameter": rows}))


OPERATION = Operation(
    "get-ws-binding-token",
    get_ws_binding_token,
    "subscription-binding-token",
    frozenset({"type", "instance"}),
    types=("Subscription",),
    definition="http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-get-ws-binding-token",
    title="A token with which a websocket binds Subscriptions",
)
