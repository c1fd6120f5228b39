"""A MeasureReport against its Measure. Source: R4, MeasureReport.group.code, .population.code, .stratifier.code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.profiled import found, room

URL = "http://example.org/Measure/m"
POPULATIONS = "http://terminology.hl7.org/CodeSystem/measure-population"


def coded(code: str, system: str = POPULATIONS) -> dict[str, Any]:
    return {"code": {"coding": [{"system": system, "code": code}]}}


def measure(*groups: dict[str, Any], scoring: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Measure", "url": URL, "status": "active", "group": list(groups)}
    if scoring:
        made["scoring"] = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/measure-scoring", "code": scoring}]}
    return made


def report(*groups: dict[str, Any], type: str = "summary") -> dict[str, Any]:
    made = {"resourceType": "MeasureReport", "status": "complete", "type": type, "measure": URL, "period": {"start": "2026"}}
    return made | {"group": list(groups)} if groups else made


def group(code: str = "", populations: tuple[str, ...] = ("initial-population",), **more: Any) -> dict[str, Any]:
    return (coded(code, "http://x.org") if code else {}) | {"population": [coded(one) | more for one in populations]}


def criteria(of: dict[str, Any]) -> dict[str, Any]:
    """The group of a measure: each population has a criterion."""
    rule = {"criteria": {"language": "text/fhirpath", "expression": "true"}}
    return of | {"population": [one | rule for one in of["population"]]}


def rules(content: dict[str, Any], defined: dict[str, Any]) -> list[tuple[str, str]]:
    return [(issue.rule, issue.expression[0]) for issue in found(content, beside=(defined,))]


ONE, TWO = criteria(group()), criteria(group("b", ("initial-population", "numerator")))
A = criteria(group("a"))


def test_the_groups_are_those_of_the_measure() -> None:
    assert rules(report(group()), measure(ONE)) == []
    assert rules(report(group("a"), group("b", ("initial-population", "numerator"))), measure(A, TWO)) == []
    assert rules(report(group("b", ("numerator", "initial-population")), group("a")), measure(A, TWO)) == [], "in any order"
    assert rules(report(group("a"), group("c")), measure(A, TWO)) == [
        ("measure-group", "MeasureReport.group[1]"), ("measure-group", "MeasureReport"),
    ]  # fmt: skip
    assert rules(report(group(), group()), measure(ONE)) == [("measure-group", "MeasureReport.group[1]")]


def test_the_populations_are_those_of_the_group() -> None:
    assert rules(report(group(populations=("initial-population", "numerator"))), measure(ONE)) == [
        ("measure-population", "MeasureReport.group[0].population[1]")
    ]
    both = criteria(group(populations=("initial-population", "numerator")))
    assert rules(report(group()), measure(both)) == [("measure-population", "MeasureReport.group[0]")]
    twice = criteria(group(populations=("initial-population", "initial-population", "measure-observation")))
    assert rules(report(group(populations=("initial-population",) * 2)), measure(twice)) == [], "an observation need not be counted"
    assert rules(report(group(populations=("initial-population",) * 3)), measure(twice)) == [
        ("measure-population", "MeasureReport.group[0].population[2]")
    ]


def test_the_stratifiers_are_those_of_the_group() -> None:
    defined = ONE | {"stratifier": [{"code": {"text": "age"}, "criteria": {"language": "text/fhirpath", "expression": "true"}}]}
    assert rules(report(group() | {"stratifier": [{"code": [{"text": "age"}]}]}), measure(defined)) == []
    assert rules(report(group() | {"stratifier": [{"code": [{"text": "sex"}]}]}), measure(defined)) == [
        ("measure-stratifier", "MeasureReport.group[0].stratifier[0]"), ("measure-stratifier", "MeasureReport.group[0]"),
    ]  # fmt: skip


@pytest.mark.parametrize("scoring", ["proportion", "ratio", "continuous-variable", "cohort"])
def test_a_scored_measure_has_scores(scoring: str) -> None:
    assert rules(report(group() | {"measureScore": {"value": 1}}), measure(ONE, scoring=scoring)) == []
    assert rules(report(group()), measure(ONE, scoring=scoring)) == [("measure-score", "MeasureReport.group[0]")]


def test_only_a_list_of_subjects_lists_them() -> None:
    listed = group(subjectResults={"reference": "List/1"})
    assert rules(report(listed, type="subject-list"), measure(ONE)) == []
    assert rules(report(listed), measure(ONE)) == [("measure-subjects", "MeasureReport.group[0].population[0].subjectResults")]


def test_a_measure_that_is_not_here_is_told_and_refuses_nothing() -> None:
    issues = room().validate(report(group()))
    assert ("measure-unknown", "warning") in [(issue.rule, issue.severity) for issue in issues]
    other = {"resourceType": "Questionnaire", "url": URL, "status": "active"}
    assert rules(report(group()), other) == [("measure", "MeasureReport.measure")]
