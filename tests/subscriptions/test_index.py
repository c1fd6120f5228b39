"""Subscriptions are found by what they demand: the same ones as if each were asked, and few of many."""

from __future__ import annotations

import json
import random
import time
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.model.definitions import definitions
from fhir_server.search.indexer import Indexer
from fhir_server.search.parser import Parser
from fhir_server.search.values import IndexValues
from fhir_server.search.values_of import Scope
from fhir_server.storage.port import Stored
from subscriptions.criteria import compile_criteria
from subscriptions.index import Entry, Watchers
from subscriptions.topics.definition import topic_of
from subscriptions.topics.matching import Change, compile_topic
from subscriptions.watch import SearchWatch, TopicWatch
from tests.subscriptions.test_topics import topic
from tests.subscriptions.world import REGISTRY, observation

ZONE = ZoneInfo("UTC")
INDEXER = Indexer(REGISTRY, ZONE)
INDEX = INDEXER.index
PARSER = Parser(REGISTRY, Scope(ZONE))
TYPES = tuple(definitions().resource_types)


def criteria(text: str) -> Any:
    return compile_criteria(text, PARSER, TYPES)


def change(resource: dict[str, Any], before: dict[str, Any] | None = None, *, deleted: bool = False) -> Change:
    def version(content: dict[str, Any] | None, rid: int) -> Stored:
        return Stored(rid, "Observation", "o", rid, 0, "PUT" if content else "DELETE", json.dumps(content).encode() if content else b"")

    return Change(version(None if deleted else resource, 2), version(before, 1) if before else None, json.loads, INDEX)


def some(rnd: random.Random) -> dict[str, Any]:
    return observation(
        "o", rnd.choice(["1", "2", "3"]), status=rnd.choice(["final", "amended"]),
        subject={"reference": f"Patient/{rnd.randrange(4)}", "identifier": {"system": "http://i", "value": rnd.choice("678")}},
        meta={"tag": [{"system": "http://t", "code": rnd.choice("ab")}], "profile": [rnd.choice(["http://p", "http://q"])]},
        basedOn=[{"reference": f"ServiceRequest/{rnd.randrange(2)}"}],
        identifier=[{"type": {"coding": [{"system": "http://t", "code": "MR"}]}, "system": "http://i", "value": rnd.choice("12")}],
        valueQuantity={"value": rnd.randrange(10), "code": "g", "system": "http://unitsofmeasure.org"},
    )  # fmt: skip


TEXTS = [
    "Observation", "Observation?code=1", "Observation?code=http://loinc.org|2,http://loinc.org|3", "Observation?code=http://loinc.org|",
    "Observation?subject=Patient/1", "Observation?patient=Patient/1,Patient/2&code=2", "Observation?status=final&value-quantity=gt5",
    "Observation?code:not=1", "Observation?code=1,http://other|", "Observation?_id=o", "Observation?value-quantity=lt5",
    "Observation?status:not=final", "Observation?_tag=http://t|a", "Observation?_profile=http://p", "Observation?combo-code=2",
    "Observation?subject:identifier=http://i|7", "Observation?based-on=ServiceRequest/1", "Observation?identifier=http://i|1",
    "Observation?identifier:of-type=http://t|MR|1",
]  # fmt: skip


def test_the_same_ones_are_found_as_if_each_were_asked() -> None:
    rnd = random.Random(4)
    of_observations = topic_of(
        topic({"resource": "Observation"}) | {"canFilterBy": [{"filterParameter": "code"}, {"filterParameter": "patient"}]}
    )
    compiled = compile_topic(of_observations, criteria, TYPES)
    watches = [SearchWatch(criteria(text)) for text in TEXTS]
    filters = [(), ("Observation?code=1",), ("Observation?patient=Patient/1", "Observation?code=2,3"), ("Encounter?status=finished",)]
    watches += [TopicWatch(compiled, tuple(criteria(text) for text in one)) for one in filters]
    watchers = Watchers()
    for number, watch in enumerate(watches):
        watchers.add("Observation", Entry(str(number), watch, 0))
    for _ in range(300):
        one = change(some(rnd), some(rnd) if rnd.random() < 0.5 else None, deleted=rnd.random() < 0.2)
        asked = {entry.id for entry in watchers.everyone.values() if entry.watch.wants(one)}

        def keyed(one: Change = one) -> Any:
            content = one.focus_content
            return INDEXER.only("Observation", watchers.parameters)(content) if content is not None else IndexValues()

        found = [entry.id for entry in watchers.candidates(keyed) if entry.watch.wants(one)]
        assert sorted(found) == sorted(asked) and len(found) == len(set(found))
        gone = str(rnd.randrange(len(watches)))
        watchers.remove(gone)
        watchers.add("Observation", Entry(gone, watches[int(gone)], 0))


def test_many_subscriptions_do_not_slow_a_change() -> None:
    def filled(number: int) -> Watchers:
        watchers = Watchers()
        for n in range(number):
            watch = SearchWatch(criteria(f"Observation?code=http://loinc.org|2823-3&subject=Patient/{n}"))
            watchers.add("Observation", Entry(str(n), watch, 0))
        return watchers

    def seconds(watchers: Watchers) -> float:
        best = 1.0
        for _ in range(5):
            one = change(observation("o", subject={"reference": "Patient/7"}))
            assert one.current_values
            started = time.perf_counter()
            for _ in range(200):
                assert [entry.id for entry in watchers.candidates(lambda one=one: one.focus_values) if entry.watch.wants(one)] == ["7"]
            best = min(best, time.perf_counter() - started)
        return best

    few, many = filled(10), filled(10_000)
    assert seconds(many) < 5 * seconds(few)


def test_what_is_taken_away_is_not_found() -> None:
    watchers = Watchers()
    for n, text in enumerate(TEXTS):
        watchers.add("Observation", Entry(str(n), SearchWatch(criteria(text)), 0))
    for n in range(len(TEXTS)):
        watchers.remove(str(n))
        watchers.remove(str(n))
    one = change(observation("o"))
    assert list(watchers.candidates(lambda: one.focus_values)) == [] and not watchers.everyone and not watchers._by_key
