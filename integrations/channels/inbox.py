"""The on-screen inbox: messages kept as records of the store, shown by the console and later by the patient's pages.

Nothing leaves the store, so a message is delivered in the very unit that records it. Records: collection `inbox`; attributes
`recipient` and `patient` (references); data `text`, `subject`, `priority`, `sent` (milliseconds since 1970), `communication`, `read`.
"""

from __future__ import annotations

from typing import Any

from fhir_server.storage.port import Record
from subscriptions.channel import Message, Receipt

COLLECTION = "inbox"


def entry(message: Message) -> Record:
    """The inbox record of a message; its key is the message's idempotency key."""
    data = {
        "subject": message.subject,
        "text": message.text,
        "priority": message.priority,
        "sent": message.at,
        "communication": message.communication,
        "read": False,
    }
    attributes = {name: value for name, value in (("recipient", message.recipient), ("patient", message.patient)) if value}
    return Record(COLLECTION, message.key, data, attributes)


class Inbox:
    """The channel `inbox`: reaches everybody who has a record here."""

    code = "inbox"
    participation = ""
    external = False

    def address(self, recipient: dict[str, Any]) -> str | None:
        """The recipient itself; a message without a known recipient lies in the common inbox ('')."""
        kind, id = recipient.get("resourceType"), recipient.get("id")
        return f"{kind}/{id}" if kind and id else ""

    async def send(self, message: Message) -> Receipt:
        return Receipt("delivered", records=(entry(message),))
