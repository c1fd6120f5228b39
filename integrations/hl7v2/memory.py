"""What the pipeline believes about the store: a message is mapped on this belief, outside of the transaction, and the transaction
verifies it. Where it proves wrong, the truth is learnt and the message mapped again.

Decision: docs/decisions/0081-mapped-before-verified-inside.md
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping as Dict
from typing import Any

from fhir_server.model import json_codec
from fhir_server.storage.port import Stored
from integrations.hl7v2.mapping import Key, Resource

LIMIT = 4096
"""Resources and patients' identifiers that are remembered, the ones used last."""
ABSENT = 0
"""The version of what is not there, or deleted."""


class Memory:
    """Versions and contents of resources, and which patient an identifier belongs to, as last seen."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._resources: OrderedDict[Key, tuple[int, Resource | None]] = OrderedDict()
        self._people: OrderedDict[Key, str] = OrderedDict()

    def patient(self, identifier: tuple[str, str]) -> str | None:
        """The id of the patient who had this (system, value)."""
        return self._people.get(identifier)

    def people(self, identifiers: list[tuple[str, str]], patient_id: str) -> None:
        """These belong to that patient."""
        for one in identifiers:
            _keep(self._people, one, patient_id, self._limit)

    def get(self, key: Key) -> tuple[int, Resource | None]:
        """(version, content); what was never seen is believed to be absent."""
        found = self._resources.get(key)
        if found is None:
            return ABSENT, None
        self._resources.move_to_end(key)
        return found

    def keep(self, key: Key, version: int, content: Resource | None) -> None:
        """This version is current."""
        _keep(self._resources, key, (version, content), self._limit)

    def learn(self, current: Dict[Key, Stored | None]) -> None:
        """What a transaction saw."""
        for key, stored in current.items():
            version = version_of(stored)
            if self.get(key)[0] != version:
                self.keep(key, version, json_codec.loads(stored.body) if stored is not None and version else None)


def _keep(shelf: OrderedDict[Any, Any], key: Any, value: Any, limit: int) -> None:
    shelf[key] = value
    shelf.move_to_end(key)
    if len(shelf) > limit:
        shelf.popitem(last=False)


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
