"""What is refused at creation, with its reason. conformance.md K17, K22, K23; https://hl7.org/fhir/R4/subscription.html"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.subscriptions.world import subscription, world

URL = "https://hooks.example.org/x"


@pytest.mark.parametrize(
    "good",
    [
        subscription(URL),
        subscription(URL, criteria="Patient"),
        subscription(URL, criteria="Encounter?class=IMP&status=finished,cancelled&date=ge2026"),
        subscription(URL, criteria="Observation?code=http%3A%2F%2Floinc.org%7C2823-3"),
        subscription(URL, channel={"payload": "application/fhir+json", "header": ["Authorization: Bearer x"]}),
        subscription(URL, channel={"payload": "application/fhir+json;charset=utf-8"}),
        subscription(URL, channel={"payload": "application/fhir+xml"}),
        subscription("http://127.0.0.1:9/x"),
        subscription(URL, status="active"),
        subscription("nonsense", status="off", criteria="also nonsense"),
        subscription(URL, status="error", error="Socket Error 10060"),  # as the official example subscription-example-error has it
    ],
    ids=range(11),
)
async def test_what_is_served_is_accepted(tmp_path: Path, good: dict[str, Any]) -> None:
    async with world(tmp_path) as w:
        assert w.check(good) == []


@pytest.mark.parametrize(
    ("more", "expression", "said"),
    [
        ({"criteria": ""}, "criteria", "no resource type"),
        ({"criteria": "Nonsense?code=1"}, "criteria", "'Nonsense' is no resource type"),
        ({"criteria": "Observation?kode=1"}, "criteria", "kode"),
        ({"criteria": "Observation?code:wrong=1"}, "criteria", "wrong"),
        ({"criteria": "Observation?date=never"}, "criteria", "date"),
        ({"criteria": "Observation?_include=Observation:subject"}, "criteria", "_include"),
        ({"criteria": "Observation?_sort=date"}, "criteria", "_sort"),
        ({"criteria": "Observation?subject.name=x"}, "criteria", "chained"),
        ({"criteria": "Patient?_has:Observation:patient:code=1"}, "criteria", "chained parameters and _has"),
        ({"channel": {"type": "websocket", "payload": "application/fhir+xml"}}, "channel.payload", "pings"),
        ({"channel": {"type": "email", "endpoint": "mailto:a@b.cn"}}, "channel.type", "no mail server is configured"),
        ({"channel": {"type": "sms"}}, "channel.type", "'sms' is not served; served are: rest-hook, websocket, message, email"),
        ({"channel": {"type": "message", "endpoint": None}}, "channel.endpoint", "needs the URL"),
        ({"channel": {"endpoint": None}}, "channel.endpoint", "needs the URL"),
        ({"channel": {"endpoint": "mailto:a@b.cn"}}, "channel.endpoint", "http or https"),
        ({"channel": {"endpoint": "not a url"}}, "channel.endpoint", "http or https"),
        ({"channel": {"endpoint": "http://10.0.0.1/x"}}, "channel.endpoint", "10.0.0.1"),
        ({"channel": {"endpoint": "http://169.254.169.254/latest/meta-data"}}, "channel.endpoint", "169.254.169.254"),
        ({"channel": {"payload": "text/xml"}}, "channel.payload", "text/xml"),
        ({"channel": {"payload": "text/plain"}}, "channel.payload", "text/plain"),
        ({"channel": {"payload": "application/json\r\nX: y"}}, "channel.payload", "not served"),
        ({"channel": {"payload": "application/json;x=\r\nX: y"}}, "channel.payload", "no media type"),
        ({"channel": {"header": ["A: b", "X: geheim\r\nEvil: 1"]}}, "channel.header[1]", "line breaks"),
        ({"channel": {"header": [f"X{n}: 1" for n in range(21)]}}, "channel.header", "more than 20"),
        (
            {"_criteria": {"extension": [{"url": "http://hl7.org/fhir/5.0/StructureDefinition/backport-filter-criteria"}]}},
            "criteria",
            "topic-based",
        ),
        (
            {
                "channel": {
                    "payload": "application/fhir+json",
                    "_payload": {
                        "extension": [{"url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content"}]
                    },
                }
            },
            "channel.payload",
            "topic-based",
        ),
    ],
)
async def test_what_is_not_served_is_refused_with_element_and_reason(
    tmp_path: Path, more: dict[str, Any], expression: str, said: str
) -> None:
    async with world(tmp_path) as w:
        (issue,) = w.check(subscription(URL, **more))
        assert issue.expression == (f"Subscription.{expression}",) and said in issue.diagnostics
        assert issue.severity == "error" and not issue.syntax and "geheim" not in issue.diagnostics


async def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        found = w.check(subscription("ftp://x", criteria="Nonsense", channel={"payload": "text/plain"}))
        assert {issue.expression[0] for issue in found} == {
            "Subscription.criteria",
            "Subscription.channel.endpoint",
            "Subscription.channel.payload",
        }


async def test_loopback_is_refused_in_production(tmp_path: Path) -> None:
    async with world(tmp_path, env="production") as w:
        (issue,) = w.check(subscription("http://127.0.0.1:8/x"))
        assert "127.0.0.1" in issue.diagnostics
    async with world(tmp_path, env="production", endpoint_allow="127.0.0.0/8") as w:
        assert w.check(subscription("http://127.0.0.1:8/x")) == []


async def test_criteria_that_came_in_another_way_are_passed_over(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(subscription(URL, criteria="Observation?_has:x=1"))
        await w.put({"resourceType": "Patient", "id": "p1"})
        await w.settle()
        assert await w.room.jobs.lag() == {"subscriptions": 0, "followup": 0}
        found = await w.read("Subscription", "s1")
        assert found["status"] == "error" and "_has" in found["error"]
