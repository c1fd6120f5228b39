"""Notifications over websockets, against a server process. conformance.md K20; https://hl7.org/fhir/R4/subscription.html#channels"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate
from subscriptions.sockets.tokens import opened, signed
from tests.subscriptions.test_topic_subscriptions import GUIDE, asked, encounter, told, topic

Json = dict[str, Any]


@pytest.fixture(params=["1", "2"])
def site(request: pytest.FixtureRequest, start):
    """A server with one and with two workers: the socket may be held by another process than the one that does the jobs."""
    server = start("--workers", request.param, env={"FHIR_SERVER_WS_TOKEN_SECONDS": "30"})
    with server.client() as client:
        client.put("Basic/t1", json=topic()).raise_for_status()
        yield server, client


def subscribe(client: httpx.Client, id: str, content: str = "id-only", **more: Any) -> None:
    made = asked("", content, id=id, channel={"type": "websocket", **more})
    del made["channel"]["endpoint"]
    client.put(f"Subscription/{id}", json=made).raise_for_status()
    settled(client, id)


def settled(client: httpx.Client, id: str) -> None:
    for _ in range(200):
        if client.get(f"Subscription/{id}").json()["status"] == "active":
            return
        time.sleep(0.05)
    raise AssertionError("it did not become active")


def token(client: httpx.Client, *ids: str) -> tuple[str, str]:
    """(token, address of the websocket)"""
    answer = client.get("Subscription/$get-ws-binding-token", params={"id": list(ids)})
    rows = [(row["name"], next(value for key, value in row.items() if key != "name")) for row in answer.json()["parameter"]]
    assert [value for name, value in rows if name == "subscription"] == list(ids)
    said = dict(rows)
    assert said["expiration"] > "2026"
    return said["token"], said["websocket-url"]


def counted(client: httpx.Client, id: str) -> int:
    rows = client.get(f"Subscription/{id}/$status").json()["entry"][0]["resource"]["parameter"]
    return int(next(row["valueString"] for row in rows if row["name"] == "events-since-subscription-start"))


async def frame(socket: Any, seconds: float = 10) -> Any:
    text = await asyncio.wait_for(socket.recv(), seconds)
    return json.loads(text) if text.startswith("{") else text


async def put(client: httpx.Client, *resources: Json) -> None:
    for one in resources:
        answer = await asyncio.to_thread(client.put, f"{one['resourceType']}/{one['id']}", json=one)
        answer.raise_for_status()


async def test_topics_are_told_to_who_binds_them(site) -> None:
    _, client = site
    for id in ("s1", "s2"):
        subscribe(client, id, "full-resource" if id == "s2" else "id-only")
    ticket, address = token(client, "s1", "s2")
    assert address.startswith("ws://") and address.endswith("/fhir/ws")
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        shakes = [await frame(socket), await frame(socket)]
        assert [(told(one)["type"], told(one)["subscription"]["reference"][-2:]) for one in shakes] == [
            ("handshake", "s1"),
            ("handshake", "s2"),
        ]
        await put(client, *(encounter(f"e{n}") for n in range(5)), encounter("open", "in-progress"))
        frames = [await frame(socket) for _ in range(10)]
        for id in ("s1", "s2"):
            mine = [one for one in frames if told(one)["subscription"]["reference"].endswith(id)]
            assert [told(one)["events"][0]["event-number"] for one in mine] == ["1", "2", "3", "4", "5"]
            assert all(("resource" in one["entry"][1]) is (id == "s2") for one in mine)
        issues = [*validate(frames[0]), *ProfileRoom().validate(frames[0])]
        assert [issue.diagnostics for issue in issues if issue.severity == "error"] == []


async def test_what_happened_while_away_is_had_by_events(site) -> None:
    _, client = site
    subscribe(client, "s1")
    ticket, address = token(client, "s1")
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        await frame(socket)
        await put(client, encounter("e1"))
        assert told(await frame(socket))["events"][0]["event-number"] == "1"
    await put(client, encounter("e2"))
    while counted(client, "s1") < 2:
        await asyncio.sleep(0.05)
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        shake = told(await frame(socket))
        missed = int(shake["events-since-subscription-start"])
        again = told(client.get("Subscription/s1/$events", params={"eventsSinceNumber": 2, "eventsUntilNumber": missed}).json())
        assert missed == 2 and [one["event-number"] for one in again["events"]] == ["2"]
        await put(client, encounter("e3"))
        assert told(await frame(socket))["events"][0]["event-number"] == "3"


async def test_searches_are_bound_by_id_and_pinged(site) -> None:
    server, client = site
    search = {
        "resourceType": "Subscription", "id": "c1", "status": "requested", "reason": "x", "criteria": "Encounter?status=finished",
        "channel": {"type": "websocket"},
    }  # fmt: skip
    client.put("Subscription/c1", json=search).raise_for_status()
    settled(client, "c1")
    async with connect(server.base.replace("http", "ws", 1) + "/ws") as socket:
        await socket.send("bind c1")
        assert await frame(socket) == "bound c1"
        await put(client, encounter("e1"), encounter("e2", "planned"), encounter("e3"))
        assert [await frame(socket), await frame(socket)] == ["ping c1", "ping c1"]
        client.put("Subscription/c1", json={**search, "status": "off"}).raise_for_status()
        await put(client, encounter("e4"))
        with pytest.raises(TimeoutError):
            await frame(socket, 1)


async def test_what_cannot_be_bound_is_told(site) -> None:
    _, client = site
    subscribe(client, "s1")
    ticket, address = token(client, "s1")
    cases = {
        "bind s1": "bind-with-token", "bind nothing": "not one that can be bound", "bind-with-token x": "not valid",
        f"bind-with-token {ticket[:-2]}xx": "not valid", "hello": "a frame reads", "bind": "a frame reads",
    }  # fmt: skip
    async with connect(address) as socket:
        for said, words in cases.items():
            await socket.send(said)
            answer = await frame(socket)
            assert answer.startswith("error ") and words in answer, said
        await socket.send(f"bind-with-token {ticket}")
        assert told(await frame(socket))["type"] == "handshake", "the connection goes on"
    with pytest.raises(InvalidStatus):
        async with connect(address.replace("/fhir/ws", "/fhir/other")):
            pass
    with pytest.raises(InvalidStatus):
        async with connect(address, origin="https://evil.example.org"):  # type: ignore[arg-type]
            pass
    assert client.get("Subscription/$get-ws-binding-token").status_code == 400
    assert client.get("Subscription/nothing/$get-ws-binding-token").status_code == 404


async def test_heartbeats_come_where_nothing_else_does(site) -> None:
    _, client = site
    subscribe(client, "s1", extension=[{"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 1}])
    ticket, address = token(client, "s1")
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        kinds = [told(await frame(socket))["type"] for _ in range(3)]
        assert kinds == ["handshake", "heartbeat", "heartbeat"]


async def test_there_is_no_sign_of_life_from_what_is_off(site) -> None:
    _, client = site
    subscribe(client, "s1", extension=[{"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 1}])
    ticket, address = token(client, "s1")
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        assert told(await frame(socket))["type"] == "handshake"
        await put(client, {**client.get("Subscription/s1").json(), "status": "off"})
        with pytest.raises(TimeoutError):
            for _ in range(3):  # one may have been on its way
                await frame(socket, 3)
    refused = client.get("Subscription/s1/$get-ws-binding-token")
    assert refused.status_code == 422 and "off" in refused.text


async def test_the_end_of_the_server_closes_the_connection(site) -> None:
    server, client = site
    subscribe(client, "s1")
    ticket, address = token(client, "s1")
    async with connect(address) as socket:
        await socket.send(f"bind-with-token {ticket}")
        await frame(socket)
        ended = asyncio.create_task(asyncio.to_thread(server.stop))
        with pytest.raises(ConnectionClosed):
            await frame(socket)
        assert await ended == 0


def test_tokens_end_and_cannot_be_made_by_others() -> None:
    made = signed(["a", "b"], 1000, b"secret")
    assert opened(made, 999, b"secret") == ["a", "b"]
    assert opened(made, 1000, b"secret") is None and opened(made, 999, b"other") is None
    for wrong in ("", ".", "a.b", made[1:], made + "x", made.replace(".", ""), "é.ü"):
        assert opened(wrong, 999, b"secret") is None
