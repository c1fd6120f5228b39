"""`make bench-growth`: the same requests on stores of growing size, one kept connection, every answer checked against the generator.

python -m benchmarks.growth [--sizes 100000,1000000] [--folder DIR] [--requests N] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rich.progress import Progress

from benchmarks import growth_population as g
from benchmarks.drive import WrongAnswer, expect
from benchmarks.http import Connection
from benchmarks.population import LOINC, MRN, included, matches
from benchmarks.process import cpu_seconds, memory_mib

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 1000
"""Persons per load: what an interruption costs at most."""

Ask = Callable[[Connection, random.Random], Awaitable[None]]


@dataclass(slots=True)
class Line:
    """One workload at one size: milliseconds."""

    name: str
    p50: float
    p99: float
    cpu: float
    wrong: list[str]


def fill(folder: Path, patients: int) -> None:
    """Grow the store to so many persons with `fhir-server load`; goes on where an earlier run ended."""
    mark = folder / "patients"
    have = int(mark.read_text()) if mark.exists() else 0
    if have > patients:
        raise SystemExit(f"the store in the folder holds {have * g.PER_PATIENT} resources already; name another --folder")
    with Progress() as progress:
        task = progress.add_task(f"loading to {patients * g.PER_PATIENT:,}", total=patients, completed=have)
        while have < patients:
            end, file = min(have + CHUNK, patients), folder / "chunk.ndjson"
            g.write_ndjson(file, have, end)
            command = [sys.executable, "-m", "fhir_server.cli", "load", "--data-dir", str(folder / "data"), "--workers", "2", "--quiet"]
            subprocess.run([*command, str(file)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            file.unlink()
            have = end
            mark.write_text(str(have))
            progress.update(task, completed=have)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """The real server over the store: its base URL and process id."""
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", "0", "--mllp-port", "off", "--data-dir", str(folder / "data")]
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


def _coded(loinc: str) -> str:
    return f"code={quote(LOINC)}%7C{loinc}"


def reads(known: g.Known) -> dict[str, Ask]:
    """Workloads that change nothing."""
    people = known.patients

    async def get(connection: Connection, query: str) -> dict:
        answer = await connection.request("GET", query)
        expect(answer.status == 200, f"{query}: {answer.status} {answer.body[:200]!r}")
        return answer.json()

    async def ids(connection: Connection, query: str) -> list[str]:
        return [resource["id"] for resource in matches(await get(connection, query))]

    async def read(connection: Connection, draw: random.Random) -> None:
        p, k = draw.randrange(people), draw.randrange(g.PER_PATIENT - 1)
        resource = await get(connection, f"Observation/g{p}-{k}")
        expect(resource["id"] == f"g{p}-{k}" and resource["effectiveDateTime"] == g.moment(g.second(p, k)), f"read g{p}-{k}")

    async def token(connection: Connection, draw: random.Random) -> None:
        found = await ids(connection, f"Observation?{_coded(g.FREQUENT)}&_count=20")
        right = [id for id in found if int(id.split("-")[1]) < 24]
        expect(len(set(right)) == min(20, known.count(g.FREQUENT)) and len(found) == len(right), f"token: {found}")

    async def newest(connection: Connection, draw: random.Random) -> None:
        p = draw.randrange(people)
        found = await ids(connection, f"Observation?patient=g{p}&{_coded(g.FREQUENT)}&_sort=-date&_count=20")
        expect(found == known.of_person(p, g.FREQUENT)[:20], f"patient + code sorted g{p}: {found}")

    async def day(connection: Connection, draw: random.Random) -> None:
        start = draw.randrange(g.SPAN // 3600) * 3600
        right = known.between(start, start + 3600)
        found = await ids(connection, f"Observation?date=ge{g.moment(start)}&date=lt{g.moment(start + 3600)}&_count=20")
        expect(len(set(found)) == min(20, len(right)) and set(found) <= right, f"date from {start}: {found}")

    async def prefix(connection: Connection, draw: random.Random) -> None:
        p = draw.randrange(people)
        found = await ids(connection, f"Patient?family={g.family(p)[:-1]}&_count=20")
        stem = g.family(p)[:-1]
        right = {f"g{q}" for q in range(p % 40, people, 40) if g.family(q).startswith(stem)}
        expect(len(set(found)) == min(20, len(right)) and set(found) <= right, f"family {stem}: {found}")

    async def chained(connection: Connection, draw: random.Random) -> None:
        p = draw.randrange(people)
        right = {id for q in g.relatives(p) if q < people for id in known.of_person(q, g.OTHERS[0][0])}
        found = await ids(connection, f"Observation?patient.family={g.family(p)}&{_coded(g.OTHERS[0][0])}&_count=20")
        expect(set(found) == right if len(right) <= 20 else len(set(found)) == 20 and set(found) <= right, f"chained g{p}: {found}")

    async def has(connection: Connection, draw: random.Random) -> None:
        p = draw.randrange(people)
        right = {f"g{q}" for q in g.relatives(p) if q < people and known.of_person(q, g.OCCASIONAL)}
        found = await ids(connection, f"Patient?family={g.family(p)}&_has:Observation:patient:{_coded(g.OCCASIONAL)}")
        expect(set(found) == right, f"_has g{p}: {found}")

    async def revinclude(connection: Connection, draw: random.Random) -> None:
        p = draw.randrange(people)
        bundle = await get(connection, f"Patient?identifier={quote(MRN)}%7CG{p:08d}&_revinclude=Observation:patient")
        right = {f"g{p}-{k}" for k in range(g.PER_PATIENT - 1)}
        expect([r["id"] for r in matches(bundle)] == [f"g{p}"] and {r["id"] for r in included(bundle)} == right, f"_revinclude g{p}")

    def total(query: str, wanted: int) -> Ask:
        async def ask(connection: Connection, draw: random.Random) -> None:
            bundle = await get(connection, query)
            expect(bundle.get("total") == wanted, f"{query}: total {bundle.get('total')}, {wanted} wanted")

        return ask

    frequent, rare = known.count(g.FREQUENT), known.count(g.RARE)
    return {
        "read by id": read,
        "token, first 20": token,
        "patient + code, newest first": newest,
        "date, one hour": day,
        "family prefix": prefix,
        "chained": chained,
        "_has": has,
        "_revinclude, 49": revinclude,
        "count of all Observations": total("Observation?_summary=count", known.observations),
        "count of a frequent code": total(f"Observation?{_coded(g.FREQUENT)}&_summary=count", frequent),
        "count of a rare code": total(f"Observation?{_coded(g.RARE)}&_summary=count", rare),
        "_total=accurate, frequent code": total(f"Observation?{_coded(g.FREQUENT)}&_count=20&_total=accurate", frequent),
    }


async def page_links(base: str, known: g.Known) -> dict[int, str]:
    """Addresses of pages 1, 10, 100, 1,000 of the frequent code newest first, as far as there are; every page on the way is checked."""
    connection, links = Connection(base), {}
    right = known.newest(20 * 1000)
    url, number = f"Observation?{_coded(g.FREQUENT)}&_sort=-date&_count=20", 1
    while True:
        answer = await connection.request("GET", url)
        found = [resource["id"] for resource in matches(answer.json())]
        expect(found == right[20 * (number - 1) : 20 * number], f"page {number}: {answer.status} {found[:3]}")
        if number in (1, 10, 100, 1000):
            links[number] = url
        following = [link["url"] for link in answer.json().get("link", ()) if link["relation"] == "next"]
        if number == 1000 or not following:
            connection.close()
            return links
        url, number = following[0], number + 1


def page(url: str, right: list[str]) -> Ask:
    async def ask(connection: Connection, draw: random.Random) -> None:
        answer = await connection.request("GET", url)
        expect([resource["id"] for resource in matches(answer.json())] == right, f"{url}: other ids")

    return ask


async def measure(name: str, base: str, pid: int, ask: Ask, requests: int) -> Line:
    """One connection, so many requests after five of warming up."""
    connection, draw, wrong, took = Connection(base), random.Random(17), [], []
    for turn in range(requests + 5):
        if turn == 5:
            cpu = cpu_seconds(pid)
        began = time.perf_counter()
        try:
            await ask(connection, draw)
        except WrongAnswer as fault:
            wrong.append(str(fault))
        if turn >= 5:
            took.append(time.perf_counter() - began)
    used = cpu_seconds(pid) - cpu
    connection.close()
    took.sort()
    at = [1000 * took[min(len(took) - 1, int(share * len(took)))] for share in (0.5, 0.99)]
    return Line(name, at[0], at[1], 1000 * used / requests, wrong)


async def workloads(base: str, pid: int, known: g.Known, requests: int) -> list[Line]:
    """All workloads of one size; counts, being slow, a tenth as often."""
    asks = reads(known)
    right = known.newest(20 * 1000)
    for number, url in (await page_links(base, known)).items():
        asks[f"sorted, page {number:,}"] = page(url, right[20 * (number - 1) : 20 * number])
    slow = ("count", "_total")
    return [
        await measure(name, base, pid, ask, max(5, requests // 10) if name.startswith(slow) else requests) for name, ask in asks.items()
    ]


def disk_bytes(folder: Path) -> int:
    """Bytes of the store once its log is copied back."""
    for path in (folder / "data").rglob("*.db"):
        db = sqlite3.connect(path)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    return sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())


def one_size(folder: Path, size: int, requests: int) -> tuple[dict[str, float], list[Line]]:
    """Fill, start, measure: figures of the store, and lines of the workloads."""
    patients = size // g.PER_PATIENT
    fill(folder, patients)
    stored = disk_bytes(folder)
    began = time.perf_counter()
    with server(folder) as (base, pid):
        ready = time.perf_counter() - began
        lines = asyncio.run(workloads(base, pid, g.Known(patients), requests))
        facts = {"bytes per resource": stored / (patients * g.PER_PATIENT), "ready s": ready, "MiB at the end": memory_mib(pid)}
        return {**facts, "load average": os.getloadavg()[0]}, lines


def table(measured: dict[int, tuple[dict[str, float], list[Line]]]) -> str:
    """Markdown: p50/p99/CPU in ms per size, and the ratio of p50 of the largest to the smallest."""
    sizes = list(measured)
    text = f"# {dt.date.today().isoformat()}: growth of the store\n\n"
    text += f"Embedded store (SQLite {sqlite3.sqlite_version}), one worker, one connection. "
    text += f"{os.cpu_count()} cores, Python {platform.python_version()}. p50 / p99 / CPU per request, ms; "
    text += "times include checking the answer.\n\n"
    text += "| workload | " + " | ".join(f"{size:,}" for size in sizes) + " | p50 last/first |\n|" + "---|" * (len(sizes) + 2) + "\n"
    for name in [line.name for line in measured[sizes[-1]][1]]:
        found = {size: line for size in sizes for line in measured[size][1] if line.name == name}
        cells = [f"{f.p50:.2f} / {f.p99:.2f} / {f.cpu:.2f}" if (f := found.get(size)) else "" for size in sizes]
        ratio = f"{found[sizes[-1]].p50 / found[sizes[0]].p50:.2f}" if sizes[0] in found and len(sizes) > 1 else ""
        text += f"| {name} | " + " | ".join(cells) + f" | {ratio} |\n"
    for fact in measured[sizes[0]][0]:
        text += f"| {fact} | " + " | ".join(f"{measured[size][0][fact]:.2f}" for size in sizes) + " | |\n"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--sizes", type=lambda text: sorted(int(part) for part in text.split(",")), default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="kept and grown by later runs; a passing one by default")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        for size in options.sizes:
            measured[size] = one_size(folder, size, options.requests)
            print(table(measured), flush=True)
    if options.out:
        options.out.write_text(table(measured), encoding="utf-8")
    wrong = [f"{line.name}: {text}" for _, lines in measured.values() for line in lines for text in line.wrong]
    for text in wrong[:20]:
        print("WRONG", text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
