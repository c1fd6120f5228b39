"""Which results are critical. followup.md sections 9.2 (table, units, decimals) and 13 (HH, LL, AA)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from subscriptions.followup.critical import fires, judge, prefilter
from subscriptions.followup.pathway import load

RULE = next(pathway for pathway in load() if pathway.id == "critical-value")
MARKS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def result(code: str, value: Any = None, unit: str = "mmol/L", flag: str | None = None, **more: Any) -> dict[str, Any]:
    quantity = {"valueQuantity": {"value": value, "unit": unit, "code": unit}} if value is not None else {}
    marks = {"interpretation": [{"coding": [{"system": MARKS, "code": flag}]}]} if flag else {}
    code_element = {"coding": [{"system": "http://loinc.org", "code": code}], "text": "项目"}
    return {"resourceType": "Observation", "status": "final", "code": code_element, **quantity, **marks, **more}


@pytest.mark.parametrize(
    ("code", "value", "unit", "critical"),
    [
        ("2823-3", Decimal("6.2"), "mmol/L", True),
        ("2823-3", Decimal("6.19"), "mmol/L", False),
        ("2823-3", 6.9, "mmol/L", True),
        ("2823-3", Decimal("2.8"), "mmol/L", True),
        ("2823-3", Decimal("2.81"), "mmol/L", False),
        ("2345-7", Decimal("16.7"), "mmol/L", True),
        ("2345-7", 301, "mg/dL", True),  # 301 / 18.016 = 16.707
        ("2345-7", 300, "mg/dL", False),  # 300 / 18.016 = 16.652
        ("2345-7", 50, "mg/dL", True),  # 50 / 18.016 = 2.775
        ("718-7", 60, "g/L", True),
        ("718-7", 6, "g/dL", True),
        ("718-7", 61, "g/L", False),
        ("777-3", 30, "10*9/L", True),
        ("777-3", 31, "10*9/L", False),
        ("4548-4", 15, "%", False),
    ],
)
def test_table_limits_are_inclusive_and_compared_as_decimals_in_one_unit(code: str, value: Any, unit: str, critical: bool) -> None:
    assert (judge(result(code, value, unit), RULE) is not None) is critical


@pytest.mark.parametrize("unit", ["", "mg/L", "µmol/L"])
def test_a_unit_that_the_table_does_not_know_is_never_guessed(unit: str) -> None:
    assert judge(result("2823-3", 9.9, unit), RULE) is None


@pytest.mark.parametrize("flag", ["HH", "LL", "AA"])
def test_the_laboratorys_own_mark_counts_for_any_analyte(flag: str) -> None:
    finding = judge(result("9999-9", flag=flag, valueString="阳性"), RULE)
    assert finding is not None and finding.mark == flag and "阳性" in finding.result


@pytest.mark.parametrize("flag", ["H", "L", "A", "N", None])
def test_other_marks_do_not(flag: str | None) -> None:
    assert judge(result("9999-9", 1, flag=flag), RULE) is None


@pytest.mark.parametrize("status", ["preliminary", "registered", "cancelled", "entered-in-error", "unknown"])
def test_results_that_are_not_final_do_not_count(status: str) -> None:
    assert judge(result("2823-3", 6.9, flag="HH", status=status), RULE) is None


@pytest.mark.parametrize(("comparator", "value", "critical"), [(">", 6.5, True), ("<", 6.5, False), ("<", 2.0, True), (">", 2.0, False)])
def test_a_comparator_that_leaves_it_open_does_not_fire(comparator: str, value: float, critical: bool) -> None:
    observation = result("2823-3", value)
    observation["valueQuantity"]["comparator"] = comparator
    assert (judge(observation, RULE) is not None) is critical


def test_an_edge_rule_fires_only_when_the_triggering_value_changed() -> None:
    critical = result("2823-3", 6.9, flag="HH")
    assert fires(critical, None, RULE) is not None
    assert fires({**critical, "note": [{"text": "复查"}]}, critical, RULE) is None
    assert fires(result("2823-3", 7.4, flag="HH"), critical, RULE) is not None
    assert fires(critical, result("2823-3", 4.6), RULE) is not None
    assert fires(critical, result("2823-3", 6.9, flag="HH", status="preliminary"), RULE) is not None
    assert fires(result("2823-3", 4.6), critical, RULE) is None


def test_the_line_for_people_names_analyte_value_unit_and_mark() -> None:
    finding = judge(result("2823-3", Decimal("6.90"), flag="HH"), RULE)
    assert finding is not None and finding.result == "项目 6.90 mmol/L （危急高值 HH）"


def test_the_look_at_the_bytes_passes_over_what_cannot_be_critical_and_nothing_else() -> None:
    look = prefilter(RULE)
    assert look.search(b'{"code":{"coding":[{"code":"2823-3"}]}}')
    assert look.search(b'{"interpretation":[{"coding":[{"code":"AA"}]}]}')
    assert not look.search(b'{"id":"2823-3x","interpretation":[{"coding":[{"code":"H"}]}],"code":{"coding":[{"code":"12823-3"}]}}')
