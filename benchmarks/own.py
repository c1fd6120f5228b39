"""The repository's own workloads: W1–W5, W7 and W11, with the same checks as the load tool's."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import tarfile
import time
from pathlib import Path

from rich.progress import Progress

from benchmarks import searching, writing
from benchmarks.drive import Operation, Result, drive
from benchmarks.http import Connection
from benchmarks.population import Population
from benchmarks.process import cpu_seconds

ROOT = Path(__file__).resolve().parent.parent
HEAD = ["workload", "clients", "operations/s", "p50/p95/p99 ms", "CPU ms/op", "MiB", "wrong"]


def _row(result: Result) -> list[str]:
    latency = f"{result.p50}/{result.p95}/{result.p99}"
    return [
        result.name,
        str(result.clients),
        f"{result.rate:.0f}",
        latency,
        f"{result.cpu_ms:.3f}",
        f"{result.memory:.0f}",
        str(len(result.wrong)) if not result.wrong else f"{len(result.wrong)}: {result.wrong[0][:120]}",
    ]


async def fill(base: str, population: Population) -> None:
    """Load the population by transactions."""
    connection = Connection(base)
    for bundle in population.bundles():
        answer = await connection.request("POST", "", bundle)
        if answer.status != 200:
            raise RuntimeError(f"the population is refused: {answer.status} {answer.body[:500]!r}")
    connection.close()


def synthea_bundles() -> list[bytes]:
    """W2's transaction Bundles from the corpus (`$FHIR_TEST_DATA`), hospitals and practitioners first; empty without it."""
    archive = Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared/data")) / "synthea/transaction-bundles.tar.gz"
    if not archive.exists():
        return []
    bundles = []
    with tarfile.open(archive) as files:
        for member in sorted((m for m in files.getmembers() if m.isfile()), key=lambda m: Path(m.name).name):
            content = files.extractfile(member)
            if content and ".json" in member.name:
                raw = content.read()
                bundles.append(gzip.decompress(raw) if member.name.endswith(".gz") else raw)
    return bundles


async def import_bundles(base: str, pid: int | None) -> list[str] | None:
    """W2: the Synthea Bundles one after the other; CPU per resource."""
    bundles = synthea_bundles()
    if not bundles:
        return None
    connection = Connection(base)
    cpu, began, resources, wrong = cpu_seconds(pid) if pid else 0.0, time.perf_counter(), 0, 0
    for bundle in bundles:
        answer = await connection.request("POST", "", bundle)
        if answer.status == 200:
            resources += len(answer.json()["entry"])
        else:
            wrong += 1
    took, used = time.perf_counter() - began, (cpu_seconds(pid) if pid else 0.0) - cpu
    connection.close()
    per = used * 1000 / max(1, resources)
    return ["W2 import of Synthea Bundles (per resource)", "1", f"{resources / took:.0f}", "", f"{per:.3f}", "", str(wrong)]


def searches(population: Population, answers: searching.Answers) -> list[tuple[str, Operation, int]]:
    """W3, W4, W7 and W11 with their numbers of connections."""
    plan = [(name, operation, 8) for name, operation in searching.single_parameters(population, answers).items()]
    plan += [("W4 thirty mixed queries", searching.mixed(population, answers), 8)]
    plan += [(name, operation, 8) for name, operation in searching.counts(population, answers).items()]
    plan += [(name, operation, 8) for name, operation in searching.joined(population, answers).items()]
    plan += [(name, operation, 4) for name, operation in searching.sorted_pages(population).items()]
    return plan


async def run(base: str, pid: int | None, options: argparse.Namespace, progress: Progress) -> list[list[str]]:
    """All own workloads; searches before writes, so that what they count stands still."""
    population = Population(options.patients, options.observations)
    await fill(base, population)
    answers = searching.Answers(population)
    plan = searches(population, answers)
    plan += [("W1 CRUD mix of nine types (5 requests)", writing.crud(population), clients) for clients in (16, 64)]
    plan += [("W5 transaction of two entries", writing.two_entries(population), clients) for clients in (1, 8, 64)]
    chosen = [entry for entry in plan if not options.only or any(name in entry[0] for name in options.only)]
    rows = []
    task = progress.add_task("own workloads", total=len(chosen))
    for name, operation, clients in chosen:
        progress.update(task, description=name)
        rows.append(_row(await drive(name, base, operation, clients=clients, seconds=options.seconds, pid=pid)))
        progress.advance(task)
        await asyncio.sleep(0)
    imported = await import_bundles(base, pid) if not options.only else None
    return rows + ([imported] if imported else [])
