"""Topic-based Subscriptions over rest-hook, from the commit to the receiver. conformance.md K4–K19, the R5 backport guide for R4."""

from __future__ import annotations

import asyncio
import json
import re
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.library import Library
from fhir_server.model.xml_reading import from_xml
from fhir_server.search.errors import index_not_ready
from fhir_server.storage.port import Unit, Write
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate
from subscriptions.delivering import ERROR_AFTER
from subscriptions.events import count_of, events_of
from subscriptions.handlers import HANDSHAKES
from subscriptions.jobs.clock import HOUR, MINUTE, VirtualClock, at
from tests.subscriptions.receiver import Receiver, receiver
from tests.subscriptions.world import World, subscription, world

Json = dict[str, Any]
NOW = at("2026-03-02T08:00:00+08:00")
BASE = "http://fhir.example.org/fhir"
TOPIC = "http://example.org/SubscriptionTopic/encounter-finished"
GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."


def topic(id: str = "t1", url: str = TOPIC, status: str = "active", *more: Json) -> Json:
    """Encounters that become finished, and deletions of them; can be filtered by patient (and :missing) and by date (ge, lt)."""
    query = [
        {"url": "previous", "valueString": "status:not=finished"}, {"url": "resultForCreate", "valueCode": "test-passes"},
        {"url": "current", "valueString": "status=finished"}, {"url": "resultForDelete", "valueCode": "test-fails"},
        {"url": "requireBoth", "valueBoolean": True},
    ]  # fmt: skip
    finished = [
        {"url": "resource", "valueUri": "http://hl7.org/fhir/StructureDefinition/Encounter"},
        {"url": "queryCriteria", "extension": query},
    ]
    deleted = [{"url": "resource", "valueUri": "Encounter"}, {"url": "supportedInteraction", "valueCode": "delete"}]
    patient = [
        {"url": "resource", "valueUri": "Encounter"},
        {"url": "filterParameter", "valueString": "patient"},
        {"url": "modifier", "valueCode": "missing"},
    ]
    date = [
        {"url": "resource", "valueUri": "Encounter"}, {"url": "filterParameter", "valueString": "date"},
        {"url": "comparator", "valueCode": "ge"}, {"url": "comparator", "valueCode": "lt"},
    ]  # fmt: skip
    return {
        "resourceType": "Basic", "id": id, "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
        "modifierExtension": [{"url": R5 + "status", "valueCode": status}],
        "extension": [
            {"url": R5 + "url", "valueUri": url}, {"url": R5 + "version", "valueString": "1.0.0"},
            {"url": R5 + "resourceTrigger", "extension": finished}, {"url": R5 + "resourceTrigger", "extension": deleted},
            {"url": R5 + "canFilterBy", "extension": patient}, {"url": R5 + "canFilterBy", "extension": date}, *more,
        ],
    }  # fmt: skip


def encounter(id: str, status: str = "finished", patient: str = "p1", **more: Any) -> Json:
    coded = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    return {"resourceType": "Encounter", "id": id, "status": status, "class": coded, "subject": {"reference": f"Patient/{patient}"}, **more}


def asked(endpoint: str, content: str = "id-only", filters: tuple[str, ...] = (), **more: Any) -> Json:
    """A Subscription on the topic."""
    channel = {
        "payload": "application/fhir+json", "_payload": {"extension": [{"url": GUIDE + "backport-payload-content", "valueCode": content}]},
        **more.pop("channel", {}),
    }  # fmt: skip
    made = subscription(endpoint, criteria=more.pop("criteria", TOPIC), channel=channel, **more)
    if filters:
        made["_criteria"] = {"extension": [{"url": GUIDE + "backport-filter-criteria", "valueString": one} for one in filters]}
    return made


@asynccontextmanager
async def topical(folder: Path, **more: Any):
    """A world that knows the topic."""
    async with world(folder, **more) as w:
        await w.put(topic())
        await w.settle()
        await w.room.topics.fresh()
        yield w


async def begin(w: World, subscription: Json) -> None:
    """Subscribe, and let the handshake be over."""
    await w.put(subscription)
    await w.settle()


def bundles(there: Receiver, kind: str = "event-notification") -> list[Json]:
    found = [json.loads(hit.body) for hit in there.hits]
    return [one for one in found if told(one)["type"] == kind]


