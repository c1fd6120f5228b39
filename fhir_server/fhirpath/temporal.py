"""Dates, times and instants with their precision, as FHIRPath compares and calculates them.

Specification: http://hl7.org/fhirpath/N1/#date-time-arithmetic, http://hl7.org/fhirpath/N1/#equals
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_FORM = re.compile(
    r"(?:(\d{4})(?:-(\d\d)(?:-(\d\d))?)?)?(?:(T)(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?)?\Z", re.ASCII
)
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Temporal:
    """kind: Date, DateTime or Time. `parts`: year, month, day, hour, minute, second (Decimal), as many as are known; a Time starts with
    the hour. `offset`: minutes east of UTC or None. `text`: as written."""

    kind: str
    parts: tuple[int | Decimal, ...]
    offset: int | None
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def precision(self) -> int:
        return len(self.parts)

    def in_utc(self) -> tuple[int | Decimal, ...]:
        """The parts moved to UTC, where zone and hour are known; else as they are."""
        if self.kind != "DateTime" or self.offset is None or len(self.parts) < 4:
            return self.parts
        year, month, day, hour, *rest = self.parts
        minute = rest[0] if rest else 0
        try:
            moved = dt.datetime(int(year), int(month), int(day), int(hour), int(minute)) - dt.timedelta(minutes=self.offset)
        except (OverflowError, ValueError):
            return self.parts
        parts: list[int | Decimal] = [moved.year, moved.month, moved.day, moved.hour]
        if rest:
            parts.append(moved.minute)
        return (*parts, *rest[1:])


_FARTHEST = 14 * 60
"""Largest offset of a zone from UTC, in minutes."""


@lru_cache(maxsize=4096)
def parse_temporal(text: str, kind: str) -> Temporal | None:
    """A Date, DateTime or Time of its text (without @); None when it is none or does not exist in the calendar."""
    if kind == "Time":
        found = _TIME.match(text)
        if not found:
            return None
        parts = _clock(found.groups())
        return None if parts is None else Temporal("Time", parts, None, text.removeprefix("T"))
    found = _FORM.match(text)
    if not found or found[1] is None or (kind == "Date" and found[4]):
        return None
    year, month, day, _, *clock, zone = found.groups()
    parts_list: list[int | Decimal] = [int(part) for part in (year, month, day) if part is not None]
    try:
        dt.date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    if clock[0] is not None:
        times = _clock(tuple(clock))
        if times is None or day is None:
            return None
        parts_list += times
    offset = None
    if zone:
        offset = 0 if zone == "Z" else (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 60 + int(zone[4:6]))
        if abs(offset) > _FARTHEST or zone[4:] > "59":
            return None
    return Temporal(kind, tuple(parts_list), offset, text)


def _clock(groups: tuple[str | None, ...]) -> tuple[int | Decimal, ...] | None:
    hour, minute, second = groups[:3]
    parts: list[int | Decimal] = [int(hour)] if hour is not None else []
    if minute is not None:
        parts.append(int(minute))
    if second is not None:
        parts.append(Decimal(second))
    limits = (24, 60, 61)
    return tuple(parts) if all(part < limit for part, limit in zip(parts, limits, strict=False)) else None


def compare(left: Temporal, right: Temporal) -> int | None:
    """-1, 0 or 1; None when precision or a missing zone leaves it open. Seconds and milliseconds are one precision."""
    if (left.kind == "Time") != (right.kind == "Time"):
        return None
    if left.kind != "DateTime" or right.kind != "DateTime" or min(len(left.parts), len(right.parts)) < 4 or left.offset == right.offset:
        return _compare_parts(left.parts, right.parts)
    if left.offset is not None and right.offset is not None:
        return _compare_parts(left.in_utc(), right.in_utc())
    # One side has no zone: decided only if it is the same in every zone of the earth.
    answers = {_compare_parts(_zoned(left, offset).in_utc(), _zoned(right, offset).in_utc()) for offset in (_EARLIEST, _LATEST)}
    return answers.pop() if len(answers) == 1 else None


_EARLIEST, _LATEST = 14 * 60, -12 * 60


def _zoned(value: Temporal, offset: int) -> Temporal:
    return value if value.offset is not None else Temporal(value.kind, value.parts, offset, value.text)


def _compare_parts(mine: tuple[int | Decimal, ...], theirs: tuple[int | Decimal, ...]) -> int | None:
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            return -1 if one < other else 1
    return 0 if len(mine) == len(theirs) else None


_UNITS = {"year": 0, "month": 1, "week": 2, "day": 2, "hour": 3, "minute": 4, "second": 5, "millisecond": 5}


def add(value: Temporal, amount: Decimal, unit: str) -> Temporal | None:
    """A time-valued quantity added (calendar arithmetic; the last day of a month holds); None outside the calendar.

    A unit finer than the value's precision is reduced to that precision first (24 hours are a day, 12 months a year).
    """
    if unit not in _UNITS:
        return None
    if value.kind == "Time":
        return _add_time(value, amount, unit)
    parts = list(value.parts)
    precision = len(parts)
    if unit in ("year", "month"):
        months = int(amount) * (12 if unit == "year" else 1)
        if precision == 1:
            months = int(Decimal(months) / 12) * 12
        total = int(parts[0]) * 12 + (int(parts[1]) - 1 if precision > 1 else 0) + months
        year, month = divmod(total, 12)
        if not 1 <= year <= 9999:
            return None
        parts[0] = year
        if precision > 1:
            parts[1] = month + 1
        if precision > 2:
            parts[2] = min(int(parts[2]), calendar.monthrange(year, month + 1)[1])
        return _rebuilt(value, parts)
    return _add_exact(value, parts, amount, unit)


def _add_exact(value: Temporal, parts: list[int | Decimal], amount: Decimal, unit: str) -> Temporal | None:
    milliseconds = {"week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}[unit]
    if unit in ("week", "day", "hour", "minute"):
        amount = Decimal(int(amount))
    total = amount * milliseconds
    precision = len(parts)
    if precision == 1:
        return add(value, Decimal(int(total / 86_400_000 / 365)), "year")
    if precision == 2:
        return add(value, Decimal(int(total / 86_400_000 / 30)), "month")
    if precision == 3:
        total = Decimal(int(total / 86_400_000) * 86_400_000)
    second = parts[5] if precision > 5 else Decimal(0)
    whole = int(second)
    fraction = Decimal(second) - whole
    try:
        year, month, day, hour, minute = (int(part) for part in [*parts, 0, 0][:5])
        start = dt.datetime(year, month, day, hour, minute, whole)
        millis = total + fraction * 1000
        moved = start + dt.timedelta(milliseconds=int(millis))
    except (OverflowError, ValueError):
        return None
    fields: list[int | Decimal] = [moved.year, moved.month, moved.day, moved.hour, moved.minute]
    if precision > 5:
        rest = Decimal(moved.microsecond // 1000) / 1000
        digits = max(0, -int(Decimal(second).as_tuple().exponent), 3 if rest else 0)
        fields.append((Decimal(moved.second) + rest).quantize(Decimal(1).scaleb(-digits)))
    return _rebuilt(value, fields[:precision])


def _add_time(value: Temporal, amount: Decimal, unit: str) -> Temporal | None:
    factors = {"hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}
    if unit not in factors:
        return None
    hour, minute, second = (*value.parts, 0, 0)[:3]
    total = (int(hour) * 3600 + int(minute) * 60) * 1000 + int(Decimal(second) * 1000) + int(amount * factors[unit])
    total %= 86_400_000
    parts: list[int | Decimal] = [total // 3_600_000, total // 60_000 % 60]
    digits = 3 if total % 1000 else max(0, -int(Decimal(second).as_tuple().exponent))
    parts.append((Decimal(total % 60_000) / 1000).quantize(Decimal(1).scaleb(-digits)))
    return _rebuilt(value, parts[: value.precision])


def _rebuilt(value: Temporal, parts: list[int | Decimal]) -> Temporal:
    return Temporal(value.kind, tuple(parts), value.offset, text_of(value.kind, parts, value.offset))


def text_of(kind: str, parts: list[int | Decimal], offset: int | None) -> str:
    """The text of a Date, DateTime or Time."""
    if kind == "Time":
        return _clock_text(parts)
    text = "-".join(f"{int(part):0{4 if k == 0 else 2}d}" for k, part in enumerate(parts[:3]))
    if kind == "DateTime" and len(parts) > 3:
        text += "T" + _clock_text(parts[3:])
        if offset is not None:
            sign = "-" if offset < 0 else "+"
            text += "Z" if offset == 0 else f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    return text


def _clock_text(parts: list[int | Decimal]) -> str:
    out = [f"{int(part):02d}" for part in parts[:2]]
    if len(parts) > 2:
        whole, _, fraction = format(Decimal(parts[2]), "f").partition(".")
        out.append(f"{int(whole):02d}" + (f".{fraction}" if fraction else ""))
    return ":".join(out)
