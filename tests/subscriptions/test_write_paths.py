"""Each change is exactly one event, whatever wrote it; what changed nothing, was refused or rolled back is none. conformance.md K14, K18

Known failure 10 of others: Bundle, conditional or patch writes emit no event. What a case has written is compared with what its text says
and with the server's history. Fences tell where the events of a case begin and end: deliveries of a Subscription keep their order.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import Server, start_server
from tests.interactions.bundles import entry, transaction
from tests.subscriptions.test_topic_subscriptions import R5, asked, told
from tests.subscriptions.test_wire import Hook, hook_subscription, wait_for
from tests.subscriptions.writes import CASES

Json = dict[str, Any]
TOPIC = "http://example.org/SubscriptionTopic/everything"
WATCHED = ("Observation", "Patient", "Encounter", "DiagnosticReport", "CarePlan", "Task")


class Seen(NamedTuple):
    """One change: create, update or delete; the resource; its version ('' of a deletion)."""

    interaction: str
    place: str
    version: str


def everything() -> Json:
    """A topic with a trigger of its own for each interaction on each type."""
    triggers = [
        {"url": R5 + "resourceTrigger", "extension": [
            {"url": "resource", "valueUri": f"http://hl7.org/fhir/StructureDefinition/{type}"},
            {"url": "supportedInteraction", "valueCode": interaction},
        ]}
        for type in WATCHED for interaction in ("create", "update", "delete")
    ]  # fmt: skip
    return {
        "resourceType": "Basic", "id": "everything",
        "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
        "modifierExtension": [{"url": R5 + "status", "valueCode": "active"}],
        "extension": [{"url": R5 + "url", "valueUri": TOPIC}, *triggers],
    }  # fmt: skip


class Site:
    """A server, its receiver, and what is told between two fences."""

    def __init__(self, server: Server, client: httpx.Client, hook: ThreadingHTTPServer) -> None:
        self.server, self.client, self.hook = server, client, hook
        self.number = 0

    @property
    def hits(self) -> list[tuple[str, str, Json]]:
        """(method, path, content) of all that arrived."""
        return [(method, path, json.loads(body)) for method, path, _, body in list(self.hook.hits)]  # type: ignore[attr-defined]

    def by_topic(self) -> list[tuple[int, Seen]]:
        """(event number, change) as the topic's Subscription was told."""
        found = []
        for _, path, bundle in self.hits:
            if path == "/topic" and told(bundle)["type"] == "event-notification":
                (event,), told_of = told(bundle)["events"], bundle["entry"][1]
                interaction = {"POST": "create", "PUT": "update", "DELETE": "delete"}[told_of["request"]["method"]]
                assert event["focus"]["reference"] == told_of["fullUrl"]
                version = told_of.get("resource", {}).get("meta", {}).get("versionId", "")
                found.append((int(event["event-number"]), Seen(interaction, told_of["fullUrl"].partition("/fhir/")[2], version)))
        return found

    def by_search(self, type: str) -> list[tuple[str, str]]:
        """(place, version) as the Subscription with a search on a type was told."""
        under = f"/search/{type}/"
        return [(path.removeprefix("/search/"), body["meta"]["versionId"]) for _, path, body in self.hits if path.startswith(under)]

    def history(self) -> list[Seen]:
        """All changes of watched types that the server's history has, oldest first."""
        found: list[Seen] = []
        place: str | None = "_history?_count=500"
        while place:
            page = self.client.get(place).json()
            for row in page["entry"]:
                type, id, _, version = row["response"]["location"].split("/")
                if type in WATCHED:
                    found.append(Seen(row["request"]["method"], f"{type}/{id}", version))
            place = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        gone: set[str] = set()
        for at, row in enumerate(reversed(found)):
            created = row.version == "1" or row.place in gone  # what comes back after a deletion is created: PUT answers 201
            (gone.add if row.interaction == "DELETE" else gone.discard)(row.place)
            deleted = row.interaction == "DELETE"
            found[-at - 1] = Seen("delete" if deleted else "create" if created else "update", row.place, "" if deleted else row.version)
        return found[::-1]

    def fence(self) -> int:
        """Write one of each type and wait until everybody was told; its number."""
        self.number += 1
        numbered = {"identifier": [{"system": "urn:fence", "value": str(self.number)}]}
        coded = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
        own: dict[str, Json] = {
            "Observation": {"status": "final", "code": {"text": "fence"}}, "Patient": {},
            "Encounter": {"status": "planned", "class": coded},
            "DiagnosticReport": {"status": "registered", "code": {"text": "fence"}},
            "CarePlan": {"status": "draft", "intent": "proposal", "subject": {"display": "fence"}},
            "Task": {"status": "draft", "intent": "proposal"},
        }  # fmt: skip
        rows = [{"resourceType": type, "id": "fence", **numbered, **own[type]} for type in WATCHED]
        answer = self.client.post("", json=transaction(*(entry("PUT", f"{row['resourceType']}/fence", row) for row in rows)))
        assert answer.status_code == 200, answer.text
        versions = {str(row["response"]["etag"]) for row in answer.json()["entry"]}
        assert versions == {f'W/"{self.number}"'}
        here = str(self.number)
        wait_for(lambda: all((f"{type}/{type}/fence", here) in self.by_search(type) for type in WATCHED), 20)
        wait_for(lambda: {f"{type}/fence" for type in WATCHED} <= {one.place for _, one in self.by_topic() if one.version == here}, 20)
        return self.number


