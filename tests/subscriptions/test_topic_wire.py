"""Topic-based Subscriptions as a client sees them. conformance.md K1–K3, K5, K15–K17, K19."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.subscriptions.test_topic_subscriptions import GUIDE, asked, encounter, told, topic
from tests.subscriptions.test_wire import wait_for

Json = dict[str, Any]


@pytest.fixture
def own(request: pytest.FixtureRequest, client: httpx.Client) -> tuple[str, str]:
    """(id, url) of a topic of the test's own, which the server has."""
    id = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60]
    url = f"http://example.org/SubscriptionTopic/{id}"
    client.put(f"Basic/{id}", json=topic(id, url)).raise_for_status()
    return id, url


@pytest.fixture
def subscribed(client: httpx.Client, hook: ThreadingHTTPServer, own: tuple[str, str]) -> Iterator[Json]:
    made = asked(
        f"http://127.0.0.1:{hook.server_port}/hook",
        "full-resource",
        criteria=own[1],
        id=own[0],
        filters=(f"Encounter?patient=Patient/{own[0]}",),
    )
    answer = client.put(f"Subscription/{own[0]}", json=made)
    assert answer.status_code == 201 and answer.json()["status"] == "requested"
    assert wait_for(lambda: client.get(f"Subscription/{own[0]}").json()["status"] == "active")
    yield answer.json()
    client.put(f"Subscription/{own[0]}", json={**made, "status": "off"}).raise_for_status()


def finish(client: httpx.Client, own: tuple[str, str], *ids: str) -> None:
    for id in ids:
        client.put(f"Encounter/{own[0][:50]}-{id}", json=encounter(f"{own[0][:50]}-{id}", patient=own[0])).raise_for_status()


def parameters(bundle: Json) -> Json:
    return told({**bundle, "type": "history"})


def test_a_topic_is_subscribed_to_at_once_and_its_events_arrive(client, hook, own, subscribed) -> None:
    finish(client, own, "a", "b")
    assert wait_for(lambda: len(hook.hits) == 3)
    import json

    kinds = [told(json.loads(body)) for _, _, _, body in hook.hits]
    assert [one["type"] for one in kinds] == ["handshake", "event-notification", "event-notification"]
    assert [one["events"][0]["event-number"] for one in kinds[1:]] == ["1", "2"]
    assert kinds[0]["subscription"]["reference"].startswith(str(client.base_url).rstrip("/"))


def test_status_tells_how_many_events_there_were(client, hook, own, subscribed) -> None:
    finish(client, own, "a")
    assert wait_for(lambda: len(hook.hits) == 2)
    answer = client.get(f"Subscription/{own[0]}/$status", params={"id": "nothing"}).json()
    assert (answer["type"], len(answer["entry"])) == ("searchset", 1), "on an instance no parameter counts"
    found = parameters(answer)
    assert (found["type"], found["status"], found["topic"]) == ("query-status", "active", own[1])
    assert found["events-since-subscription-start"] == "1" and found["subscription"]["reference"].endswith(f"Subscription/{own[0]}")
    issues = client.post("$validate", json=answer).json()["issue"]
    assert not [one for one in issues if one["severity"] == "error"]


def test_status_of_several(client, own, subscribed) -> None:
    def ids(**params: Any) -> set[str]:
        entries = client.get("Subscription/$status", params=params).json().get("entry", ())
        return {parameters({"entry": [one]})["subscription"]["reference"].rpartition("/")[2] for one in entries}

    assert ids(id=own[0]) == {own[0]} and ids(id=[own[0], "nothing"]) == {own[0]} and ids(id=own[0], status="off") == set()
    assert own[0] in ids(status="active,error") and own[0] in ids()
    body = {"resourceType": "Parameters", "parameter": [{"name": "id", "valueId": own[0]}]}
    assert len(client.post("Subscription/$status", json=body).json()["entry"]) == 1
    assert client.get("Subscription/$status", params={"status": "asleep"}).status_code == 400
    assert client.get("Subscription/nothing/$status").status_code == 404


