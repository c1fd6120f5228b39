"""The whole chain over HTTP against a server process: Subscription → receiver, discharge → plan, critical value → alert, kill -9."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.conftest import Server

Resource = dict[str, Any]


class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hits.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = _take

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    """A receiver on loopback; `hits` holds (method, path, headers, body)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.hits = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def put(client: httpx.Client, **resource: Any) -> httpx.Response:
    answer = client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
    assert answer.status_code in (200, 201), answer.text
    return answer


def found(client: httpx.Client, query: str) -> list[Resource]:
    answer = client.get(query).json()
    return [entry["resource"] for entry in answer.get("entry", ())]


def hook_subscription(server: ThreadingHTTPServer, criteria: str, **channel: Any) -> Resource:
    own = {"type": "rest-hook", "endpoint": f"http://127.0.0.1:{server.server_port}/hook", **channel}
    return {"resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": criteria, "channel": own}


def observation(id: str, who: str, value: float, **more: Any) -> Resource:
    quantity = {"value": value, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    coding = {"system": "http://loinc.org", "code": "2823-3"}
    base = {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [coding], "text": "血钾"}}
    return {**base, "subject": {"reference": f"Patient/{who}"}, "valueQuantity": quantity, **more}


def test_a_subscription_is_requested_then_active_and_its_receiver_is_called(client: httpx.Client, hook: ThreadingHTTPServer) -> None:
    asked = hook_subscription(hook, "Observation?subject=Patient/w1", payload="application/fhir+json", header=["X-Key: k"])
    answer = client.post("Subscription", json=asked)
    assert answer.status_code == 201 and answer.json()["status"] == "requested"
    put(client, resourceType="Patient", id="w1")
    put(client, **observation("w1", "w1", 4.1))
    wait_for(lambda: hook.hits)  # type: ignore[attr-defined]
    ((method, path, headers, body),) = hook.hits  # type: ignore[attr-defined]
    assert (method, path, headers["X-Key"]) == ("PUT", "/hook/Observation/w1", "k")
    assert headers["Content-Type"].startswith("application/fhir+json")
    assert body == client.get("Observation/w1").content
    id = answer.json()["id"]
    assert wait_for(lambda: client.get(f"Subscription/{id}").json()["status"] == "active")


@pytest.mark.parametrize("way", ["transaction", "batch", "patch", "conditional", "delete and again"])
def test_events_come_from_every_write_path(client: httpx.Client, hook: ThreadingHTTPServer, way: str) -> None:
    who = f"path-{way.replace(' ', '-')}"
    put(client, resourceType="Patient", id=who)
    put(client, **observation(who, who, 4.0))
    client.post("Subscription", json=hook_subscription(hook, f"Observation?subject=Patient/{who}")).raise_for_status()
    if way in ("transaction", "batch"):
        entry = {"resource": observation(who, who, 4.4), "request": {"method": "PUT", "url": f"Observation/{who}"}}
        answer = client.post("", json={"resourceType": "Bundle", "type": way, "entry": [entry]})
    elif way == "patch":
        change = [{"op": "replace", "path": "/valueQuantity/value", "value": 4.4}]
        answer = client.patch(f"Observation/{who}", json=change, headers={"Content-Type": "application/json-patch+json"})
    elif way == "conditional":
        answer = client.put(f"Observation?_id={who}", json=observation(who, who, 4.4))
    else:
        client.delete(f"Observation/{who}").raise_for_status()
        answer = client.put(f"Observation/{who}", json=observation(who, who, 4.4))
    assert answer.status_code in (200, 201), answer.text
    wait_for(lambda: hook.hits)  # type: ignore[attr-defined]
    time.sleep(0.1)
    assert len(hook.hits) == 1  # type: ignore[attr-defined]


