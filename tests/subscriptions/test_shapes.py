"""What a topic wants told beside the focus: notificationShape. https://hl7.org/fhir/R5/subscriptiontopic.html, conformance.md K8, K13.

Forms: the examples r4-notification-multi-resource and r4-notification-full-resource-with-query of the R5 backport guide.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.subscriptions.guide import Profiles
from tests.subscriptions.receiver import Receiver, receiver
from tests.subscriptions.test_rights import APP, Closed
from tests.subscriptions.test_topic_subscriptions import BASE, GUIDE, R5, TOPIC, asked, begin, bundles, encounter, topic
from tests.subscriptions.world import World, world

Json = dict[str, Any]


def shaped(*parts: Json) -> Json:
    shape = {"url": R5 + "notificationShape", "extension": [{"url": "resource", "valueUri": "Encounter"}, *parts]}
    return topic("t1", TOPIC, "active", shape)


def included(text: str) -> Json:
    return {"url": "include", "valueString": text}


async def ready(w: World, there: Receiver, content: str, *parts: Json) -> None:
    await w.put(shaped(*parts))
    await w.settle()
    await w.room.topics.fresh()
    await begin(w, asked(there.url, content))
    await w.put(
        {"resourceType": "Patient", "id": "p1", "managingOrganization": {"reference": "Organization/o1"}},
        {"resourceType": "Organization", "id": "o1", "name": "Ward"},
    )


def event_of(bundle: Json) -> list[Json]:
    return next(row["part"] for row in bundle["entry"][0]["resource"]["parameter"] if row["name"] == "notification-event")


async def test_included_resources_are_named_and_sent_with_whole_resources(tmp_path: Path, corpus: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, "full-resource", included("Encounter:patient&iterate=Patient.organization"))
        await w.put(encounter("e1"))
        await w.settle()
        (bundle,) = bundles(there)
        beside = [part["valueReference"]["reference"] for part in event_of(bundle) if part["name"] == "additional-context"]
        assert beside == [f"{BASE}/Patient/p1", f"{BASE}/Organization/o1"]
        places = [(entry["fullUrl"], entry["request"]) for entry in bundle["entry"][2:]]
        assert places == [
            (f"{BASE}/Patient/p1", {"method": "GET", "url": "Patient/p1"}),
            (f"{BASE}/Organization/o1", {"method": "GET", "url": "Organization/o1"}),
        ]
        Profiles(corpus).notification(bundle)
        assert bundle["entry"][2]["resource"]["id"] == "p1" and bundle["entry"][2]["response"]["status"] == "200"


async def test_what_refers_to_the_focus_is_included_too(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, "full-resource", {"url": "revInclude", "valueString": "Condition:encounter"})
        diagnosis = {
            "resourceType": "Condition",
            "id": "c1",
            "subject": {"reference": "Patient/p1"},
            "encounter": {"reference": "Encounter/e1"},
        }
        await w.put(encounter("e1"), diagnosis)
        await w.settle()
        (bundle,) = bundles(there)
        assert [entry["fullUrl"].rpartition("/fhir/")[2] for entry in bundle["entry"][1:]] == ["Encounter/e1", "Condition/c1"]


@pytest.mark.parametrize("content", ["empty", "id-only"])
async def test_without_whole_resources_nothing_is_sent_beside(tmp_path: Path, content: str) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, content, included("Encounter:patient"))
        await w.put(encounter("e1"))
        await w.settle()
        (bundle,) = bundles(there)
        assert "Patient/p1" not in json.dumps(bundle)


async def test_what_the_subscriber_may_not_see_is_not_beside(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path, gate=Closed, principal=APP) as w:
        await ready(w, there, "full-resource", included("Encounter:patient"))
        await w.put({"resourceType": "Patient", "id": "p1", "name": [{"text": "geheim"}]})
        await w.put(encounter("e1"))
        await w.settle()
        (bundle,) = bundles(there)
        assert len(bundle["entry"]) == 2 and 'Patient/p1"' not in json.dumps(bundle["entry"][0])


async def test_related_queries_are_told_as_the_topic_says(tmp_path: Path, corpus: Path) -> None:
    coding = {"system": "http://example.org/query-types", "code": "example"}
    query = {"url": GUIDE + "backport-related-query", "extension": [
        {"url": "queryType", "valueCoding": coding}, {"url": "query", "valueString": "http://example.org/fhir/$example?patient=1"},
    ]}  # fmt: skip
    async with receiver() as there, world(tmp_path) as w:
        await ready(w, there, "id-only", query)
        await w.put(encounter("e1"))
        await w.settle()
        bundle = json.loads(there.hits[-1].body)
        Profiles(corpus).notification(bundle)
        assert [part for part in event_of(bundle) if part["name"] == "related-query"] == [
            {"name": "related-query", "part": [
                {"name": "query-type", "valueCoding": coding}, {"name": "query", "valueString": "http://example.org/fhir/$example?patient=1"},
            ]}
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["Encounter:nothing", "Nothing:patient", "patient", "Encounter:patient&sideways=Patient.link"])
async def test_an_include_that_there_is_not_refuses_the_topic(tmp_path: Path, text: str) -> None:
    async with world(tmp_path) as w:
        (issue,) = w.room.topics.issues(shaped(included(text)))
        assert issue.expression == ["SubscriptionTopic.notificationShape[0].include"] or "notificationShape[0].include" in issue.diagnostics
        assert issue.zh
