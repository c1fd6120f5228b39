"""The request of a rest-hook notification, made of a Subscription and a version; pure.

Without `channel.payload` the notification is a POST with an empty body; with it, the resource is sent as an update,
`PUT endpoint/Type/id`. Specification: https://hl7.org/fhir/R4/subscription.html#2.46.5.1 (rest-hook), conformance.md K22.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from fhir_server.storage.port import Stored

Resource = dict[str, Any]

JSON_TYPES = ("application/fhir+json", "application/json")
_NAME = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_OWN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect", "proxy-connection"}
)
"""Headers of the connection itself: a subscriber does not set them."""


class Call(NamedTuple):
    """An HTTP request. `headers` hold the subscriber's secrets: never log them."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes

    def __repr__(self) -> str:
        return f"Call({self.method} {self.url})"


def header_complaint(line: str) -> str | None:
    """What is wrong with one `channel.header`; None when it can be sent. The value is not repeated in the text."""
    name, colon, value = line.partition(":")
    if not colon or not _NAME.match(name):
        return "must read 'Name: value' with a header name of RFC 9110 token characters"
    if any((ord(letter) < 32 and letter != "\t") or ord(letter) == 127 for letter in value):
        return f"the value of {name} contains line breaks or control characters"
    if name.lower() in _OWN:
        return f"{name} belongs to the connection and cannot be set"
    return None


def payload_type(channel: Resource) -> str:
    """The media type of the payload without parameters, '' when notifications are empty."""
    return str(channel.get("payload", "")).partition(";")[0].strip().lower()


def call_of(channel: Resource, stored: Stored) -> Call:
    """The notification of one version."""
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in channel.get("header", ()))]
    endpoint = str(channel.get("endpoint", ""))
    if not payload_type(channel):
        return Call("POST", endpoint, [*headers, ("Content-Length", "0")], b"")
    media = str(channel["payload"])
    own = [("Content-Type", media if "charset" in media else f"{media};charset=utf-8")]
    given = {name.lower() for name, _ in headers}
    return Call(
        "PUT", _below(endpoint, f"{stored.type}/{stored.id}"), [*headers, *(h for h in own if h[0].lower() not in given)], stored.body
    )


def _below(endpoint: str, path: str) -> str:
    """`path` below the endpoint's own path; its query stays."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))
