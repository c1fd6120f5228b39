"""The port through which messages leave towards people; adapters live in `integrations/channels`.

Specification: followup.md sections 3 and 11 (message centre).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.storage.port import Record


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    media: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One text for one recipient. `key` is the idempotency key (`CommunicationRequest/id|channel|attempt`); `to` the channel's address.

    `recipient` and `patient` are references ('Practitioner/1', 'Patient/1', '' = none); `at` is the clock's now, milliseconds since 1970.
    """

    key: str
    to: str
    subject: str
    text: str
    at: int
    priority: str = "routine"
    recipient: str = ""
    patient: str = ""
    communication: str = ""
    """Reference of the Communication that records this attempt."""
    attachments: tuple[Attachment, ...] = ()
    """Of channels that can carry them."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message.

    `outcome`: delivered | transient (try this channel again later) | permanent (this channel will never do it) |
    unknown (handed over, but the answer was lost).
    `status`: the provider's answer in one line; `records`: what must be written in the unit that records the delivery.
    """

    outcome: str
    status: str = ""
    provider_id: str = ""
    records: Sequence[Record] = ()


class Channel(Protocol):
    """One way to reach people. `code` is of CodeSystem `channel`, `participation` of v3-ParticipationMode ('' where none fits).

    `external`: the message leaves the store, so that a crash can leave its fate unknown; the attempt is then recorded before the hand-over.
    """

    code: str
    participation: str
    external: bool

    def address(self, recipient: dict[str, Any]) -> str | None:
        """Where this channel reaches the recipient (a Patient, Practitioner ... resource); None = not at all."""

    async def send(self, message: Message) -> Receipt:
        """Hand the message over; never raises for what the other side does."""
