"""The monitor over HTTP: what it tells of Subscriptions, what it does, and what it keeps to itself."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.console.receiver import TOPIC, Receiver, observation, subscription, topical, until

ROWS = "/console/monitor/subscriptions"
PAGES = ("/", "/console/subscriptions", "/console/jobs")


def put(client: httpx.Client, resource: dict[str, Any]) -> None:
    answer = client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
    assert answer.status_code in (200, 201), answer.text


def row_of(console: httpx.Client, id: str) -> dict[str, Any]:
    rows = console.get(ROWS, params={"text": id}).json()["rows"]
    return next((row for row in rows if row["id"] == id), {})


def detail(console: httpx.Client, id: str) -> dict[str, Any]:
    answer = console.get(f"{ROWS}/{id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("page", PAGES)
def test_each_page_forbids_what_is_not_its_own(console: httpx.Client, page: str) -> None:
    answer = console.get(page)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and "default-src 'self'" in policy and "unsafe" not in policy
    for script in re.findall(r"<script[^>]*>(.*?)</script>", answer.text, re.DOTALL):
        assert script == "", "no script stands in a page"
    assert not re.search(r"\son\w+=|style=", answer.text)
    for address in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', answer.text):
        assert console.get(address).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_each_page_leads_to_all_others(console: httpx.Client, page: str) -> None:
    text = console.get(page).text
    assert all(f'href="{other}"' in text for other in PAGES)
    assert re.findall(r'href="([^"]+)"[^>]*aria-current="page"', text) == [page]


def test_a_receiver_that_refuses_is_told_with_its_error_and_without_secrets(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    put(client, subscription(receiver, "refused", "Observation?subject=Patient/refused"))
    until(lambda: row_of(console, "refused").get("status") == "active")
    put(client, observation("refused", "refused"))
    row = until(lambda: (found := row_of(console, "refused")).get("status") == "error" and found)
    assert (row["host"], row["channel"], row["reason"]) == (f"127.0.0.1:{receiver.port}", "rest-hook", "reason of refused")
    assert row["error"] and row["waiting"] == 1 and row["oldest"] > 0 and row["last"]["taken"] is False
    told = console.get(f"{ROWS}/refused").text
    assert (
        "geheim" not in told
        and "geheim" not in console.get(ROWS).text
        and "geheim" not in console.get("/console/jobs/list?state=open").text
    )
    assert len(detail(console, "refused")["log"]) >= 4, "each attempt has a line"
    assert console.get("/console/monitor").json()["states"]["error"] >= 1


def test_a_topic_is_named_by_its_title_and_its_events_are_counted(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    receiver.open()
    put(client, topical(receiver, "titled"))
    until(lambda: row_of(console, "titled").get("status") == "active")
    put(client, observation("titled-1"))
    put(client, observation("titled-2"))
    row = until(lambda: (found := row_of(console, "titled"))["events"] == 2 and found["last"]["taken"] and not found["waiting"] and found)
    assert row["criteria"] == TOPIC and "观察值新增" in row["topic"]
    kinds = [line["kind"] for line in detail(console, "titled")["log"]]
    assert kinds[-1] == "handshake" and kinds[0] == "event-notification"
    minutes = console.get("/console/monitor").json()["minutes"]
    assert sum(minute["taken"] for minute in minutes) >= 2


def test_pause_keeps_events_and_resume_sends_them(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    receiver.open()
    put(client, subscription(receiver, "paused", "Observation?subject=Patient/paused"))
    until(lambda: row_of(console, "paused").get("status") == "active")
    for _ in range(2):  # safe to repeat
        assert console.post(f"{ROWS}/paused/hold").status_code == 200
    assert detail(console, "paused")["held"]["by"] == "system"
    put(client, observation("paused", "paused"))
    until(lambda: [job["attempts"] for job in detail(console, "paused")["stuck"] if not job["running"]] == [1])
    assert detail(console, "paused")["waiting"] == 1 and receiver.hits == []
    assert console.post(f"{ROWS}/paused/release").json() == {"sent": 1}
    until(lambda: receiver.hits)
    assert console.post(f"{ROWS}/paused/release").json() == {"sent": 0}
    assert detail(console, "paused")["held"] is None


def test_the_test_says_what_the_endpoint_answered(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    put(client, subscription(receiver, "tested", "Observation?subject=Patient/tested"))
    until(lambda: row_of(console, "tested").get("status") == "active")
    shut = console.post(f"{ROWS}/tested/test").json()["attempt"]
    assert (shut["kind"], shut["taken"]) == ("test", False) and shut["status"] and "geheim" not in str(shut)
    receiver.open()
    opened = until(lambda: (found := console.post(f"{ROWS}/tested/test")).status_code == 200 and found.json()["attempt"])
    assert (opened["taken"], opened["status"]) == (True, "HTTP 200") and len(receiver.hits) == 1
    assert detail(console, "tested")["log"][0]["kind"] == "test"


def test_events_of_a_topic_are_replayed_and_those_of_a_search_are_refused_in_both_languages(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    receiver.open()
    put(client, topical(receiver, "again"))
    put(client, subscription(receiver, "never", "Observation?subject=Patient/never"))
    until(lambda: row_of(console, "again").get("status") == "active")
    put(client, observation("again"))
    until(lambda: detail(console, "again")["log"][0]["kind"] == "event-notification")
    before = len(receiver.hits)
    assert console.post(f"{ROWS}/again/replay", json={"first": 1, "last": 1}).json() == {"events": 1}
    until(lambda: len(receiver.hits) > before)
    refused = console.post(f"{ROWS}/never/replay", json={"first": 1, "last": 1})
    assert refused.status_code == 422 and "search" in refused.json()["detail"] and "检索式" in refused.json()["zh"]


@pytest.mark.parametrize(
    "body", [{}, {"first": 2, "last": 1}, {"first": "1", "last": 2}, {"first": 0, "last": 1}, {"first": True, "last": 1}]
)
def test_a_range_that_is_none_is_refused(console: httpx.Client, body: dict[str, Any]) -> None:
    answer = console.post(f"{ROWS}/nobody/replay", json=body)
    assert answer.status_code == 400 and answer.json()["detail"] and answer.json()["zh"]


def test_a_body_that_is_no_object_is_refused(console: httpx.Client) -> None:
    for body in (b"[1]", b"{", b"1"):
        answer = console.post(f"{ROWS}/nobody/replay", content=body)
        assert answer.status_code == 400 and "JSON" in answer.json()["zh"]


def test_a_body_without_an_end_is_not_read_to_it(console: httpx.Client) -> None:
    answer = console.post(f"{ROWS}/nobody/replay", content=b'{"first": 1, "x": "' + b"x" * 20_000)
    assert answer.status_code == 413 and answer.json()["zh"]


@pytest.mark.parametrize("place", ["x", "-1", "9" * 40])
def test_a_place_in_the_log_that_is_none_is_refused(console: httpx.Client, place: str) -> None:
    for name in ("after", "messages"):
        answer = console.get("/console/changes", params={name: place})
        assert answer.status_code == 400 and name in answer.json()["detail"] and answer.json()["zh"]


@pytest.mark.parametrize("action", ["hold", "release", "test", "replay"])
def test_an_action_is_not_taken_from_another_site(server: Server, client: httpx.Client, receiver: Receiver, action: str) -> None:
    put(client, subscription(receiver, "foreign", "Observation?subject=Patient/foreign"))
    plain = httpx.Client(base_url=server.root)
    answer = plain.post(f"{ROWS}/foreign/{action}", json={"first": 1, "last": 1})
    assert answer.status_code == 403 and answer.json()["zh"]
    assert plain.get(f"{ROWS}/foreign/{action}").status_code == 405
    assert plain.get(f"{ROWS}/foreign").json()["held"] is None


def test_a_subscription_that_is_not_there_is_said_so_in_both_languages(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    unknown = console.get(f"{ROWS}/nobody")
    assert unknown.status_code == 404 and "nobody" in unknown.json()["detail"] and "不存在" in unknown.json()["zh"]
    assert console.post(f"{ROWS}/nobody/hold").status_code == 404
    put(client, subscription(receiver, "gone", "Observation?subject=Patient/gone"))
    client.delete("Subscription/gone").raise_for_status()
    assert console.get(f"{ROWS}/gone").status_code == 410
    assert row_of(console, "gone") == {}


def test_many_are_paged_without_one_being_lost_or_told_twice(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    entries = [
        {
            "resource": subscription(
                receiver, f"many-{n}", f"Observation?subject=Patient/many-{n}", status="off" if n % 3 else "requested"
            ),
            "request": {"method": "PUT", "url": f"Subscription/many-{n}"},
        }
        for n in range(60)
    ]
    client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries}).raise_for_status()
    until(lambda: console.get("/console/monitor").json()["states"]["requested"] == 0)
    found: list[str] = []
    cursor, pages = "", 0
    while True:
        page = console.get(ROWS, params={"text": "patient/MANY-", "cursor": cursor}).json()
        assert page["found"] == 60 and len(page["rows"]) <= 25
        found += [row["id"] for row in page["rows"]]
        pages, cursor = pages + 1, page["next"]
        if not cursor:
            break
    assert pages == 3 and sorted(found) == sorted(f"many-{n}" for n in range(60))
    off = console.get(ROWS, params={"text": "Patient/many-", "status": "off"}).json()
    assert off["found"] == 40 and {row["status"] for row in off["rows"]} == {"off"}


def test_a_host_is_found_by_its_beginning_and_what_stands_behind_it_is_not(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    put(client, subscription(receiver, "hosted", "Observation?subject=Patient/hosted", status="off"))
    host = f"127.0.0.1:{receiver.port}"
    assert [row["id"] for row in console.get(ROWS, params={"text": host}).json()["rows"]] == ["hosted"]
    for text in (f"{host}/geheim", f"{host}/geheim/hook?token=g", "geheim"):
        assert console.get(ROWS, params={"text": text}).json()["rows"] == []


@pytest.mark.parametrize("asked", [{"status": "broken"}, {"cursor": "x"}, {"status": "off", "cursor": "Zm9v"}])
def test_what_cannot_be_asked_is_refused(console: httpx.Client, asked: dict[str, str]) -> None:
    answer = console.get(ROWS, params=asked)
    assert answer.status_code == 400 and answer.json()["detail"] and answer.json()["zh"]


@pytest.mark.parametrize("text", ["?", "  ", "%", "\u0000", "'; DROP TABLE job; --", "💊" * 150, "x" * 5000])
def test_any_text_can_be_looked_for(console: httpx.Client, text: str) -> None:
    assert console.get(ROWS, params={"text": text}).status_code == 200


def test_the_products_own_triggers_are_listed_with_state_and_lag(console: httpx.Client) -> None:
    readers = console.get("/console/monitor").json()["readers"]
    assert {reader["name"] for reader in readers} == {"subscriptions", "followup"}
    assert {reader["state"] for reader in readers} == {"works"}
    triggers = {trigger["name"]: trigger for reader in readers for trigger in reader["triggers"]}
    assert {"discharge-general", "critical-value", "message", "subscription-event"} <= set(triggers)
    assert triggers["critical-value"]["types"] == ["Observation"]
