"""E-mail by SMTP (RFC 5321, RFC 5322), over aiosmtplib.

A reply of 4xx is worth another attempt, 5xx is not; a connection that breaks after the text was sent leaves the outcome unknown.
Variables: FOLLOWUP_SMTP_HOST, _PORT, _USER, _PASSWORD, _FROM, _STARTTLS (required|opportunistic|off), _CA_FILE (followup-interface.md).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Any

import aiosmtplib

from subscriptions.channel import Message, Receipt

_PREFIX = "FOLLOWUP_SMTP_"
_STATUS_LENGTH = 200


class EmailSettingsError(ValueError):
    """Variables that contradict each other or cannot be used; the text names the variable, never a password."""


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """How mail leaves. `starttls`: required | opportunistic | off; `timeout` in seconds for each step of the conversation."""

    host: str
    sender: str
    port: int = 25
    user: str = ""
    password: str = field(default="", repr=False)
    starttls: str = "opportunistic"
    ca_file: str = ""
    timeout: float = 20.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> EmailSettings | None:
        """The settings, or None where no host is given. Raises EmailSettingsError."""
        values = {name.removeprefix(_PREFIX).lower(): value for name, value in environment.items() if name.startswith(_PREFIX)}
        if not values.get("host"):
            return None
        sender = values.get("from") or "followup@localhost"
        if "@" not in parseaddr(sender)[1]:
            raise EmailSettingsError(f"{_PREFIX}FROM must be a mail address")
        if not values.get("port", "25").isdigit():
            raise EmailSettingsError(f"{_PREFIX}PORT must be a number")
        mode = values.get("starttls") or ("required" if values.get("user") else "opportunistic")
        if mode not in ("required", "opportunistic", "off"):
            raise EmailSettingsError(f"{_PREFIX}STARTTLS must be required, opportunistic or off")
        if values.get("user") and mode != "required" and values.get("port") != "465":
            raise EmailSettingsError(f"{_PREFIX}USER needs {_PREFIX}STARTTLS=required: a password is not sent in the clear")
        return cls(
            host=values["host"],
            sender=sender,
            port=int(values.get("port", "25")),
            user=values.get("user", ""),
            password=values.get("password", ""),
            starttls=mode,
            ca_file=values.get("ca_file", ""),
        )


def message_id(key: str, sender: str) -> str:
    """`<hash@domain>`: the SHA-256 of the idempotency key, so that a repeated message is known as the same one."""
    domain = parseaddr(sender)[1].rpartition("@")[2]
    return f"<{hashlib.sha256(key.encode()).hexdigest()}@{domain}>"


def compose(message: Message, sender: str) -> EmailMessage:
    """The mail. Raises ValueError for an address or a subject that would break out of its header."""
    name, address = parseaddr(sender)
    message.to.encode("ascii")
    mail = EmailMessage()
    mail["Message-ID"] = message_id(message.key, sender)
    mail["Date"] = format_datetime(dt.datetime.fromtimestamp(message.at / 1000, dt.UTC))
    mail["From"] = Address(name, addr_spec=address)
    mail["To"] = Address(addr_spec=message.to)
    mail["Subject"] = message.subject
    mail["List-Unsubscribe"] = f"<mailto:{address}?subject=TD>"
    mail["Auto-Submitted"] = "auto-generated"
    if message.priority == "stat":
        mail["Importance"] = "high"
    mail.set_content(message.text)
    for one in message.attachments:
        kind, _, subtype = one.media.partition("/")
        mail.add_attachment(one.content, maintype=kind, subtype=subtype, filename=one.name)
    return mail


class Email:
    """The channel `email`."""

    code = "email"
    participation = "EMAILWRIT"
    external = True

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings

    def address(self, recipient: dict[str, Any]) -> str | None:
        """The recipient's mail address of the best rank that is in use."""
        points = [point for point in recipient.get("telecom", ()) if point.get("system") == "email" and point.get("value")]
        found = [point for point in points if point.get("use") != "old" and not point.get("period", {}).get("end")]
        found.sort(key=lambda point: point.get("rank", 1_000_000))
        return str(found[0]["value"]).strip().removeprefix("mailto:") if found else None

    async def send(self, message: Message) -> Receipt:
        try:
            mail = compose(message, self._settings.sender)
        except (ValueError, IndexError) as fault:
            return Receipt("permanent", f"the address cannot be used: {fault}"[:_STATUS_LENGTH])
        client = self._client()
        try:
            await client.connect()
            if self._settings.user:
                await client.login(self._settings.user, self._settings.password)
        except aiosmtplib.SMTPAuthenticationError as fault:
            client.close()
            return Receipt("transient", f"the mail server refuses the sign-in: {fault.code}")
        except (aiosmtplib.SMTPException, OSError, ssl.SSLError, TimeoutError) as fault:
            client.close()
            return Receipt("transient", f"no conversation with the mail server: {type(fault).__name__}")
        return await self._converse(client, mail, message.to)

    async def _converse(self, client: aiosmtplib.SMTP, mail: EmailMessage, to: str) -> Receipt:
        """MAIL, RCPT, DATA; QUIT whatever comes. Only a break after the text began to flow leaves the outcome unknown."""
        handed_over = False
        try:
            await client.mail(parseaddr(self._settings.sender)[1])
            await client.rcpt(to)
            content = mail.as_bytes(policy=SMTP)
            handed_over = True
            code, answer = await client.data(content)
            return Receipt("delivered", f"{code} {answer}"[:_STATUS_LENGTH], str(mail["Message-ID"]))
        except aiosmtplib.SMTPResponseException as fault:
            return _refusal(fault.code, fault.message)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as fault:
            return Receipt("unknown" if handed_over else "transient", f"the conversation broke off: {type(fault).__name__}")
        finally:
            await _leave(client)

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        implicit = settings.port == 465
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        start = {"required": True, "opportunistic": None, "off": False}[settings.starttls]
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout,
            use_tls=implicit,
            start_tls=False if implicit else start,
            tls_context=context,
        )


def _refusal(code: int, text: str) -> Receipt:
    outcome = "permanent" if 500 <= code <= 599 else "transient"
    return Receipt(outcome, f"{code} {text}"[:_STATUS_LENGTH])


async def _leave(client: aiosmtplib.SMTP) -> None:
    try:
        async with asyncio.timeout(5):
            await client.quit()
    except (aiosmtplib.SMTPException, OSError, TimeoutError):
        client.close()
