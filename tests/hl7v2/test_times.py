"""TS, DTM, DT → FHIR dates: the precision that was sent, zone from the value or the sender. Specification: HL7 v2.5.1 chapter 2A."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from integrations.hl7v2.times import fhir_date, fhir_instant, fhir_time

SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("2026", "2026"),
        ("202601", "2026-01"),
        ("20260110", "2026-01-10"),
        ("2026011008", "2026-01-10T08:00:00+08:00"),
        ("202601100845", "2026-01-10T08:45:00+08:00"),
        ("20260110084530", "2026-01-10T08:45:30+08:00"),
        ("20260110084530.1234", "2026-01-10T08:45:30.1234+08:00"),
        ("20260110084530+0100", "2026-01-10T08:45:30+01:00"),
        ("20260110084530.12-0500", "2026-01-10T08:45:30.12-05:00"),
        ("20240229", "2024-02-29"),
        ("20260110240000", None),
        ("20260229", None),
        ("20261301", None),
        ("20260132", None),
        ("2026011025", None),
        ("20260110084530+2500", None),
        ("00000000", None),
        ("yesterday", None),
        ("", None),
        ("２０２６０１１０", None),
        ("2026-01-10 08:45:00", "2026-01-10T08:45:00+08:00"),
        ("2026-01-10", "2026-01-10"),
    ],
)
def test_times(sent: str, meant: str | None) -> None:
    assert fhir_time(sent, SHANGHAI) == meant


def test_the_zone_of_the_sender_follows_daylight_saving() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert fhir_time("20260115120000", berlin) == "2026-01-15T12:00:00+01:00"
    assert fhir_time("20260715120000", berlin) == "2026-07-15T12:00:00+02:00"
    # Chinese summers from 1986 to 1991 had daylight saving time.
    assert fhir_time("19880715120000", SHANGHAI) == "1988-07-15T12:00:00+09:00"


def test_a_date_is_the_day_as_written_and_an_instant_needs_a_time() -> None:
    assert fhir_date("20260110235900-0500") == "2026-01-10"
    assert fhir_date("202601") == "2026-01"
    assert fhir_instant("20260110", SHANGHAI) is None
    assert fhir_instant("202601100845", SHANGHAI) == "2026-01-10T08:45:00+08:00"
