"""Dates: what is one, and which interval of time each precision stands for.

https://hl7.org/fhir/R4/datatypes.html#dateTime, https://hl7.org/fhir/R4/search.html#date ("2000-04" is the whole month)
"""

from __future__ import annotations

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.model.dates import (
    MAX_INSTANT,
    MIN_INSTANT,
    DateError,
    check_date,
    check_date_time,
    check_instant,
    check_time,
    format_instant,
    interval,
    period_interval,
    timing_interval,
)

UTC = ZoneInfo("UTC")
SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")


def ms(text: str) -> int:
    """Milliseconds since 1970 by Python's own reading."""
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "zone", "low", "high"),
    [
        ("2000", UTC, "2000-01-01T00:00:00+00:00", "2001-01-01T00:00:00+00:00"),
        ("2000-04", UTC, "2000-04-01T00:00:00+00:00", "2000-05-01T00:00:00+00:00"),
        ("2000-12", UTC, "2000-12-01T00:00:00+00:00", "2001-01-01T00:00:00+00:00"),
        ("2024-02", UTC, "2024-02-01T00:00:00+00:00", "2024-03-01T00:00:00+00:00"),
        ("2000-04-04", UTC, "2000-04-04T00:00:00+00:00", "2000-04-05T00:00:00+00:00"),
        ("2000-04-04", SHANGHAI, "2000-04-04T00:00:00+08:00", "2000-04-05T00:00:00+08:00"),
        ("2015-02-07T13:28:17Z", SHANGHAI, "2015-02-07T13:28:17+00:00", "2015-02-07T13:28:18+00:00"),
        ("2015-02-07T13:28:17-05:00", UTC, "2015-02-07T13:28:17-05:00", "2015-02-07T13:28:18-05:00"),
        ("2015-02-07T13:28", SHANGHAI, "2015-02-07T13:28:00+08:00", "2015-02-07T13:29:00+08:00"),
        ("2015-02-07T13:28Z", SHANGHAI, "2015-02-07T13:28:00+00:00", "2015-02-07T13:29:00+00:00"),
        ("2015-02-07T13:28:17.2Z", UTC, "2015-02-07T13:28:17.200+00:00", "2015-02-07T13:28:17.300+00:00"),
        ("2015-02-07T13:28:17.239Z", UTC, "2015-02-07T13:28:17.239+00:00", "2015-02-07T13:28:17.240+00:00"),
        ("2015-02-07T13:28:17.239999Z", UTC, "2015-02-07T13:28:17.239+00:00", "2015-02-07T13:28:17.240+00:00"),
        ("2016-12-31T23:59:60Z", UTC, "2017-01-01T00:00:00+00:00", "2017-01-01T00:00:01+00:00"),
        # days of 23 and 25 hours
        ("2024-03-10", NEW_YORK, "2024-03-10T00:00:00-05:00", "2024-03-11T00:00:00-04:00"),
        ("2024-11-03", NEW_YORK, "2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00"),
    ],
)
def test_a_date_is_an_interval_of_its_precision(text: str, zone: ZoneInfo, low: str, high: str) -> None:
    assert interval(text, zone) == (ms(low), ms(high) - 1)


