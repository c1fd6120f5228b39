"""FHIR dates and times: calendar-correct parsing, and the interval of time that each value's precision stands for.

Specification: https://hl7.org/fhir/R4/datatypes.html#date, https://hl7.org/fhir/R4/search.html#date
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

MIN_INSTANT = -(2**62)
MAX_INSTANT = 2**62

DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?\Z", re.ASCII)
DATE_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?)?)?\Z", re.ASCII)
TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?\Z", re.ASCII)

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_DAY = 86_400_000


class DateError(ValueError):
    """A text that is no FHIR date or time; the message says why, `zh` in Chinese."""

    def __init__(self, english: str, zh: str) -> None:
        super().__init__(english)
        self.zh = zh


@lru_cache(maxsize=8192)
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; raises ValueError for a day that does not exist."""
    return dt.date(year, month, day).toordinal() - _EPOCH_DAY


@lru_cache(maxsize=512)
def _zone_offset(text: str) -> int:
    """Milliseconds east of UTC of 'Z' or '+hh:mm'."""
    if text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 14 or minutes > 59 or (hours == 14 and minutes):
        raise DateError(f"there is no time zone {text} (at most 14:00)", f"没有时区 {text}（最大为 14:00）")
    offset = (hours * 60 + minutes) * 60_000
    return -offset if text[0] == "-" else offset


@lru_cache(maxsize=8192)
def _local_offset(days: int, hour: int, zone: ZoneInfo) -> int:
    """Milliseconds east of UTC at a local hour of a day in a zone."""
    day = dt.date.fromordinal(days + _EPOCH_DAY)
    moment = dt.datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    offset = moment.utcoffset()
    return int(offset.total_seconds() * 1000) if offset else 0


def _local(days: int, milliseconds: int, zone: ZoneInfo) -> int:
    """A local day and time of day as milliseconds since 1970 UTC."""
    day, rest = divmod(milliseconds, _DAY)
    days += day
    if not -719162 <= days <= 2932896:  # 0001-01-01 .. 9999-12-31, at whose edges no offset can be asked
        return days * _DAY + rest
    return days * _DAY + rest - _local_offset(days, rest // 3_600_000, zone)


def interval(text: str, zone: ZoneInfo) -> tuple[int, int]:
    """The closed interval [low, high] in milliseconds since 1970 UTC of a date, dateTime or instant.

    '2024' is the whole year in `zone`; a time without zone (lenient: search values may) is taken in `zone` too. Raises DateError.
    """
    found = DATE_TIME.match(text)
    if not found:
        raise DateError(
            f"'{text}' is not of the form YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss(.sss)zone",
            f"“{text}”不符合格式 YYYY、YYYY-MM、YYYY-MM-DD 或 YYYY-MM-DDThh:mm:ss(.sss)时区",
        )
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        if hour is None:
            return _date_interval(int(year), int(month) if month else None, int(day) if day else None, zone)
        days = _days(int(year), int(month), int(day))
    except ValueError:
        raise DateError(f"'{text}' is no day of the calendar", f"“{text}”不是日历中的日期") from None
    h, m = int(hour), int(minute)
    s = int(second) if second is not None else 0
    if h > 23 or m > 59 or s > 60:
        raise DateError(f"'{text}' is no time of day", f"“{text}”不是一天中的时刻")
    low = ((h * 60 + m) * 60 + s) * 1000
    if fraction:
        digits = (fraction + "00")[:3]
        low += int(digits)
        width = 10 ** max(0, 3 - len(fraction))
    else:
        width = 60_000 if second is None else 1000
    start = days * _DAY + low - _zone_offset(offset) if offset else _local(days, low, zone)
    return start, start + width - 1


def _date_interval(year: int, month: int | None, day: int | None, zone: ZoneInfo) -> tuple[int, int]:
    if month is None:
        first, last = _days(year, 1, 1), _days(year, 12, 31)
    elif day is None:
        first, last = _days(year, month, 1), _days(year, month, calendar.monthrange(year, month)[1])
    else:
        first = last = _days(year, month, day)
    return _local(first, 0, zone), _local(last + 1, 0, zone) - 1


def period_interval(period: dict[str, Any], zone: ZoneInfo) -> tuple[int, int]:
    """The interval of a Period; a side that is absent is open (MIN_INSTANT, MAX_INSTANT). Raises DateError."""
    start, end = period.get("start"), period.get("end")
    low = interval(start, zone)[0] if isinstance(start, str) else MIN_INSTANT
    high = interval(end, zone)[1] if isinstance(end, str) else MAX_INSTANT
    return low, high


def timing_interval(timing: dict[str, Any], zone: ZoneInfo) -> tuple[int, int] | None:
    """The outer limits of a Timing: its events and boundsPeriod; None when it states neither. Raises DateError."""
    spans = [interval(event, zone) for event in timing.get("event") or () if isinstance(event, str)]
    bounds = (timing.get("repeat") or {}).get("boundsPeriod")
    if isinstance(bounds, dict):
        spans.append(period_interval(bounds, zone))
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


def check_date(text: str) -> str | None:
    """Why a text is no FHIR date, or None."""
    found = DATE.match(text)
    if not found:
        return "must be YYYY, YYYY-MM or YYYY-MM-DD"
    return _calendar_fault(*found.groups())


def check_date_time(text: str) -> str | None:
    """Why a text is no FHIR dateTime (a time needs seconds and a zone), or None."""
    found = DATE_TIME.match(text)
    if not found:
        return "must be YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss+zz:zz"
    year, month, day, hour, minute, second, _, zone = found.groups()
    if hour is not None and (second is None or zone is None):
        return "must have seconds and a time zone where it has a time"
    return _calendar_fault(year, month, day) or (_clock_fault(hour, minute, second, zone) if hour is not None else None)


def check_instant(text: str) -> str | None:
    """Why a text is no FHIR instant (to the second at least, with a zone), or None."""
    found = DATE_TIME.match(text)
    if not found or found[6] is None or found[8] is None:
        return "must be YYYY-MM-DDThh:mm:ss.sss+zz:zz"
    year, month, day, hour, minute, second, _, zone = found.groups()
    return _calendar_fault(year, month, day) or _clock_fault(hour, minute, second, zone)


def check_time(text: str) -> str | None:
    """Why a text is no FHIR time, or None."""
    found = TIME.match(text)
    if not found:
        return "must be hh:mm:ss without a zone"
    return _clock_fault(found[1], found[2], found[3], None)


def _calendar_fault(year: str, month: str | None, day: str | None) -> str | None:
    try:
        _days(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return "is no day of the calendar"
    return None


def _clock_fault(hour: str, minute: str, second: str, zone: str | None) -> str | None:
    if int(hour) > 23 or int(minute) > 59 or int(second) > 60:
        return "is no time of day"
    if zone:
        try:
            _zone_offset(zone)
        except DateError as fault:
            return str(fault)
    return None


def format_instant(milliseconds: int) -> str:
    """An instant in UTC with milliseconds, as `meta.lastUpdated` has it."""
    seconds, rest = divmod(milliseconds, 1000)
    return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:03d}Z"
