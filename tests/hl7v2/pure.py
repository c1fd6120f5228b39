"""Messages mapped without a server: what they become where nothing is stored yet."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from integrations.hl7v2.datatypes import Source
from integrations.hl7v2.mapping import Key, Mapping, handler_of, stable_id
from integrations.hl7v2.maps import HANDLERS
from integrations.hl7v2.maps.persons import keys_of
from integrations.hl7v2.message import Delimiters, Field, Message, Segment

ZONE = ZoneInfo("Asia/Shanghai")
SOURCE = Source("LIS", ZONE)
MARKS = Delimiters("MSH|^~\\&|")


class Nothing:
    """A store without content."""

    def __init__(self, stored: dict[Key, dict[str, Any]] | None = None) -> None:
        self._stored = stored or {}

    def content(self, key: Key) -> dict[str, Any] | None:
        return self._stored.get(key)

    def exists(self, key: Key) -> bool:
        return key in self._stored


def field(raw: str) -> Field:
    return Field(raw, MARKS)


def segment(raw: str) -> Segment:
    return Segment(raw, MARKS)


def mapped(text: str, stored: dict[Key, dict[str, Any]] | None = None) -> Mapping:
    """Raises Refusal as the pipeline would."""
    message = Message(text)
    message.check_header()
    source = Source(message.sender[0] or message.sender[1] or "default", ZONE)
    handler = handler_of(message, HANDLERS)
    keys = keys_of(message, source)
    mapping = Mapping(message, source, stable_id("Patient", *keys[0]), Nothing(stored))
    handler(mapping)
    return mapping


def only(mapping: Mapping, type: str) -> dict[str, Any]:
    """The one resource of a type."""
    rows = [resource for (kind, _), resource in mapping.resources.items() if kind == type]
    assert len(rows) == 1, f"{len(rows)} {type}"
    return rows[0]