def told(bundle: Json) -> Json:
    """The parameters of the status in front; of events a list of theirs."""
    assert bundle["type"] == "history"
    status = bundle["entry"][0]["resource"]
    rows: Json = {"events": []}
    for row in status["parameter"]:
        if row["name"] == "notification-event":
            rows["events"].append({part["name"]: next(v for k, v in part.items() if k.startswith("value")) for part in row["part"]})
        else:
            rows[row["name"]] = next(value for key, value in row.items() if key.startswith("value"))
    return rows


# --- admission


@pytest.mark.parametrize(
    ("more", "expression", "said"),
    [
        ({"criteria": "http://example.org/SubscriptionTopic/unknown"}, "criteria", "is not known here"),
        ({"criteria": f"{TOPIC}|2.0"}, "criteria", "is not known here"),
        ({"filters": ("Encounter?status=finished",)}, "criteria.extension", "cannot be filtered by 'status', only by date, patient"),
        ({"filters": ("Observation?patient=Patient/1",)}, "criteria.extension", "no type of the topic"),
        ({"filters": ("patient=Patient/1",)}, "criteria.extension", "Type?parameter=value"),
        ({"filters": ("Encounter?patient:identifier=x|1",)}, "criteria.extension", "modifier 'identifier'"),
        ({"filters": ("Encounter?date=sa2026",)}, "criteria.extension", "comparator 'sa'"),
        ({"filters": ("Encounter?date=genever",)}, "criteria", "date"),
        ({"content": "everything"}, "channel.payload", "'everything', not one of empty, id-only, full-resource"),
        ({"channel": {"_payload": {}}}, "channel.payload", "backport-payload-content is required"),
        ({"channel": {"payload": "text/csv"}}, "channel.payload", "text/csv"),
        ({"channel": {"extension": [{"url": GUIDE + "backport-max-count", "valuePositiveInt": 0}]}}, "channel.extension", "above 0"),
        (
            {
                "_criteria": {
                    "extension": [{"url": "http://hl7.org/fhir/5.0/StructureDefinition/backport-filter-criteria", "valueString": "x"}]
                }
            },
            "criteria",
            "is not understood here",
        ),
    ],
)
async def test_what_cannot_be_served_is_refused_with_element_and_reason(tmp_path: Path, more: Json, expression: str, said: str) -> None:
    async with topical(tmp_path) as w:
        issues = w.check(asked("https://hooks.example.org/x", **more))
        assert [(issue.expression[0], said in issue.diagnostics) for issue in issues] == [(f"Subscription.{expression}", True)]
        assert all(re.search(r"[\u4e00-\u9fff]", issue.zh or "") for issue in issues), "told in Chinese, too"


async def test_what_can_be_served_is_accepted(tmp_path: Path) -> None:
    async with topical(tmp_path) as w:
        for filters in (
            (),
            ("Encounter?patient=Patient/1,Patient/2",),
            ("Encounter?date=ge2026&date=lt2027", "Encounter?patient:missing=false"),
        ):
            assert w.check(asked("https://hooks.example.org/x", filters=filters)) == []
        assert w.check(asked("https://hooks.example.org/x", criteria=f"{TOPIC}|1.0")) == []


async def test_filters_need_a_topic(tmp_path: Path) -> None:
    async with topical(tmp_path) as w:
        search = subscription("https://hooks.example.org/x")
        search["_criteria"] = {"extension": [{"url": GUIDE + "backport-filter-criteria", "valueString": "Observation?status=final"}]}
        assert {issue.expression[0] for issue in w.check(search)} == {"Subscription.criteria.extension", "Subscription.criteria"}


async def test_a_topic_that_cannot_be_watched_is_refused_and_retired_ones_are_not_served(tmp_path: Path) -> None:
    async with topical(tmp_path) as w:
        bad = topic()
        bad["extension"][2]["extension"][1]["extension"][2]["valueString"] = "nose=1"
        (issue,) = w.room.topics.issues(bad)
        assert issue.expression[0] == "SubscriptionTopic.resourceTrigger[0].queryCriteria.current"
        assert w.room.topics.issues({"resourceType": "Basic", "code": {"text": "x"}}) == []
        await w.put(topic(status="retired"))
        await w.room.topics.fresh()
        assert [issue.expression[0] for issue in w.check(asked("https://hooks.example.org/x"))] == ["Subscription.criteria"]


