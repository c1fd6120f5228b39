"""One message → the resources that it says something about; pure: what is stored already comes in through `current`.

Specification: v2-to-FHIR guide, message maps (https://build.fhir.org/ig/HL7/v2-to-fhir/message_maps.html)
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from integrations.hl7v2.datatypes import Element, Source
from integrations.hl7v2.errors import EVENT, TYPE, Refusal
from integrations.hl7v2.message import Message

Resource = dict[str, Any]
Current = Callable[[str, str], Resource | None]
"""The stored content of a resource (type, id), or None."""

_SPACE = uuid.UUID("5f0d5f6e-7a55-5c1c-9d5e-2f5a9f0b6a11")


def stable_id(*parts: str) -> str:
    """An id that follows from a business key: the same key gives the same resource, whoever comes first."""
    return str(uuid.uuid5(_SPACE, "\x1f".join(parts)))


class Mapping:
    """What one message becomes: collects resources by (type, id), each at most once."""

    def __init__(self, message: Message, source: Source, patient_id: str, patient_key: str, current: Current) -> None:
        self.message, self.source, self.patient_id, self.patient_key = message, source, patient_id, patient_key
        self._current = current
        self.resources: dict[tuple[str, str], Resource] = {}
        self.warnings: list[str] = []
        control = quote(message.control_id, safe="-._~")
        self.tag = f"urn:hl7v2:{source.name}#{control}"

    @property
    def subject(self) -> Element:
        """The reference to the message's patient."""
        return {"reference": f"Patient/{self.patient_id}"}

    def current(self, type: str, id: str) -> Resource | None:
        """A copy of what is there: of this message's own making, else of the store."""
        made = self.resources.get((type, id))
        if made is not None:
            return made
        stored = self._current(type, id)
        return copy.deepcopy(stored) if stored is not None else None

    def put(self, resource: Resource) -> Element:
        """Add or replace a resource; gives a reference to it."""
        type, id = resource["resourceType"], resource["id"]
        meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
        resource["meta"] = {**meta, "source": self.tag}
        self.resources[type, id] = resource
        return {"reference": f"{type}/{id}"}

    def once(self, resource: Resource) -> Element:
        """Add a resource unless it is there already; gives a reference to it."""
        type, id = resource["resourceType"], resource["id"]
        if self.current(type, id) is None:
            return self.put(resource)
        return {"reference": f"{type}/{id}"}


Handler = Callable[[Mapping], None]


def handler_of(message: Message) -> Handler:
    """The map of the message's type and event; raises Refusal AR 200 or 201."""
    from integrations.hl7v2.maps import HANDLERS

    events = HANDLERS.get(message.type)
    if events is None:
        raise Refusal("AR", TYPE, f"Messages of type '{message.type}' are not accepted; accepted: {', '.join(sorted(HANDLERS))}", "MSH-9")
    handler = events.get(message.event)
    if handler is None:
        raise Refusal(
            "AR", EVENT, f"{message.type}^{message.event or '?'} is not accepted; accepted events: {', '.join(sorted(events))}", "MSH-9"
        )
    return handler
