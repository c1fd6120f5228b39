"""A server process held to the R5 backport guide for R4 and to R4's own Subscriptions, number by number.

conformance.md K1, K2 discovery; K3 interactions; K5, K9 handshake and heartbeat; K6 request; K7, K8, K10, K11, K12, K13 notifications by
content; K15 $status; K16 $events; K18 filters; K19 error and back; K20 websockets; K22 R4's own form; K23 end of deliveries.
Elsewhere: K4, K17 test_refusals.py; K14, K24 test_kill.py, test_down_time.py, test_write_paths.py; K21 test_mails.py, test_messages.py;
K23 test_endpoint.py, test_caller.py, test_index.py.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from websockets.asyncio.client import connect

from fhir_server.model.xml_reading import from_xml
from tests.conftest import Server, start_server
from tests.subscriptions.guide import GUIDE, Profiles, check_notification, check_status
from tests.subscriptions.test_topic_subscriptions import R5, asked, encounter
from tests.subscriptions.test_wire import Hook, hook_subscription, wait_for

Json = dict[str, Any]
TOPIC = "http://example.org/SubscriptionTopic/finished"
CONTENTS = ("empty", "id-only", "full-resource")
XML = "application/fhir+xml"


class Choosy(Hook):
    """Answers 500 to paths that begin with /down while the server is told so."""

    def send_response(self, code: int, message: str | None = None) -> None:
        down = self.path.startswith("/down") and self.server.down  # type: ignore[attr-defined]
        super().send_response(500 if down else code, message)


class Site:
    """The server, and what its receiver was sent."""

    def __init__(self, server: Server, client: httpx.Client, hook: ThreadingHTTPServer) -> None:
        self.server, self.client, self.hook = server, client, hook
        self.url = f"http://127.0.0.1:{hook.server_port}"

    def hits(self, path: str) -> list[tuple[str, str, dict[str, str], bytes]]:
        """(method, path, headers, body) below a path."""
        return [hit for hit in list(self.hook.hits) if hit[1].startswith(f"/{path}")]  # type: ignore[attr-defined]

    def bundles(self, path: str, number: int) -> list[Json]:
        """The notification Bundles below a path, when so many are there."""
        wait_for(lambda: len(self.hits(path)) >= number)
        assert len(self.hits(path)) == number
        return [json.loads(body) for _, _, _, body in self.hits(path)]

    def subscribe(self, id: str, content: str = "id-only", state: str = "active", path: str = "", **more: Any) -> Json:
        """Create a Subscription on the topic under an id and wait for a status; the answer to the create."""
        made = asked(f"{self.url}/{path or id}", content, id=id, criteria=more.pop("criteria", TOPIC), **more)
        if made["channel"]["type"] == "websocket":
            del made["channel"]["endpoint"]
        answer = self.client.put(f"Subscription/{id}", json=made)
        assert answer.status_code == 201, answer.text
        wait_for(lambda: self.client.get(f"Subscription/{id}").json()["status"] == state)
        created: Json = answer.json()
        return created

    def put(self, *resources: Json) -> None:
        for one in resources:
            self.client.put(f"{one['resourceType']}/{one['id']}", json=one).raise_for_status()

    def status(self, id: str) -> Json:
        answer = self.client.get(f"Subscription/{id}/$status")
        assert answer.status_code == 200
        (entry,) = answer.json()["entry"]
        return check_status(entry["resource"], "query-status", id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hook = ThreadingHTTPServer(("127.0.0.1", 0), Choosy)
    hook.hits, hook.down = [], True  # type: ignore[attr-defined]
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    server = start_server(tmp_path_factory.mktemp("guide") / "data", env={"FHIR_SERVER_WS_TOKEN_SECONDS": "3"})
    finished = [
        {"url": "resource", "valueUri": "http://hl7.org/fhir/StructureDefinition/Encounter"},
        {"url": "queryCriteria", "extension": [{"url": "current", "valueString": "status=finished"},
                                               {"url": "resultForDelete", "valueCode": "test-passes"}]},
    ]  # fmt: skip
    filters = [
        [{"url": "resource", "valueUri": "Encounter"}, {"url": "filterParameter", "valueString": name}]
        for name in ("patient", "class", "date")
    ]
    with server.client() as client:
        made = Site(server, client, hook)
        made.put(
            {
                "resourceType": "Basic", "id": "finished", "modifierExtension": [{"url": R5 + "status", "valueCode": "active"}],
                "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
                "extension": [
                    {"url": R5 + "url", "valueUri": TOPIC}, {"url": R5 + "resourceTrigger", "extension": finished},
                    *({"url": R5 + "canFilterBy", "extension": one} for one in filters),
                ],
            }
        )  # fmt: skip
        yield made
    server.kill()
    hook.shutdown()


@pytest.fixture(scope="module")
def profiles(corpus: Path) -> Profiles:
    return Profiles(corpus)


def mine(id: str) -> dict[str, Any]:
    """A Subscription's filter on a patient of its own."""
    return {"filters": (f"Encounter?patient=Patient/{id}",)}


