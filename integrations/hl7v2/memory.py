"""What the pipeline believes about the store: a message is mapped on this belief, outside of the transaction, and the transaction
verifies it. Where it proves wrong, the truth is learnt and the message mapped again.

Decision: docs/decisions/0081-mapped-before-verified-inside.md
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping as Dict
from contextlib import suppress

from fhir_server.model import json_codec
from fhir_server.storage.port import Stored
from integrations.hl7v2.mapping import Key, Resource

LIMIT = 4096
"""Resources and patients' identifiers that are remembered, the ones used last."""
ROOM = 8 * 1024 * 1024
"""Bytes of JSON that are remembered (about six times as much as objects)."""
_IDENTIFIERS = 6
ABSENT = 0
"""The version of what is not there, or deleted."""


class Memory:
    """Versions and contents of resources, and which patient an identifier belongs to, as last seen."""

    def __init__(self, limit: int = LIMIT, room: int = ROOM) -> None:
        self._limit, self._room, self._used = limit, room, 0
        self._resources: OrderedDict[Key, tuple[int, Resource | None, int]] = OrderedDict()
        self._people: OrderedDict[Key, str] = OrderedDict()

    def patient(self, identifier: tuple[str, str]) -> str | None:
        """The id of the patient who had this (system, value)."""
        return self._people.get(identifier)

    def people(self, identifiers: list[tuple[str, str]], patient_id: str) -> None:
        """These belong to that patient."""
        for one in identifiers[:_IDENTIFIERS]:
            self._people[one] = patient_id
            self._people.move_to_end(one)
        while len(self._people) > self._limit:
            self._people.popitem(last=False)

    def get(self, key: Key) -> tuple[int, Resource | None]:
        """(version, content); what was never seen is believed to be absent."""
        found = self._resources.get(key)
        if found is None:
            return ABSENT, None
        # Large messages are mapped in threads: the entry may just have been dropped.
        with suppress(KeyError):
            self._resources.move_to_end(key)
        return found[:2]

    def keep(self, key: Key, version: int, content: Resource | None, size: int) -> None:
        """This version is current; `size`: bytes of its JSON. What was used longest ago makes room, but one always stays."""
        before = self._resources.pop(key, None)
        self._used += size - (before[2] if before else 0)
        self._resources[key] = version, content, size
        while len(self._resources) > 1 and (len(self._resources) > self._limit or self._used > self._room):
            _, (_, _, freed) = self._resources.popitem(last=False)
            self._used -= freed

    def learn(self, current: Dict[Key, Stored | None]) -> None:
        """What a transaction saw."""
        for key, stored in current.items():
            version = version_of(stored)
            if self.get(key)[0] != version:
                body = stored.body if stored is not None and version else b""
                self.keep(key, version, json_codec.loads(body) if body else None, len(body))


def version_of(stored: Stored | None) -> int:
    """The version of something live, else ABSENT."""
    return ABSENT if stored is None or stored.deleted else stored.version


class Belief:
    """The memory as one mapping sees it (`mapping.World`); notes what was asked, so that the transaction can verify it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.versions: dict[Key, int] = {}
        self.existing: dict[Key, bool] = {}

    def content(self, key: Key) -> Resource | None:
        version, content = self._memory.get(key)
        self.versions[key] = version
        return content

    def exists(self, key: Key) -> bool:
        there = self._memory.get(key)[0] != ABSENT
        self.existing[key] = there
        return there

    @property
    def asked(self) -> set[Key]:
        """Everything that was asked about."""
        return {*self.versions, *self.existing}

    def holds(self, current: Dict[Key, Stored | None]) -> bool:
        """Whether all answers were right."""
        return all(version_of(current.get(key)) == version for key, version in self.versions.items()) and all(
            (version_of(current.get(key)) != ABSENT) is there for key, there in self.existing.items()
        )
