"""A MeasureReport against its Measure: the groups, populations and stratifiers are those that the measure defines.

Specification: https://hl7.org/fhir/R4/measurereport-definitions.html, https://hl7.org/fhir/R4/measure-definitions.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fhir_server.validation.profiles.spots import Spot
from fhir_server.validation.report import Path, shown
from fhir_server.validation.values import listed

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context

Row = Mapping[str, Any]
SCORED = frozenset({"proportion", "ratio", "continuous-variable", "cohort"})
"""Scorings of which a group has a score."""


def check_measure_report(spot: Spot, context: Context) -> None:
    """A report: its measure must be known, else nothing can be said."""
    report = spot.value
    canonical = report.get("measure")
    if not isinstance(canonical, str) or not canonical:
        return
    measure = context.room.find(canonical)
    place = (spot.path, "measure", -1)
    if measure is None:
        english = f"the measure {canonical} is not known here, so the report was not checked against it"
        chinese = f"指标 {canonical} 此处未知，未检查报告"
        context.report.add("not-found", place, english, chinese, severity="warning", rule="measure-unknown")
    elif measure.get("resourceType") != "Measure":
        kind = measure.get("resourceType")
        english = f"{canonical} is a {kind}, not a Measure"
        context.report.add("structure", place, english, f"{canonical} 是 {kind}，不是 Measure", rule="measure")
    else:
        _Walk(measure, report, context).groups(spot.path)


class _Walk:
    """One report along its measure."""

    def __init__(self, measure: Row, report: Row, context: Context) -> None:
        self._measure, self._report, self._context = measure, report, context
        self._kind = str(report.get("type"))

    def _add(self, code: str, path: Path, english: str, chinese: str, rule: str, severity: str = "error") -> None:
        url = str(self._measure.get("url", ""))
        self._context.report.add(code, path, english, chinese, severity=severity, rule=rule, profile=url)

    def groups(self, path: Path) -> None:
        """A measure with one group needs no codes to tell which is meant."""
        defined, given = listed(self._measure, "group"), listed(self._report, "group")
        alone = len(defined) == 1 and len(given) == 1 and ("code" not in given[0] or "code" not in defined[0])
        pairs = [(0, 0)] if alone else self._matched(defined, given, path, "group")
        for there, here in pairs:
            self._group(defined[there], given[here], (path, "group", here))

    def _group(self, defined: Row, given: Row, path: Path) -> None:
        populations, counted = listed(defined, "population"), listed(given, "population")
        for _, here in self._matched(populations, counted, path, "population"):
            self._population(counted[here], (path, "population", here))
        self._matched(listed(defined, "stratifier"), listed(given, "stratifier"), path, "stratifier")
        scoring = {str(row.get("code")) for row in listed(self._measure.get("scoring") or {}, "coding")} & SCORED
        if scoring and "measureScore" not in given and self._kind != "data-collection":
            how = min(scoring)
            english = f"the measureScore is missing, which a measure with the scoring '{how}' demands"
            self._add("required", path, english, f"评分方式为“{how}”的指标，其分组须有 measureScore", "measure-score")

    def _population(self, given: Row, path: Path) -> None:
        if "subjectResults" in given and self._kind != "subject-list":
            english = f"only a report of type subject-list lists its subjects, not one of type {self._kind}"
            chinese = f"只有 subject-list 类型的报告列出受试者，{self._kind} 类型不列"
            self._add("structure", (path, "subjectResults", -1), english, chinese, "measure-subjects")

    def _matched(self, defined: Sequence[Row], given: Sequence[Row], path: Path, what: str) -> list[tuple[int, int]]:
        """Pairs (index in the measure, index in the report) of rows with the same meaning; tells of rows without a partner."""
        pairs: list[tuple[int, int]] = []
        taken: set[int] = set()
        for here, row in enumerate(given):
            place = (path, what, here)
            fitting = [there for there, one in enumerate(defined) if _same(one, row)]
            if not fitting:
                english = f"the measure defines no {what} like {_named(row)}"
                self._add("business-rule", place, english, f"指标未定义 {what} {_named(row)}", f"measure-{what}")
                continue
            free = next((there for there in fitting if there not in taken), None)
            if free is None:
                english = f"the {what} {_named(row)} stands there more often than the measure defines it"
                self._add("duplicate", place, english, f"{what} {_named(row)} 出现次数多于指标定义", f"measure-{what}")
                continue
            taken.add(free)
            pairs.append((free, here))
        if self._kind != "data-collection":
            for there, one in enumerate(defined):
                if there not in taken and not _calculated(one):
                    english = f"the {what} {_named(one)} that the measure defines is missing"
                    self._add("required", path, english, f"缺少指标定义的 {what} {_named(one)}", f"measure-{what}")
        return pairs


def _same(defined: Row, given: Row) -> bool:
    """Whether a row of the report is the one of the measure: by a code, by its text where there is no code, else by its id or place."""
    mine, theirs = _codes(defined), _codes(given)
    if mine and theirs:
        return not mine.isdisjoint(theirs)
    text, other = _text(defined), _text(given)
    if text and other:
        return text == other
    ids = {one["id"] for one in (defined, given) if "id" in one}
    return not (mine or theirs or text or other) and len(ids) < 2


def _codes(row: Row) -> set[tuple[Any, Any]]:
    """Codes of a row; those of its parts where it has only these."""
    concepts = [row.get("code"), *row["code"]] if isinstance(row.get("code"), list) else [row.get("code")]
    return {(coding.get("system"), coding.get("code")) for one in concepts if isinstance(one, dict) for coding in listed(one, "coding")}


def _text(row: Row) -> str:
    code = row.get("code")
    code = code[0] if isinstance(code, list) and code else code
    return str(code.get("text", "")) if isinstance(code, dict) else ""


def _named(row: Row) -> str:
    codes = _codes(row)
    named = ", ".join(sorted(str(code) for _, code in codes)) or _text(row) or str(row.get("id") or "without code")
    return shown(named)


def _calculated(row: Row) -> bool:
    """Populations that a report need not count."""
    return any(code == "measure-observation" for _, code in _codes(row))
