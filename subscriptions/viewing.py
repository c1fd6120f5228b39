"""What a subscriber may see of events at the moment of telling: the versions, and what a topic wants told beside them.

Specification: https://hl7.org/fhir/R5/subscriptiontopic.html (notificationShape), conformance.md K8, K13, K23
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fhir_server.auth.gate import Principal
from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.interactions.include import included
from fhir_server.storage.port import Stored
from subscriptions.delivery.notification import Event, Sight
from subscriptions.topics.matching import CompiledTopic

MOST_BESIDE = 100
"""Resources that are told beside one event."""


class Viewer:
    """`find`: canonical of a topic -> the topic as it is now."""

    def __init__(self, context: Context, find: Callable[[str], CompiledTopic | None]) -> None:
        self._context, self._find = context, find

    async def seen(self, events: Sequence[Event], content: str, principal: Principal, base: str = "") -> dict[int, Sight]:
        """Event number -> what is told of it, of those that the principal may see now; nothing where the content is empty.

        Resources beside it are only there where whole resources are told.
        """
        found: dict[int, Sight] = {}
        for event in events if content != "empty" else ():
            try:
                version = await self._context.gate.read_version(principal, event.type, event.id, event.version)
            except FhirError as refusal:
                if refusal.status != 403:
                    raise
                version = None  # who is asked before it leaves says that it may not
            if version is not None:
                found[event.number] = await self._sight(event, version, content, principal, base)
        return found

    async def _sight(self, event: Event, version: Stored, content: str, principal: Principal, base: str) -> Sight:
        topic = self._find(event.topic) if event.topic else None
        if topic is None:
            return Sight(version)
        beside: Sequence[Stored] = ()
        if content == "full-resource" and (includes := topic.includes.get(event.type)):
            request = Request("GET", event.type, base=base, principal=principal)
            beside = (await included(self._context, request, includes, [version]))[:MOST_BESIDE]
        return Sight(version, tuple(beside), topic.topic.shape_of(event.type).related)
