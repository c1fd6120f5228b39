"""`make bench-peer`: W3, W4, W7 and W11 on this server and on another FHIR server of the same machine, in turn within one run.

python -m benchmarks.side_by_side --peer NAME=URL --pid PID[+PID] [--patients N] [--observations M] [--seconds S] [--rounds R] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import math
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from benchmarks.__main__ import machine, markdown, show, this_server
from benchmarks.drive import Result, drive
from benchmarks.own import fill, searches
from benchmarks.population import Population
from benchmarks.searching import Answers

HOW = """Both servers are loaded with the same population by the same transactions. Each round measures both, workload by
workload, the order turning; the figures are medians of the rounds. CPU is that of all processes of a server, its database
included, for one request. A workload that one of them answers wrongly has no ratio."""
HEAD = ["workload", "CPU ms", "peer's CPU ms", "ratio", "p50/p99 ms", "peer's p50/p99 ms", "requests/s", "peer's", "wrong", "peer's wrong"]


class Side(NamedTuple):
    """One of the two servers: its base URL and process ids."""

    name: str
    base: str
    pids: tuple[int, ...]


async def measured(sides: list[Side], options: argparse.Namespace, progress: Progress) -> list[list[str]]:
    """Rows of the table, with the geometric mean of the ratios at the end."""
    population = Population(options.patients, options.observations)
    for side in sides:
        task = progress.add_task(f"{side.name} is loaded", total=None)
        await fill(side.base, population)
        progress.remove_task(task)
    plan = searches(population, Answers(population))
    found: dict[tuple[str, str], list[Result]] = {}
    task = progress.add_task("workloads", total=len(plan) * len(sides) * (options.rounds + 1))
    for number in range(options.rounds + 1):
        for name, operation, clients in plan:
            for side in sides if number % 2 else reversed(sides):
                progress.update(task, description=f"{name} · {side.name}")
                # The first round warms both up (compilers, caches) and is thrown away.
                seconds = options.seconds if number else 2.0
                result = await drive(name, side.base, operation, clients=clients, seconds=seconds, pid=side.pids)
                if number:
                    found.setdefault((name, side.name), []).append(result)
                progress.advance(task)
    ratios: list[float] = []
    rows = [_row(name, [found[name, side.name] for side in sides], ratios) for name, _, _ in plan]
    if ratios:
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
        rows.append([f"geometric mean of {len(ratios)} workloads", "", "", f"{mean:.1f}×", "", "", "", "", "", ""])
    return rows


def _row(name: str, results: list[list[Result]], ratios: list[float]) -> list[str]:
    cpu = [statistics.median(one.cpu_ms for one in rounds) for rounds in results]
    wrong = [sum(len(one.wrong) for one in rounds) for rounds in results]
    right = not any(wrong) and cpu[0] > 0
    if right:
        ratios.append(cpu[1] / cpu[0])
    latency = [f"{statistics.median(one.p50 for one in rounds)}/{statistics.median(one.p99 for one in rounds)}" for rounds in results]
    rate = [f"{statistics.median(one.rate for one in rounds):.0f}" for rounds in results]
    ratio = f"{cpu[1] / cpu[0]:.1f}×" if right else ""
    return [name, f"{cpu[0]:.3f}", f"{cpu[1]:.2f}", ratio, *latency, *rate, *(str(number) for number in wrong)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-peer", description=__doc__)
    parser.add_argument("--peer", required=True, help="NAME=URL of the other server, with an empty store")
    parser.add_argument("--pid", required=True, help="its process ids, joined by +, database included")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--observations", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args()
    name, _, url = options.peer.partition("=")
    peer = Side(name, url, tuple(int(pid) for pid in options.pid.split("+")))
    with tempfile.TemporaryDirectory() as folder, this_server(Path(folder), 1) as target, Progress(transient=True) as progress:
        sides = [Side("this server", target.base, (target.pid or 0,)), peer]
        rows = asyncio.run(measured(sides, options, progress))
    title = f"W3, W4, W7, W11 beside {name}: {options.patients} patients, {options.observations} observations each"
    show(title, rows, HEAD)
    if options.out:
        head = f"# {dt.date.today().isoformat()}: beside {name}, in one run\n\n{machine()}\n\n{HOW}\n\n"
        options.out.write_text(head + markdown(title, rows, HEAD), encoding="utf-8")
        print(f"written to {options.out}")
    return 1 if any(row[8] not in ("0", "") for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
