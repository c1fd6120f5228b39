"""The topics that can be subscribed to: those that are stored (as Basic).

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/components.html#subscription-topics-in-fhir-r4
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.model.library import chosen
from fhir_server.model.references import split_canonical
from fhir_server.search.query import Criterion
from fhir_server.storage.port import Stored
from subscriptions.as_of import all_of, versions_at
from subscriptions.jobs.kinds import Services
from subscriptions.topics.definition import Topic, is_topic, topic_of
from subscriptions.topics.matching import Compile, CompiledTopic, Includes, compile_topic

log = logging.getLogger("fhir_server.subscriptions")
CODE = "http://hl7.org/fhir/fhir-types|SubscriptionTopic"
SERVED = frozenset({"active", "draft"})
"""Status of topics that can be subscribed to."""


class Topics:
    """One process's view of the topics; `fresh` takes up what was written since."""

    def __init__(
        self, services: Services, stored: Callable[[], Criterion], compile: Compile, types: tuple[str, ...], includes: Includes
    ) -> None:
        """`stored`: the criterion by which Basics that are topics are found."""
        self._services, self._stored = services, stored
        self._compile_topic: Callable[[Topic], CompiledTopic] = lambda topic: compile_topic(topic, compile, types, includes)
        self._known: dict[str, dict[str, CompiledTopic]] = {}
        self._of_basic: dict[str, CompiledTopic] = {}
        self._state: tuple[tuple[str, int], ...] | None = None
        self.generation = 0
        """Grows whenever a topic has changed."""

    def find(self, canonical: str) -> CompiledTopic | None:
        """The topic of a canonical, of several versions the highest that fits."""
        url, wanted, _ = split_canonical(canonical)
        version = chosen(self._known.get(url, {}), wanted)
        return None if version is None else self._known[url][version]

    def all(self) -> list[CompiledTopic]:
        """Every topic."""
        return [one for versions in self._known.values() for one in versions.values()]

    def issues(self, resource: Mapping[str, Any]) -> list[Any]:
        """Why a Basic that is a topic cannot be served; none for other Basics."""
        if not is_topic(resource):
            return []
        try:
            self._compile_topic(topic_of(resource))
        except FhirError as fault:
            return fault.issues
        return []

    async def fresh(self) -> int:
        """Read the stored topics where they have changed; the generation then.

        While the store makes its index anew, what is known stays. Raises FhirError 503 where nothing is known yet.
        """
        try:
            found = await all_of(self._services, "Basic", self._stored())
        except FhirError as fault:
            if fault.status != 503 or self._state is None:
                raise
            return self.generation
        state = tuple(sorted((stored.id, stored.rid) for stored in found))
        if state != self._state:
            self._state = state
            self._of_basic = {stored.id: made for stored in found if (made := self._compiled(stored)) is not None}
            self._gather()
        return self.generation

    async def prepare(self, position: int) -> None:
        """Become what the topics were right after the version with that sequence number; from there `apply` goes on."""
        self._of_basic.clear()
        for stored in await versions_at(self._services, "Basic", position, self._stored()):
            self.apply(stored)
        self._gather()

    def apply(self, stored: Stored) -> None:
        """Take a version of a Basic into account."""
        before = self._of_basic.pop(stored.id, None)
        made = self._compiled(stored)
        if made is not None:
            self._of_basic[stored.id] = made
        if before is not None or made is not None:
            self._gather()

    def _gather(self) -> None:
        self._known = {}
        for one in self._of_basic.values():
            self._known.setdefault(one.topic.url, {}).setdefault(one.topic.version, one)
        self.generation += 1

    def _compiled(self, stored: Stored) -> CompiledTopic | None:
        """The topic that a version of a Basic is; None where it is none, or cannot be subscribed to."""
        resource = None if stored.deleted else json_codec.loads(stored.body)
        if resource is None or not is_topic(resource):
            return None
        try:
            topic = topic_of(resource)
            return self._compile_topic(topic) if topic.status in SERVED else None
        except FhirError as fault:
            log.warning("the topic Basic/%s is not served: %s", stored.id, fault)
            return None
