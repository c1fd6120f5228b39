"""What the console says of a resource in one line."""

from __future__ import annotations

from fhir_server.console.summaries import summarise

_FLAGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def _potassium(flag: str) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "id": "k",
        "code": {"text": "血钾"},
        "subject": {"reference": "Patient/p1"},
        "valueQuantity": {"value": 6.9, "unit": "mmol/L"},
        "interpretation": [{"coding": [{"system": _FLAGS, "code": flag}]}],
    }


def test_a_critical_result_is_shown_as_critical_with_value_and_unit() -> None:
    shown = summarise(_potassium("HH"))
    assert shown.level == "critical"
    assert shown.title == "血钾 6.9 mmol/L"
    assert shown.patient == "Patient/p1"


def test_a_high_result_is_abnormal_and_a_normal_one_is_routine() -> None:
    assert summarise(_potassium("H")).level == "abnormal"
    assert summarise(_potassium("N")).level == "routine"


def test_a_blood_pressure_shows_both_components() -> None:
    shown = summarise(
        {
            "resourceType": "Observation",
            "id": "bp",
            "code": {"coding": [{"code": "85354-9", "display": "Blood pressure"}]},
            "component": [{"valueQuantity": {"value": 150, "unit": "mmHg"}}, {"valueQuantity": {"value": 95, "unit": "mmHg"}}],
        }
    )
    assert shown.title == "Blood pressure 150 mmHg / 95 mmHg"


def test_a_stat_task_is_critical_and_shows_its_due_time() -> None:
    shown = summarise(
        {
            "resourceType": "Task",
            "id": "t",
            "status": "requested",
            "priority": "stat",
            "description": "危急值处理",
            "for": {"reference": "Patient/p1"},
            "restriction": {"period": {"end": "2026-03-02T09:30:00+08:00"}},
        }
    )
    assert shown == ("危急值处理", "requested · 2026-03-02 09:30", "critical", "Patient/p1")


def test_a_type_without_a_rule_of_its_own_shows_code_or_id() -> None:
    assert summarise({"resourceType": "Basic", "id": "b1", "code": {"text": "settings"}}).title == "settings"
    assert summarise({"resourceType": "Basic", "id": "b1"}).title == "b1"
