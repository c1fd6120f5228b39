"""One message on its way into the store: its mapping, what that rests on, and the unit that verifies it and writes all at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.search.query import Query
from fhir_server.storage.body import same_content
from fhir_server.storage.port import Commit, Effects, Facts, Record, Stored, Unit, Write
from integrations.hl7v2 import ack, journal
from integrations.hl7v2.datatypes import Source
from integrations.hl7v2.mapping import Key, Mapping, Resource, stable_id
from integrations.hl7v2.memory import Belief, Memory, version_of
from integrations.hl7v2.message import Message

_EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
_REMEMBERED = frozenset(("Patient", "Encounter", "Practitioner", "Location", "Organization"))
"""Types that later messages ask about again."""


class Mistaken(FhirError):
    """The store was not as the mapping believed; the truth has been learnt, the message is to be mapped again."""


class Ambiguous(FhirError):
    """The message's identifiers name more than one patient."""


class Filing:
    """A message with its mapping; after `finish`, `unit` files it and `answer` is what its sender gets then."""

    def __init__(
        self,
        entry: journal.Entry,
        message: Message,
        source: Source,
        keys: list[tuple[str, str]],
        own_id: str,
        patient_id: str,
        memory: Memory,
        latest: dict[str, int],
        criteria: list[Query],
    ) -> None:
        self._entry, self._message, self._source, self._keys = entry, message, source, keys
        self._own_id, self._patient_id, self._memory = own_id, patient_id, memory
        self._latest, self._criteria = latest, criteria
        self._belief = Belief(memory)
        self._when = message.event_time(source.zone)
        self.mapping = Mapping(message, source, patient_id, self._belief, self._late)
        self.answer = ""
        self._warnings: list[str] = []
        self._now = dt.datetime.min

    def _late(self, key: Key) -> bool:
        before = self._latest.get(_name(key))
        return before is not None and self._when is not None and self._when < before

    def finish(self, warnings: list[str], now: dt.datetime) -> None:
        """Make the answer; call when the mapping is done."""
        self._warnings, self._now = warnings, now
        self.answer = ack.acknowledge(self._message, warnings, now)

    @property
    def unit(self) -> Unit:
        """Verifies what was believed and writes all there is."""
        targets = {*self._belief.asked, *self.mapping.resources}
        return Unit(self._decide, self._criteria, list(targets))

    def _decide(self, facts: Facts) -> Effects:
        patient_id = _patient_of(facts, self._own_id)
        if patient_id != self._patient_id or not self._belief.holds(facts.current):
            asked = {*self._belief.asked, ("Patient", patient_id)}
            self._memory.learn({key: facts.current[key] for key in asked if key in facts.current})
            self._memory.people(self._keys, patient_id)
            raise Mistaken.of(409, "conflict", "the store has changed")
        writes = [
            Write("PUT", *key, resource) for key, resource in self.mapping.resources.items() if not _same(resource, facts.current.get(key))
        ]
        if writes:
            writes.append(self._provenance(writes))
        return Effects(writes, records=self._records(writes, facts))

    def _records(self, writes: list[Write], facts: Facts) -> list[Record]:
        touched = [
            f"{write.type}/{write.id}/_history/{stored.version + 1 if (stored := facts.current.get((write.type, write.id))) else 1}"
            for write in writes
        ]
        people = [value for _, value in self._keys]
        whose = f"Patient/{self._patient_id}"
        line = self._entry.record(
            "processed", ack=self.answer, patient=whose, warnings=self._warnings, resources=touched, patient_ids=people
        )
        records = [line, self._entry.claimed(self.answer)]
        if self._when is not None and self.mapping.events:
            names = [_name(key) for key in self.mapping.events]
            times = {**self._latest, **{name: max(self._when, self._latest.get(name, self._when)) for name in names}}
            if times != self._latest:
                records.append(journal.latest_record(self._source.name, self._patient_id, times))
        return records

    def remember(self, commit: Commit, asked: Callable[[str], bool]) -> None:
        """Keep for the next messages what this one has written.

        `asked(type)`: whether others are asked before such resources are written, and may have made something else of them.
        """
        self._memory.people(self._keys, self._patient_id)
        for outcome in commit.outcomes:
            stored = outcome.stored
            if stored is not None and stored.type in _REMEMBERED:
                key = stored.type, stored.id
                content = json_codec.loads(stored.body) if asked(stored.type) else self.mapping.resources[key]
                self._memory.keep(key, version_of(stored), content, len(stored.body))

    def _provenance(self, writes: list[Write]) -> Write:
        application, facility = self._message.sender
        sender = " ".join(part for part in (application, facility) if part) or "unknown sender"
        id = stable_id("Provenance", self._entry.claim)
        now = self._now.isoformat(timespec="milliseconds")
        resource: dict[str, Any] = {
            "resourceType": "Provenance",
            "id": id,
            "meta": {"source": self.mapping.tag},
            "target": [{"reference": f"{write.type}/{write.id}"} for write in writes],
            "recorded": now,
            "activity": {"coding": [{"system": _EVENTS, "code": self._message.event}], "text": self._entry.type}
            if self._message.event
            else {"text": self._entry.type},
            "agent": [{"who": {"identifier": {"system": "urn:hl7v2:sender", "value": sender}, "display": sender}}],
            "entity": [{"role": "source", "what": {"identifier": {"system": "urn:hl7v2:journal", "value": self._entry.id}}}],
        }
        return Write("PUT", "Provenance", id, resource)


def _name(key: Key) -> str:
    """A resource's name in the record of latest events; the patient's does not need an id there."""
    return key[0] if key[0] == "Patient" else f"{key[0]}/{key[1]}"


def _patient_of(facts: Facts, own_id: str) -> str:
    """The patient that the identifiers name: the first that is known, else a new one; raises Ambiguous where they name two."""
    found: list[str] = []
    for matches in facts.matches:
        ids = [id for _, id in matches]
        if len(ids) > 1:
            raise Ambiguous.of(422, "multiple-matches", "PID-3: an identifier belongs to several patients; they must be merged first")
        found += ids
    if len(set(found)) > 1:
        raise Ambiguous.of(422, "multiple-matches", "PID-3: the identifiers belong to different patients")
    return found[0] if found else own_id


def _same(fresh: Resource, stored: Stored | None) -> bool:
    """Whether nothing but the message's own mark has changed."""
    if stored is None or stored.deleted:
        return False
    before = json_codec.loads(stored.body)
    return same_content(*({name: value for name, value in one.items() if name != "meta"} for one in (before, fresh)))
