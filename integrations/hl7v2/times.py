"""Dates and times: the precision that was sent is kept, a zone comes from the value or from the sender's default.

Specification: HL7 v2.5.1 data types TS, DTM, DT
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from zoneinfo import ZoneInfo

_FORM = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?\Z", re.ASCII)
_LONGEST = 60
_DASHED = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?\Z", re.ASCII)


def fhir_time(text: str, zone: ZoneInfo) -> str | None:
    """A FHIR dateTime of a v2 one ('20260110' stays a date; '202601100845' gets seconds and zone); None for what is none."""
    return _read(text.strip(), zone) if len(text) <= _LONGEST else None


@lru_cache(maxsize=2048)
def _read(text: str, zone: ZoneInfo) -> str | None:
    found = _FORM.match(text)
    if found is None:
        dashed = _DASHED.match(text)
        if dashed is None:
            return None
        return _read("".join(part for part in dashed.groups() if part), zone)
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        if hour is None:
            dt.date(int(year), int(month or 1), int(day or 1))
            return "-".join(part for part in (year, month, day) if part)
        moment = dt.datetime(int(year), int(month), int(day), int(hour), int(minute or 0), min(int(second or 0), 59))
    except ValueError:
        return None
    if offset:
        hours, minutes = int(offset[1:3]), int(offset[3:5])
        if hours > 14 or minutes > 59:
            return None
        suffix = f"{offset[:3]}:{offset[3:]}"
    else:
        local = moment.replace(tzinfo=zone).strftime("%z")
        suffix = f"{local[:3]}:{local[3:5]}"
    return f"{year}-{month}-{day}T{hour}:{minute or '00'}:{moment.second:02d}" + (f".{fraction}" if fraction else "") + suffix


def fhir_date(text: str) -> str | None:
    """A FHIR date: the day of a v2 date or time; None for what is none."""
    found = fhir_time(text, ZoneInfo("UTC"))
    return found[:10] if found else None


def fhir_instant(text: str, zone: ZoneInfo) -> str | None:
    """A FHIR instant, where the value is precise enough; else None."""
    found = fhir_time(text, zone)
    return found if found and "T" in found else None


def parse_moment(text: str | None) -> dt.datetime | None:
    """A FHIR dateTime with a time as an aware datetime; None for dates alone."""
    return dt.datetime.fromisoformat(text) if text and "T" in text else None