async def test_topics_stay_known_while_the_index_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with topical(tmp_path) as w:

        async def search(*_: Any, **__: Any) -> None:
            raise index_not_ready(1, 2)

        monkeypatch.setattr(type(w.room.jobs.services.gate), "search", search)
        await w.room.topics.fresh()
        assert w.check(asked("https://hooks.example.org/x")) == []


# --- handshake


async def test_the_handshake_comes_before_the_first_event(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await w.put(asked(there.url, channel={"header": ["X-Secret: s"]}))
        await w.put(encounter("e1"))
        await w.settle()
        clock.advance(1000)
        await w.settle()
        assert (await w.read("Subscription", "s1"))["status"] == "active"
        first = there.hits[0]
        assert (first.method, first.path, first.headers["x-secret"]) == ("POST", "/hook", "s")
        assert first.headers["content-type"].startswith("application/fhir+json")
        (shake,) = bundles(there, "handshake")
        assert told(shake)["status"] == "requested"
        assert [told(json.loads(hit.body))["type"] for hit in there.hits] == ["handshake", "event-notification"]


async def test_a_handshake_that_is_not_answered_makes_an_error(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver(500) as there, topical(tmp_path, clock=clock) as w:
        await w.put(asked(there.url))
        for _ in range(HANDSHAKES):
            await w.settle()
            clock.advance(MINUTE)
        failed = await w.read("Subscription", "s1")
        assert failed["status"] == "error" and "HTTP 500" in failed["error"] and len(there.hits) == HANDSHAKES
        there.status = 200
        await w.put({**failed, "status": "requested", "meta": {}})
        await w.settle()
        again = await w.read("Subscription", "s1")
        assert again["status"] == "active" and "error" not in again
        assert len(bundles(there, "handshake")) == HANDSHAKES + 1


async def test_another_endpoint_is_asked_before_it_is_told_anything(tmp_path: Path) -> None:
    async with receiver() as first, receiver(403) as second, topical(tmp_path, clock=VirtualClock(NOW)) as w:
        await begin(w, asked(first.url))
        await w.put({**await w.read("Subscription", "s1"), **asked(second.url, status="active"), "meta": {}})
        await w.put(encounter("e1"))
        await w.settle()
        assert [told(json.loads(hit.body))["type"] for hit in second.hits] == ["handshake"]
        assert not bundles(first), "what is no longer asked for there is not sent there"


async def test_status_active_alone_does_not_stand_for_the_handshake(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, status="active"))
        await w.put(encounter("e1"))
        await w.settle()
        assert [told(json.loads(hit.body))["type"] for hit in there.hits] == ["handshake", "event-notification"]


async def test_an_answer_counts_for_the_endpoint_that_gave_it(tmp_path: Path) -> None:
    """The Subscription is moved while its handshake is under way."""
    async with receiver() as first, receiver(403) as second, topical(tmp_path, running=True) as w:
        first.open = asyncio.Event()
        await w.put(asked(first.url))
        await first.wait(1)
        await w.put(asked(second.url))
        first.open.set()
        await second.wait(1)
        assert (await w.read("Subscription", "s1"))["status"] != "active"


async def test_handshakes_do_not_take_the_places_of_care(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        kinds = {kind.name: kind.lane.name for kind in w.room.jobs.kinds}
    assert kinds["subscription.activate"] == "handshakes" and kinds["subscription.expire"] == "care"


# --- one that ends, and one of the same id


@pytest.mark.parametrize("way", ["delete", "off"])
async def test_who_begins_anew_is_not_told_what_was_before(tmp_path: Path, way: str) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        there.status = 503
        await w.put(encounter("e1"))
        await w.settle()
        if way == "delete":
            await w.delete("Subscription", "s1")
        else:
            await w.put(asked(there.url, status="off"))
        await w.put(encounter("e2"))
        await w.settle()
        there.status, before = 200, len(there.hits)
        await begin(w, asked(there.url))
        await w.put(encounter("e3"))
        await asyncio.sleep(1.5)  # the pause of the attempt that failed
        await w.settle()
        sent = [json.loads(hit.body) for hit in there.hits[before:]]
        events = [event for one in sent for event in told(one)["events"]]
        assert [event["focus"]["reference"][-2:] for event in events] == ["e3"]
        number = {"delete": "1", "off": "2"}[way]
        assert events[0]["event-number"] == number, "a Subscription of the same id that is created anew counts from 1"
        services = w.room.jobs.services
        kept = [(one.number, one.id) for one in await events_of(services, "s1", 1, 9)]
        assert kept == ([(1, "e3")] if way == "delete" else [(1, "e1"), (2, "e3")])


@pytest.mark.parametrize("criteria", [TOPIC, "Encounter"])
@pytest.mark.parametrize("way", ["delete", "off"])
async def test_the_reader_need_not_have_seen_that_it_began_anew(tmp_path: Path, way: str, criteria: str) -> None:
    """A delivery that is claimed between the write of the new Subscription and the reader's look at it."""
    async with receiver(503) as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, criteria=criteria) if criteria == TOPIC else subscription(there.url, criteria=criteria))
        there.status = 200
        kind = next(kind for kind in w.room.jobs.kinds if kind.name == "subscription.deliver")
        await w.put({**await w.read("Subscription", "s1"), "status": "active", "meta": {}}, encounter("e1"))
        (feed,) = [feed for feed in w.room.jobs._feeds if feed.reader.name == "subscriptions"]
        await feed.step()
        now = await w.read("Subscription", "s1")
        if way == "delete":
            await w.delete("Subscription", "s1")
        else:
            await w.put({**now, "status": "off", "meta": {}})
        await w.put({**now, "status": "active", "meta": {}})
        before = len(there.hits)
        services = w.room.jobs.services
        claimed = await w.store.claim_jobs(services.clock(), kinds=[kind.name], limit=9, lease=9_000)
        assert [job.payload["id"] for job in claimed] == ["e1"]
        number, effects = await kind.attempt(claimed, services)
        assert number == 1 and not effects.writes and len(there.hits) == before


