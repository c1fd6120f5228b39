"""A message from its bytes to its acknowledgement: journal, decode, parse, map, one store transaction, answer.

AA is sent only after the transaction is durable; a copy of a filed message gets the stored answer and changes nothing.
Specification: HL7 v2.5.1 chapter 2.9.2 (original mode)
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.auth.gate import ALL_SEEING, Gate
from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.search.parameters import Registry
from fhir_server.search.query import KeyMatch, Query
from fhir_server.storage.port import Effects, Facts, RecordExists, Store, Unit, Write
from fhir_server.validation import structure
from integrations.hl7v2 import ack, journal
from integrations.hl7v2.charset import decode
from integrations.hl7v2.datatypes import Source
from integrations.hl7v2.errors import DATA_TYPE, DUPLICATE_KEY, INTERNAL, UNKNOWN_KEY, Refusal
from integrations.hl7v2.mapping import Mapping, Resource, handler_of, stable_id
from integrations.hl7v2.maps.persons import keys_of
from integrations.hl7v2.message import Message

_TRANSIENT = (409, 412, 423, 429, 503, 507)


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


class Pipeline:
    """Handles messages for one store. `counters` counts by outcome ('AA', 'AE', 'AR', 'duplicate')."""

    def __init__(self, gate: Gate, store: Store, registry: Registry, zone: ZoneInfo, *, now: Callable[[], int] | None = None) -> None:
        self._gate, self._store, self._zone = gate, store, zone
        parameter = registry.get("Patient", "identifier")
        assert parameter is not None
        self._identifier = parameter.sources[0].number
        self._now = now or (lambda: time.time_ns() // 1_000_000)
        self._locks = Locks()
        self.counters: Counter[str] = Counter()

    def _moment(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._now() / 1000, self._zone)

    async def recover(self) -> int:
        """Finish what a crash interrupted: such messages were journaled but not acknowledged. Gives their number."""
        entries = await journal.interrupted(self._store)
        for entry in entries:
            await self._handle(entry)
        return len(entries)

    async def handle(self, raw: bytes, peer: str = "") -> bytes:
        """The answer to one message, in its own character set. Never raises; an outage of the store is answered AE 207."""
        entry = journal.Entry(raw, peer, self._now())
        try:
            await journal.write(self._store, entry.record("received"))
        except FhirError as fault:
            return self._outage(entry, fault)
        return await self._handle(entry)

    async def _handle(self, entry: journal.Entry) -> bytes:
        message: Message | None = None
        try:
            text, charset, warnings = decode(entry.raw)
            message = Message(text)
            source = Source(message.sender[0] or message.sender[1] or "default", self._zone)
            entry.describe(message, charset, source.name)
            message.check_header()
            answer = await self._file(entry, message, source, warnings)
        except Refusal as refusal:
            answer = await self._refused(entry, message, refusal)
        except FhirError as fault:
            answer = await self._faulty(entry, message, fault)
        except Exception as fault:
            answer = await self._broken(entry, message, fault)
        return answer.encode(entry.charset, errors="replace")

    async def _file(self, entry: journal.Entry, message: Message, source: Source, warnings: list[str]) -> str:
        before = await journal.claim_of(self._store, entry)
        if before is not None:
            return await self._again(entry, message, before.data)
        handler = handler_of(message)
        keys = keys_of(message, source)
        async with self._locks.of(f"{keys[0][0]}|{keys[0][1]}"):
            answer = ""

            def finish(mapping: Mapping) -> list[Any]:
                nonlocal answer
                answer = ack.acknowledge(message, [*warnings, *mapping.warnings], self._moment())
                touched = [f"{type}/{id}" for type, id in mapping.resources]
                line = entry.record(
                    "processed", ack=answer, warnings=[*warnings, *mapping.warnings], resources=touched, patient_ids=[v for _, v in keys]
                )
                return [line, entry.claimed(answer)]

            try:
                await self._gate.transact(ALL_SEEING, self._unit(message, source, keys, handler, entry, finish))
            except RecordExists:
                before = await journal.claim_of(self._store, entry)
                if before is None:
                    raise
                return await self._again(entry, message, before.data)
        self.counters["AA"] += 1
        return answer

    def _unit(
        self,
        message: Message,
        source: Source,
        keys: list[tuple[str, str]],
        handler: Callable[[Mapping], None],
        entry: journal.Entry,
        finish: Callable[[Mapping], list[Any]],
    ) -> Unit:
        """Questions: who is the patient, what is stored of all that the message touches. Decision: the mapped resources."""
        patient_key = f"{keys[0][0]}|{keys[0][1]}"
        own_id = stable_id("Patient", *keys[0])
        touched: dict[tuple[str, str], None] = {}

        def look(type: str, id: str) -> Resource | None:
            touched[type, id] = None
            return None

        outline = Mapping(message, source, own_id, patient_key, look)
        handler(outline)
        targets = list({**touched, **dict.fromkeys(outline.resources)})
        criteria = [Query(("Patient",), KeyMatch(self._identifier, system, value), limit=2) for system, value in keys[:6]]

        def decide(facts: Facts) -> Effects:
            patient_id = _patient_of(facts, own_id)

            def current(type: str, id: str) -> Resource | None:
                stored = facts.current.get((type, id))
                return None if stored is None or stored.deleted else json_codec.loads(stored.body)

            mapping = Mapping(message, source, patient_id, patient_key, current)
            handler(mapping)
            writes = [
                Write("PUT", type, id, resource)
                for (type, id), resource in mapping.resources.items()
                if not _same(resource, current(type, id))
            ]
            for write in writes:
                structure.check(write.resource or {})
            records = finish(mapping)
            if writes:
                writes.append(_provenance(writes, message, mapping, entry, self._moment()))
            return Effects(writes, records=records)

        return Unit(decide, criteria, targets)

    # --- what is not AA

    async def _again(self, entry: journal.Entry, message: Message, before: dict[str, Any]) -> str:
        """A key that was filed before: the same content gets the same answer, another content is refused."""
        if before["sha256"] != entry.digest:
            refusal = Refusal("AE", DUPLICATE_KEY, f"MSH-10 '{entry.control_id}' was used before for another content", "MSH-10")
            return await self._refused(entry, message, refusal)
        self.counters["duplicate"] += 1
        await journal.write(self._store, entry.record("duplicate", ack=before["ack"], original_id=before["journal"]))
        return str(before["ack"])

    async def _refused(self, entry: journal.Entry, message: Message | None, refusal: Refusal) -> str:
        self.counters[refusal.code] += 1
        answer = ack.refuse(message, refusal, self._moment())
        try:
            await journal.write(self._store, entry.record("dead", ack=answer, error=f"{refusal.error} {refusal.text}"))
        except FhirError as fault:
            return self._outage(entry, fault, message).decode(entry.charset, errors="replace")
        return answer

    async def _faulty(self, entry: journal.Entry, message: Message | None, fault: FhirError) -> str:
        if fault.status in _TRANSIENT:
            return self._outage(entry, fault, message).decode(entry.charset, errors="replace")
        reason = "; ".join(issue.diagnostics for issue in fault.issues[:3])
        return await self._refused(entry, message, Refusal("AE", DATA_TYPE, reason[:400]))

    async def _broken(self, entry: journal.Entry, message: Message | None, fault: Exception) -> str:
        from fhir_server.observability.logs import log

        log().exception("an HL7 v2 message could not be processed", journal=entry.id, kind=type(fault).__name__)
        return await self._refused(entry, message, Refusal("AE", INTERNAL, f"Internal error; journal entry {entry.id}"))

    def _outage(self, entry: journal.Entry, fault: FhirError, message: Message | None = None) -> bytes:
        """The store does not take writes: the sender is told to try again."""
        self.counters["AE"] += 1
        if message is None:
            try:
                text, entry.charset, _ = decode(entry.raw)
                message = Message(text)
            except Refusal:
                message = None
        refusal = Refusal("AE", INTERNAL, "The server cannot store messages at the moment; send again later")
        return ack.refuse(message, refusal, self._moment()).encode(entry.charset, errors="replace")


def _patient_of(facts: Facts, own_id: str) -> str:
    """The patient that the identifiers name: the first that is known, else a new one; raises Refusal where they name two."""
    found: list[str] = []
    for matches in facts.matches:
        ids = [id for _, id in matches]
        if len(ids) > 1:
            raise Refusal("AE", UNKNOWN_KEY, "PID-3: an identifier belongs to several patients; they must be merged first", "PID-3")
        found += ids
    if len(set(found)) > 1:
        raise Refusal("AE", UNKNOWN_KEY, "PID-3: the identifiers belong to different patients", "PID-3")
    return found[0] if found else own_id


def _same(fresh: Resource, before: Resource | None) -> bool:
    """Whether nothing but the message's own mark has changed."""
    if before is None:
        return False
    strip = [{name: value for name, value in one.items() if name != "meta"} for one in (fresh, before)]
    return _sorted(strip[0]) == _sorted(strip[1])


def _sorted(value: Any) -> Any:
    """A form in which equal content is equal: keys in order, numbers as their text."""
    if isinstance(value, dict):
        return tuple((key, _sorted(value[key])) for key in sorted(value))
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return json_codec.dumps(value) if not isinstance(value, str) else value


def _provenance(writes: list[Write], message: Message, mapping: Mapping, entry: journal.Entry, now: dt.datetime) -> Write:
    application, facility = message.sender
    sender = " ".join(part for part in (application, facility) if part) or "unknown sender"
    id = stable_id("Provenance", entry.claim)
    resource = {
        "resourceType": "Provenance",
        "id": id,
        "meta": {"source": mapping.tag},
        "target": [{"reference": f"{write.type}/{write.id}"} for write in writes],
        "recorded": now.isoformat(timespec="milliseconds"),
        "activity": {"text": entry.type},
        "agent": [{"who": {"identifier": {"system": "urn:hl7v2:sender", "value": sender}, "display": sender}}],
        "entity": [{"role": "source", "what": {"identifier": {"system": "urn:hl7v2:journal", "value": entry.id}}}],
    }
    return Write("PUT", "Provenance", id, resource)
