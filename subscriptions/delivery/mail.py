"""The mail of a notification: a text that people can read, and on demand the Bundle or resource as an attachment.

The text says no more than the Subscription's content level allows. Specification: https://hl7.org/fhir/R4/subscription.html#channels
(email), https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#email, conformance.md K21
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fhir_server.model import json_codec
from fhir_server.model.xml_writing import to_xml
from subscriptions.channel import Attachment, Message

Resource = Mapping[str, Any]

_WORD = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+"
_ADDRESS = re.compile(rf"(?i:mailto):({_WORD}(?:\.{_WORD})*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{{2,}})\Z")
_PAYLOAD = re.compile(r"text/plain(?:;\s*charset=utf-8)?(?:;\s*attach=(application/fhir\+(?:json|xml)))?\Z", re.I)
_TOLD = {
    "handshake": ("a Subscription begins", "订阅开始"),
    "heartbeat": ("a Subscription is alive", "订阅仍在运行"),
    "event-notification": ("an event of a Subscription", "订阅事件"),
}


def address_of(endpoint: str) -> str:
    """The mail address of a `mailto:` endpoint, '' where it is none."""
    found = _ADDRESS.match(endpoint)
    return found[1] if found else ""


def attached(payload: str) -> str | None:
    """The media type of the attachment that a payload asks for, '' for none; None where the payload is no text."""
    if not payload:
        return ""
    found = _PAYLOAD.match(payload.strip())
    return (found[1] or "").lower() if found else None


def mail_of(subscription: Resource, kind: str, key: str, lines: list[tuple[str, str, str]], content: Resource | None, now: int) -> Message:
    """`lines`: (English, Chinese, value) of the text; `content`: what is attached, if the payload asks for it."""
    channel = subscription["channel"]
    english, chinese = _TOLD[kind]
    text = "\n".join(f"{name} {zh}: {value}" for name, zh, value in lines)
    media = attached(str(channel.get("payload", "")))
    files: tuple[Attachment, ...] = ()
    if media and content is not None:
        xml = media.endswith("xml")
        files = (
            Attachment(
                "notification.xml" if xml else "notification.json", media, to_xml(content) if xml else json_codec.dumps(dict(content))
            ),
        )
    return Message(
        key,
        address_of(str(channel.get("endpoint", ""))),
        " ".join(f"{chinese} – {english}: {str(subscription.get('reason') or subscription.get('id'))[:80]}".split()),
        text + "\n",
        now,
        attachments=files,
    )