# --- events


async def test_events_are_numbered_without_gaps_and_told_in_order(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(encounter("e1", "in-progress"), encounter("e2"))
        await w.put(encounter("e1"))
        await w.put(encounter("e1", length={"value": 1}))  # it was finished before
        await w.delete("Encounter", "e1")
        await w.put({"resourceType": "Patient", "id": "p1"})
        await w.settle()
        assert [told(bundle)["events-since-subscription-start"] for bundle in bundles(there, "handshake")] == ["0"]
        events = [event for bundle in bundles(there) for event in told(bundle)["events"]]
        assert [event["event-number"] for event in events] == ["1", "2", "3"]
        assert [told(bundle)["events-since-subscription-start"] for bundle in bundles(there)] == ["1", "2", "3"]
        focus = [event["focus"]["reference"] for event in events]
        assert focus == [f"{BASE}/Encounter/{id}" for id in ("e2", "e1", "e1")]
        requests = [bundle["entry"][1]["request"] for bundle in bundles(there)]
        assert requests == [
            {"method": "POST", "url": "Encounter"}, {"method": "PUT", "url": "Encounter/e1"}, {"method": "DELETE", "url": "Encounter/e1"},
        ]  # fmt: skip


async def test_filters_narrow_and_all_must_hold(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, filters=("Encounter?patient=Patient/p1,Patient/p2", "Encounter?date=ge2026")))
        period = {"period": {"start": "2026-02-01T08:00:00Z", "end": "2026-02-02T08:00:00Z"}}
        await w.put(
            encounter("e1", **period), encounter("e2", patient="p3", **period), encounter("e3", patient="p2", **period), encounter("e4")
        )
        await w.delete("Encounter", "e2")
        await w.delete("Encounter", "e3")  # of a deletion the last version is looked at
        await w.settle()
        focus = [event["focus"]["reference"].rpartition("/")[2] for bundle in bundles(there) for event in told(bundle)["events"]]
        assert focus == ["e1", "e3", "e3"]


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
async def test_each_content_holds_what_it_may(tmp_path: Path, content: str) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, content))
        await w.put(encounter("e1"))
        await w.delete("Encounter", "e1")
        await w.settle()
        created, deleted = bundles(there)
        (event,) = told(created)["events"]
        assert event["event-number"] == "1" and event["timestamp"]
        status, *others = created["entry"]
        assert status["request"] == {"method": "GET", "url": f"{BASE}/Subscription/s1/$status"} and status["response"]["status"] == "200"
        if content == "empty":
            assert not others and "focus" not in event and "topic" not in told(created)
            return
        (entry,) = others
        assert event["focus"] == {"reference": f"{BASE}/Encounter/e1"} and entry["fullUrl"] == f"{BASE}/Encounter/e1"
        assert told(created)["topic"] == TOPIC and entry["request"]["method"] == "POST" and entry["response"]["status"] == "201"
        if content == "id-only":
            assert "resource" not in entry
        else:
            assert entry["resource"] == await stored_at(w, "Encounter", "e1", 1)
        assert "resource" not in deleted["entry"][1], "what is deleted is not sent"