def between(rows: list[Any], is_fence: Callable[[Any], str], first: int) -> list[Any]:
    """The rows behind fence number `first` and before the next one."""
    at = max(place for place, row in enumerate(rows) if is_fence(row) == str(first))
    behind = rows[at + 1 :]
    return behind[: next(place for place, row in enumerate(behind) if is_fence(row) == str(first + 1))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    hook.hits = []  # type: ignore[attr-defined]
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    server = start_server(tmp_path_factory.mktemp("paths") / "data", "--mllp-port", "0")
    with server.client() as client:
        made = Site(server, client, hook)
        url = f"http://127.0.0.1:{hook.server_port}"
        client.put("Basic/everything", json=everything()).raise_for_status()
        client.put("Subscription/topic", json=asked(f"{url}/topic", "full-resource", id="topic", criteria=TOPIC)).raise_for_status()
        for type in WATCHED:
            channel = {"payload": "application/fhir+json", "endpoint": f"{url}/search/{type}"}
            client.post("Subscription", json=hook_subscription(hook, type, **channel)).raise_for_status()
        yield made
    server.kill()
    hook.shutdown()


@pytest.mark.parametrize("name", CASES)
def test_each_change_is_one_event_and_what_is_none_is_not_told(site: Site, name: str) -> None:
    before = site.number or site.fence()
    due = CASES[name](site)
    site.fence()

    def fence_of(row: Seen) -> str:
        return row.version if row.place == "Observation/fence" else ""

    events = between(site.by_topic(), lambda row: fence_of(row[1]), before)
    changes = [one for _, one in events if not one.place.endswith("/fence")]
    written = [one for one in between(site.history(), fence_of, before) if not one.place.endswith("/fence")]
    assert changes == written, "each version of the history is one event, in its order"
    for type in WATCHED:
        rows = between(site.by_search(type), lambda row: row[1] if row[0].endswith("/fence") else "", before)
        versions = [
            (f"{type}/{one.place}", one.version) for one in written if one.place.startswith(f"{type}/") and one.interaction != "delete"
        ]
        assert rows == versions, "of a search each new version that meets it, and no deletion"
    assert Counter((one.interaction, _named(one.place, due)) for one in changes) == Counter(due)
    numbers = [number for number, _ in site.by_topic()]
    assert numbers == list(range(1, len(numbers) + 1)), "no gap, no event twice"


def _named(place: str, due: list[tuple[str, str]]) -> str:
    """A resource as the case names it: by its id, or by its type where the server chose the id."""
    return place if any(named == place for _, named in due) else place.partition("/")[0]