def test_events_can_be_had_again(client, hook, own, subscribed) -> None:
    finish(client, own, "a", "b", "c")
    assert wait_for(lambda: len(hook.hits) == 4)

    def events(**params: Any) -> Json:
        answer = client.get(f"Subscription/{own[0]}/$events", params=params)
        answer.raise_for_status()
        assert not [one for one in client.post("$validate", json=answer.json()).json()["issue"] if one["severity"] == "error"]
        found: Json = answer.json()
        return found

    whole = events()
    assert told(whole)["type"] == "query-event" and told(whole)["events-since-subscription-start"] == "3"
    assert [one["event-number"] for one in told(whole)["events"]] == ["1", "2", "3"]
    assert all(entry["resource"]["status"] == "finished" for entry in whole["entry"][1:])
    middle = told(events(eventsSinceNumber=2, eventsUntilNumber=2))
    assert [one["event-number"] for one in middle["events"]] == ["2"], "both bounds are among them"
    assert told(events(eventsSinceNumber=4))["events"] == []
    slim = events(content="id-only")
    assert len(slim["entry"]) == 4 and not any("resource" in entry for entry in slim["entry"][1:])
    assert len(events(content="empty")["entry"]) == 1
    for wrong in ({"content": "all"}, {"eventsSinceNumber": "x"}, {"since": "1"}):
        assert client.get(f"Subscription/{own[0]}/$events", params=wrong).status_code == 400


def test_more_than_was_asked_for_is_not_told(client, hook, own) -> None:
    made = asked(
        f"http://127.0.0.1:{hook.server_port}/hook", "id-only", criteria=own[1], id=own[0], filters=(f"Encounter?patient=Patient/{own[0]}",)
    )
    client.put(f"Subscription/{own[0]}", json=made).raise_for_status()
    finish(client, own, "a")
    assert wait_for(lambda: len(hook.hits) == 2)
    again = client.get(f"Subscription/{own[0]}/$events", params={"content": "full-resource"}).json()
    assert len(again["entry"]) == 2 and "resource" not in again["entry"][1]
    client.put(f"Subscription/{own[0]}", json={**made, "status": "off"}).raise_for_status()


def test_events_are_for_topics(client, hook) -> None:
    search = {
        "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation?code=none",
        "channel": {"type": "rest-hook", "endpoint": f"http://127.0.0.1:{hook.server_port}/hook"},
    }  # fmt: skip
    id = client.post("Subscription", json=search).json()["id"]
    answer = client.get(f"Subscription/{id}/$events", headers={"Accept-Language": "zh"})
    assert answer.status_code == 400 and "主题" in answer.text


def test_what_is_refused_is_refused_by_every_way_of_writing(client, own) -> None:
    bad = asked("https://hooks.example.org/x", criteria=own[1], id="bad", filters=("Encounter?status=finished",))
    assert client.put("Subscription/bad", json=bad).status_code == 422
    entry = {"resource": bad, "request": {"method": "PUT", "url": "Subscription/bad"}}
    assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code == 422
    assert client.get("Subscription/bad").status_code == 404
    wrong = topic("wrong", "http://example.org/SubscriptionTopic/wrong")
    wrong["extension"][2]["extension"][0]["valueUri"] = "Nonsense"
    answer = client.put("Basic/wrong", json=wrong)
    assert answer.status_code == 422 and "Nonsense" in answer.text


def test_the_capability_statement_names_topics_and_the_profile(client, own) -> None:
    statement = client.get("metadata").json()
    assert "http://hl7.org/fhir/uv/subscriptions-backport/CapabilityStatement/backport-subscription-server-r4" in statement["instantiates"]
    (entry,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Subscription"]
    assert GUIDE + "backport-subscription" in entry["supportedProfile"]
    listed = {
        one["valueCanonical"] for one in entry["extension"] if one["url"] == GUIDE + "capabilitystatement-subscriptiontopic-canonical"
    }
    assert own[1] in listed
    assert {"status", "events"} <= {one["name"] for one in entry["operation"]}
    found = client.get("Basic", params={"code": "http://hl7.org/fhir/fhir-types|SubscriptionTopic", "_id": own[0]}).json()
    assert found["total"] == 1
