"""What the engine reads out of resources."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from subscriptions.followup.facts import attending, is_dead, is_history, owner, reference
from tests.followup.world import encounter

NOW = dt.datetime(2026, 3, 2, 8, tzinfo=ZoneInfo("Asia/Shanghai"))


@pytest.mark.parametrize(
    ("element", "found"),
    [
        ({"reference": "Patient/p1"}, "Patient/p1"),
        ({"reference": "Patient/p1/_history/3"}, "Patient/p1"),
        ({"reference": "Group/g1"}, ""),
        ({"reference": "http://other.example/fhir/Patient/p1"}, ""),
        ({"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"}, ""),
        ({"reference": "#p"}, ""),
        ({"identifier": {"value": "1"}}, ""),
        (None, ""),
    ],
)
def test_only_a_local_literal_reference_of_the_type_counts(element: Any, found: str) -> None:
    assert reference(element, "Patient") == found


def test_the_attending_doctor_answers_else_the_visits_organization() -> None:
    stay = encounter(serviceProvider={"reference": "Organization/h1"})
    assert attending(stay) == owner(stay) == {"reference": "Practitioner/d1", "display": "王敏"}
    assert owner({**stay, "participant": []}) == {"reference": "Organization/h1"}
    assert owner({"resourceType": "Encounter"}) is None


def test_a_reference_to_a_contained_resource_is_not_carried_into_another_one() -> None:
    stay = encounter()
    stay["participant"][0]["individual"] = {"reference": "#doctor"}
    assert attending(stay) is None and owner(stay) is None


@pytest.mark.parametrize(
    ("patient", "stay", "dead"),
    [
        ({"deceasedBoolean": True}, None, True),
        ({"deceasedBoolean": False}, None, False),
        ({"deceasedDateTime": "2026"}, None, True),
        ({}, {"hospitalization": {"dischargeDisposition": {"coding": [{"code": "exp"}]}}}, True),
        ({}, {"hospitalization": {"dischargeDisposition": {"coding": [{"code": "home"}]}}}, False),
    ],
)
def test_death_by_record_or_by_discharge_disposition(patient: Any, stay: Any, dead: bool) -> None:
    assert is_dead(patient, stay) is dead


@pytest.mark.parametrize(
    ("first", "source", "happened", "history"),
    [
        (True, "", "2019-05-01", True),
        (True, "", "2025-03-01", True),
        (True, "", "2025-03-03", False),
        (False, "", "2019-05-01", False),
        (True, "urn:hl7v2:his#1", "2019-05-01", False),
        (True, "", None, False),
        (True, "", "2019", False),
    ],
)
def test_history_is_old_told_for_the_first_time_and_not_by_a_live_feed(first: bool, source: str, happened: Any, history: bool) -> None:
    assert is_history({"meta": {"source": source}}, first, happened, NOW) is history
