"""`make bench`: this server under the named workloads, CPU per request beside its budget, a peer in the same run when asked.

python -m benchmarks [--peer URL] [--patients N] [--observations M] [--seconds S] [--only NAME,...] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import fhirload, own
from benchmarks.budget import BUDGET_MS, PEERS_MS
from benchmarks.process import cpu_seconds, memory_mib

ROOT = Path(__file__).resolve().parent.parent
NEUTRAL = [name for name in BUDGET_MS if name != "import"]


@dataclass(slots=True)
class Target:
    """A server under test; `pid` None when it is not ours to look at."""

    name: str
    base: str
    pid: int | None
    state: Path


@contextmanager
def this_server(folder: Path, workers: int) -> Iterator[Target]:
    """A fresh server on the embedded store, durable, in a folder of its own."""
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", "0", "--mllp-port", "off"]
    command += ["--data-dir", str(folder / "data"), "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        assert process.stdout
        base = next((line.split()[2] for line in process.stdout if line.startswith("fhir-server ready ")), None)
        if base is None:
            raise RuntimeError("the server did not start; try fhir-server serve")
        yield Target("this server", base, process.pid, folder / "state.json")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def neutral_load(program: Path, target: Target, patients: int, observations: int) -> dict[str, Any]:
    """Import the load tool's population; its report."""
    arguments = ["load", "--name", target.name, "--base", target.base, "--patients", str(patients), "--obs", str(observations)]
    arguments += ["--concurrency", "4", "--state", str(target.state)]
    if target.pid:
        arguments += ["--pid", str(target.pid)]
    return fhirload.lines(program, *arguments)[-1]


def neutral_run(program: Path, target: Target, workload: str, seconds: float) -> dict[str, Any]:
    """One workload of the load tool on 8 connections."""
    arguments = ["run", "--name", target.name, "--base", target.base, "--state", str(target.state), "--workload", workload]
    arguments += ["--concurrency", "8", "--duration", f"{seconds}s", "--warmup", "1s"]
    if target.pid:
        arguments += ["--pid", str(target.pid)]
    return fhirload.lines(program, *arguments)[-1]


def neutral_rows(program: Path, target: Target, peer: Target | None, options: argparse.Namespace, progress: Progress) -> list[list[str]]:
    """Rows of the load tool's workloads, reads and searches before the writes, ours and the peer's in turn."""
    rows = []
    report = neutral_load(program, target, options.patients, options.observations)
    cpu = report.get("server_cpu_ms_per_resource", 0.0)
    rows.append(_row("import", f"{report.get('resources_per_s', 0):.0f}", report.get("bundle_ms"), cpu, 0, report.get("server_mem_mib")))
    if peer:
        theirs = neutral_load(program, peer, options.patients, options.observations)
        rows[-1].append(f"{report.get('resources_per_s', 0) / max(theirs.get('resources_per_s', 0), 1e-9):.1f}")
    chosen = [name for name in NEUTRAL if not options.only or name in options.only]
    task = progress.add_task("load tool", total=len(chosen))
    for name in chosen:
        progress.update(task, description=name)
        result = neutral_run(program, target, name, options.seconds)
        wrong = result["wrong_answers"] + result["errors"]
        rows.append(
            _row(
                name,
                f"{result['good_req_per_s']:.0f}",
                result["latency_ms"],
                result.get("server_cpu_ms_per_req", 0.0),
                wrong,
                result.get("server_mem_mib"),
            )
        )
        if peer:
            theirs = neutral_run(program, peer, name, options.seconds)
            rows[-1].append(f"{result['good_req_per_s'] / max(theirs['good_req_per_s'], 1e-9):.1f}")
        progress.advance(task)
    return rows


def _row(name: str, rate: str, latency: dict[str, float] | None, cpu: float, wrong: int, memory: float | None) -> list[str]:
    budget = BUDGET_MS.get(name)
    verdict = "" if budget is None else "yes" if cpu <= budget else f"no, {cpu / budget:.1f}×"
    peers = PEERS_MS.get(name)
    return [
        name,
        rate,
        "/".join(str(latency.get(key, "")) for key in ("p50", "p95", "p99")) if latency else "",
        f"{cpu:.3f}",
        "" if budget is None else f"{budget:g}",
        verdict,
        "/".join(f"{value:g}" for value in peers) if peers else "",
        str(wrong),
        f"{memory:.0f}" if memory else "",
    ]


HEAD = ["workload", "good req/s", "p50/p95/p99 ms", "CPU ms/req", "budget", "met", "Helios/HAPI CPU ms", "wrong", "MiB"]


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?"
    )
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def markdown(title: str, rows: list[list[str]], head: list[str]) -> str:
    """A table for benchmarks/results."""
    width = max(len(head), *(len(row) for row in rows)) if rows else len(head)
    head = head + ["ours/peer"] * (width - len(head))
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]) + "\n"


def show(title: str, rows: list[list[str]], head: list[str]) -> None:
    table = Table(title=title)
    for name in head:
        table.add_column(name, justify="left" if name == head[0] else "right")
    for row in rows:
        table.add_row(*row[: len(head)])
    Console(width=150).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--peer", help="base URL of another FHIR server on this machine, loaded afresh, measured in the same run")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--observations", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()
    program = fhirload.tool()
    text = f"# {dt.date.today().isoformat()}: embedded store, synchronous=FULL, {options.workers} worker(s)\n\n{machine()}\n\n"
    bad = False
    with tempfile.TemporaryDirectory() as name, Progress(transient=True) as progress:
        folder = Path(name)
        began = time.perf_counter()
        with this_server(folder, options.workers) as target:
            ready, idle = time.perf_counter() - began, memory_mib(target.pid or 0)
            text += f"Ready after {ready:.2f} s, {cpu_seconds(target.pid or 0):.2f} s CPU, {idle:.0f} MiB idle.\n\n"
            if program:
                peer = Target("peer", options.peer, None, folder / "peer.json") if options.peer else None
                rows = neutral_rows(program, target, peer, options, progress)
                title = f"Load tool: {options.patients} patients, {options.observations} observations each, 8 connections"
                show(title, rows, HEAD)
                text += markdown(title, rows, HEAD) + "\n"
                bad |= any(row[7] != "0" for row in rows)
            else:
                print("Go or the load tool's sources are not here; the repository's own workloads follow.")
        # A store of its own: the load tool's data would be among the answers.
        with this_server(folder / "own", options.workers) as target:
            rows = asyncio.run(own.run(target.base, target.pid, options, progress))
            show("Own workloads", rows, own.HEAD)
            text += markdown("Own workloads (W1–W5, W11)", rows, own.HEAD)
            bad |= any(row[-1] != "0" for row in rows)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        print(f"written to {options.out}")
    if bad:
        print("Wrong answers: a fast wrong answer scores zero.", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
