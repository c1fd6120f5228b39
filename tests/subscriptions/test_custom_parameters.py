"""Criteria of Subscriptions that name search parameters of the site: watched at once, and read again when they change.

Specification: https://hl7.org/fhir/R4/subscription.html#criteria
"""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.model.definitions import definitions
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Custom, Definition, EveryParameter, Registry
from fhir_server.search.parser import Parser
from fhir_server.search.values_of import Scope
from fhir_server.storage.port import Stored
from subscriptions.criteria import compile_criteria
from subscriptions.table import Table
from subscriptions.topics.matching import Change
from subscriptions.watch import Watch, watch_of

SUBSCRIPTION = {"resourceType": "Subscription", "id": "s", "status": "active", "criteria": "Patient?nick=glad"}


def definition(expression: str) -> Definition:
    return Definition("Patient", "nick", "string", expression)


def stored(resource: dict[str, Any], rid: int) -> Stored:
    return Stored(rid, resource["resourceType"], resource["id"], 1, 0, "PUT", json.dumps(resource).encode())


def test_criteria_follow_the_parameters_of_the_site() -> None:
    registry = Registry(definitions())
    indexer = Indexer(registry, ZoneInfo("UTC"))
    every = EveryParameter(registry)
    parser = Parser(every, Scope(ZoneInfo("UTC")))

    def watch(subscription: dict[str, Any]) -> Watch:
        return watch_of(subscription, lambda text: compile_criteria(text, parser, definitions().resource_types), lambda canonical: None)

    table = Table(watch, every.newest)
    patient = {"resourceType": "Patient", "id": "p", "name": [{"family": "Glad", "text": "Sad"}]}

    def met() -> list[str]:
        table.renew()
        indexer.forget()
        change = Change(stored(patient, 9), None, json.loads, indexer.index)
        return [one.id for one in table.of("Patient").candidates(lambda: change.focus_values) if one.watch.wants(change)]

    def serve(*customs: Custom) -> None:
        registry.take(customs, registry.generation + 1)

    table.apply(stored(SUBSCRIPTION, 5))
    assert met() == []  # unknown
    serve(Custom(8000, definition("Patient.name.family"), False))
    assert met() == ["s"]  # not ready for searches, but each new version can be looked at
    serve(Custom(8000, definition("Patient.name.family"), True))
    assert met() == ["s"]
    serve(Custom(8001, definition("Patient.name.text"), False))
    assert met() == []  # the same name means something else now
    patient["name"][0]["text"] = "Glad"
    assert met() == ["s"]
    serve()
    assert met() == []