async def stored_at(w: World, type: str, id: str, version: int) -> Json:
    found = await w.store.read_version(type, id, version)
    assert found is not None
    made: Json = json.loads(found.body)
    return made


async def test_the_payload_may_be_xml(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, "full-resource", channel={"payload": "application/fhir+xml"}))
        await w.put(encounter("e1"))
        await w.settle()
        hit = there.hits[-1]
        assert hit.headers["content-type"].startswith("application/fhir+xml")
        assert from_xml(hit.body)["entry"][1]["resource"]["status"] == "finished"


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
async def test_notifications_meet_the_profiles_of_the_guide(tmp_path: Path, corpus: Path, content: str) -> None:
    with tarfile.open(corpus / "igs" / "hl7.fhir.uv.subscriptions-backport.r4-1.2.0-ballot.tgz") as tar:
        members = [member for member in tar if "/example/" not in member.name and "-backport-" in member.name]
        resources = [json.load(opened) for member in members if (opened := tar.extractfile(member))]
    room = ProfileRoom(Library(one for one in resources if "url" in one).find)
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, content))
        await w.put(encounter("e1"))
        await w.settle()
        assert len(there.hits) == 2
        for hit in there.hits:
            bundle = json.loads(hit.body)
            issues = [*validate(bundle), *room.validate(bundle, [GUIDE + "backport-subscription-notification-r4"])]
            assert [issue.diagnostics for issue in issues if issue.severity == "error"] == []
            assert not any(issue.rule == "profile-unknown" for issue in issues)


