"""What a Subscription must be to be accepted: what is not served is refused at creation, with its reason.

Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K17, K22, K23.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fhir_server.errors import FhirError, Issue
from subscriptions.criteria import compile_criteria
from subscriptions.delivery.endpoint import EndpointPolicy
from subscriptions.delivery.rest_hook import JSON_TYPES, header_complaint, payload_type

Resource = dict[str, Any]

CHANNELS = ("rest-hook",)
"""Channel types that are served so far; websocket, email and message follow, sms with its adapters."""
HEADERS = 20
_BACKPORT = re.compile(
    r"backport-(topic|filter-criteria|channel-type|payload-content)|/5\.0/StructureDefinition/extension-Subscription|/subscriptions-backport/"
)


def check_subscription(resource: Resource, parser: Any, types: tuple[str, ...], policy: EndpointPolicy) -> list[Issue]:
    """Issues (HTTP 422) of a Subscription that a client wants to create or update; none when it will be served.

    `resource` has passed the structural check; `parser` is the search parser, `types` the resource types.
    A Subscription that the client switches off may say what it likes.
    """
    if resource.get("status") == "off":
        return []
    return list(_issues(resource, parser, types, policy))


def _issues(resource: Resource, parser: Any, types: tuple[str, ...], policy: EndpointPolicy) -> Iterator[Issue]:
    try:
        compile_criteria(str(resource.get("criteria", "")), parser, types)
    except FhirError as fault:
        yield from fault.issues
    yield from _backport(resource)
    channel = resource.get("channel", {})
    kind = channel.get("type")
    if kind not in CHANNELS:
        yield _issue("not-supported", "channel.type", f"'{kind}' is not served; served are: {', '.join(CHANNELS)}")
        return
    endpoint = channel.get("endpoint")
    if not endpoint:
        yield _issue("required", "channel.endpoint", "a rest-hook needs the URL that is called")
    elif complaint := policy.complaint(str(endpoint)):
        yield _issue("value", "channel.endpoint", f"the endpoint {complaint}")
    if payload_type(channel) and payload_type(channel) not in JSON_TYPES:
        yield _issue(
            "not-supported", "channel.payload", f"'{channel['payload']}' is not served; served are: {', '.join(JSON_TYPES)}, or none"
        )
    elif any(ord(letter) < 32 or ord(letter) > 126 for letter in str(channel.get("payload", ""))):
        yield _issue("value", "channel.payload", "contains characters that no media type has")
    headers = channel.get("header", ())
    if len(headers) > HEADERS:
        yield _issue("too-costly", "channel.header", f"more than {HEADERS} headers")
    for number, line in enumerate(headers):
        if complaint := header_complaint(str(line)):
            yield _issue("value", f"channel.header[{number}]", f"the header {complaint}")


def _backport(resource: Resource) -> Iterator[Issue]:
    """Extensions of the topic-based form would change what is sent: not understood means refused, never ignored."""
    places = [
        ("criteria", resource.get("_criteria", {})),
        ("channel.payload", resource.get("channel", {}).get("_payload", {})),
        ("channel.type", resource.get("channel", {}).get("_type", {})),
    ]
    for place, element in places:
        for extension in (element or {}).get("extension", ()):
            if _BACKPORT.search(str(extension.get("url", ""))):
                yield _issue(
                    "not-supported",
                    place,
                    f"the extension {extension['url']} belongs to topic-based subscriptions, which are not served yet",
                )


def _issue(code: str, place: str, text: str) -> Issue:
    return Issue(code, f"Subscription.{place}: {text}", (f"Subscription.{place}",))
