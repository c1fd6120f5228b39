"""E-mail over a real SMTP conversation. RFC 5321, RFC 5322; followup.md sections 3 (3), 11.3 and 11.8."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from integrations.channels.email import Email, EmailSettings, EmailSettingsError, message_id
from subscriptions.channel import Message
from subscriptions.jobs.clock import at
from tests.channels.certificate import certificate

KEY = "CommunicationRequest/r1|email|1"


class Postman:
    """Keeps what arrives; `answers` are replies to RCPT or DATA by address."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.rcpt = ""
        self.data = ""
        self.break_off = False

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.rcpt:
            return self.rcpt
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.mails.append(envelope)
        if self.break_off:
            assert server.transport
            server.transport.abort()
        return self.data or "250 OK queued as 1"


@pytest.fixture
def postman() -> Iterator[tuple[Postman, Email]]:
    """A mail server on loopback and the channel that talks to it."""
    handler = Postman()
    controller = Controller(handler, hostname="127.0.0.1", port=_free_port())
    controller.start()
    yield handler, Email(EmailSettings("127.0.0.1", "随访中心 <followup@example.org>", controller.port, timeout=5))
    controller.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def message(**more: Any) -> Message:
    return Message(
        **{
            "key": KEY,
            "to": "liqiang@example.org",
            "subject": "您有一条新的随访消息",
            "text": "李先生，您好！\n请保持电话畅通。",
            "at": at("2026-03-02T08:00:00+08:00"),
            **more,
        }
    )


async def test_the_mail_arrives_with_text_subject_and_a_message_id_from_the_key(postman: tuple[Postman, Email]) -> None:
    handler, channel = postman
    receipt = await channel.send(message())
    assert receipt.outcome == "delivered" and receipt.status.startswith("250")
    (envelope,) = handler.mails
    mail = message_from_bytes(envelope.content, policy=default)  # type: ignore[arg-type]
    assert (envelope.mail_from, envelope.rcpt_tos) == ("followup@example.org", ["liqiang@example.org"])
    assert mail["Message-ID"] == f"<{hashlib.sha256(KEY.encode()).hexdigest()}@example.org>"
    assert mail["Subject"] == "您有一条新的随访消息"
    assert mail["From"].addresses[0].display_name == "随访中心"
    assert "List-Unsubscribe" in mail and mail["Date"].datetime.timestamp() * 1000 == at("2026-03-02T08:00:00+08:00")
    assert mail.get_content().replace("\r\n", "\n") == "李先生，您好！\n请保持电话畅通。\n"


async def test_the_same_key_gives_the_same_message_id() -> None:
    assert message_id(KEY, "a@b.cn") == message_id(KEY, "A <a@b.cn>") != message_id(KEY + "0", "a@b.cn")


@pytest.mark.parametrize(
    ("stage", "reply", "outcome"),
    [
        ("rcpt", "550 5.1.1 no such user", "permanent"),
        ("rcpt", "450 4.2.1 mailbox busy", "transient"),
        ("rcpt", "452 4.2.2 mailbox full", "transient"),
        ("data", "554 5.7.1 rejected", "permanent"),
        ("data", "451 4.3.0 try again later", "transient"),
    ],
)
async def test_4xx_is_tried_again_and_5xx_is_not(postman: tuple[Postman, Email], stage: str, reply: str, outcome: str) -> None:
    handler, channel = postman
    setattr(handler, stage, reply)
    receipt = await channel.send(message())
    assert (receipt.outcome, receipt.status) == (outcome, reply)


async def test_no_server_is_transient() -> None:
    receipt = await Email(EmailSettings("127.0.0.1", "a@example.org", _free_port(), timeout=2)).send(message())
    assert receipt.outcome == "transient"


async def test_a_break_after_the_text_was_handed_over_leaves_the_outcome_unknown(postman: tuple[Postman, Email]) -> None:
    handler, channel = postman
    handler.break_off = True
    receipt = await channel.send(message())
    assert receipt.outcome == "unknown" and len(handler.mails) == 1


