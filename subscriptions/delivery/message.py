"""The message of a notification: a Bundle of type message whose focus is the resource, or the notification Bundle of a topic.

Specification: https://hl7.org/fhir/R4/subscription.html#channels (message), https://hl7.org/fhir/R4/messaging.html, conformance.md K21
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fhir_server.interactions.headers import instant

Resource = dict[str, Any]
SEARCH_EVENT = "http://hl7.org/fhir/StructureDefinition/Subscription"
"""Event of the messages of a search; those of a topic have its canonical."""


def message_of(event: str, focus: Resource, place: str, base: str, endpoint: str, now: int) -> Resource:
    """`event`: the URI of what happened; `place`: fullUrl of the focus; `endpoint`: where the message goes."""
    header = {
        "resourceType": "MessageHeader",
        "id": str(uuid.uuid4()),
        "eventUri": event,
        "destination": [{"endpoint": endpoint}],
        "source": {"name": "fhir-server", "endpoint": base},
        "focus": [{"reference": place}],
    }
    entries = [{"fullUrl": f"urn:uuid:{header['id']}", "resource": header}, {"fullUrl": place, "resource": focus}]
    return {"resourceType": "Bundle", "id": str(uuid.uuid4()), "type": "message", "timestamp": instant(now), "entry": entries}


def processing(endpoint: str) -> str:
    """Where an application takes messages: its `$process-message`."""
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    return endpoint if path.endswith("$process-message") else urlunsplit(parts._replace(path=f"{path}/$process-message"))
