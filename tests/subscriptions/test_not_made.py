"""Notifications that cannot be made, and Subscriptions that cannot be served any more: their people are told, and those behind go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.auth.gate import Gate, Principal
from fhir_server.errors import FhirError
from fhir_server.storage.port import Stored
from subscriptions.delivering import ERROR_AFTER, POISON
from subscriptions.jobs.clock import MINUTE, VirtualClock
from tests.subscriptions.receiver import receiver
from tests.subscriptions.test_topic_subscriptions import GUIDE, NOW, R5, TOPIC, asked, begin, bundles, encounter, told, topic, topical
from tests.subscriptions.world import World, observation, subscription, world


class Failing(Gate):
    """Cannot hand out what carries the word 'boom', and refuses 'geheim'."""

    async def read_version(self, principal: Principal, type: str, id: str, version: int) -> Stored | None:
        stored = await super().read_version(principal, type, id, version)
        if stored is not None and b"boom" in stored.body:
            raise FhirError.of(500, "exception", "a fault", zh="故障")
        if stored is not None and b"geheim" in stored.body:
            raise FhirError.of(403, "forbidden", "not for you", zh="无权查看")
        return stored


async def test_one_that_cannot_be_made_is_told_and_goes_to_the_dead_letters(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, world(tmp_path, clock=clock, gate=Failing) as w:
        await w.put(subscription(there.url, channel={"payload": "application/json"}))
        await w.settle()
        await w.put(observation("o1"))
        await w.put(observation("o2", valueString="boom"))
        await w.put(observation("o3"))
        for _ in range(ERROR_AFTER):
            await w.settle()
            clock.advance(2 * MINUTE)
        found = await w.read("Subscription", "s1")
        assert found["status"] == "error" and "could not be made" in found["error"]
        assert any(line.status == "could not be made" for line in await w.desk.log("s1"))
        for _ in range(POISON):
            await w.settle()
            clock.advance(2 * MINUTE)
        assert [hit.path[-2:] for hit in there.hits] == ["o1", "o3"]
        (dead,) = await w.desk.dead("s1")
        assert dead["payload"]["id"] == "o2" and "could not be made" in dead["error"]


async def test_what_may_not_leave_keeps_its_number_and_names_nothing(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path, gate=Failing) as w:
        await begin(w, asked(there.url))
        await w.put(encounter("e1", text={"status": "empty", "div": "geheim"}), encounter("e2"))
        await w.settle()
        first, second = (told(one)["events"][0] for one in bundles(there))
        assert (first["event-number"], "focus" in first, second["event-number"], "focus" in second) == ("1", False, "2", True)


async def test_a_subscription_whose_topic_is_gone_is_in_error_with_the_reason(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        assert (await w.read("Subscription", "s1"))["status"] == "active"
        await w.delete("Basic", "t1")
        await w.settle()
        found = await w.read("Subscription", "s1")
        assert found["status"] == "error" and TOPIC in found["error"]
        await w.put(topic())
        await w.settle()
        await w.put(encounter("e1"))
        await w.settle()
        assert len(bundles(there)) == 1, "what happens once it is back is told; only the client makes it active again"


def complaints(w: World, *extensions: dict[str, object]) -> list[str]:
    return [issue.diagnostics for issue in w.room.topics.issues(topic("t9", "http://example.org/t9", "active", *extensions))]


def related(*parts: dict[str, object]) -> dict[str, object]:
    query = {"url": GUIDE + "backport-related-query", "extension": list(parts)}
    return {"url": R5 + "notificationShape", "extension": [{"url": "resource", "valueUri": "Encounter"}, query]}


ENCOUNTER = {"url": "resource", "valueUri": "Encounter"}


@pytest.mark.parametrize(
    ("extension", "element"),
    [
        ({"url": R5 + "eventTrigger", "extension": [{"url": "event", "valueString": "A03"}, ENCOUNTER]}, "eventTrigger[0].event"),
        (
            {"url": R5 + "resourceTrigger", "extension": [{"url": "queryCriteria", "valueString": "status=finished"}, ENCOUNTER]},
            "resourceTrigger[2].queryCriteria",
        ),
        (
            related({"url": "queryType", "valueString": "x"}, {"url": "query", "valueString": "q"}),
            "notificationShape[0].relatedQuery.queryType",
        ),
        (related({"url": "queryType", "valueCoding": {"code": "x"}}), "notificationShape[0].relatedQuery.query"),
    ],
)
async def test_a_topic_of_another_form_is_refused_with_its_element(tmp_path: Path, extension: dict[str, object], element: str) -> None:
    async with world(tmp_path) as w:
        (said,) = complaints(w, extension)
        assert said.startswith(f"SubscriptionTopic.{element}:")
