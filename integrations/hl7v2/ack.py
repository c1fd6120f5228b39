"""Acknowledgements: MSH with sender and receiver changed over, MSA, and ERR where something is wrong.

Specification: HL7 v2.5.1 chapter 2.9.2, segments MSA (2.15.8) and ERR (2.15.5)
"""

from __future__ import annotations

import datetime as dt
import re
import secrets

from integrations.hl7v2.errors import TEXTS, Refusal
from integrations.hl7v2.message import Message

_ESCAPES = (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\"), ("\r", " "), ("\n", " "))


_LOCATION = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+))?")
_WARNINGS = 10
"""Most warnings of one acknowledgement; the journal has all."""


def addressed(head: bytes) -> Message | None:
    """The header in the first bytes of what cannot be read as a message, or None: an answer can be addressed by it."""
    return Message.header_of(head.decode("ascii", errors="ignore"))


def _plain(text: str) -> str:
    for sign, escape in _ESCAPES:
        text = text.replace(sign, escape)
    return text


def _old(version: str) -> bool:
    """Versions up to 2.4, whose ERR has one field and whose MSA carries the text."""
    return version in ("2.1", "2.2", "2.3", "2.3.1", "2.4")


def _header(message: Message | None, now: dt.datetime) -> tuple[str, str]:
    """The MSH of an answer, and the version that it speaks."""
    stamp, own = now.strftime("%Y%m%d%H%M%S%z"), secrets.token_hex(8).upper()
    if message is None:
        return f"MSH|^~\\&|||||{stamp}||ACK|{own}|P|2.5.1", "2.5.1"
    header = message.header
    version = message.version or "2.5.1"
    fields = [
        "MSH",
        "^~\\&",
        *(_reencoded(message, number) for number in (5, 6, 3, 4)),
        stamp,
        "",
        "ACK" if version in ("2.1", "2.2", "2.3", "2.3.1") or not message.event else f"ACK^{_plain(message.event)}^ACK",
        own,
        _plain(header.value(11)) or "P",
        _plain(version),
        *[""] * 5,
        _plain(header.value(18)),
    ]
    return "|".join(fields).rstrip("|"), version


def _reencoded(message: Message, number: int) -> str:
    """A header field with the sender's own component structure, in our delimiters."""
    field = message.header.field(number)
    parts = field.raw.split(message.marks.component) if field.raw else []
    return "^".join(_plain(message.marks.unescape(part)) for part in parts)


def _place(location: str) -> str:
    """ERR-2 of 'PID', 'PID-3' or 'OBX[2]-5' (the second OBX): segment, its number, field."""
    found = _LOCATION.match(location)
    if found is None:
        return ""
    segment, number, field = found.groups()
    return "^".join((segment, number or "1", *((field,) if field else ())))


def _err(version: str, severity: str, error: str, text: str, location: str) -> str:
    told = f"{error}^{TEXTS.get(error, '')}^HL70357"
    if _old(version):
        segment, number, field = [*_place(location).split("^"), "", ""][:3]
        return f"ERR|{segment}^{number}^{field}^{told.replace('^', '&')}"
    return f"ERR||{_place(location)}|{told}|{severity}||||{_plain(text)}"


def acknowledge(message: Message, warnings: list[str], now: dt.datetime) -> str:
    """AA; warnings are told in ERR segments of severity W."""
    header, version = _header(message, now)
    lines = [header, f"MSA|AA|{_plain(message.control_id)}"]
    if not _old(version):
        lines += [_err(version, "W", "0", text, text) for text in warnings[:_WARNINGS]]
    return "\r".join(lines) + "\r"


def refuse(message: Message | None, refusal: Refusal, now: dt.datetime) -> str:
    """AE or AR with its reason."""
    header, version = _header(message, now)
    control = _plain(message.control_id) if message is not None else ""
    text = f"|{_plain(refusal.text)}" if _old(version) else ""
    lines = [header, f"MSA|{refusal.code}|{control}{text}", _err(version, "E", refusal.error, refusal.text, refusal.location)]
    return "\r".join(lines) + "\r"
