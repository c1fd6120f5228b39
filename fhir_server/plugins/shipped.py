"""The server's own features, hung in through the same list of hooks as those of others."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence

from fhir_server.auth.hooks import Committed, Writing
from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.registration import Operation
from fhir_server.plugins.hooks import Plugin, Resource
from fhir_server.plugins.registry import Plugins
from fhir_server.search.custom import Customs
from fhir_server.storage.conformance import StoredConformance
from integrations.channels import channels
from integrations.hl7v2.mapping import Handler
from integrations.hl7v2.maps import HANDLERS
from subscriptions import Running
from subscriptions.channel import Channel

_OPERATION_ROOMS = ("fhir_server.operations", "subscriptions.operations")


class Operations(Plugin):
    """Every module constant `OPERATION` in the rooms' folders `operations`."""

    def operations(self) -> Sequence[Operation]:
        found: list[Operation] = []
        for room in _OPERATION_ROOMS:
            for one in pkgutil.iter_modules(importlib.import_module(room).__path__):
                operation = getattr(importlib.import_module(f"{room}.{one.name}"), "OPERATION", None)
                if isinstance(operation, Operation):
                    found.append(operation)
        return found


class Admission(Plugin):
    """Refuses resources of one type that the server could store, but not act upon (`issues` says why)."""

    def __init__(self, type: str, issues: Callable[[Resource], list[Issue]]) -> None:
        self.before_write_types = (type,)
        self._issues = issues

    def before_write(self, writing: Writing) -> None:
        if writing.resource is not None and (issues := self._issues(writing.resource)):
            raise FhirError(422, issues)


class Conformance(Plugin):
    """Looks again at stored profiles and value sets as soon as one was written here."""

    def __init__(self, stored: StoredConformance) -> None:
        self._stored = stored

    def after_commit(self, commit: Committed) -> None:
        self._stored.noticed(commit.versions)


class Messages(Plugin):
    """E-mail and the inbox."""

    def channels(self) -> Sequence[Channel]:
        return channels()


class V2(Plugin):
    """The maps of the HL7 v2 room."""

    def v2_maps(self) -> Mapping[str, Handler]:
        return {f"{kind}^{event}": handler for kind, events in HANDLERS.items() for event, handler in events.items()}


def ship(plugins: Plugins, conformance: StoredConformance) -> None:
    """Hang in what others may build upon: it comes before the plug-ins of others."""
    plugins.ship("operations", Operations())
    plugins.ship("conformance", Conformance(conformance))
    plugins.ship("messages", Messages())
    plugins.ship("hl7v2", V2())


def ship_admissions(plugins: Plugins, room: Running, customs: Customs) -> None:
    """Hang in what the server itself has to say of a write: it comes last, so that it sees what others made of the content."""
    plugins.ship("search parameters", Admission("SearchParameter", customs.issues))
    plugins.ship("subscriptions", Admission("Subscription", room.check))
    plugins.ship("topics", Admission("Basic", room.topics.issues))
