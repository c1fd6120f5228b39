"""Notifications by mail. https://hl7.org/fhir/R4/subscription.html#channels, the R5 backport guide (email), conformance.md K21"""

from __future__ import annotations

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.xml_reading import from_xml
from integrations.channels.email import Email
from subscriptions.jobs.clock import HOUR, MINUTE, VirtualClock, at
from tests.channels.test_email import Postman
from tests.subscriptions.test_topic_subscriptions import asked, begin, encounter, told, topical
from tests.subscriptions.world import observation, subscription, world

TO = "mailto:nurse@example.org"
ATTACH = "text/plain;attach=application/fhir+json"


def mails(there: Postman) -> list[EmailMessage]:
    return [message_from_bytes(envelope.content, policy=default) for envelope in there.mails]  # type: ignore[misc,arg-type]


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def attachment(mail: EmailMessage) -> dict[str, Any]:
    (one,) = mail.iter_attachments()
    assert one.get_content_type() == "application/fhir+json"
    found: dict[str, Any] = json.loads(one.get_content())
    return found


def by_mail(payload: str = "", **more: Any) -> dict[str, Any]:
    return subscription(TO, channel={"type": "email", **({"payload": payload} if payload else {})}, **more)


@pytest.mark.parametrize(("payload", "names", "attaches"), [("", False, False), ("text/plain", True, False), (ATTACH, True, True)])
async def test_a_search_is_told_as_its_payload_says(
    tmp_path: Path, postman: tuple[Postman, Email], payload: str, names: bool, attaches: bool
) -> None:
    there, channel = postman
    async with world(tmp_path, channels=(channel,)) as w:
        await w.put(by_mail(payload))
        await w.put(observation("o1"))
        await w.settle()
        (mail,) = mails(there)
        assert mail["To"] == "nurse@example.org" and "订阅" in mail["Subject"]
        assert ("Observation/o1" in text_of(mail)) is names
        assert (attachment(mail)["id"] == "o1") if attaches else not list(mail.iter_attachments())


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
async def test_a_topic_is_told_and_the_text_says_no_more_than_the_content(
    tmp_path: Path, postman: tuple[Postman, Email], content: str
) -> None:
    there, channel = postman
    async with topical(tmp_path, channels=(channel,)) as w:
        await begin(w, asked(TO, content, channel={"type": "email", "payload": ATTACH}))
        await w.put(encounter("e1"))
        await w.settle()
        shake, event = mails(there)
        assert "订阅开始" in shake["Subject"] and "1" in text_of(event)
        assert ("Encounter/e1" in text_of(event)) is (content != "empty")
        if content == "empty":
            assert not list(event.iter_attachments())
        else:
            bundle = attachment(event)
            assert told(bundle)["events"][0]["event-number"] == "1"
            assert ("resource" in bundle["entry"][1]) is (content == "full-resource")


async def test_k21_the_attachment_may_be_xml(tmp_path: Path, postman: tuple[Postman, Email]) -> None:
    there, channel = postman
    async with topical(tmp_path, channels=(channel,)) as w:
        payload = "text/plain;attach=application/fhir+xml"
        await begin(w, asked(TO, "full-resource", channel={"type": "email", "payload": payload}))
        await w.put(encounter("e1"))
        await w.settle()
        for mail, entries in zip(mails(there), (1, 2), strict=True):
            (one,) = mail.iter_attachments()
            content = one.get_payload(decode=True)
            assert one.get_content_type() == "application/fhir+xml" and isinstance(content, bytes)
            assert len(from_xml(content)["entry"]) == entries


async def test_mails_are_tried_again_with_the_same_id(tmp_path: Path, postman: tuple[Postman, Email]) -> None:
    there, channel = postman
    clock = VirtualClock(at("2026-03-02T08:00:00+08:00"))
    async with world(tmp_path, clock=clock, channels=(channel,)) as w:
        await w.put(by_mail("text/plain"))
        await w.settle()
        there.data = "451 try later"
        await w.put(observation("o1"), observation("o2"))
        await w.settle()
        clock.advance(MINUTE)
        there.data = ""
        await w.settle()
        clock.advance(HOUR)
        await w.settle()
        assert [text_of(mail).split("Observation/")[1].strip() for mail in mails(there)] == ["o1", "o1", "o2"]
        assert mails(there)[0]["Message-ID"] == mails(there)[1]["Message-ID"] != mails(there)[2]["Message-ID"]


@pytest.mark.parametrize(
    ("channel", "expression", "said"),
    [
        ({"endpoint": "nurse@example.org"}, "channel.endpoint", "mailto:"), ({"endpoint": "mailto:a@b"}, "channel.endpoint", "mailto:"),
        ({"endpoint": "mailto:a@b.cn?bcc=c@d.cn"}, "channel.endpoint", "mailto:"), ({"endpoint": None}, "channel.endpoint", "mailto:"),
        ({"payload": "application/fhir+json"}, "channel.payload", "text/plain"), ({"header": ["X: y"]}, "channel.header", "mail"),
    ],
)  # fmt: skip
async def test_what_no_mail_can_be_is_refused(
    tmp_path: Path, postman: tuple[Postman, Email], channel: dict[str, Any], expression: str, said: str
) -> None:
    async with world(tmp_path, channels=(postman[1],)) as w:
        assert w.check(by_mail("text/plain")) == [] and w.check(by_mail(ATTACH)) == []
        (issue,) = w.check(subscription(TO, channel={"type": "email", **channel}))
        assert issue.expression == (f"Subscription.{expression}",) and said in issue.diagnostics
