"""The growth benchmark's chart: one SVG, a panel per group, p50 against the number of resources, both axes logarithmic.

Colours are those of Okabe and Ito, told apart with every kind of colour blindness (https://jfly.uni-koeln.de/color/); each line has a
mark of its own besides. Dashed: on paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.growth_report import PAPER, Measured, number, on_paper, points_of

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
WIDTH, HEIGHT, COLUMNS = 700, 400, 2
LEFT, RIGHT, TOP, BOTTOM = 64, 330, 40, 52
LABEL = 15
"""Least distance of two labels."""
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}.axis{stroke:#666}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:2}.paper{stroke-dasharray:5 4;stroke-width:1.5}"
)


@dataclass(slots=True)
class Series:
    """One workload: measured points (resources, ms), and what paper says at ten million."""

    name: str
    points: list[tuple[float, float]]
    paper: float | None
    colour: str
    mark: int

    @property
    def end(self) -> float:
        return self.points[-1][1] if self.paper is None else self.paper


@dataclass(slots=True)
class Panel:
    """Where figures lie in one panel."""

    x: int
    y: int
    sizes: tuple[float, float]
    times: tuple[float, float]

    def across(self, size: float) -> float:
        low, high = map(math.log, self.sizes)
        return self.x + LEFT + (math.log(size) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(self, time: float) -> float:
        low, high = map(math.log, self.times)
        return self.y + HEIGHT - BOTTOM - (math.log(time) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def chart(measured: Sequence[Measured]) -> str:
    """The SVG of all groups."""
    groups = list(dict.fromkeys(line.group for line in measured[-1].lines))
    rows = -(-len(groups) // COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        "<title>Latency of each workload against the number of resources</title>",
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for at, group in enumerate(groups):
        parts += _panel(group, _series(list(measured), group), WIDTH * (at % COLUMNS), HEIGHT * (at // COLUMNS))
    note = "p50 in ms, one connection; solid: measured, dashed: on paper to 10 M" if len(measured) > 1 else "p50 in ms, one connection"
    parts.append(f'<text x="{LEFT}" y="{height - 10}">{note}</text></svg>')
    return "\n".join(parts) + "\n"


def _series(measured: list[Measured], group: str) -> list[Series]:
    found: list[Series] = []
    for line in (line for line in measured[-1].lines if line.group == group):
        points, at = points_of(measured, line.name), len(found)
        paper = on_paper(points) if len(points) > 1 and points[-1][0] < PAPER else None
        found.append(Series(line.name, points, paper, COLOURS[at % len(COLOURS)], at % 4))
    return found


def _panel(group: str, series: list[Series], x: int, y: int) -> list[str]:
    sizes = sorted({size for one in series for size, _ in one.points} | ({PAPER} if any(one.paper for one in series) else set()))
    times = [time for one in series for _, time in one.points] + [one.paper for one in series if one.paper is not None]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)) + 1e-9)
    panel = Panel(x, y, (sizes[0], sizes[-1] if len(sizes) > 1 else 10 * sizes[0]), (10.0**low, 10.0 ** max(high, low + 1)))
    left, right, bottom, top = x + LEFT, x + WIDTH - RIGHT, y + HEIGHT - BOTTOM, y + TOP
    parts = [f'<text class="title" x="{left}" y="{y + 22}">{escape(group)}</text>']
    for power in range(low, max(high, low + 1) + 1):
        at = panel.up(10.0**power)
        parts.append(f'<line class="grid" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for size in sizes:
        at = panel.across(size)
        parts.append(f'<line class="axis" x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 5}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{short(size)}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{left},{top}V{bottom}H{right}"/>')
    parts.append(f'<text x="{(left + right) / 2:.1f}" y="{bottom + 38}" text-anchor="middle">resources in the store</text>')
    middle = (top + bottom) / 2
    parts.append(f'<text transform="translate({x + 16},{middle:.1f}) rotate(-90)" text-anchor="middle">milliseconds (p50)</text>')
    for one in series:
        parts += _line(panel, one)
    return parts + _labels(panel, series, right, top, bottom)


def short(size: float) -> str:
    """100 k, 1 M, 3.2 M."""
    return f"{size / 1e6:.3g} M" if size >= 1e6 else f"{size / 1e3:.3g} k"


def _line(panel: Panel, one: Series) -> list[str]:
    at = [(panel.across(size), panel.up(time)) for size, time in one.points]
    parts = [f'<polyline class="line" stroke="{one.colour}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>']
    parts += [_mark(x, y, one, solid=True) for x, y in at]
    if one.paper is not None:
        end = panel.across(PAPER), panel.up(one.paper)
        parts.append(f'<path class="line paper" stroke="{one.colour}" d="M{at[-1][0]:.1f},{at[-1][1]:.1f}L{end[0]:.1f},{end[1]:.1f}"/>')
        parts.append(_mark(*end, one, solid=False))
    return parts


def _mark(x: float, y: float, one: Series, *, solid: bool) -> str:
    """A circle, square, triangle or diamond."""
    shapes = (
        f"M{x - 4:.1f},{y:.1f}a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
        f"M{x - 3.6:.1f},{y - 3.6:.1f}h7.2v7.2h-7.2z",
        f"M{x:.1f},{y - 4.8:.1f}l4.6,8.4h-9.2z",
        f"M{x:.1f},{y - 5:.1f}l5,5l-5,5l-5,-5z",
    )
    return f'<path d="{shapes[one.mark]}" fill="{one.colour if solid else "#fff"}" stroke="{one.colour}" stroke-width="1.5"/>'


def _labels(panel: Panel, series: list[Series], right: int, top: int, bottom: int) -> list[str]:
    """Beside the ends of the lines, pushed apart where they would touch; a thin line leads to each."""
    ordered = sorted(series, key=lambda one: panel.up(one.end))
    places: list[float] = []
    for one in ordered:
        places.append(max(panel.up(one.end), places[-1] + LABEL if places else top))
    for at in range(len(places) - 1, -1, -1):
        limit = bottom if at == len(places) - 1 else places[at + 1] - LABEL
        places[at] = min(places[at], limit)
    parts = []
    for one, place in zip(ordered, places, strict=True):
        leader = f"M{right + 6},{panel.up(one.end):.1f}L{right + 20},{place:.1f}"
        parts.append(f'<path d="{leader}" stroke="{one.colour}" stroke-width="0.7" fill="none"/>')
        parts.append(_mark(right + 27, place, one, solid=True))
        parts.append(f'<text x="{right + 37}" y="{place + 4:.1f}">{escape(one.name)}: {number(one.points[-1][1])} ms</text>')
    return parts
