"""`make bench-growth`: the same requests on stores of growing size, one kept connection, every answer checked against the generator.

python -m benchmarks.growth [--sizes 100000,1000000] [--folder DIR] [--requests N] [--seconds S] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from benchmarks import growth_population as g
from benchmarks import growth_reads, growth_writes
from benchmarks.__main__ import machine
from benchmarks.growth_chart import chart
from benchmarks.growth_client import Client, Line, Workload, answer, faults, measure
from benchmarks.growth_report import Measured, page
from benchmarks.process import memory_mib

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 2000
"""Persons per load: what an interruption costs at most."""
LOADERS = 2
TRANSACTIONS = 300
DISK = 1300
"""Bytes per resource that a run needs: the store, its copy, a file to load from, and room for the log."""
SERVE = ("--port", "0", "--mllp-port", "off", "--workers", "1")


def fill(folder: Path, patients: int) -> float:
    """Grow the store to so many persons with `fhir-server load`; goes on where an earlier run ended. Resources per second, NaN for none."""
    mark = folder / "patients"
    first = have = int(mark.read_text()) if mark.exists() else 0
    if have > patients:
        raise SystemExit(f"the store in the folder holds {have * g.PER_PATIENT} resources already; name another --folder")
    took = 0.0
    with Progress() as progress:
        task = progress.add_task(f"loading to {patients * g.PER_PATIENT:,}", total=patients, completed=have)
        while have < patients:
            end, file = min(have + CHUNK, patients), folder / "chunk.ndjson"
            g.write_ndjson(file, have, end)
            command = [sys.executable, "-m", "fhir_server.cli", "load", "--data-dir", str(folder / "data")]
            began = time.perf_counter()
            subprocess.run([*command, "--workers", str(LOADERS), "--quiet", str(file)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            took += time.perf_counter() - began
            file.unlink()
            have = end
            mark.write_text(str(have))
            progress.update(task, completed=have)
    return (have - first) * g.PER_PATIENT / took if took else float("nan")


@contextmanager
def server(data: Path) -> Iterator[tuple[str, int]]:
    """The real server over a store: its base URL and process id."""
    command = [sys.executable, "-m", "fhir_server.cli", "serve", *SERVE, "--data-dir", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        assert process.stdout
        base = next((line.split()[2] for line in process.stdout if line.startswith("fhir-server ready ")), None)
        if base is None:
            raise RuntimeError("the server did not start; try fhir-server serve")
        yield base, process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def forget(data: Path) -> None:
    """Let the operating system drop what it holds of the store in memory."""
    for path in data.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_answer(data: Path, workload: Workload, line: Line) -> None:
    """Note the time of the first answer of a fresh server over a store that is not in memory."""
    forget(data)
    with server(data) as (base, _), Client(base) as client:
        ask = workload.make(random.Random(23))
        seconds, raw = client.exchange(client.prepared(ask))
        line.cold = 1000 * seconds
        line.wrong.extend(faults(ask, answer(raw)))


def disk_bytes(data: Path) -> int:
    """Bytes of a store once its log is copied back."""
    for path in data.rglob("*.db"):
        db = sqlite3.connect(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    return sum(path.stat().st_size for path in data.rglob("*") if path.is_file())


def told(line: Line) -> Line:
    """The line, after a word on the way of a long run."""
    print(f"{line.name}: {line.requests} requests, p50 {line.p50:.2f} ms", file=sys.stderr, flush=True)
    return line


def read_lines(data: Path, known: g.Known, requests: int, seconds: float, cold: bool) -> tuple[dict[str, float], list[Line]]:
    """Start, idle and used memory; all workloads that change nothing, and first answers when wanted."""
    began = time.perf_counter()
    with server(data) as (base, pid):
        facts = {"seconds until ready": time.perf_counter() - began, "MiB idle": memory_mib(pid)}
        asked = growth_reads.workloads(known)
        paged, wrong = growth_reads.sorted_searches(base, known)
        lines = [told(measure(base, pid, workload, requests, seconds)) for workload in [*asked, *paged]]
        lines[-1].wrong.extend(wrong)
        facts["MiB after all reads"] = memory_mib(pid)
    by_name = {line.name: line for line in lines}
    for workload in asked:
        if cold and workload.cold:
            first_answer(data, workload, by_name[workload.name])
    return facts, lines


def write_lines(data: Path, copy: Path, known: g.Known, requests: int, seconds: float) -> tuple[float, list[Line]]:
    """Writes to a copy, so that what is known about the store stays true; memory at the end."""
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(data, copy)
        os.sync()
        written = growth_writes.Written(known)
        with server(copy) as (base, pid):
            lines = []
            for workload in written.workloads():
                number = min(requests, TRANSACTIONS) if "transaction" in workload.name else requests
                lines.append(told(measure(base, pid, workload, number, seconds)))
            lines[-1].wrong.extend(written.faults(base))
            return memory_mib(pid), lines
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def one_size(folder: Path, size: int, requests: int, seconds: float, *, cold: bool = True) -> Measured:
    """Fill, start, measure."""
    patients, data = size // g.PER_PATIENT, folder / "data"
    rate = fill(folder, patients)
    resources, known = patients * g.PER_PATIENT, g.Known(patients)
    facts = {"bytes per resource": disk_bytes(data) / resources, "loaded resources per second": rate}
    found, lines = read_lines(data, known, requests, seconds, cold)
    memory, more = write_lines(data, folder / "copy", known, requests, seconds)
    facts |= {**found, "MiB after all writes": memory, "load average at the end": os.getloadavg()[0]}
    return Measured(resources, facts, lines + more)


def setting(folder: Path) -> str:
    """The machine, versions and settings that the figures belong to."""
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    db = sqlite3.connect(folder / "data" / "fhir.db")
    page_size, journal = db.execute("PRAGMA page_size").fetchone()[0], db.execute("PRAGMA journal_mode").fetchone()[0]
    db.close()
    return (
        f"{machine()}, {memory:.0f} GB of memory, SQLite {sqlite3.sqlite_version}; "
        f"fhir-server {version('fhir-server')} ({revision or 'no revision'}), "
        f"embedded store, synchronous=FULL, journal {journal}, pages of {page_size} bytes; `serve {' '.join(SERVE)}`, all other settings "
        f"as they are by default; loaded by `load --workers {LOADERS}`, a Patient and 49 Observations per person."
    )


def run(folder: Path, sizes: Sequence[int], requests: int, seconds: float, out: Path | None) -> list[Measured]:
    """All sizes, one store that grows; the tables so far after each."""
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, max(sizes) * DISK
    if free < needed:
        raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free; {max(sizes):,} resources need about {needed / 1e9:.1f} GB")
    measured: list[Measured] = []
    for size in sizes:
        measured.append(one_size(folder, size, requests, seconds))
        drawing = None if out is None else out.with_suffix(".svg")
        text = page(measured, setting(folder), drawing.name if drawing else None)
        if out and drawing:
            drawing.write_text(chart(measured), encoding="utf-8")
            out.write_text(text, encoding="utf-8")
        print(text, flush=True)
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--sizes", type=lambda text: sorted(int(part) for part in text.split(",")), default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="kept and grown by later runs; a passing one by default")
    parser.add_argument("--requests", type=int, default=2000, help="per workload; transactions at most 300")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="after which a slow workload ends: with 300 requests, or 20 after three times as long"
    )
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file, and the chart beside it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        measured = run(options.folder or Path(passing), options.sizes, options.requests, options.seconds, options.out)
    wrong = [f"{one.resources:,}: {line.name}: {text}" for one in measured for line in one.lines for text in line.wrong]
    for text in wrong[:20]:
        print("WRONG", text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
