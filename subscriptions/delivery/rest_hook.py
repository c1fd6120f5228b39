"""The request of a rest-hook notification, made of a Subscription and what it tells; pure.

Of a topic it is a POST of a notification Bundle. Of a search: without `channel.payload` a POST with an empty body; with it, the resource is
sent as an update, `PUT endpoint/Type/id`.
Specification: https://hl7.org/fhir/R4/subscription.html#2.46.5.1 (rest-hook), conformance.md K6, K22.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from fhir_server.model import json_codec
from fhir_server.model.xml_writing import to_xml
from fhir_server.storage.port import Stored
from subscriptions.delivery.notification import told

Resource = dict[str, Any]

JSON_TYPES = ("application/fhir+json", "application/json")
XML_TYPES = ("application/fhir+xml", "application/xml")
MEDIA_TYPES = (*JSON_TYPES, *XML_TYPES)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
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
        return f"{name} has a value with line breaks or control characters"
    if name.lower() in _OWN:
        return f"{name} belongs to the connection and cannot be set"
    return None


def payload_type(channel: Resource) -> str:
    """The media type of the payload without parameters, '' when notifications are empty."""
    return str(channel.get("payload", "")).partition(";")[0].strip().lower()


def call_of(channel: Resource, stored: Stored) -> Call:
    """The notification of one version."""
    endpoint = str(channel.get("endpoint", ""))
    if not payload_type(channel):
        return empty(channel)
    place = _below(endpoint, f"{stored.type}/{stored.id}")
    xml = payload_type(channel) in XML_TYPES
    if xml or stored.type == "Subscription":
        content = told(stored)
        return Call("PUT", place, _with_media(channel), to_xml(content) if xml else json_codec.dumps(content))
    return Call("PUT", place, _with_media(channel), stored.body)


def empty(channel: Resource) -> Call:
    """A POST without a body: something has happened."""
    return Call("POST", str(channel.get("endpoint", "")), [*_headers(channel), ("Content-Length", "0")], b"")


def posted(channel: Resource, bundle: Resource, url: str = "") -> Call:
    """A POST of a Bundle in the form that the channel asks for, JSON where it says nothing. `url`: another one than the endpoint."""
    body = to_xml(bundle) if payload_type(channel) in XML_TYPES else json_codec.dumps(bundle)
    return Call("POST", url or str(channel.get("endpoint", "")), _with_media(channel), body)


def _headers(channel: Resource) -> list[tuple[str, str]]:
    return [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in channel.get("header", ()))]


def _with_media(channel: Resource) -> list[tuple[str, str]]:
    """The subscriber's headers, and the media type of the payload."""
    headers = [(name, value) for name, value in _headers(channel) if name.lower() != "content-type"]
    media = str(channel.get("payload") or JSON_TYPES[0])
    return [*headers, ("Content-Type", media if "charset" in media else f"{media};charset=utf-8")]


def _below(endpoint: str, path: str) -> str:
    """`path` below the endpoint's own path; its query stays."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))