def stay(id: str, who: str, **more: Any) -> Json:
    return encounter(id, more.pop("status", "finished"), who, **more)


# --- discovery and interactions


def test_k1_k2_the_capability_statement(site: Site) -> None:
    statement = site.client.get("metadata").json()
    assert "http://hl7.org/fhir/uv/subscriptions-backport/CapabilityStatement/backport-subscription-server-r4" in statement["instantiates"]
    (entry,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Subscription"]
    assert entry["supportedProfile"] == [GUIDE + "backport-subscription"]
    canonical = GUIDE + "capabilitystatement-subscriptiontopic-canonical"
    topics = [one for one in entry["extension"] if one["url"] == canonical]
    assert all(one["valueCanonical"].startswith("http") for one in topics) and TOPIC in {one["valueCanonical"] for one in topics}
    assert {"read", "create", "update", "delete"} <= {one["code"] for one in entry["interaction"]}
    assert {("url", "uri"), ("status", "token")} <= {(one["name"], one["type"]) for one in entry["searchParam"]}
    definition = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-"
    assert {(one["name"], one["definition"]) for one in entry["operation"]} >= {
        (name, definition + name) for name in ("status", "events", "get-ws-binding-token")
    }


def test_k2_topics_can_be_read_and_searched_as_basics(site: Site) -> None:
    found = site.client.get("Basic", params={"code": "http://hl7.org/fhir/fhir-types|SubscriptionTopic", "_count": 100}).json()
    assert "finished" in {one["resource"]["id"] for one in found["entry"]}
    assert site.client.get("Basic/finished").json()["extension"][0] == {"url": R5 + "url", "valueUri": TOPIC}


def test_k3_subscriptions_are_created_read_updated_searched_and_deleted(site: Site) -> None:
    site.subscribe("k3", path="k3/e?x=1")
    url = f"{site.url}/k3/e?x=1"
    for params, due in (
        ({"url": url}, 1),
        ({"url": url, "status": "active"}, 1),
        ({"url": url, "status": "off"}, 0),
        ({"url": url + "2"}, 0),
    ):
        assert site.client.get("Subscription", params=params).json()["total"] == due, params
    assert site.client.get("Subscription", params={"url:below": f"{site.url}/k3"}).json()["total"] == 1
    kept = site.client.get("Subscription/k3").json()
    assert site.client.put("Subscription/k3", json={**kept, "status": "off"}).status_code == 200
    assert site.client.get("Subscription", params={"url": url, "status": "off"}).json()["total"] == 1
    site.client.delete("Subscription/k3").raise_for_status()
    for place in ("Subscription/k3", "Subscription/k3/$status", "Subscription/k3/$events"):
        assert site.client.get(place).status_code == 410


# --- the handshake


def test_k5_k9_requested_until_the_handshake_is_answered(site: Site, profiles: Profiles) -> None:
    made = asked(f"{site.url}/k5", criteria=TOPIC)
    del made["id"]
    answer = site.client.post("Subscription", json=made)
    assert answer.status_code == 201 and answer.json()["status"] == "requested"
    id = answer.json()["id"]
    assert profiles.errors(answer.json(), "backport-subscription") == []
    (shake,) = site.bundles("k5", 1)
    found = check_notification(shake, "handshake", id, "id-only", TOPIC)
    assert (found["status"], found["events-since-subscription-start"]) == ("requested", "0")
    profiles.notification(shake)
    assert wait_for(lambda: site.client.get(f"Subscription/{id}").json()["status"] == "active")


def test_k5_k19_no_answer_makes_an_error_and_the_client_asks_again(site: Site, profiles: Profiles) -> None:
    site.hook.down = True  # type: ignore[attr-defined]
    created = site.subscribe("k19", state="error", path="down/k19", **mine("k19"))
    assert created["status"] == "requested"
    failed = site.client.get("Subscription/k19").json()
    assert "HTTP 500" in failed["error"]
    site.put(stay("k19", "k19"))
    wait_for(lambda: site.status("k19")["events-since-subscription-start"] == "1")
    said = site.status("k19")
    assert said["status"] == "error" and "HTTP 500" in said["errors"][0]["text"]
    profiles.status(site.client.get("Subscription/k19/$status").json()["entry"][0]["resource"])
    site.hook.down = False  # type: ignore[attr-defined]
    failing = len(site.hits("down/k19"))
    site.client.put("Subscription/k19", json={**failed, "status": "requested"}).raise_for_status()
    wait_for(lambda: site.client.get("Subscription/k19").json()["status"] == "active")

    def kinds() -> list[str]:
        rows = [json.loads(body)["entry"][0]["resource"]["parameter"] for _, _, _, body in site.hits("down/k19")[failing:]]
        return [next(row["valueCode"] for row in one if row["name"] == "type") for one in rows]

    wait_for(lambda: "event-notification" in kinds(), 20)
    assert kinds()[0] == "handshake" and kinds().count("event-notification") == 1, "the place agrees before it is told what it missed"
    again = site.client.get("Subscription/k19").json()
    assert again["status"] == "active" and "error" not in again and site.status("k19")["errors"] == []


# --- notifications


@pytest.mark.parametrize("content", CONTENTS)
def test_k7_to_k13_each_content_by_the_guide(site: Site, profiles: Profiles, content: str) -> None:
    id = f"k7-{content}"
    header = ["X-One: 1", "Authorization: Bearer a b"]
    site.subscribe(id, content, channel={"header": header}, **mine(id))
    site.put(stay(id, id))
    site.put(stay(id, id, length={"value": 2}))
    site.client.delete(f"Encounter/{id}").raise_for_status()
    shake, *events = site.bundles(id, 4)
    check_notification(shake, "handshake", id, content, TOPIC)
    for number, bundle in enumerate(events, 1):
        found = check_notification(bundle, "event-notification", id, content, TOPIC)
        assert [event["event-number"] for event in found["events"]] == [str(number)] == [found["events-since-subscription-start"]]
        profiles.notification(bundle)
        assert found["status"] == "active"
        if content != "empty":
            assert found["events"][0]["focus"]["reference"] == f"{site.server.base}/Encounter/{id}"
    if content == "full-resource":
        assert [bundle["entry"][1].get("resource", {}).get("meta", {}).get("versionId") for bundle in events] == ["1", "2", None]
    for method, path, headers, _ in site.hits(id):
        assert (method, path) == ("POST", f"/{id}")
        assert headers["Content-Type"].startswith("application/fhir+json")
        assert (headers["X-One"], headers["Authorization"]) == ("1", "Bearer a b"), "K6: each header"


@pytest.mark.parametrize("media", [XML, "application/xml"])
def test_k6_xml_is_sent_where_it_is_asked_for(site: Site, profiles: Profiles, media: str) -> None:
    id = f"k6-{media[-7:].replace('+', '-').replace('/', '-')}"
    site.subscribe(id, "full-resource", channel={"payload": media}, **mine(id))
    site.put(stay(id, id))
    wait_for(lambda: len(site.hits(id)) == 2)
    for (_, _, headers, body), kind in zip(site.hits(id), ("handshake", "event-notification"), strict=True):
        assert headers["Content-Type"].startswith(media)
        assert ElementTree.fromstring(body).tag == "{http://hl7.org/fhir}Bundle"
        bundle = from_xml(body)
        check_notification(bundle, kind, id, "full-resource", TOPIC)
        profiles.notification(bundle)


def test_k9_heartbeats_over_rest_hook(site: Site, profiles: Profiles) -> None:
    """One of a period of 1 s; its times are held to the virtual clock in test_topic_subscriptions.py."""
    site.subscribe("k9", channel={"extension": [{"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 1}]}, **mine("k9"))
    wait_for(lambda: len(site.hits("k9")) == 2)
    beat = json.loads(site.hits("k9")[1][3])
    assert check_notification(beat, "heartbeat", "k9", "id-only", TOPIC)["status"] == "active"
    profiles.notification(beat)
    site.client.delete("Subscription/k9").raise_for_status()


# --- operations


def test_k15_status_of_one_and_of_several(site: Site, profiles: Profiles) -> None:
    for id in ("k15a", "k15b"):
        site.subscribe(id, **mine(id))
    site.client.put("Subscription/k15b", json={**site.client.get("Subscription/k15b").json(), "status": "off"}).raise_for_status()
    site.put(stay("k15a", "k15a"))
    wait_for(lambda: site.status("k15a")["events-since-subscription-start"] == "1")

    def asked_for(*pairs: tuple[str, str]) -> set[tuple[str, str]]:
        """(id, status), alike by GET and POST."""
        words = [(name, word) for name, value in pairs for word in value.split(",")]
        rows = [{"name": name, f"value{'Id' if name == 'id' else 'Code'}": word} for name, word in words]
        posted = site.client.post("Subscription/$status", json={"resourceType": "Parameters", "parameter": rows} if rows else None)
        found = []
        for answer in (site.client.get("Subscription/$status", params=pairs), posted):
            assert answer.status_code == 200, answer.text
            bundle = answer.json()
            assert bundle["type"] == "searchset" and profiles.errors(bundle) == []
            for entry in bundle.get("entry", ()):
                profiles.status(entry["resource"])
            said = [entry["resource"]["parameter"] for entry in bundle.get("entry", ())]
            named = [{row["name"]: row for row in rows} for rows in said]
            found.append(
                {(one["subscription"]["valueReference"]["reference"].rpartition("/")[2], one["status"]["valueCode"]) for one in named}
            )
        assert found[0] == found[1]
        return found[0]

    first, second = ("k15a", "active"), ("k15b", "off")
    assert asked_for(("id", "k15a")) == {first}
    assert asked_for(("id", "k15a"), ("id", "k15b")) == {first, second} == asked_for(("id", "k15a,k15b"))
    assert asked_for(("id", "k15a"), ("id", "k15b"), ("status", "off")) == {second}
    assert asked_for(("id", "k15a"), ("id", "k15b"), ("status", "off"), ("status", "active")) == {first, second}
    assert asked_for(("id", "nobody")) == set() == asked_for(("id", "k15a"), ("status", "error"))
    assert {first, second} <= asked_for() and second in asked_for(("status", "off")) and first not in asked_for(("status", "off"))
    for answer in (
        site.client.get("Subscription/k15a/$status", params={"status": "off", "id": "k15b"}),
        site.client.post("Subscription/k15a/$status"),
    ):
        (entry,) = answer.json()["entry"]
        assert check_status(entry["resource"], "query-status", "k15a")["events-since-subscription-start"] == "1", "no parameter counts here"


def test_k16_events_once_more(site: Site, profiles: Profiles) -> None:
    site.subscribe("k16", "full-resource", **mine("k16"))
    site.put(*(stay(f"k16-{n}", "k16") for n in range(1, 6)))
    site.client.delete("Encounter/k16-2").raise_for_status()
    wait_for(lambda: site.status("k16")["events-since-subscription-start"] == "6")

    def numbers(content: str = "full-resource", **params: Any) -> list[str]:
        answer = site.client.get(
            "Subscription/k16/$events", params={**params, **({"content": content} if content != "full-resource" else {})}
        )
        assert answer.status_code == 200, answer.text
        profiles.notification(answer.json())
        found = check_notification(answer.json(), "query-event", "k16", content, TOPIC)
        assert found["events-since-subscription-start"] == "6"
        return [event["event-number"] for event in found["events"]]

    assert numbers() == ["1", "2", "3", "4", "5", "6"]
    assert numbers(eventsSinceNumber=2, eventsUntilNumber=4) == ["2", "3", "4"], "both bounds are among them"
    assert numbers(eventsSinceNumber=5) == ["5", "6"] and numbers(eventsUntilNumber=1) == ["1"]
    assert numbers(eventsSinceNumber=7) == [] == numbers(eventsSinceNumber=4, eventsUntilNumber=3)
    assert numbers("id-only", eventsUntilNumber=2) == ["1", "2"] == numbers("empty", eventsUntilNumber=2)
    rows = [{"name": "eventsSinceNumber", "valueString": "3"}, {"name": "eventsUntilNumber", "valueString": "3"}]
    posted = site.client.post("Subscription/k16/$events", json={"resourceType": "Parameters", "parameter": rows})
    assert [one["event-number"] for one in check_notification(posted.json(), "query-event", "k16", "full-resource", TOPIC)["events"]] == [
        "3"
    ]


# --- filters


def test_k18_all_filters_must_hold_and_commas_offer(site: Site) -> None:
    """Of an update the new version counts, of a deletion the last one."""
    site.subscribe("k18", filters=("Encounter?patient=Patient/k18,Patient/k18b&class=IMP", "Encounter?date=ge2026-01-01"))
    period = {"period": {"start": "2026-02-01T08:00:00Z", "end": "2026-02-02T08:00:00Z"}}
    old = {"period": {"start": "2025-02-01T08:00:00Z", "end": "2025-02-02T08:00:00Z"}}
    outside = {"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}
    site.put(stay("k18-1", "k18", **period), stay("k18-2", "k18b", **period), stay("k18-3", "other", **period), stay("k18-4", "k18", **old))
    site.put({**stay("k18-5", "k18", **period), **outside}, stay("k18-3", "k18", **period), stay("k18-1", "other", **period))
    for id in ("k18-1", "k18-2", "k18-4"):
        site.client.delete(f"Encounter/{id}").raise_for_status()
    site.put(stay("k18-end", "k18", **period))
    bundles = site.bundles("k18", 6)[1:]
    focus = [check_notification(one, "event-notification", "k18", "id-only", TOPIC)["events"][0]["focus"]["reference"] for one in bundles]
    assert [one.rpartition("/")[2] for one in focus] == ["k18-1", "k18-2", "k18-3", "k18-2", "k18-end"]
    assert [one["entry"][1]["request"]["method"] for one in bundles] == ["POST", "POST", "PUT", "DELETE", "POST"]


# --- websockets


async def test_k20_one_socket_for_several_subscriptions_and_tokens(site: Site, profiles: Profiles) -> None:
    """A token may be asked for again, and bound beside what is bound already; each frame is as the content of its Subscription says."""

    def socket(id: str, content: str) -> None:
        site.subscribe(id, content, channel={"type": "websocket"}, **mine("k20"))

    def token(place: str, **params: Any) -> tuple[str, str]:
        rows = site.client.get(f"{place}/$get-ws-binding-token", params=params).json()["parameter"]
        kinds = [(row["name"], next(key for key in row if key != "name")) for row in rows]
        assert kinds[0] == ("token", "valueString") and ("expiration", "valueDateTime") in kinds and ("websocket-url", "valueUrl") in kinds
        assert {key for name, key in kinds if name == "subscription"} == {"valueString"}
        said = {row["name"]: next(value for key, value in row.items() if key != "name") for row in rows}
        assert dt.datetime.fromisoformat(said["expiration"]) > dt.datetime.now(dt.UTC)
        return said["token"], said["websocket-url"]

    async def frame() -> Json:
        found: Json = json.loads(await asyncio.wait_for(connection.recv(), 10))
        return found

    def id_of(bundle: Json) -> str:
        row = next(row for row in bundle["entry"][0]["resource"]["parameter"] if row["name"] == "subscription")
        return str(row["valueReference"]["reference"].rpartition("/")[2])

    for content in CONTENTS:
        await asyncio.to_thread(socket, f"k20-{content}", content)
    first, address = token("Subscription", id=["k20-empty", "k20-id-only"])
    second, _ = token("Subscription/k20-full-resource", id="k20-empty")  # on an instance the parameter is ignored
    async with connect(address) as connection:
        await connection.send(f"bind-with-token {first}")
        shakes = [await frame(), await frame()]
        await connection.send(f"bind-with-token {second}")
        shakes.append(await frame())
        assert [id_of(one) for one in shakes] == ["k20-empty", "k20-id-only", "k20-full-resource"], "one handshake for each"
        for one, content in zip(shakes, CONTENTS, strict=True):
            check_notification(one, "handshake", id_of(one), content, TOPIC)
            profiles.notification(one)
        await asyncio.to_thread(site.put, stay("k20", "k20"), stay("k20", "k20", length={"value": 3}))
        frames = [await frame() for _ in range(6)]
        for content in CONTENTS:
            own = [one for one in frames if id_of(one) == f"k20-{content}"]
            told = [check_notification(one, "event-notification", f"k20-{content}", content, TOPIC) for one in own]
            assert [one["events"][0]["event-number"] for one in told] == ["1", "2"]
            for one in own:
                profiles.notification(one)
        await asyncio.sleep(3.2)  # FHIR_SERVER_WS_TOKEN_SECONDS
        await connection.send(f"bind-with-token {first}")
        assert (await asyncio.wait_for(connection.recv(), 10)).startswith("error ")  # type: ignore[arg-type]
        await asyncio.to_thread(site.put, stay("k20", "k20", length={"value": 4}))
        assert {id_of(await frame()) for _ in CONTENTS} == {f"k20-{content}" for content in CONTENTS}, "what is bound stays bound"
    async with connect(address) as connection:
        await connection.send(f"bind-with-token {first}")
        assert "no longer" in str(await asyncio.wait_for(connection.recv(), 10)), "an old token binds nothing"


# --- R4's own form


def test_k22_a_search_with_and_without_payload(site: Site) -> None:
    """An empty POST; with a payload `PUT endpoint/Type/id` in its media type. https://hl7.org/fhir/R4/subscription.html#2.46.5.1"""
    for id, channel in {"k22": {}, "k22-json": {"payload": "application/fhir+json"}, "k22-xml": {"payload": XML}}.items():
        made = hook_subscription(site.hook, "Encounter?patient=Patient/k22", endpoint=f"{site.url}/{id}", header=["X-Key: k"], **channel)
        answer = site.client.put(f"Subscription/{id}", json={**made, "id": id})
        assert answer.status_code == 201 and answer.json()["status"] == "requested"
        wait_for(lambda id=id: site.client.get(f"Subscription/{id}").json()["status"] == "active")
    site.put(stay("k22", "k22", status="planned"))
    wait_for(lambda: site.hits("k22-xml") and site.hits("k22-json") and len(site.hits("k22")) == 3)
    ((method, path, headers, body),) = [hit for hit in site.hits("k22") if hit[1] == "/k22"]
    assert (method, body, headers["X-Key"]) == ("POST", b"", "k") and headers["Content-Length"] == "0"
    stored = site.client.get("Encounter/k22")
    ((method, path, headers, body),) = site.hits("k22-json")
    assert (method, path, headers["X-Key"]) == ("PUT", "/k22-json/Encounter/k22", "k") and body == stored.content
    ((method, path, headers, body),) = site.hits("k22-xml")
    assert (method, path) == ("PUT", "/k22-xml/Encounter/k22") and headers["Content-Type"].startswith(XML)
    assert from_xml(body) == stored.json()


def test_k22_the_end_switches_off(site: Site) -> None:
    end = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)).isoformat(timespec="milliseconds")
    made = hook_subscription(site.hook, "Encounter?patient=Patient/k22e", endpoint=f"{site.url}/end", end=None)
    del made["channel"]["end"]
    site.put({**made, "id": "end", "end": end})
    site.put(stay("k22e-1", "k22e"))
    wait_for(lambda: len(site.hits("end")) == 1)
    wait_for(lambda: site.client.get("Subscription/end").json()["status"] == "off")
    assert dt.datetime.now(dt.UTC) >= dt.datetime.fromisoformat(end)
    site.put(stay("k22e-2", "k22e"))
    site.put({**made, "id": "fence", "channel": {**made["channel"], "endpoint": f"{site.url}/fence"}})
    site.put(stay("k22e-3", "k22e"))
    wait_for(lambda: site.hits("fence"))
    time.sleep(0.1)
    assert len(site.hits("end")) == 1, "nothing after it"


def test_k23_what_is_deleted_or_off_is_told_nothing_more(site: Site) -> None:
    for id in ("k23-deleted", "k23-off", "k23"):
        site.subscribe(id, **mine("k23"))
    site.client.delete("Subscription/k23-deleted").raise_for_status()
    site.put({**site.client.get("Subscription/k23-off").json(), "status": "off"})
    site.put(stay("k23", "k23"))
    wait_for(lambda: [hit for hit in site.hits("k23") if hit[1] == "/k23"][1:])
    assert len(site.hits("k23-deleted")) == len(site.hits("k23-off")) == 1, "the handshake alone"
