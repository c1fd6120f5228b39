"""From request to delivery. followup.md sections 3 (3), 11.1, 11.3; Annex A."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fhir_server.storage.port import Job, Unit
from integrations.channels.inbox import Inbox
from subscriptions.channel import Message, Receipt
from subscriptions.followup.sending import SEND
from subscriptions.jobs.clock import MINUTE
from tests.followup.world import C, patient, world


class Pigeon:
    """An external channel whose answers are given; `die_after_sending` breaks the process between hand-over and commit."""

    code = "email"
    participation = "EMAILWRIT"
    external = True

    def __init__(self, answers: Sequence[Receipt] = (), die_after_sending: bool = False) -> None:
        self.answers, self.sent, self.die = list(answers), [], die_after_sending  # type: ignore[var-annotated]

    def address(self, recipient: dict[str, Any]) -> str | None:
        return next((p["value"] for p in recipient.get("telecom", ()) if p["system"] == "email"), None)

    async def send(self, message: Message) -> Receipt:
        self.sent.append(message)
        if self.die:
            raise KeyboardInterrupt("kill -9 between hand-over and commit")
        return self.answers.pop(0) if self.answers else Receipt("delivered", "250 OK", "<1@x>")


MAIL = [{"system": "email", "value": "li@example.org"}]
BUSY, GONE = Receipt("transient", "450 busy"), Receipt("permanent", "550 no such user")


def request(id: str = "r1", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CommunicationRequest",
        "id": id,
        "status": "active",
        "category": [{"coding": [{"system": f"{C.base}/CodeSystem/message-category", "code": "followup"}]}],
        "subject": {"reference": "Patient/p2"},
        "payload": [{"contentString": "请按时复查"}],
        **more,
    }


async def test_email_where_there_is_an_address_with_attempt_medium_and_provider(tmp_path: Path) -> None:
    pigeon = Pigeon()
    async with world(tmp_path, [pigeon, Inbox()]) as w:
        await w.put(patient(telecom=MAIL), request())
        await w.jobs.settle()
        (sent,) = pigeon.sent
        assert (sent.key, sent.to, sent.text) == ("CommunicationRequest/r1|email|1", "li@example.org", "请按时复查")
        communication = await w.one("Communication")
        assert communication["status"] == "completed" and communication["received"]
        codings = [medium["coding"][0] for medium in communication["medium"]]
        assert (codings[0]["system"], codings[0]["code"]) == (f"{C.base}/CodeSystem/channel", "email")
        participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode"
        assert codings[1] == {"system": participation, "code": "EMAILWRIT"}
        extensions = {e["url"].rpartition("/")[2]: e for e in communication["extension"]}
        assert extensions["attempt"]["valuePositiveInt"] == 1 and extensions["provider-id"]["valueString"] == "<1@x>"
        assert (await w.one("CommunicationRequest"))["status"] == "completed"
        assert await w.services.store.records("inbox") == []


async def test_without_an_address_the_inbox(tmp_path: Path) -> None:
    pigeon = Pigeon()
    async with world(tmp_path, [pigeon, Inbox()]) as w:
        await w.put(patient(), request())
        await w.jobs.settle()
        assert not pigeon.sent
        assert (await w.one("Communication"))["medium"][0]["coding"][0]["code"] == "inbox"


async def test_transient_failures_are_tried_again_after_1_5_15_minutes_then_the_next_channel(tmp_path: Path) -> None:
    pigeon = Pigeon([BUSY] * 4)
    async with world(tmp_path, [pigeon, Inbox()]) as w:
        await w.put(patient(telecom=MAIL), request())
        for sent, minutes in ((1, 1), (2, 5), (3, 15)):
            await w.jobs.settle()
            assert len(pigeon.sent) == sent
            w.clock.advance(minutes * MINUTE - 1)
            await w.jobs.settle()
            assert len(pigeon.sent) == sent
            w.clock.advance(1)
        await w.jobs.settle()
        assert [message.key.rpartition("|")[2] for message in pigeon.sent] == ["1", "2", "3", "4"]
        found = [(c["medium"][0]["coding"][0]["code"], c["status"]) for c in await w.all("Communication")]
        assert sorted(found) == [("email", "stopped")] * 4 + [("inbox", "completed")]
        assert (await w.one("CommunicationRequest"))["status"] == "completed"


async def test_a_permanent_failure_takes_the_next_channel_at_once(tmp_path: Path) -> None:
    pigeon = Pigeon([GONE])
    async with world(tmp_path, [pigeon, Inbox()]) as w:
        await w.put(patient(telecom=MAIL), request())
        await w.jobs.settle()
        stopped, delivered = sorted(await w.all("Communication"), key=lambda c: c["medium"][0]["coding"][0]["code"])
        assert stopped["status"] == "stopped" and stopped["statusReason"]["coding"][0]["code"] == "invalid-address"
        assert delivered["status"] == "completed"


async def test_when_no_channel_is_left_a_person_takes_over(tmp_path: Path) -> None:
    pigeon = Pigeon([GONE])
    async with world(tmp_path, [pigeon]) as w:
        await w.put(patient(telecom=MAIL), request())
        await w.jobs.settle()
        assert (await w.one("Task"))["code"]["coding"][0]["code"] == "no-contact-channel"
        assert (await w.one("CommunicationRequest"))["status"] == "on-hold"


@pytest.mark.parametrize(("priority", "copies", "status"), [("routine", 1, "unknown"), ("stat", 2, "completed")])
async def test_after_a_crash_with_unknown_outcome_only_stat_is_sent_once_more(
    tmp_path: Path, priority: str, copies: int, status: str
) -> None:
    """S23 of followup.md."""
    dying, healthy = Pigeon(die_after_sending=True), Pigeon()
    async with world(tmp_path, [dying, Inbox()]) as w:
        await w.put(patient(telecom=MAIL), request(priority=priority))
        effects = await w.engine.react(await w.services.store.changes(0))
        await w.services.store.transact(Unit.of(jobs=effects.jobs))
        (claimed,) = await w.services.store.claim_jobs(w.clock(), kinds=[SEND], lease=0)
        with pytest.raises(KeyboardInterrupt):
            await w.sender.send(claimed, w.services)
    async with world(tmp_path, [healthy, Inbox()]) as w:
        await w.jobs.settle()
        communications = await w.all("Communication")
        assert len(dying.sent) + len(healthy.sent) == copies
        assert "unknown" in [c["status"] for c in communications] and status in [c["status"] for c in communications]
        assert len({message.key for message in dying.sent + healthy.sent}) == copies


@pytest.mark.parametrize("more", [{"status": "draft"}, {"status": "on-hold"}, {"doNotPerform": True}], ids=str)
async def test_only_active_requests_are_sent(tmp_path: Path, more: dict[str, Any]) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), request(**more))
        await w.jobs.settle()
        assert await w.all("Communication") == []


async def test_a_request_waits_for_its_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), request(occurrenceDateTime="2026-03-02T09:30:00+08:00"))
        await w.jobs.settle()
        assert await w.all("Communication") == []
        w.clock.advance(90 * MINUTE)
        await w.jobs.settle()
        assert (await w.one("Communication"))["sent"] == "2026-03-02T09:30:00+08:00"


async def test_the_dead_get_no_message(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(deceasedBoolean=True), request())
        await w.jobs.settle()
        found = await w.one("CommunicationRequest")
        assert (found["status"], found["statusReason"]["coding"][0]["code"]) == ("revoked", "deceased")
        assert await w.all("Communication") == []


async def test_a_revoked_request_that_comes_back_is_sent_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), request(status="on-hold"))
        await w.jobs.settle()
        await w.put(request())
        await w.jobs.settle()
        await w.services.store.transact(Unit.of(jobs=[Job(SEND, "Patient/p2", {"id": "r1"}, w.clock())] * 5))
        await w.jobs.settle()
        assert len(await w.all("Communication")) == len(await w.services.store.records("inbox")) == 1


async def test_medium_forces_the_channel(tmp_path: Path) -> None:
    pigeon = Pigeon()
    medium = [{"coding": [{"system": f"{C.base}/CodeSystem/channel", "code": "inbox"}]}]
    async with world(tmp_path, [pigeon, Inbox()]) as w:
        await w.put(patient(telecom=MAIL), request(medium=medium))
        await w.jobs.settle()
        assert not pigeon.sent and len(await w.services.store.records("inbox")) == 1