def test_what_is_not_served_is_refused_by_every_way_of_writing(client: httpx.Client, hook: ThreadingHTTPServer) -> None:
    bad = hook_subscription(hook, "Observation?kode=1", type="sms")
    answer = client.post("Subscription", json=bad)
    assert answer.status_code == 422
    assert {issue["expression"][0] for issue in answer.json()["issue"]} == {"Subscription.criteria", "Subscription.channel.type"}
    assert client.put("Subscription/bad", json={**bad, "id": "bad"}).status_code == 422
    entry = {"resource": bad, "request": {"method": "POST", "url": "Subscription"}}
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    assert answer.status_code in (400, 422)
    good = client.post("Subscription", json=hook_subscription(hook, "Observation?code=no-such-code")).json()
    change = [{"op": "replace", "path": "/criteria", "value": "Nonsense?x=1"}]
    answer = client.patch(f"Subscription/{good['id']}", json=change, headers={"Content-Type": "application/json-patch+json"})
    assert answer.status_code == 422
    assert not [s for s in found(client, "Subscription?_count=100") if s["channel"]["type"] == "sms"]


def test_discharge_and_critical_value_close_the_loop(client: httpx.Client) -> None:
    now = dt.datetime.now(dt.timezone(dt.timedelta(hours=8))).replace(microsecond=0)
    who = {
        "resourceType": "Patient",
        "id": "loop",
        "name": [{"text": "王小红", "family": "王"}],
        "gender": "female",
        "birthDate": "1958-06-12",
    }
    put(client, **who)
    kind = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    stay = {"resourceType": "Encounter", "id": "loop", "class": kind, "subject": {"reference": "Patient/loop"}}
    put(client, **stay, status="in-progress", period={"start": now.isoformat()})
    marks = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
    put(client, **observation("loop", "loop", 6.9, interpretation=[{"coding": [{"system": marks, "code": "HH"}]}]))
    (flag,) = wait_for(lambda: found(client, "Flag?patient=loop"))
    (task,) = found(client, "Task?patient=loop&priority=stat")
    assert flag["status"] == "active" and task["focus"]["reference"] == "Observation/loop"
    put(client, **stay, status="finished", period={"start": now.isoformat(), "end": now.isoformat()})
    (plan,) = wait_for(lambda: found(client, "CarePlan?patient=loop"))
    tasks = found(client, f"Task?based-on=CarePlan/{plan['id']}")
    starts = sorted(task["restriction"]["period"]["start"][:10] for task in tasks)
    assert starts == [(now.date() + dt.timedelta(days=days)).isoformat() for days in (2, 7)]
    requests = wait_for(
        lambda: (
            found(client, "CommunicationRequest?patient=loop&status=completed")[1:] and found(client, "CommunicationRequest?patient=loop")
        )
    )
    assert len(requests) == 2
    assert any("王阿姨" in request["payload"][0]["contentString"] for request in requests)
    assert len(found(client, "Communication?patient=loop&status=completed")) == 2


def test_lag_and_dead_letters_are_seen_in_the_metrics(server: Server) -> None:
    def lag() -> dict[str, float]:
        lines = httpx.get(f"{server.root}/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.split(" ") for line in lines if line.startswith("fhir_server_"))}

    shown = wait_for(lambda: (now := lag())["fhir_server_feed_lag_followup"] == 0 and now)
    assert shown["fhir_server_feed_lag_subscriptions"] == 0
    assert shown["fhir_server_jobs_leading"] == 1 and shown["fhir_server_jobs_dead_letters"] == 0


def test_kill_9_between_commit_and_delivery_loses_nothing(start: Callable[..., Server], hook: ThreadingHTTPServer) -> None:
    server = start()
    with server.client() as client:
        client.post("Subscription", json=hook_subscription(hook, "Basic?code=k", payload="application/fhir+json")).raise_for_status()
        entries = [
            {
                "resource": {"resourceType": "Basic", "id": f"b{n}", "code": {"coding": [{"code": "k"}]}},
                "request": {"method": "PUT", "url": f"Basic/b{n}"},
            }
            for n in range(200)
        ]
        client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).raise_for_status()
    server.kill()
    before = len(hook.hits)  # type: ignore[attr-defined]
    start(data_dir=server.data_dir)
    wait_for(lambda: len({hit[1] for hit in hook.hits}) == 200, 30)  # type: ignore[attr-defined]
    assert before < 200
    order = list(dict.fromkeys(hit[1] for hit in hook.hits))  # type: ignore[attr-defined]
    assert order == [f"/hook/Basic/b{n}" for n in range(200)]
