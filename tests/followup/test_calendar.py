"""Offsets and windows on the local calendar. followup.md section 6.1."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from subscriptions.followup.calendar import Offset, age, date_of, midnight, window

ZONE = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("start", "offset", "due"),
    [
        ("2026-03-02", "+3d", "2026-03-05"),
        ("2026-03-02", "2wk", "2026-03-16"),
        ("2026-01-31", "1mo", "2026-02-28"),
        ("2028-01-31", "+1mo", "2028-02-29"),
        ("2026-11-30", "3mo", "2027-02-28"),
        ("2028-02-29", "1a", "2029-02-28"),
        ("2026-12-31", "+0d", "2026-12-31"),
    ],
)
def test_offsets_are_calendar_arithmetic(start: str, offset: str, due: str) -> None:
    assert Offset.parse(offset).after(dt.date.fromisoformat(start)).isoformat() == due


@pytest.mark.parametrize("text", ["3", "d3", "+3 d", "3h", "-3d", "", "99999d"])
def test_other_offsets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no offset"):
        Offset.parse(text)


def test_window_reaches_from_midnight_to_the_last_second_local_time() -> None:
    """Annex E: due 2026-03-05, after 3 d."""
    found = window(dt.date(2026, 3, 5), Offset(0, "d"), Offset(3, "d"), ZONE)
    assert found == {"start": "2026-03-05T00:00:00+08:00", "end": "2026-03-08T23:59:59+08:00"}


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2026-03-01T23:30:00Z", "2026-03-02"),
        ("2026-03-01T23:30:00+08:00", "2026-03-01"),
        ("2026-03-02", "2026-03-02"),
        ("2026-03", None),
        (None, None),
    ],
)
def test_the_date_of_an_instant_is_the_local_one(text: str | None, date: str | None) -> None:
    found = date_of(text, ZONE)
    assert (found.isoformat() if found else None) == date


def test_age_counts_completed_years() -> None:
    assert age("1966-03-02", dt.date(2026, 3, 1)) == 59
    assert age("1966-03-02", dt.date(2026, 3, 2)) == 60
    assert age("1966", dt.date(2026, 1, 1)) == 60
    assert age(None, dt.date(2026, 1, 1)) is None


def test_plan_tick_is_ten_past_local_midnight() -> None:
    assert midnight(dt.date(2026, 3, 18), ZONE, 10) == dt.datetime(2026, 3, 17, 16, 10, tzinfo=dt.UTC).timestamp() * 1000
