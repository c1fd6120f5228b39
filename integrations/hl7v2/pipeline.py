"""A message from its bytes to its acknowledgement: decode, parse, map, one store transaction, answer.

The transaction holds everything: the journal's line with the raw bytes, the resources, and the claim that this message was filed with the
answer that it got. AA is sent only after it is durable; a copy of a filed message gets the stored answer and changes nothing.
Specification: HL7 v2.5.1 chapter 2.9.2 (original mode)
Decisions: docs/decisions/0080-one-commit-per-message.md, 0081-mapped-before-verified-inside.md
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import traceback
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.auth.gate import ALL_SEEING, Gate
from fhir_server.errors import FhirError
from fhir_server.observability.logs import log
from fhir_server.observability.metrics import RequestMetrics
from fhir_server.search.parameters import Registry
from fhir_server.search.query import KeyMatch, Query
from fhir_server.storage.port import RecordExists, Store
from fhir_server.validation import structure
from integrations.hl7v2 import ack, journal
from integrations.hl7v2.charset import decode
from integrations.hl7v2.datatypes import Source
from integrations.hl7v2.errors import DATA_TYPE, DUPLICATE_KEY, INTERNAL, LOCKED, UNKNOWN_KEY, Refusal
from integrations.hl7v2.filing import Ambiguous, Filing, Mistaken
from integrations.hl7v2.mapping import NO_SEGMENTS, Handler, Mapping, Messages, Segments, handler_of, stable_id
from integrations.hl7v2.maps import HANDLERS
from integrations.hl7v2.maps.persons import keys_of
from integrations.hl7v2.memory import Memory
from integrations.hl7v2.message import Message

_TRANSIENT = (409, 412, 423, 429, 503, 507)
_ATTEMPTS = 8
"""How often a message is mapped anew because the store was not as believed; twice is usual after a start."""
_MATCHED = 6
"""Identifiers of a message by which its patient is looked up."""
LARGE = 32 * 1024
"""Bytes from which on a message is worked on beside the event loop."""
_HEADER = 2048
"""Bytes of a message that cannot be decoded in which its header is looked for."""
_SEGMENTS = {
    "Patient": "PID",
    "Encounter": "PV1",
    "Observation": "OBX",
    "DiagnosticReport": "OBR",
    "ServiceRequest": "OBR",
    "Condition": "DG1",
    "AllergyIntolerance": "AL1",
    "Appointment": "SCH",
}
"""The segment that tells most of a resource: where a fault of its content is located."""


class Locks:
    """One lock for each patient: his messages are applied in the order in which they came."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, key: str) -> Any:
        lock, users = self._held.get(key, (asyncio.Lock(), 0))
        self._held[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._held[key]
            if users == 1:
                del self._held[key]
            else:
                self._held[key] = lock, users - 1


async def _aside(raw: bytes, work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of some work on a message; on a large one in a thread, so that it does not hold up other connections."""
    return await asyncio.to_thread(work, *arguments) if len(raw) > LARGE else work(*arguments)


def _map(mapping: Mapping, handler: Handler) -> None:
    """Map a message and check what it became; raises Refusal and FhirError."""
    handler(mapping)
    for resource in mapping.resources.values():
        structure.check(resource)


class Pipeline:
    """Handles messages for one store, and counts them in `metrics`."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        registry: Registry,
        zone: ZoneInfo,
        *,
        now: Callable[[], int] | None = None,
        metrics: RequestMetrics | None = None,
        messages: Messages = HANDLERS,
        segments: Segments = NO_SEGMENTS,
    ) -> None:
        self._gate, self._store, self._zone = gate, store, zone
        self._messages, self._segments = messages, segments
        parameter = registry.get("Patient", "identifier")
        assert parameter is not None
        self._identifier = parameter.sources[0].number
        self._now = now or (lambda: time.time_ns() // 1_000_000)
        self._locks = Locks()
        self._memory = Memory()
        self._metrics = metrics or RequestMetrics()

    def _moment(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._now() / 1000, self._zone)

    async def handle(self, raw: bytes, peer: str = "") -> bytes:
        """The answer to one message, in its own character set. Never raises; an outage of the store is answered AE 207."""
        began = time.perf_counter()
        entry = journal.Entry(raw, peer, self._now())
        message: Message | None = None
        text = ""
        try:
            text, entry.charset, warnings = await _aside(raw, decode, raw)
            message = await _aside(raw, Message, text)
            source = Source(message.sender[0] or message.sender[1] or "default", self._zone)
            entry.describe(message, source.name)
            message.check_header()
            answer = await self._file(entry, message, source, warnings)
        except Refusal as refusal:
            answer = await self._refused(entry, message or Message.header_of(text) or ack.addressed(raw[:_HEADER]), refusal)
        except FhirError as fault:
            answer = await self._faulty(entry, message, fault)
        except Exception as fault:
            answer = await self._broken(entry, message, fault)
        self._count(entry.type, entry.outcome, time.perf_counter() - began)
        return answer.encode(entry.charset, errors="replace")

    def _count(self, type: str, outcome: str, seconds: float) -> None:
        """Count a message; types that are not served share one label, as a sender could invent any number of them."""
        kind, _, event = type.partition("^")
        self._metrics.message(type if event in self._messages.get(kind, ()) else "other", outcome, seconds)

    async def _file(self, entry: journal.Entry, message: Message, source: Source, warnings: list[str]) -> str:
        handler = handler_of(message, self._messages, self._segments)
        keys = await _aside(entry.raw, keys_of, message, source)
        async with self._locks.of(f"{keys[0][0]}|{keys[0][1]}"):
            if (before := await journal.claim_of(self._store, entry)) is not None:
                return await self._again(entry, message, before.data)
            for _ in range(_ATTEMPTS):
                filing = await self._prepare(entry, message, source, warnings, handler, keys)
                try:
                    commit = await self._gate.transact(ALL_SEEING, filing.unit)
                except Mistaken:
                    continue
                except Ambiguous as fault:
                    raise Refusal("AE", UNKNOWN_KEY, fault.issues[0].diagnostics, "PID-3") from fault
                except RecordExists:
                    # A copy that came to another process was faster.
                    if (before := await journal.claim_of(self._store, entry)) is None:
                        raise
                    return await self._again(entry, message, before.data)
                filing.remember(commit, self._gate.asks)
                entry.outcome = "AA"
                return filing.answer
        raise Refusal("AE", LOCKED, "What the message changes is being changed by others all the time; send it again")

    async def _prepare(
        self, entry: journal.Entry, message: Message, source: Source, warnings: list[str], handler: Handler, keys: list[tuple[str, str]]
    ) -> Filing:
        """Map the message on what is believed to be stored; raises Refusal and FhirError for its content."""
        own_id = stable_id("Patient", *keys[0])
        patient_id = self._memory.patient(keys[0]) or own_id
        latest = await journal.latest_of(self._store, source.name, patient_id) if message.type == "ADT" else {}
        criteria = [Query(("Patient",), KeyMatch(self._identifier, system, value), limit=2) for system, value in keys[:_MATCHED]]
        filing = Filing(entry, message, source, keys, own_id, patient_id, self._memory, latest, criteria)
        await _aside(entry.raw, _map, filing.mapping, handler)
        filing.finish([*warnings, *filing.mapping.warnings], self._moment())
        return filing

    # --- what is not AA

    async def _again(self, entry: journal.Entry, message: Message, before: dict[str, Any]) -> str:
        """A key that was filed before: the same content gets the same answer, another content is refused."""
        if before["sha256"] != entry.digest:
            text = f"MSH-10 '{entry.control_id}' was used before for another content"
            return await self._refused(entry, message, Refusal("AE", DUPLICATE_KEY, text, "MSH-10"))
        whose = await journal.patient_of(self._store, before["journal"])
        await journal.write(self._store, entry.record("duplicate", ack=before["ack"], patient=whose, original_id=before["journal"]))
        entry.outcome = "duplicate"
        return str(before["ack"])

    async def _refused(self, entry: journal.Entry, message: Message | None, refusal: Refusal) -> str:
        answer = ack.refuse(message, refusal, self._moment())
        try:
            await journal.write(self._store, entry.record("dead", ack=answer, error=f"{refusal.error} {refusal.text}"))
        except FhirError:
            return self._outage(entry, message)
        entry.outcome = refusal.code
        return answer

    async def _faulty(self, entry: journal.Entry, message: Message | None, fault: FhirError) -> str:
        if fault.status in _TRANSIENT:
            return self._outage(entry, message)
        if fault.status >= 500:
            return await self._broken(entry, message, fault)
        reason = "; ".join(issue.diagnostics for issue in fault.issues[:3])
        place = _SEGMENTS.get("".join(fault.issues[0].expression[:1]).partition(".")[0], "") if fault.issues else ""
        return await self._refused(entry, message, Refusal("AE", DATA_TYPE, reason[:400], place))

    async def _broken(self, entry: journal.Entry, message: Message | None, fault: Exception) -> str:
        """A fault of this program; where it happened is logged, but not its text, which may quote the message."""
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(fault.__traceback__)[-6:]]
        log().error("an HL7 v2 message could not be processed", journal=entry.id, kind=type(fault).__name__, where=where)
        return await self._refused(entry, message, Refusal("AE", INTERNAL, f"Internal error; journal entry {entry.id}"))

    def _outage(self, entry: journal.Entry, message: Message | None) -> str:
        """The store does not take writes: the sender is told to try again."""
        entry.outcome = "AE"
        refusal = Refusal("AE", INTERNAL, "The server cannot store messages at the moment; send again later")
        return ack.refuse(message, refusal, self._moment())
