"""Dates of care on the local calendar: offsets from an anchor, contact windows, ages.

Specification: followup.md section 6.1 (offsets in UCUM d, wk, mo, a; 31 January + 1 mo = 28 or 29 February).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass

_OFFSET = re.compile(r"^\+?(\d{1,4})(d|wk|mo|a)$")


@dataclass(frozen=True, slots=True)
class Offset:
    """A calendar distance: `unit` is d, wk, mo or a."""

    value: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Offset:
        """`3d`, `+2wk`, `6mo`, `1a`. Raises ValueError for anything else."""
        match = _OFFSET.match(text.strip())
        if not match:
            raise ValueError(f"'{text}' is no offset like +3d, +2wk, +6mo or +1a")
        return cls(int(match[1]), match[2])

    def after(self, date: dt.date) -> dt.date:
        """The date this far after `date`."""
        if self.unit in ("d", "wk"):
            return date + dt.timedelta(days=self.value * (7 if self.unit == "wk" else 1))
        months = date.year * 12 + date.month - 1 + self.value * (12 if self.unit == "a" else 1)
        year, month = divmod(months, 12)
        return date.replace(year=year, month=month + 1, day=min(date.day, calendar.monthrange(year, month + 1)[1]))

    def before(self, date: dt.date) -> dt.date:
        """The date this far before `date`; only days and weeks (windows have no months)."""
        if self.unit not in ("d", "wk"):
            raise ValueError(f"a window before the due date is given in d or wk, not in {self.unit}")
        return date - dt.timedelta(days=self.value * (7 if self.unit == "wk" else 1))

    def duration(self) -> dict[str, object]:
        """FHIR Duration in UCUM."""
        names = {"d": "days", "wk": "weeks", "mo": "months", "a": "years"}
        return {"value": self.value, "unit": names[self.unit], "system": "http://unitsofmeasure.org", "code": self.unit}


def window(due: dt.date, before: Offset, after: Offset, zone: dt.tzinfo) -> dict[str, str]:
    """FHIR Period [due − before at 00:00:00, due + after at 23:59:59] on the local wall clock."""
    start = dt.datetime.combine(before.before(due), dt.time(), zone)
    end = dt.datetime.combine(after.after(due), dt.time(23, 59, 59), zone)
    return {"start": start.isoformat(), "end": end.isoformat()}


def date_of(text: str | None, zone: dt.tzinfo) -> dt.date | None:
    """The local date of a FHIR date, dateTime or instant; None where it is missing or less precise than a day."""
    if not text or len(text) < 10:
        return None
    if len(text) == 10:
        return dt.date.fromisoformat(text)
    moment = dt.datetime.fromisoformat(text)
    return (moment if moment.tzinfo is None else moment.astimezone(zone)).date()


def age(birth: str | None, today: dt.date) -> int | None:
    """Completed years; a birth date without day or month counts from its first day. None when unknown."""
    if not birth:
        return None
    year, month, day = (int(part) for part in (birth[:10] + "-01-01")[:10].split("-"))
    return today.year - year - ((today.month, today.day) < (month, day))


def midnight(date: dt.date, zone: dt.tzinfo, minutes: int = 0) -> int:
    """Milliseconds since 1970 of `minutes` past local midnight."""
    moment = dt.datetime.combine(date, dt.time(minutes // 60, minutes % 60), zone)
    return round(moment.timestamp() * 1000)


def spoken(date: dt.date) -> str:
    """A date as it is said in a Chinese message, such as 3月5日."""
    return f"{date.month}月{date.day}日"
