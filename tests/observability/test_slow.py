"""The log of slow searches: names, never values; a few plans a minute; nothing held up."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog

from fhir_server.observability.metrics import RequestMetrics
from fhir_server.observability.slow import PLANS, SlowSearches
from tests.console.receiver import until


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


async def plan():
    return {"plan": [{"type": "Patient", "leads": "all"}], "rows": 3}


async def ended(slow: SlowSearches) -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_only_what_takes_as_long_as_the_setting_says_is_logged(lines) -> None:
    metrics = RequestMetrics()
    slow = SlowSearches(500, metrics)
    slow.note("Patient", ["family"], 0.499, 1, plan)
    slow.note("Patient", ["name", "family", "family"], 0.5, 1, plan)
    await ended(slow)
    (line,) = lines
    assert line["event"] == "slow search" and line["type"] == "Patient" and line["rows"] == 1 and line["ms"] == 500
    assert line["parameters"] == ["family", "name"] and line["plan"] == [{"type": "Patient", "leads": "all"}]
    assert metrics.counted() == {("fhir_slow_searches", ("Patient",)): 1}


async def test_all_are_logged_and_counted_but_few_are_explained_within_a_minute(lines) -> None:
    now = [1000.0]
    metrics = RequestMetrics()
    slow = SlowSearches(0, metrics, lambda: now[0])
    for _ in range(20):
        slow.note("Patient", [], 1, 0, plan)
        await ended(slow)
    assert len(lines) == 20 and sum("plan" in line for line in lines) == PLANS
    assert metrics.counted()["fhir_slow_searches", ("Patient",)] == 20
    now[0] += 61
    slow.note("Patient", [], 1, 0, plan)
    await ended(slow)
    assert "plan" in lines[-1]


async def test_no_second_plan_is_made_while_one_is_being_made(lines) -> None:
    free, running = asyncio.Event(), []

    async def long():
        running.append(1)
        await free.wait()
        return await plan()

    slow = SlowSearches(0, RequestMetrics())
    for _ in range(3):
        slow.note("Patient", [], 1, 0, long)
        await ended(slow)
    assert len(running) == 1 and len(lines) == 2
    free.set()
    await ended(slow)
    assert len(lines) == 3


async def test_a_plan_that_fails_does_not_lose_the_line(lines) -> None:
    async def broken():
        raise ValueError("geheim")

    slow = SlowSearches(0, RequestMetrics())
    slow.note("Patient", [], 1, 0, broken)
    await ended(slow)
    assert lines[0]["plan"] == "not made: ValueError"


async def test_a_search_that_was_ended_for_its_length_is_not_run_again(lines) -> None:
    slow = SlowSearches(0, RequestMetrics())
    slow.note("Patient", ["name"], 30, None, None)
    assert lines[0]["rows"] is None and "plan" not in lines[0]


def slow_lines(server) -> list[dict]:
    found = [json.loads(line) for line in server.log if line.startswith("{")]
    return [line for line in found if line["event"] == "slow search"]


SEARCHES = [
    ({"family": "Geheim", "birthdate": "ge1949-09-21"}, ["birthdate", "family"]),
    ({"_content": "geheim"}, ["_content"]),
    ({"identifier": "urn:geheim|110101194909214321", "_sort": "birthdate"}, ["_sort", "identifier"]),
    ({"_has:Observation:patient:code": "geheim"}, ["_has:Observation:patient:code"]),
]


def test_a_running_server_logs_names_and_plans_and_no_value(start) -> None:
    server = start(env={"FHIR_SERVER_SLOW_QUERY_MS": "0"})
    with server.client() as client:
        client.put(
            "Patient/geheim-1", json={"resourceType": "Patient", "id": "geheim-1", "name": [{"family": "Geheim"}]}
        ).raise_for_status()
        for number, (asked, names) in enumerate(SEARCHES):
            assert client.get("Patient", params=asked).status_code == 200
            line = until(lambda number=number: len(found := slow_lines(server)) > number and found[number])
            assert line["parameters"] == names and line["type"] == "Patient" and line["ms"] > 0
            (planned,) = line["plan"]
            assert planned["type"] == "Patient" and planned["statements"] and planned["leads"], line
        assert slow_lines(server)[0]["rows"] == 0 and slow_lines(server)[1]["rows"] == 1
        client.post("Patient/_search", data={"family": "Geheim"})
        shown = client.get(server.root + "/metrics").text
    assert 'fhir_slow_searches_total{type="Patient"} 5.0' in shown
    assert server.stop() == 0
    text = "".join(server.log).lower()
    assert "geheim" not in text and "110101194909214321" not in text and "1949" not in text
    assert len(slow_lines(server)) == 5 and "plan" not in slow_lines(server)[4], "four plans a minute"


def test_a_quick_search_leaves_no_line(start) -> None:
    server = start(env={"FHIR_SERVER_SLOW_QUERY_MS": "60000"})
    with server.client() as client:
        client.get("Patient", params={"family": "Geheim"})
    assert server.stop() == 0
    assert slow_lines(server) == []
