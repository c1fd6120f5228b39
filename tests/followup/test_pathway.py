"""Pathway files. followup.md section 6.5: a wrong file is refused with place and reason."""

from __future__ import annotations

from decimal import Decimal

import pytest

from subscriptions.followup.pathway import FOLDER, PathwayError, load, parse

GOOD = """
id: x
title: X
version: 1.0.0
status: active
anchor: discharge
match: {class: [IMP]}
actions:
  - {id: a, at: +2d, window: {before: 0d, after: 1d}, do: task, code: followup-call, title: T}
"""


def test_shipped_files_are_read_and_named_after_their_id() -> None:
    assert {p.id for p in load()} == {file.stem for file in FOLDER.glob("*.yaml")} >= {"discharge-general", "critical-value"}


def test_discharge_general_has_the_nodes_of_the_specification() -> None:
    """Section 6.6: 48-72 h call, d7, d30."""
    pathway = next(p for p in load() if p.id == "discharge-general")
    calls = [(a.at.value, a.at.unit) for a in pathway.actions if a.code == "followup-call"]
    assert calls == [(2, "d"), (7, "d"), (30, "d")]
    assert pathway.exclusive_group == "discharge"


def test_critical_limits_are_those_of_the_specification() -> None:
    """Section 9.2: K+ <= 2.8 or >= 6.2 mmol/L; glucose >= 16.7, <= 2.8; Hb <= 60 g/L; PLT <= 30; mg/dL / 18.016."""
    limits = {limit.name: limit for limit in next(p for p in load() if p.id == "critical-value").limits}
    assert (limits["血钾"].low, limits["血钾"].high) == (Decimal("2.8"), Decimal("6.2"))
    assert (limits["血糖"].low, limits["血糖"].high, limits["血糖"].units["mg/dL"]) == (Decimal("2.8"), Decimal("16.7"), Decimal("18.016"))
    assert (limits["血红蛋白"].low, limits["血红蛋白"].high) == (Decimal("60"), None)
    assert limits["血小板"].low == Decimal("30")
    assert all(limit.source for limit in limits.values())


def test_good_file_is_read() -> None:
    (action,) = parse(GOOD, "x.yaml").actions
    assert (action.id, action.at.value, action.after.value, action.priority) == ("a", 2, 1, "routine")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("do: task", "do: dance", r"x\.yaml: actions\[0\] \(a\): 'do' is 'dance', must be one of"),
        ("at: +2d", "at: soon", r"actions\[0\] \(a\): 'at': 'soon' is no offset"),
        ("code: followup-call, ", "", r"actions\[0\] \(a\): 'code' is missing"),
        ("anchor: discharge", "anchor: moon", r"'anchor' is 'moon'"),
        ("title: X", "titel: X", r"unknown name 'titel'"),
        ("actions:", "actions: [", r"x\.yaml: .*line \d+"),
        ("do: task, code: followup-call", "do: message, text: '{{pulse}}'", r"unknown variable 'pulse'"),
        ("do: task, code: followup-call", "do: message, text: '尊敬的患者'", r"generic address"),
        ("  - {id: a", "  - {id: a, do: task, code: c, title: U}\n  - {id: a", r"each with an id of its own"),
    ],
)
def test_wrong_file_is_refused_with_place_and_reason(old: str, new: str, reason: str) -> None:
    with pytest.raises(PathwayError, match=f"(?s){reason}"):
        parse(GOOD.replace(old, new), "x.yaml")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{name: K, codes: [1], units: {mmol/L: 1}, source: s}", "neither 'low' nor 'high'"),
        ("{name: K, codes: [1], units: {mmol/L: 1}, low: 7, high: 6, source: s}", "not below"),
        ("{name: K, codes: [1], units: {}, low: 7, source: s}", "'units' must name"),
        ("{name: K, codes: [1], units: {mmol/L: 0}, low: 7, source: s}", "above 0"),
        ("{name: K, codes: [1], units: {mmol/L: 1}, low: much, source: s}", "not a number"),
        ("{name: K, codes: [1], units: {mmol/L: 1}, low: 7}", "'source' is missing"),
    ],
)
def test_wrong_limit_is_refused(line: str, reason: str) -> None:
    with pytest.raises(PathwayError, match=reason):
        parse(GOOD + f"values: [{line}]", "x.yaml")