@pytest.mark.parametrize("address", ["a@b.cn\r\nBcc: all@b.cn", "not an address", "", "名@例.cn"])
async def test_an_address_that_would_break_out_of_its_header_is_not_sent(postman: tuple[Postman, Email], address: str) -> None:
    handler, channel = postman
    receipt = await channel.send(message(to=address))
    assert receipt.outcome == "permanent" and not handler.mails


async def test_starttls_and_sign_in(tmp_path: Path) -> None:
    file, context = certificate(tmp_path, "localhost")
    handler, seen = Postman(), []

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        seen.append((data.login, data.password))
        return AuthResult(success=data.password == b"geheim")

    options = {"tls_context": context, "require_starttls": True, "authenticator": authenticate, "auth_required": True}
    controller = Controller(handler, hostname="127.0.0.1", port=_free_port(), **options)
    controller.start()
    try:
        secure = EmailSettings("localhost", "f@example.org", controller.port, "u", "geheim", "required", str(file), 5)
        assert (await Email(secure).send(message())).outcome == "delivered"
        assert seen == [(b"u", b"geheim")]
        wrong = EmailSettings("localhost", "f@example.org", controller.port, "u", "falsch", "required", str(file), 5)
        refused = await Email(wrong).send(message())
        assert refused.outcome == "transient" and "falsch" not in refused.status
        untrusted = EmailSettings("localhost", "f@example.org", controller.port, "u", "geheim", "required", "", 5)
        assert (await Email(untrusted).send(message())).outcome == "transient"
        assert len(handler.mails) == 1
    finally:
        controller.stop()


async def test_required_starttls_is_not_given_up(postman: tuple[Postman, Email]) -> None:
    handler, channel = postman
    strict = EmailSettings("127.0.0.1", "f@example.org", channel._settings.port, starttls="required", timeout=5)
    assert (await Email(strict).send(message())).outcome == "transient"
    assert not handler.mails


def test_settings_come_from_the_environment() -> None:
    assert EmailSettings.from_environment({}) is None
    found = EmailSettings.from_environment({"FOLLOWUP_SMTP_HOST": "mail", "FOLLOWUP_SMTP_PORT": "2525", "FOLLOWUP_SMTP_FROM": "f@x.cn"})
    assert found == EmailSettings("mail", "f@x.cn", 2525, starttls="opportunistic")
    with_user = {"FOLLOWUP_SMTP_HOST": "mail", "FOLLOWUP_SMTP_USER": "u", "FOLLOWUP_SMTP_PASSWORD": "p"}
    secured = EmailSettings.from_environment(with_user)
    assert secured is not None and secured.starttls == "required" and "p'" not in repr(secured)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"FROM": "nobody"}, "FOLLOWUP_SMTP_FROM"),
        ({"PORT": "smtp"}, "FOLLOWUP_SMTP_PORT"),
        ({"STARTTLS": "maybe"}, "FOLLOWUP_SMTP_STARTTLS"),
        ({"USER": "u", "STARTTLS": "off"}, "FOLLOWUP_SMTP_USER"),
        ({"USER": "u", "STARTTLS": "opportunistic"}, "FOLLOWUP_SMTP_USER"),
    ],
)
def test_wrong_settings_are_refused_by_name(more: dict[str, str], named: str) -> None:
    environment = {"FOLLOWUP_SMTP_HOST": "mail", **{f"FOLLOWUP_SMTP_{name}": value for name, value in more.items()}}
    with pytest.raises(EmailSettingsError, match=named):
        EmailSettings.from_environment(environment)


def test_the_address_in_use_of_the_best_rank_is_taken() -> None:
    channel = Email(EmailSettings("mail", "f@x.cn"))
    points = [
        {"system": "phone", "value": "13800138000"},
        {"system": "email", "value": "old@x.cn", "use": "old", "rank": 1},
        {"system": "email", "value": "second@x.cn", "rank": 2},
        {"system": "email", "value": "first@x.cn", "rank": 1},
    ]
    assert channel.address({"telecom": points}) == "first@x.cn"
    assert channel.address({"telecom": points[:2]}) is None
    assert channel.address({}) is None