async def test_nothing_before_the_subscription_is_told_and_everything_after_is(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await w.put(encounter("e1"))
        await begin(w, asked(there.url))
        await w.put(encounter("e2"))
        await w.settle()
        assert [event["focus"]["reference"][-2:] for bundle in bundles(there) for event in told(bundle)["events"]] == ["e2"]


async def test_topics_may_change_while_they_are_subscribed_to(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(encounter("e1"))
        await w.settle()
        started = topic()
        started["extension"][2]["extension"][1]["extension"][2]["valueString"] = "status=in-progress"
        await w.put(started)
        await w.put(encounter("e2"), encounter("e3", "in-progress"))
        await w.settle()
        assert [event["focus"]["reference"][-2:] for bundle in bundles(there) for event in told(bundle)["events"]] == ["e1", "e3"]


@pytest.mark.parametrize("how", ["changed", "retired", "deleted"])
async def test_what_was_an_event_when_it_was_written_stays_one(tmp_path: Path, how: str) -> None:
    """The reader comes to the version after the topic has changed."""
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(encounter("e1"))
        if how == "deleted":
            await w.delete("Basic", "t1")
        else:
            other = topic(status="retired" if how == "retired" else "active")
            other["extension"][2]["extension"][1]["extension"][2]["valueString"] = "status=in-progress"
            await w.put(other)
        await w.put(encounter("e2"))
        await w.settle()
        assert [event["focus"]["reference"][-2:] for bundle in bundles(there) for event in told(bundle)["events"]] == ["e1"]


async def test_a_reader_that_starts_late_knows_the_topics_of_then(tmp_path: Path) -> None:
    async with receiver() as there:
        async with topical(tmp_path) as w:
            await begin(w, asked(there.url))
            await w.put(encounter("e1"))
            await w.put(topic(status="retired"))
            await w.put(encounter("e2"))
        async with world(tmp_path) as w:
            await w.settle()
            assert [event["focus"]["reference"][-2:] for bundle in bundles(there) for event in told(bundle)["events"]] == ["e1"]


async def test_an_event_holds_no_more_than_was_asked_for_when_it_happened(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, "empty"))
        there.status = 503
        await w.put(encounter("e1"))
        await w.settle()
        there.status = 200
        await w.put({**asked(there.url, "full-resource"), "status": "active"}, encounter("e2"))
        await asyncio.sleep(1.5)
        await w.settle()
        first, *_, last = bundles(there)[1:]
        assert len(first["entry"]) == 1 and "Encounter" not in json.dumps(first)
        assert last["entry"][1]["resource"]["id"] == "e2"


async def test_numbers_go_on_after_a_new_start(tmp_path: Path) -> None:
    async with receiver() as there:
        async with topical(tmp_path) as w:
            await begin(w, asked(there.url))
            await w.put(encounter("e1"))
            await w.settle()
        async with world(tmp_path) as w:
            await w.put(encounter("e2"))
            await w.settle()
            assert [told(bundle)["events"][0]["event-number"] for bundle in bundles(there)] == ["1", "2"]
            services = w.room.jobs.services
            assert await count_of(services, "s1") == 2
            assert [(one.number, one.id) for one in await events_of(services, "s1", 1, 5)] == [(1, "e1"), (2, "e2")]


async def test_many_events_of_one_unit_are_numbered_in_order(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.store.transact(Unit.of(*(Write("PUT", "Encounter", f"e{n}", encounter(f"e{n}")) for n in range(40))))
        await w.settle()
        numbers = [int(event["event-number"]) for bundle in bundles(there) for event in told(bundle)["events"]]
        assert numbers == list(range(1, 41))


# --- failures


async def test_events_are_kept_while_the_endpoint_is_down(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url))
        await w.settle()
        there.status = 503
        await w.put(encounter("e1"), encounter("e2"))
        for _ in range(ERROR_AFTER + 1):
            await w.settle()
            clock.advance(2 * MINUTE)
        failed = await w.read("Subscription", "s1")
        assert failed["status"] == "error" and "HTTP 503" in failed["error"]
        await w.put(encounter("e3"))
        await w.settle()
        assert await count_of(w.room.jobs.services, "s1") == 3, "the counter grows all the same"
        there.status, before = 200, len(there.hits)
        clock.advance(HOUR)
        await w.settle()
        arrived = [told(json.loads(hit.body))["events"][0]["event-number"] for hit in there.hits[before:]]
        assert arrived == ["1", "2", "3"]
        assert (await w.read("Subscription", "s1"))["status"] == "error", "only the client makes it active again"


async def test_a_time_limit_of_the_subscriber_counts(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url, channel={"extension": [{"url": GUIDE + "backport-timeout", "valueUnsignedInt": 1}]}))
        await w.settle()
        there.status = 0
        await w.put(encounter("e1"))
        await w.settle()
        (row,) = [row for row in await w.store.list_jobs("open") if row["kind"] == "subscription.deliver"]
        assert "no answer within 1 s" in row["error"]


# --- heartbeat


async def test_heartbeats_come_when_nothing_else_does(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url, channel={"extension": [{"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 600}]}))
        await w.settle()
        clock.advance(10 * MINUTE + 1000)
        await w.settle()
        (beat,) = bundles(there, "heartbeat")
        assert told(beat)["status"] == "active" and told(beat)["events"] == []
        clock.advance(6 * MINUTE)
        await w.put(encounter("e1"))  # this is a sign of life, too
        await w.settle()
        clock.advance(5 * MINUTE)
        await w.settle()
        assert len(bundles(there, "heartbeat")) == 1
        clock.advance(6 * MINUTE)
        await w.settle()
        assert len(bundles(there, "heartbeat")) == 2
        await w.put({**await w.read("Subscription", "s1"), "status": "off", "meta": {}})
        await w.settle()
        clock.advance(HOUR)
        await w.settle()
        assert len(bundles(there, "heartbeat")) == 2


async def test_without_a_period_there_is_no_heartbeat(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url))
        await w.settle()
        clock.advance(48 * HOUR)
        await w.settle()
        assert not bundles(there, "heartbeat")
