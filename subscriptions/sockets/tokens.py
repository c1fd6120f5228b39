"""Binding tokens: which Subscriptions a connection may bind, signed, for a short time.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-get-ws-binding-token.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

SECRET = "websocket"
"""Name of the store's secret, which all processes on it share."""


def signed(ids: Sequence[str], expires: int, secret: bytes) -> str:
    """A token for Subscriptions until a time in milliseconds since 1970."""
    text = _packed(json.dumps({"ids": list(ids), "expires": expires}).encode())
    return f"{text}.{_packed(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def opened(token: str, now: int, secret: bytes) -> list[str] | None:
    """The Subscriptions of a token; None where it is not one of ours, or too old."""
    text, _, signature = token.partition(".")
    try:
        if not hmac.compare_digest(_unpacked(signature), hmac.digest(secret, text.encode(), hashlib.sha256)):
            return None
        said = json.loads(_unpacked(text))
    except ValueError:
        return None
    return [str(id) for id in said["ids"]] if said["expires"] > now else None


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
