"""The message journal: raw bytes and outcome of each message, and the claim that makes it happen once.

A claim (sender, control id → content hash and answer) is written in the same unit as the journal's line and the resources, so copies that
race on several connections have one effect and one answer.
Decision: docs/decisions/0080-one-commit-per-message.md
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

from fhir_server.storage.port import Record, Store, StoredRecord, Unit
from integrations.hl7v2.message import Message

COLLECTION = "hl7v2"
CLAIMS = "hl7v2-claim"
LATEST = "hl7v2-latest"
_LATEST = 50
"""Resources of a patient whose latest event is kept."""


@dataclass(slots=True)
class Entry:
    """One received message on its way through the journal."""

    raw: bytes
    peer: str
    received_at: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    charset: str = "utf-8"
    type: str = ""
    control_id: str = ""
    source: str = ""
    claim: str = ""
    outcome: str = "AE"
    """AA, AE, AR or duplicate: for the counters."""

    def describe(self, message: Message, source: str) -> None:
        """What the header says."""
        application, facility = message.sender
        self.source = source
        self.type = f"{message.type}^{message.event}" if message.event else message.type
        self.control_id = message.control_id
        self.claim = hashlib.sha256("\x1f".join((application, facility, message.control_id)).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 of the content as it came."""
        return hashlib.sha256(self.raw).hexdigest()

    def record(self, status: str, *, ack: str = "", patient: str = "", **more: Any) -> Record:
        """The journal's line in a state: processed, duplicate or dead. `patient`: whose it is, `Patient/id`, so that it can be erased."""
        data = {
            "raw": self.raw,
            "sha256": self.digest,
            "peer": self.peer,
            "charset": self.charset,
            "received_at": self.received_at,
            "type": self.type,
            "control_id": self.control_id,
            "source": self.source,
            "status": status,
            "ack": ack,
            "ack_code": _code(ack),
            **more,
        }
        attributes = {"status": status, "type": self.type, "source": self.source, "control_id": self.control_id[:200], "patient": patient}
        return Record(COLLECTION, self.id, data, {name: value for name, value in attributes.items() if value})

    def claimed(self, ack: str) -> Record:
        """The claim that this content was filed under its key, with the answer that copies get."""
        return Record(CLAIMS, self.claim, {"sha256": self.digest, "journal": self.id, "ack": ack}, only_new=True)


def _code(ack: str) -> str:
    return ack.split("\rMSA|", 1)[1][:2] if "\rMSA|" in ack else ""


async def write(store: Store, record: Record) -> None:
    """Journal a state on its own."""
    await store.transact(Unit.of(records=[record]))


async def patient_of(store: Store, id: str) -> str:
    """Whose a line is; '' where that is not known, or the line is gone."""
    line = await store.record(COLLECTION, id)
    return line.attributes.get("patient", "") if line is not None else ""


async def claim_of(store: Store, entry: Entry) -> StoredRecord | None:
    """What was filed under the entry's key before, if anything."""
    return await store.record(CLAIMS, entry.claim) if entry.claim else None


def latest_record(source: str, patient_id: str, times: dict[str, int]) -> Record:
    """The times of the latest events of a patient's resources ('Patient', 'Encounter/id') that a source told of."""
    kept = dict(sorted(times.items(), key=lambda one: one[1])[-_LATEST:])
    return Record(LATEST, f"{source}|{patient_id}", {"at": kept})


async def latest_of(store: Store, source: str, patient_id: str) -> dict[str, int]:
    """What `latest_record` kept: milliseconds since 1970 by resource."""
    found = await store.record(LATEST, f"{source}|{patient_id}")
    return dict(found.data["at"]) if found is not None else {}
