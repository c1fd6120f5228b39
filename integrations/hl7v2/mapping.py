"""One message → the resources that it says something about; pure: what is stored already comes in through `World`.

Specification: v2-to-FHIR guide, message maps (https://build.fhir.org/ig/HL7/v2-to-fhir/message_maps.html)
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Maps
from typing import Any, Protocol
from urllib.parse import quote

from integrations.hl7v2.datatypes import Element, Source
from integrations.hl7v2.errors import EVENT, TYPE, Refusal
from integrations.hl7v2.message import Message

Resource = dict[str, Any]
Key = tuple[str, str]
"""Type and id of a resource."""

_SPACE = uuid.UUID("5f0d5f6e-7a55-5c1c-9d5e-2f5a9f0b6a11").bytes


def stable_id(*parts: str) -> str:
    """An id (UUID version 5) that follows from a business key: the same key gives the same resource, whoever comes first."""
    digest = bytearray(hashlib.sha1(_SPACE + "\x1f".join(parts).encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class World(Protocol):
    """What a mapping may ask about what is stored; it notes each question, because the answers must still hold at the commit."""

    def content(self, key: Key) -> Resource | None:
        """The stored content (not to be changed), or None."""

    def exists(self, key: Key) -> bool: ...


class Mapping:
    """What one message becomes: collects resources by (type, id), each at most once.

    `late(key)`: whether the store knows of a later event about this resource from the same sender.
    """

    def __init__(self, message: Message, source: Source, patient_id: str, world: World, late: Callable[[Key], bool] | None = None) -> None:
        self.message, self.source, self.patient_id = message, source, patient_id
        self._world, self._late = world, late
        self.resources: dict[Key, Resource] = {}
        self.events: set[Key] = set()
        """Resources whose state this message's event tells (and which an older event must not set back)."""
        self.warnings: list[str] = []
        control = quote(message.control_id, safe="-._~")
        self.tag = f"urn:hl7v2:{source.name}#{control}"

    @property
    def subject(self) -> Element:
        """The reference to the message's patient."""
        return {"reference": f"Patient/{self.patient_id}"}

    def current(self, type: str, id: str) -> Resource | None:
        """What is there: of this message's own making, else of the store. A new dict whose inner parts are not to be changed."""
        made = self.resources.get((type, id))
        if made is not None:
            return made
        stored = self._world.content((type, id))
        return dict(stored) if stored is not None else None

    def known(self, type: str, id: str) -> bool:
        """Whether a resource is there."""
        return (type, id) in self.resources or self._world.exists((type, id))

    def late(self, type: str, id: str) -> bool:
        """Whether this message is older than what was told about a resource before: then it only adds what is missing."""
        self.events.add((type, id))
        return self._late is not None and self._late((type, id))

    def put(self, resource: Resource) -> Element:
        """Add or replace a resource; gives a reference to it."""
        type, id = resource["resourceType"], resource["id"]
        before = resource.get("meta")
        if before:
            meta = {name: value for name, value in before.items() if name not in ("versionId", "lastUpdated")}
            resource["meta"] = {**meta, "source": self.tag}
        else:
            resource["meta"] = {"source": self.tag}
        self.resources[type, id] = resource
        return {"reference": f"{type}/{id}"}

    def once(self, resource: Resource) -> Element:
        """Add a resource unless it is there already; gives a reference to it."""
        type, id = resource["resourceType"], resource["id"]
        if not self.known(type, id):
            return self.put(resource)
        return {"reference": f"{type}/{id}"}


Handler = Callable[[Mapping], None]


Messages = Maps[str, Maps[str, Handler]]
"""Message type -> event -> map."""
Segments = Maps[str, Sequence[Handler]]
"""Name of a segment -> what is done after the message's own map where the message has such a one."""
NO_SEGMENTS: Segments = {}


def handler_of(message: Message, messages: Messages, segments: Segments = NO_SEGMENTS) -> Handler:
    """The map of the message's type and event, and then of its segments; raises Refusal AR 200 or 201."""
    events = messages.get(message.type)
    if events is None:
        raise Refusal("AR", TYPE, f"Messages of type '{message.type}' are not accepted; accepted: {', '.join(sorted(messages))}", "MSH-9")
    # Version 2.1 writes ORU alone where there is but one event.
    handler = events.get(message.event or (next(iter(events)) if len(events) == 1 else ""))
    if handler is None:
        raise Refusal(
            "AR", EVENT, f"{message.type}^{message.event or '?'} is not accepted; accepted events: {', '.join(sorted(events))}", "MSH-9"
        )
    present = {segment.name for segment in message} if segments else ()
    further = [one for name, own in segments.items() if name in present for one in own]
    return _one_after_another([handler, *further]) if further else handler


def _one_after_another(handlers: Sequence[Handler]) -> Handler:
    def map(mapping: Mapping) -> None:
        for handler in handlers:
            handler(mapping)

    return map
