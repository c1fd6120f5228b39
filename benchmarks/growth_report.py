"""The growth benchmark's tables: figures by size, goals, and what the growth so far means for ten million resources."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

from benchmarks.growth_client import Line

PAPER = 10_000_000
NEWEST, FIRST_PAGE, LAST_PAGE = "patient + code, newest 20", "one code by date, page 1", "one code by date, page 1,000"
FEW_GROWING = 2.0
"""The goal: times between the smallest and the largest store, of ten or more times the size."""


@dataclass(slots=True)
class Measured:
    """One size: how many resources, figures of the store by name, and the workloads."""

    resources: int
    facts: dict[str, float]
    lines: list[Line]

    def line(self, name: str) -> Line | None:
        return next((line for line in self.lines if line.name == name), None)


def exponent(points: list[tuple[float, float]]) -> float:
    """The e of figure ~ resources^e that fits best (least squares of the logarithms): 0 = it does not grow, 1 = it grows as the store."""
    logs = [(math.log(size), math.log(figure)) for size, figure in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread


def on_paper(points: list[tuple[float, float]], size: float = PAPER) -> float:
    """The last figure, grown on by the exponent of all of them; one that shrank is taken to stay."""
    last_size, last = points[-1]
    return last * (size / last_size) ** max(0.0, exponent(points))


def bytes_on_paper(points: list[tuple[float, float]], size: float = PAPER) -> float:
    """Bytes per resource at that size, from (resources, bytes per resource): what was added between the last two sizes goes on."""
    (few, of_few), (many, of_many) = points[-2], points[-1]
    slope = (many * of_many - few * of_few) / (many - few)
    return (many * of_many + (size - many) * slope) / size


def points_of(measured: list[Measured], name: str) -> list[tuple[float, float]]:
    """(resources, p50) of one workload, by size."""
    return [(one.resources, line.p50) for one in measured if (line := one.line(name))]


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    p99 = "–" if line.p99 is None else number(line.p99)
    return f"{number(line.p50)} / {p99} / {line.cpu:.3f}"


def figures(measured: list[Measured]) -> str:
    """A table per group."""
    sizes = [f"{one.resources:,}" for one in measured]
    text = "p50 / p99 / CPU of the server per request, in ms.\n"
    for group in dict.fromkeys(line.group for line in measured[-1].lines):
        text += f"\n## {group}\n\n" + _row("workload", *sizes, "last/first", "10 M on paper, p50")
        text += "|" + "---|" * (len(sizes) + 3) + "\n"
        for name in [line.name for line in measured[-1].lines if line.group == group]:
            points = points_of(measured, name)
            grown = [f"{points[-1][1] / points[0][1]:.2f}", number(on_paper(points))] if len(points) > 1 else ["", ""]
            text += _row(name, *(_cell(one.line(name)) for one in measured), *grown)
    return text


def cold(measured: list[Measured]) -> str:
    """First answers of a fresh server."""
    names = [line.name for line in measured[-1].lines if line.cold is not None]
    text = "\n## First answer\n\nOf a server that has just started, nothing of the store in the memory of the operating system; ms.\n\n"
    text += _row("workload", *(f"{one.resources:,}" for one in measured)) + "|" + "---|" * (len(measured) + 1) + "\n"
    for name in names:
        found = [one.line(name) for one in measured]
        text += _row(name, *(number(line.cold) if line and line.cold is not None else "" for line in found))
    return text


def store(measured: list[Measured]) -> str:
    """Bytes, load rate, start, memory."""
    text = "\n## Store\n\n" + _row("", *(f"{one.resources:,}" for one in measured), "10 M on paper")
    text += "|" + "---|" * (len(measured) + 2) + "\n"
    for name in measured[-1].facts:
        values = ["" if math.isnan(one.facts[name]) else number(one.facts[name]) for one in measured]
        paper = ""
        if name == "bytes per resource" and len(measured) > 1:
            points = [(float(one.resources), one.facts[name]) for one in measured]
            paper = f"{bytes_on_paper(points):.0f} ({bytes_on_paper(points) * PAPER / 1e9:.1f} GB)"
        text += _row(name, *values, paper)
    return text


def goals(measured: list[Measured]) -> str:
    """The numbered goals beside what was measured at the largest size."""
    last = measured[-1]
    rows: list[tuple[str, float, float, str]] = []

    def goal(what: str, value: float | None, bound: float, unit: str) -> None:
        if value is not None:
            rows.append((what, value, bound, unit))

    newest = last.line(NEWEST)
    goal(f"p99 of {NEWEST}", newest.p99 if newest else None, 5, " ms")
    for line in last.lines:
        if line.name.startswith("count: one code"):
            goal(f"p50 of {line.name}", line.p50, 100, " ms")
            goal(f"first answer of {line.name}", line.cold, 100, " ms")
    first, far = last.line(FIRST_PAGE), last.line(LAST_PAGE)
    goal("page 1,000 / page 1, p50", far.p50 / first.p50 if first and far else None, 1.5, "")
    goal("bytes per resource", last.facts.get("bytes per resource"), 700, "")
    text = f"\n## Goals at {last.resources:,} resources\n\n" + _row("goal", "measured", "at most", "met") + "|---|---|---|---|\n"
    for what, value, bound, unit in rows:
        text += _row(what, number(value) + unit, f"{bound:g}{unit}", "yes" if value <= bound else "**no**")
    if len(measured) > 1:
        growth = {line.name: points_of(measured, line.name) for line in last.lines if line.group not in ("Counts",)}
        over = [f"{name} ({p[-1][1] / p[0][1]:.1f}×)" for name, p in growth.items() if len(p) > 1 and p[-1][1] / p[0][1] >= FEW_GROWING]
        text += _row(
            "searches that take 2 times as long as in the smallest store", ", ".join(over) or "none", "none", "**no**" if over else "yes"
        )
    return text


def method(measured: list[Measured]) -> str:
    """How to read the figures, and how those on paper were made."""
    return f"""
One request at a time over one kept connection; a time is from the first byte sent to the last byte received, without preparing the
request or parsing and checking the answer. Every answer was checked against the generator. A p99 is of 2,000 requests or more (– where
fewer were made, because they took long). CPU is of all processes of the server, by their own clocks. Writes went to a copy of the store.

10 M on paper: a time is the last one measured times (10 M / its size)^e, e fitted over all sizes (least squares of the logarithms; 0
where a time shrank); bytes are those of the last store plus those that each further resource added between the last two sizes.
{len(measured)} size(s) were measured{"" if len(measured) > 1 else ": nothing to calculate from"}.
"""


def page(measured: list[Measured], machine: str, chart: str | None) -> str:
    """The whole result as Markdown."""
    text = f"# {dt.date.today().isoformat()}: growth of the store\n\n{machine}\n"
    text += method(measured)
    if chart:
        text += f"\n![p50 of each workload against the number of resources]({chart})\n"
    text += goals(measured) + store(measured) + cold(measured) + "\n" + figures(measured)
    return text
