"""What a person does at the console: pause and resume, set aside and retry, send again, try the endpoint; and the delivery log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from fhir_server.errors import FhirError
from subscriptions.jobs.clock import DAY, HOUR, MINUTE, VirtualClock
from subscriptions.retention import Retention
from tests.subscriptions.receiver import receiver
from tests.subscriptions.test_topic_subscriptions import NOW, asked, begin, bundles, encounter, told, topical
from tests.subscriptions.world import observation, subscription, world

JSON = {"payload": "application/json"}


async def test_a_paused_subscription_keeps_its_events_in_order_until_it_is_let_go(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url))
        await w.desk.hold("s1", "administrator")
        assert await w.desk.held("s1") == (NOW, "administrator")
        for n in range(3):
            await w.put(encounter(f"e{n}"))
            await w.settle()
            clock.advance(2 * HOUR)
        await w.settle()
        assert bundles(there) == [] and await w.desk.waiting("s1") != (0, 0)
        assert (await w.read("Subscription", "s1"))["status"] == "active", "a pause is no error"
        assert await w.desk.release("s1") == 3
        await w.settle()
        assert [told(one)["events"][0]["event-number"] for one in bundles(there)] == ["1", "2", "3"]
        assert await w.desk.held("s1") is None and await w.desk.waiting("s1") == (0, 0)


async def test_pausing_one_leaves_the_others_alone(tmp_path: Path) -> None:
    async with receiver() as held, receiver() as free, world(tmp_path) as w:
        await w.put(subscription(held.url, "s1"), subscription(free.url, "s2"))
        await w.settle()
        await w.desk.hold("s1", "x")
        await w.put(observation("o1"))
        await w.settle()
        assert (len(held.hits), len(free.hits)) == (0, 1)


async def test_letting_go_rings_also_where_a_delivery_is_just_looking_at_the_pause(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path, running=True) as w:
        await w.put(subscription(there.url))
        for n in range(1, 16):
            await w.desk.hold("s1", "x")
            await w.put(observation(f"o{n}"))
            await asyncio.sleep(0.003 * n)
            await w.desk.release("s1")
            await there.wait(n, 20)  # looks at the pause by themselves come once a minute


async def test_a_pause_ends_with_its_subscription(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await w.put(subscription(there.url))
        await w.settle()
        await w.desk.hold("s1", "x")
        await w.delete("Subscription", "s1")
        await w.put(subscription(there.url))
        await w.settle()
        await w.put(observation("o1"))
        await w.settle()
        assert await w.desk.held("s1") is None and len(there.hits) == 1


async def test_a_notification_that_is_refused_for_ever_can_be_set_aside_and_sent_later(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver(422) as there, world(tmp_path, clock=clock) as w:
        await w.put(subscription(there.url, channel=JSON))
        await w.settle()
        await w.put(observation("o1"))
        await w.put(observation("o2"))
        await w.settle()
        (first, _) = await w.store.list_jobs("open", "subscription.deliver")
        assert await w.desk.set_aside(first["id"], "administrator")
        there.status = 200
        await w.settle()
        assert [hit.path for hit in there.hits if hit.path.endswith("o2")] == ["/hook/Observation/o2"]
        (dead,) = await w.desk.dead("s1")
        assert dead["payload"]["id"] == "o1" and "administrator" in dead["error"]
        before = len(there.hits)
        assert await w.desk.retry(dead["id"])
        await w.settle()
        assert [hit.path for hit in there.hits[before:]] == ["/hook/Observation/o1"] and await w.desk.dead("s1") == []


async def test_retry_brings_a_waiting_job_forward(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver(422) as there, world(tmp_path, clock=clock) as w:
        await w.put(subscription(there.url, channel=JSON))
        await w.settle()
        await w.put(observation("o1"))
        await w.settle()
        there.status = 200
        (job,) = await w.store.list_jobs("open", "subscription.deliver")
        assert await w.desk.retry(job["id"]) and not await w.desk.retry(999_999)
        await w.settle()
        assert len(there.hits) == 2
        assert not await w.desk.retry(job["id"]), "it is done"


async def test_events_of_a_topic_are_sent_again_with_their_numbers(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(*(encounter(f"e{n}") for n in range(4)))
        await w.settle()
        first = bundles(there)
        assert await w.desk.replay("s1", 2, 3) == 2
        await w.settle()
        again = bundles(there)[4:]
        assert [told(one)["events"] for one in again] == [told(one)["events"] for one in first[1:3]]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (3, 2), (1, 100_000)])
async def test_a_range_that_is_none_is_refused(tmp_path: Path, first: int, last: int) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        with pytest.raises(FhirError) as fault:
            await w.desk.replay("s1", first, last)
        assert fault.value.status == 422 and str(first) in fault.value.issues[0].diagnostics


async def test_what_belonged_to_a_subscription_that_was_deleted_is_not_sent_to_its_successor(tmp_path: Path) -> None:
    async with receiver(422) as there, world(tmp_path) as w:
        await w.put(subscription(there.url, channel=JSON))
        await w.settle()
        await w.put(observation("o1"))
        await w.settle()
        (job,) = await w.store.list_jobs("open", "subscription.deliver")
        assert await w.desk.set_aside(job["id"], "x")
        await w.delete("Subscription", "s1")
        await w.settle()
        await w.put(subscription(there.url, channel=JSON))
        await w.settle()
        there.status, before = 200, len(there.hits)
        assert await w.desk.retry(job["id"])
        await w.settle()
        assert len(there.hits) == before


async def test_the_endpoint_can_be_tried(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        answer = await w.desk.test("s1")
        assert answer.taken and answer.status == "HTTP 200" and answer.kind == "test"
        (beat,) = bundles(there, "heartbeat")
        assert told(beat)["events-since-subscription-start"] == "0"
        there.status = 503
        answer = await w.desk.test("s1")
        assert not answer.taken and answer.status == "HTTP 503"
        assert (await w.read("Subscription", "s1"))["status"] == "active", "a test changes nothing"


async def test_the_endpoint_of_a_search_is_tried_with_an_empty_post(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path) as w:
        await w.put(subscription(there.url, channel={**JSON, "header": ["X-Key: k"]}))
        await w.settle()
        assert (await w.desk.test("s1")).taken
        (hit,) = there.hits
        assert (hit.method, hit.path, hit.body, hit.headers["x-key"]) == ("POST", "/hook", b"", "k")


@pytest.mark.parametrize("action", ["hold", "release", "replay", "test"])
async def test_a_subscription_that_is_not_there_is_said_so_in_both_languages(tmp_path: Path, action: str) -> None:
    async with world(tmp_path) as w:
        arguments = {"hold": ("none", "x"), "replay": ("none", 1, 2)}.get(action, ("none",))
        with pytest.raises(FhirError) as fault:
            await getattr(w.desk, action)(*arguments)
        assert fault.value.status == 404 and "Subscription/none" in fault.value.issues[0].diagnostics


# --- the delivery log


async def test_each_attempt_leaves_a_line_with_time_answer_and_duration(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url + "?token=geheim", channel={"header": ["Authorization: Bearer geheim"]}))
        there.status = 503
        await w.put(encounter("e1"))
        await w.settle()
        clock.advance(MINUTE)
        there.status = 200
        await w.put(encounter("e2"))
        await w.settle()
        lines = list(reversed(await w.desk.log("s1")))
        said = [(one.kind, one.first, one.last, one.taken, one.status) for one in lines]
        assert said == [
            ("handshake", 0, 0, True, "HTTP 200"),
            ("event-notification", 1, 1, False, "HTTP 503"),
            ("event-notification", 1, 1, True, "HTTP 200"),
            ("event-notification", 2, 2, True, "HTTP 200"),
        ]
        assert [one.time for one in lines] == [NOW, NOW, NOW + MINUTE, NOW + MINUTE]
        assert "geheim" not in json.dumps(lines)
        minutes = [(one.start, one.taken, one.failed) for one in await w.desk.minutes()]
        assert minutes == [(NOW, 1, 1), (NOW + MINUTE, 2, 0)]


async def test_the_log_says_what_was_dropped_and_why(tmp_path: Path) -> None:
    async with receiver(503) as there, world(tmp_path) as w:
        await w.put(subscription(there.url, channel=JSON))
        await w.settle()
        await w.put(observation("o1"))
        await w.put(subscription(there.url, channel=JSON, status="off"))
        await w.settle()
        (line,) = await w.desk.log("s1")
        assert (line.kind, line.taken, line.first) == ("dropped", False, 1) and "off" in line.status


async def test_retention_removes_what_is_older_than_it_is_kept(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(encounter("e1"))
        await w.settle()
        services = w.room.jobs.services
        now = services.clock()
        job = Retention(1, 1, 1).job(now, now // DAY)
        claimed = type("Claimed", (), {"payload": job.payload})
        kept = Retention(7, 14, 90, now=lambda: now + 6 * DAY)
        await kept.sweep(claimed, services)  # type: ignore[arg-type]
        assert await w.store.list_jobs("done") and await w.desk.log("s1") and await w.store.records("subscription-event")
        weeks = Retention(7, 14, 90, now=lambda: now + 15 * DAY)
        await weeks.sweep(claimed, services)  # type: ignore[arg-type]
        assert not await w.store.list_jobs("done") and not await w.desk.log("s1")
        assert await w.store.records("subscription-event"), "events can be asked for longer"
        effects = await Retention(7, 14, 90, now=lambda: now + 91 * DAY).sweep(claimed, services)  # type: ignore[arg-type]
        assert not await w.store.records("subscription-event")
        (following,) = effects.jobs
        assert following.due > services.clock() and following.unique != job.unique


async def test_a_subscription_on_subscriptions_does_not_tell_their_headers(tmp_path: Path) -> None:
    """K23: header values are not shown to other readers."""
    async with receiver() as there, world(tmp_path) as w:
        await w.put(subscription(there.url, "spy", "Subscription", channel=JSON))
        await w.settle()
        await w.put(subscription(there.url, "s2", "Patient", channel={"header": ["Authorization: Bearer geheim", "X-Key: geheim"]}))
        await w.settle()
        sent = [json.loads(hit.body) for hit in there.hits if hit.path.endswith("/s2")]
        assert sent and all(one["channel"]["header"] == ["Authorization: ***", "X-Key: ***"] for one in sent)
        await w.put(subscription(there.url + "?key=geheim", "s3", "Patient"))
        await w.settle()
        assert "geheim" not in "".join(hit.body.decode() for hit in there.hits)