@pytest.mark.parametrize("text", ["0001", "9999", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("zone", [UTC, SHANGHAI, NEW_YORK])
def test_the_ends_of_the_calendar_are_dates(text: str, zone: ZoneInfo) -> None:
    low, high = interval(text, zone)
    assert MIN_INSTANT < low <= high < MAX_INSTANT


@pytest.mark.parametrize(
    "text",
    ["", "x", "20", "2023-2", "2023-02-30", "2023-13-01", "2023-01-01T", "2023-01-01T25:00:00Z", "2023-01-01T10",
     "2023-01-01T10:00:00+15:00",
     "2023-01-01T10:60Z", "2023-01-01T10:00:61Z", "0000", "2023-01-01Z", "2023-01-01T10:00:00Z\n", "٢٠٢٣"],
)  # fmt: skip
def test_what_is_no_date_is_told(text: str) -> None:
    with pytest.raises(DateError) as fault:
        interval(text, UTC)
    assert str(fault.value)


@settings(max_examples=200, deadline=None)
@given(st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)), st.integers(-840, 840), st.integers(0, 6))
def test_every_date_time_agrees_with_the_calendar_of_python(moment: dt.datetime, offset: int, digits: int) -> None:
    zone = "Z" if offset == 0 else f"{'+' if offset > 0 else '-'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    fraction = f"{moment.microsecond:06}"[:digits]
    text = f"{moment.year:04}" + moment.strftime("-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + zone
    assert check_date_time(text) is None and check_instant(text) is None
    known = moment.replace(microsecond=int((fraction + "000")[:3]) * 1000, tzinfo=dt.timezone(dt.timedelta(minutes=offset)))
    low, high = interval(text, UTC)
    assert low == (known - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
    assert high - low == 10 ** max(0, 3 - digits) - 1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
def test_a_day_is_one_of_the_calendar(year: int, month: int, day: int) -> None:
    try:
        dt.date(year, month, day)
        exists = True
    except ValueError:
        exists = False
    assert (check_date(f"{year:04}-{month:02}-{day:02}") is None) is exists


@settings(max_examples=150, deadline=None)
@given(
    st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
    st.sampled_from([UTC, SHANGHAI, NEW_YORK, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Asia/Kathmandu")]),
)
def test_days_follow_one_another_without_gap(day: dt.date, zone: ZoneInfo) -> None:
    assert interval(day.isoformat(), zone)[1] + 1 == interval((day + dt.timedelta(days=1)).isoformat(), zone)[0]


def test_the_parts_of_a_year_are_the_year() -> None:
    months = [interval(f"2024-{month:02}", SHANGHAI) for month in range(1, 13)]
    assert (months[0][0], months[-1][1]) == interval("2024", SHANGHAI)
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(months))


@pytest.mark.parametrize(
    ("text", "why"), [("08:30", "hh:mm:ss"), ("24:00:00", "time of day"), ("08:60:00", "time of day"), ("08:00:00Z", "zone")]
)
def test_a_time_is_told_why(text: str, why: str) -> None:
    assert why in (check_time(text) or "")
    assert check_time("08:30:00.123") is None


def test_a_side_of_a_period_may_be_open() -> None:
    low, high = interval("2024", UTC)
    assert period_interval({"start": "2024", "end": "2024"}, UTC) == (low, high)
    assert period_interval({"start": "2024"}, UTC) == (low, MAX_INSTANT)
    assert period_interval({"end": "2024"}, UTC) == (MIN_INSTANT, high)
    assert period_interval({}, UTC) == (MIN_INSTANT, MAX_INSTANT)


def test_the_limits_of_a_timing_are_those_of_its_events_and_bounds() -> None:
    """https://hl7.org/fhir/R4/search.html#date: "the outer limits of the schedule" """
    first, last = interval("2024-01-01", UTC), interval("2024-03-01", UTC)
    assert timing_interval({"event": ["2024-03-01", "2024-01-01"]}, UTC) == (first[0], last[1])
    assert timing_interval({"repeat": {"boundsPeriod": {"start": "2024-01-01", "end": "2024-03-01"}}}, UTC) == (first[0], last[1])
    assert timing_interval({"event": [None, "2024-01-01"]}, UTC) == first
    assert timing_interval({"repeat": {"frequency": 1}}, UTC) is None
    assert timing_interval({}, UTC) is None


@pytest.mark.parametrize(
    "moment", ["1970-01-01T00:00:00.000Z", "2024-02-29T12:00:00.001Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"]
)
def test_an_instant_is_written_as_meta_has_it(moment: str) -> None:
    assert format_instant(interval(moment, UTC)[0]) == moment
    assert check_instant(moment) is None
