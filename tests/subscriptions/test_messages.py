"""Notifications as messages: https://hl7.org/fhir/R4/subscription.html#channels, messaging.html, conformance.md K21"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate
from tests.subscriptions.receiver import receiver
from tests.subscriptions.test_topic_subscriptions import BASE, TOPIC, asked, begin, encounter, told, topical
from tests.subscriptions.world import observation, subscription, world


def checked(body: bytes) -> dict[str, Any]:
    """A message, right by R4's own rules."""
    message: dict[str, Any] = json.loads(body)
    issues = [*validate(message), *ProfileRoom().validate(message)]
    assert [issue.diagnostics for issue in issues if issue.severity == "error"] == []
    assert message["type"] == "message" and message["entry"][0]["resource"]["resourceType"] == "MessageHeader"
    return message


@pytest.mark.parametrize(("path", "due"), [("", "/hook/$process-message"), ("/$process-message", "/hook/$process-message")])
async def test_a_search_is_told_with_its_resource(tmp_path: Path, path: str, due: str) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await w.put(subscription(there.url + path, channel={"type": "message", "header": ["X-Key: k"]}))
        await w.put(observation("o1"))
        await w.settle()
        (hit,) = there.hits
        assert (hit.method, hit.path, hit.headers["x-key"]) == ("POST", due, "k")
        assert hit.headers["content-type"].startswith("application/fhir+json")
        header, focus = (entry["resource"] for entry in checked(hit.body)["entry"])
        assert header["focus"] == [{"reference": f"{BASE}/Observation/o1"}] and header["source"]["endpoint"] == BASE
        assert focus == await w.read("Observation", "o1")


async def test_a_topic_is_told_with_its_notification_bundle(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, "full-resource", channel={"type": "message"}))
        await w.put(encounter("e1"))
        await w.settle()
        assert [hit.path for hit in there.hits] == ["/hook/$process-message"] * 2
        shake, event = (checked(hit.body)["entry"] for hit in there.hits)
        assert told(shake[1]["resource"])["type"] == "handshake"
        assert event[0]["resource"]["eventUri"] == TOPIC
        assert event[0]["resource"]["focus"] == [{"reference": event[1]["fullUrl"]}]
        notification = event[1]["resource"]
        assert told(notification)["events"][0]["event-number"] == "1"
        assert notification["entry"][1]["resource"]["id"] == "e1"
