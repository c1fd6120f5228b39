"""Several events in one notification: `backport-max-count`. conformance.md K14, the R5 backport guide for R4."""

from __future__ import annotations

from pathlib import Path

from subscriptions.jobs.clock import MINUTE, VirtualClock
from tests.subscriptions.receiver import Receiver, receiver
from tests.subscriptions.test_topic_subscriptions import GUIDE, NOW, asked, begin, bundles, encounter, told, topical


def at_most(number: int) -> dict[str, object]:
    return {"extension": [{"url": GUIDE + "backport-max-count", "valuePositiveInt": number}]}


def numbers(there: Receiver) -> list[list[int]]:
    return [[int(event["event-number"]) for event in told(one)["events"]] for one in bundles(there)]


async def test_events_that_wait_go_together_up_to_the_maximum_in_order(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, "full-resource", channel=at_most(3)))
        await w.put(*(encounter(f"e{n}") for n in range(8)))
        await w.settle()
        assert numbers(there) == [[1, 2, 3], [4, 5, 6], [7, 8]]
        first = bundles(there)[0]
        assert [entry["resource"]["id"] for entry in first["entry"][1:]] == ["e0", "e1", "e2"]
        assert told(first)["events-since-subscription-start"] == "3"
        assert all("request" in entry and "response" in entry for entry in first["entry"])


async def test_without_a_maximum_each_event_has_a_notification_of_its_own(tmp_path: Path) -> None:
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url))
        await w.put(*(encounter(f"e{n}") for n in range(3)))
        await w.settle()
        assert numbers(there) == [[1], [2], [3]]


async def test_what_was_not_taken_is_sent_again_whole(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with receiver() as there, topical(tmp_path, clock=clock) as w:
        await begin(w, asked(there.url, channel=at_most(5)))
        there.status = 503
        await w.put(*(encounter(f"e{n}") for n in range(3)))
        await w.settle()
        await w.put(encounter("e3"))
        there.status = 200
        clock.advance(MINUTE)
        await w.settle()
        assert numbers(there) == [[1, 2, 3], [1, 2, 3, 4]]


async def test_an_empty_notification_counts_its_events(tmp_path: Path) -> None:
    """K11: one entry, no focus; K10: a notification-event for each."""
    async with receiver() as there, topical(tmp_path) as w:
        await begin(w, asked(there.url, "empty", channel=at_most(4)))
        await w.put(encounter("e1"), encounter("e2"))
        await w.settle()
        (bundle,) = bundles(there)
        assert len(bundle["entry"]) == 1
        assert [event["event-number"] for event in told(bundle)["events"]] == ["1", "2"]
        assert not any("focus" in event for event in told(bundle)["events"])
