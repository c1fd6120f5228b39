"""What people are shown of a Subscription: never headers, never more of an endpoint than its host.

Pure functions. Specification: https://hl7.org/fhir/R4/subscription.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from subscriptions.desk import Attempt

STATES = ("requested", "active", "error", "off")
"""http://hl7.org/fhir/subscription-status"""
_URL = re.compile(r"(https?://)[^\s\"'<>]*[^\s\"'<>:,;.)]", re.IGNORECASE)
_LONG = 300
"""Characters of a text that a table shows."""


def host_of(endpoint: Any) -> str:
    """The host (and port) that an endpoint names; of a mail address what stands behind the @; '' where there is none.

    User, password, path and query of a URL may hold secrets, the name in a mail address is a person's.
    """
    text = str(endpoint or "").strip()
    if text.lower().startswith("mailto:"):
        return text.partition("?")[0].rpartition("@")[2] if "@" in text else ""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if host and port is not None else shown


def described(subscription: Mapping[str, Any], topic: str = "") -> dict[str, Any]:
    """What the Subscription itself says; `topic`: the title of the one that its criteria name."""
    channel = subscription.get("channel", {})
    return {
        "id": str(subscription.get("id", "")),
        "reason": _short(subscription.get("reason")),
        "criteria": _short(subscription.get("criteria")),
        "topic": _short(topic),
        "channel": str(channel.get("type", "")),
        "host": host_of(channel.get("endpoint")),
        "status": str(subscription.get("status", "")),
        "error": fault_text(subscription.get("error")),
    }


def attempt_line(attempt: Attempt) -> dict[str, Any]:
    """A line of the delivery log."""
    return {**attempt._asdict(), "status": fault_text(attempt.status)}


def last_error(shown: Mapping[str, Any], log: list[dict[str, Any]]) -> str:
    """What went wrong last: what the Subscription says, else what the last attempt says if it failed."""
    return str(shown["error"]) or next((str(line["status"]) for line in log[:1] if not line["taken"]), "")


def fault_text(text: Any) -> str:
    """What went wrong, with no more of the addresses in it than their hosts: some receivers have their secret in the path."""
    return _short(_URL.sub(lambda found: f"{found[1]}{host_of(found[0])}", str(text or "")))


def _short(text: Any) -> str:
    whole = str(text or "")
    return whole if len(whole) <= _LONG else whole[: _LONG - 1] + "…"
