"""The page of jobs over HTTP: dead letters and waiting jobs, retry, set aside; payloads only where they are asked for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.console.receiver import Receiver, observation, subscription, until

DELIVER = "subscription.deliver"


def jobs(console: httpx.Client, state: str, key: str = "", **asked: Any) -> list[dict[str, Any]]:
    answer = console.get("/console/jobs/list", params={"state": state, **asked})
    assert answer.status_code == 200, answer.text
    return [job for job in answer.json()["rows"] if not key or job["key"] == key]


def kind_of(console: httpx.Client, name: str) -> dict[str, Any]:
    overview = console.get("/console/jobs/overview").json()
    return next(row for row in overview["kinds"] if row["kind"] == name)


def refused(client: httpx.Client, console: httpx.Client, receiver: Receiver, id: str, events: int = 1) -> dict[str, Any]:
    """A Subscription whose receiver is shut, with events; the first waiting job."""
    asked = subscription(receiver, id, f"Observation?subject=Patient/{id}")
    client.put(f"Subscription/{id}", json=asked).raise_for_status()
    until(lambda: client.get(f"Subscription/{id}").json()["status"] == "active")
    for n in range(events):
        client.put(f"Observation/{id}-{n}", json=observation(f"{id}-{n}", id)).raise_for_status()
    found: dict[str, Any] = until(lambda: next(iter(jobs(console, "waiting", id)), None))
    return found


def test_a_refused_delivery_waits_is_set_aside_and_is_delivered_when_it_is_retried(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    job = refused(client, console, receiver, "set-aside")
    assert job["kind"] == DELIVER and job["attempts"] >= 1 and job["error"] and job["retry"] and job["aside"]
    assert until(lambda: kind_of(console, DELIVER)["waiting"]) >= 1
    until(lambda: console.post(f"/console/jobs/{job['id']}/set-aside").json()["done"])
    (dead,) = jobs(console, "dead", "set-aside", kind=DELIVER)
    assert dead["id"] == job["id"] and dead["retry"] and not dead["aside"]
    assert kind_of(console, DELIVER)["dead"] >= 1
    assert console.post(f"/console/jobs/{job['id']}/set-aside").json() == {"done": False}, "it does not wait any more"
    receiver.open()
    assert console.post(f"/console/jobs/{job['id']}/retry").json() == {"done": True}
    until(lambda: any("/Observation/set-aside-0" in path for _, path, _ in receiver.hits))
    until(lambda: console.post(f"/console/jobs/{job['id']}/retry").json() == {"done": False})
    assert jobs(console, "dead", "set-aside") == []


def test_all_dead_letters_of_a_kind_are_retried_at_once(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    for _ in range(3):
        job = refused(client, console, receiver, "all-dead", events=1) if not jobs(console, "dead", "all-dead") else None
        job = job or until(lambda: next(iter(jobs(console, "open", "all-dead")), None))
        until(lambda job=job: console.post(f"/console/jobs/{job['id']}/set-aside").json()["done"])
        number = len(jobs(console, "dead", "all-dead"))
        client.put(f"Observation/all-dead-x{number}", json=observation(f"all-dead-x{number}", "all-dead")).raise_for_status()
    until(lambda: len(jobs(console, "dead", "all-dead")) == 3)
    receiver.open()
    answer = console.post("/console/jobs/retry", json={"kind": DELIVER}).json()
    assert answer["retried"] >= 3 and answer["more"] is False
    until(lambda: len({path for _, path, _ in receiver.hits}) == 4)
    assert jobs(console, "dead", "all-dead") == []
    assert console.post("/console/jobs/retry", json={"kind": DELIVER}).json()["retried"] == 0


def test_a_payload_is_told_only_where_it_is_asked_for(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    job = refused(client, console, receiver, "carried")
    assert "carried-0" not in console.get("/console/jobs/list", params={"state": "open"}).text
    payload = console.get(f"/console/jobs/{job['id']}/payload")
    assert payload.json()["id"] == "carried-0" and payload.headers["cache-control"] == "no-store"


def test_jobs_are_paged_and_filtered_by_kind(client: httpx.Client, console: httpx.Client, receiver: Receiver) -> None:
    refused(client, console, receiver, "paged", events=70)
    until(lambda: console.get("/console/monitor/subscriptions/paged").json()["events"] == 70)
    found: list[int] = []
    after = 0
    while True:
        answer = console.get("/console/jobs/list", params={"state": "open", "kind": DELIVER, "after": after}).json()
        assert len(answer["rows"]) <= 50 and {job["kind"] for job in answer["rows"]} <= {DELIVER}
        found += [job["id"] for job in answer["rows"] if job["key"] == "paged"]
        if answer["next"] is None:
            break
        after = answer["next"]
    assert len(found) == len(set(found)) == 70
    assert jobs(console, "open", kind="followup.discharge") == []


def test_who_leads_is_said(console: httpx.Client) -> None:
    overview = console.get("/console/jobs/overview").json()
    assert overview["leader"]["here"] is True and overview["leader"]["holder"]
    assert {reader["name"] for reader in overview["readers"]} == {"subscriptions", "followup"}
    assert {"subscription.deliver", "followup.discharge", "message.send"} <= {row["kind"] for row in overview["kinds"] if row["known"]}


@pytest.mark.parametrize("action", ["retry", "set-aside"])
def test_an_unknown_job_is_said_so_in_both_languages(console: httpx.Client, action: str) -> None:
    answer = console.post(f"/console/jobs/999999999/{action}")
    assert answer.status_code == 404 and "999999999" in answer.json()["detail"] and "作业" in answer.json()["zh"]
    assert console.get("/console/jobs/999999999/payload").status_code == 404


@pytest.mark.parametrize("id", ["x", "-1", "1.5", "9" * 30, "٣"])
def test_what_is_no_number_of_a_job_is_refused(console: httpx.Client, id: str) -> None:
    for answer in (console.post(f"/console/jobs/{id}/retry"), console.get("/console/jobs/list", params={"after": id})):
        assert answer.status_code == 400 and answer.json()["zh"]


@pytest.mark.parametrize("path", ["/console/jobs/1/retry", "/console/jobs/1/set-aside", "/console/jobs/retry"])
def test_an_action_is_not_taken_from_another_site(server: Server, path: str) -> None:
    answer = httpx.post(server.root + path, json={"kind": DELIVER})
    assert answer.status_code == 403 and answer.json()["zh"]


def test_dead_letters_are_retried_kind_by_kind(console: httpx.Client) -> None:
    for body in ({}, {"kind": ""}):
        answer = console.post("/console/jobs/retry", json=body)
        assert answer.status_code == 400 and "kind" in answer.json()["zh"]
    assert console.get("/console/jobs/list", params={"state": "done"}).status_code == 400


def test_a_timer_is_neither_brought_forward_nor_set_aside_before_its_time(
    client: httpx.Client, console: httpx.Client, receiver: Receiver
) -> None:
    ends = subscription(receiver, "ends", "Observation?subject=Patient/ends", end="2099-01-01T00:00:00Z")
    client.put("Subscription/ends", json=ends).raise_for_status()
    job, *_ = until(lambda: jobs(console, "open", "ends", kind="subscription.expire"))
    assert not job["retry"] and not job["aside"]
    for action in ("retry", "set-aside"):
        assert console.post(f"/console/jobs/{job['id']}/{action}").json() == {"done": False}
    assert jobs(console, "open", "ends", kind="subscription.expire")[0]["due"] == job["due"]
