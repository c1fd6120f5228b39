"""The growth benchmark's workloads run and answer right; its checks, sums and chart can be relied on. Nothing here is timed."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import growth, growth_reads, growth_writes
from benchmarks import growth_population as g
from benchmarks.growth_chart import chart
from benchmarks.growth_client import Line, measure, percentile
from benchmarks.growth_report import Measured, bytes_on_paper, exponent, goals, on_paper, page

PERSONS = 40
REQUESTS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("growth")


@pytest.fixture(scope="module")
def measured(folder: Path) -> Measured:
    """All workloads over a store of 2,000 resources."""
    return growth.one_size(folder, PERSONS * g.PER_PATIENT, REQUESTS, 10.0, cold=False)


def test_every_answer_is_right(measured: Measured) -> None:
    assert {line.name: line.wrong for line in measured.lines if line.wrong} == {}


def test_all_kinds_of_workload_are_measured(measured: Measured) -> None:
    groups = {line.group for line in measured.lines}
    assert groups == {growth_reads.SINGLE, growth_reads.JOINED, growth_reads.SORTED, growth_reads.COUNTS, growth_writes.WRITES}
    assert [line.name for line in measured.lines if line.requests != REQUESTS] == []
    names = [line.name for line in measured.lines]
    assert len(names) == len(set(names)) and "one code by date, page 10" in names


def test_a_p99_is_not_shown_for_few_requests(measured: Measured) -> None:
    assert all(line.p99 is None for line in measured.lines)


def test_first_answers_are_measured_and_checked(measured: Measured, folder: Path) -> None:
    known, line = g.Known(PERSONS), Line("", "", 1, 1.0, None, 1.0)
    counts = [one for one in growth_reads.workloads(known) if one.cold]
    growth.first_answer(folder / "data", counts[-1], line)
    assert line.cold and line.wrong == []
    growth.first_answer(folder / "data", growth_reads.workloads(g.Known(PERSONS + 200))[-1], line)
    assert line.wrong != []


def test_writes_leave_the_measured_store_as_it_was(measured: Measured, folder: Path) -> None:
    assert [path.name for path in sorted(folder.iterdir())] == ["data", "patients"]
    with growth.server(folder / "data") as (base, pid):
        known = g.Known(PERSONS)
        everything = next(one for one in growth_reads.workloads(known) if one.name == "count: all Observations")
        assert measure(base, pid, everything, 1, 1.0).wrong == []


def test_wrong_answers_are_noticed(measured: Measured, folder: Path) -> None:
    """Asked about 41 persons, of whom the store has 40, each workload over all of them has a wrong answer."""
    with growth.server(folder / "data") as (base, pid):
        asked = {workload.name: workload for workload in growth_reads.workloads(g.Known(PERSONS + 1))}
        counts = [workload for name, workload in asked.items() if name.startswith("count: ") and "rare" not in name and "_has" not in name]
        assert len(counts) == 5
        for workload in [*counts, asked["read"], asked["reference: 49 of one patient"], asked["date: 20 matches"]]:
            assert measure(base, pid, workload, 300, 10.0).wrong, workload.name
        query = f"Observation?{growth_reads.coded(g.FREQUENT)}&_sort=-date&_count=20"
        right = growth_reads.sliced(g.Known(PERSONS + 1).newest(200, g.FREQUENT))
        found, wrong = growth_reads.pages(base, query, right, (10,), list)
        assert found == {} and len(wrong) == 1 and "wanted" in wrong[0]
        short = growth_reads.pages(base, "Patient?_sort=family&_count=20", [["g0"]] * 3, (3,), lambda ids: 0)[1]
        assert len(short) == 1 and "no next page" in short[0]


def test_an_unwritten_update_is_noticed(measured: Measured, folder: Path) -> None:
    written = growth_writes.Written(g.Known(PERSONS))
    written.update(random.Random(1))
    with growth.server(folder / "data") as (base, _):
        assert ["is lost" in fault for fault in written.faults(base)] == [True]


def test_the_generator_knows_who_was_measured_when() -> None:
    known = g.Known(1000)
    assert len(set(known.seconds)) == 49_000 and list(known.seconds) == sorted(known.seconds)
    for p, k in ((0, 0), (17, 3), (999, 48), (5_000_000, 20)):
        assert g.owner(g.second(p, k)) == (p, k)
    newest = sorted(((g.second(p, k), p, k) for p in range(1000) for k in range(24)), reverse=True)[:50]
    assert known.newest(50, g.FREQUENT) == [f"g{p}-{k}" for _, p, k in newest]
    assert known.frequent_from(g.SPAN // 2) == sum(g.second(p, k) >= g.SPAN // 2 for p in range(1000) for k in range(24))


@pytest.mark.parametrize("p", [0, 41, 799, 800, 1234])
def test_the_generator_knows_who_shares_what(p: int) -> None:
    others = range(3200)
    assert list(g.relatives(p)) == [q for q in others if g.family(q) == g.family(p)] and len(g.relatives(p)) == 4
    assert list(g.namesakes(p)) == [q for q in others if g.family(q).startswith(g.family(p)[:-1])] and len(g.namesakes(p)) == 20
    assert list(g.sharers(p)) == [q for q in others if g.rare(q) == g.rare(p)] and len(g.sharers(p)) == 20


def test_a_run_asks_for_the_disk_that_it_needs(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="GB free; 1,000,000,000,000 resources need about 1300000"):
        growth.run(tmp_path, [1000, 10**12], 1, 1.0, None)
    assert list(tmp_path.iterdir()) == []


def test_percentiles_are_of_nearest_rank() -> None:
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99
    assert percentile([float(n) for n in range(1, 101)], 0.5) == 50
    assert percentile([7.0], 0.99) == 7


def test_paper_goes_on_as_the_figures_did() -> None:
    assert exponent([(1e5, 2.0), (1e6, 20.0)]) == pytest.approx(1)
    assert on_paper([(1e5, 2.0), (1e6, 20.0)]) == pytest.approx(200)
    assert on_paper([(1e5, 3.0), (1e6, 3.0)]) == pytest.approx(3)
    assert on_paper([(1e5, 3.0), (1e6, 2.5)]) == 2.5
    # 50 MB at 100,000, 590 MB at a million: 600 bytes for each further one, 5,990 MB at ten million.
    assert bytes_on_paper([(1e5, 500.0), (1e6, 590.0)]) == pytest.approx(599)


def _two_sizes() -> list[Measured]:
    def lines(factor: float) -> list[Line]:
        return [
            Line("patient + code, newest 20", growth_reads.SINGLE, 2000, 0.5, 4.9 * factor, 0.4),
            Line("count: one code, 98 % of the store", growth_reads.COUNTS, 300, 9 * factor, None, 9, cold=90 * factor),
            Line("one code by date, page 1", growth_reads.SORTED, 2000, 0.5, 1, 0.4),
            Line("one code by date, page 1,000", growth_reads.SORTED, 2000, 0.5 * factor, 1, 0.4),
        ]

    return [Measured(100_000, {"bytes per resource": 500}, lines(1)), Measured(1_000_000, {"bytes per resource": 590}, lines(3))]


def test_missed_goals_are_named() -> None:
    text = goals(_two_sizes())
    missed = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if "**no**" in line]
    assert missed == [
        "p99 of patient + code, newest 20",
        "first answer of count: one code, 98 % of the store",
        "page 1,000 / page 1, p50",
        "searches that take 2 times as long as in the smallest store",
    ]


def test_the_chart_names_axes_and_all_workloads() -> None:
    drawing = ET.fromstring(chart(_two_sizes()))
    texts = [element.text or "" for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("resources in the store") == texts.count("milliseconds (p50)") == 3
    assert {"100 k", "1 M", "10 M"} <= set(texts)
    for line in _two_sizes()[0].lines:
        assert any(text.startswith(line.name + ": ") for text in texts)


def test_the_page_has_a_row_for_each_workload_and_shows_the_chart() -> None:
    text = page(_two_sizes(), "a machine", "growth.svg")
    assert "](growth.svg)" in text and "a machine" in text
    assert "| patient + code, newest 20 | 0.50 / 4.90 / 0.400 | 0.50 / 14.7 / 0.400 | 1.00 | 0.50 |" in text
    assert "| count: one code, 98 % of the store | 9.00 / – / 9.000 | 27.0 / – / 9.000 | 3.00 |" in text
