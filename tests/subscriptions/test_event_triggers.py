"""Event triggers of topics: https://hl7.org/fhir/R5/subscriptiontopic.html#trigger-event, docs/decisions/0085-events-are-provenances.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.subscriptions.receiver import Receiver, receiver
from tests.subscriptions.test_topic_subscriptions import R5, asked, begin, bundles, encounter, told, topic
from tests.subscriptions.world import World, world

Json = dict[str, Any]
V2 = "http://terminology.hl7.org/CodeSystem/v2-0003"


def discharge_topic(*codes: str, url: str = "http://example.org/SubscriptionTopic/adt") -> Json:
    coded = [{"url": "event", "valueCodeableConcept": {"coding": [{"system": V2, "code": code} for code in codes]}}]
    trigger = {"url": R5 + "eventTrigger", "extension": [*coded, {"url": "resource", "valueUri": "Encounter"}]}
    made = topic("t2", url)
    rest = [one for one in made["extension"] if not one["url"].endswith("resourceTrigger")]
    return {**made, "extension": [*rest, trigger]}


def provenance(id: str, *targets: str, code: str = "A03", system: str = V2) -> Json:
    return {
        "resourceType": "Provenance", "id": id, "recorded": "2026-03-02T08:00:00+08:00",
        "target": [{"reference": target} for target in targets], "activity": {"coding": [{"system": system, "code": code}]},
        "agent": [{"who": {"display": "HIS"}}],
    }  # fmt: skip


async def ready(w: World, there: Receiver, *, filters: tuple[str, ...] = (), codes: tuple[str, ...] = ("A03",)) -> None:
    await w.put(discharge_topic(*codes))
    await w.settle()
    await w.room.topics.fresh()
    await begin(w, asked(there.url, "full-resource", filters, criteria="http://example.org/SubscriptionTopic/adt"))


def focuses(there: Receiver) -> list[str]:
    return [event["focus"]["reference"].partition("/fhir/")[2] for one in bundles(there) for event in told(one)["events"]]


async def test_a_provenance_with_the_code_is_an_event_of_its_targets_of_the_type(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there)
        await w.put(encounter("e1"), encounter("e2"), {"resourceType": "Patient", "id": "p1"})
        await w.settle()
        assert focuses(there) == [], "a change alone is no such event"
        await w.put(provenance("v1", "Patient/p1", "Encounter/e1"))
        await w.settle()
        assert focuses(there) == ["Encounter/e1"]
        assert bundles(there)[0]["entry"][1]["resource"]["id"] == "e1"


async def test_other_codes_systems_and_servers_are_none(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there)
        await w.put(encounter("e1"))
        await w.put(
            provenance("v1", "Encounter/e1", code="A01"),
            provenance("v2", "Encounter/e1", system="http://example.org/other"),
            provenance("v3", "http://other.example.org/fhir/Encounter/e1", "Encounter/unknown"),
        )
        await w.settle()
        assert focuses(there) == []


async def test_any_of_the_codes_fires_and_a_changed_provenance_does_not_fire_again(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, codes=("A03", "A13"))
        await w.put(encounter("e1"))
        await w.put(provenance("v1", "Encounter/e1", code="A13"))
        await w.put({**provenance("v1", "Encounter/e1", code="A13"), "policy": ["http://example.org/policy"]})
        await w.settle()
        assert focuses(there) == ["Encounter/e1"]


async def test_a_target_is_one_event_however_often_and_by_however_many_codes_it_is_named(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, codes=("A03", "A13"))
        made = provenance("v1", "Encounter/e1", "Encounter/e1")
        made["activity"]["coding"].append({"system": V2, "code": "A13"})
        await w.put(encounter("e1"), made)
        await w.settle()
        assert focuses(there) == ["Encounter/e1"]


async def test_filters_narrow_events_too(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, filters=("Encounter?patient=Patient/p2",))
        await w.put(encounter("e1", patient="p1"), encounter("e2", patient="p2"))
        await w.put(provenance("v1", "Encounter/e1", "Encounter/e2"))
        await w.settle()
        assert focuses(there) == ["Encounter/e2"]


async def test_the_focus_is_the_version_of_the_moment_also_for_a_late_reader(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there)
        await w.put(encounter("e1", "in-progress"))
        await w.put(encounter("e1", "finished"), provenance("v1", "Encounter/e1"))
        await w.put(encounter("e1", "entered-in-error"))
        await w.put(provenance("v2", "Encounter/e1/_history/1"))
        await w.settle()
        told_of = [one["entry"][1]["resource"] for one in bundles(there)]
        assert [(one["status"], one["meta"]["versionId"]) for one in told_of] == [("finished", "2"), ("in-progress", "1")]


async def test_events_have_their_numbers_among_those_of_changes(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        both = topic("t3", "http://example.org/SubscriptionTopic/both")
        both["extension"].append(discharge_topic("A03")["extension"][-1])
        await w.put(both)
        await w.settle()
        await w.room.topics.fresh()
        await begin(w, asked(there.url, criteria="http://example.org/SubscriptionTopic/both"))
        await w.put(encounter("e1"), provenance("v1", "Encounter/e1"))
        await w.put(encounter("e2"))
        await w.settle()
        events = [event for one in bundles(there) for event in told(one)["events"]]
        assert [int(event["event-number"]) for event in events] == [1, 2, 3]
        assert focuses(there) == ["Encounter/e1", "Encounter/e1", "Encounter/e2"]
