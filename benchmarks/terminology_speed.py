"""Terminology over HTTP: CPU of the server per request, with the answers checked, on the code systems that are shipped.

python -m benchmarks.terminology_speed [--seconds N] [--out FILE]

Eight kept connections; a tenth of the codes that are asked about are wrong ones. The codes are those of R4's own code systems
(observation-category, v3-ActCode, administrative-gender) and units of UCUM.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from benchmarks.__main__ import machine, markdown, show, this_server
from benchmarks.http import Connection
from benchmarks.process import cpu_seconds

CONNECTIONS = 8
GOAL = 5_000  # `$validate-code` a second and core
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
UCUM = "http://unitsofmeasure.org"
R4 = "http://hl7.org/fhir"
GENDERS = ("male", "female", "other", "unknown")
HEAD = ["operation", "CPU ms per request", "per second and core", "goal", "wrong answers"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and whether an answer (parameters by name) is the right one."""

    path: str
    right: Callable[[dict[str, Any]], bool]
    body: bytes = b""


def told(result: bool) -> Callable[[dict[str, Any]], bool]:
    return lambda found: found.get("result") is result


def get(operation: str, right: Callable[[dict[str, Any]], bool], **given: str) -> Ask:
    return Ask(f"{operation}?{urlencode(given)}", right)


def post(operation: str, right: Callable[[dict[str, Any]], bool], url: str, system: str, code: str) -> Ask:
    rows = [{"name": "url", "valueUri": url}, {"name": "coding", "valueCoding": {"system": system, "code": code}}]
    return Ask(operation, right, orjson.dumps({"resourceType": "Parameters", "parameter": rows}))


CATEGORIES = (
    "social-history", "vital-signs", "imaging", "laboratory", "procedure", "survey", "exam", "therapy", "activity", "no-such-code",
)  # fmt: skip
UNITS = ("mg", "mmol/L", "kg", "mm[Hg]", "/min", "Cel", "g/dL", "%", "10*9/L", "no such unit")
HELD = [(code, not code.startswith("no")) for code in CATEGORIES]
CODES, IN_SET, LOOKUP = "CodeSystem/$validate-code", "ValueSet/$validate-code", "CodeSystem/$lookup"
SUBSUMES, EXPAND = "CodeSystem/$subsumes", "ValueSet/$expand"
ASKED: dict[str, list[Ask]] = {
    CODES: [get(CODES, told(held), url=CATEGORY, code=code) for code, held in HELD],
    f"{CODES} of UCUM": [get(CODES, told(not code.startswith("no")), url=UCUM, code=code) for code in UNITS],
    IN_SET: [
        get(IN_SET, told(code in GENDERS), url=f"{R4}/ValueSet/administrative-gender", system=f"{R4}/administrative-gender", code=code)
        for code in (*GENDERS, "m")
    ],
    f"{IN_SET}, POST with a Coding": [
        post(IN_SET, told(held), f"{R4}/ValueSet/observation-category", CATEGORY, code) for code, held in HELD
    ],
    LOOKUP: [get(LOOKUP, lambda found: bool(found.get("display")), system=CATEGORY, code=code) for code, held in HELD if held],
    f"{SUBSUMES} of v3-ActCode": [
        get(SUBSUMES, lambda found: found.get("outcome") == "subsumes", system=ACT, codeA="_ActCoverageTypeCode", codeB="PUBLICPOL")
    ],
    f"{EXPAND} with a filter, 10 of v3-ActCode": [
        get(EXPAND, lambda found: True, url="http://terminology.hl7.org/ValueSet/v3-ActCode", filter="pol", count="10")
    ],
}


def parameters(answer: dict[str, Any]) -> dict[str, Any]:
    """Name → value of a Parameters resource."""
    return {
        row["name"]: next((value for key, value in row.items() if key.startswith("value")), None) for row in answer.get("parameter", ())
    }


async def measured(base: str, asks: list[Ask], pid: int, seconds: float) -> tuple[float, int, int]:
    """(CPU ms per request, requests, wrong answers) over eight connections, after each request was sent once."""
    wrong = count = 0

    async def worker(until: float) -> None:
        nonlocal wrong, count
        connection = Connection(base)
        for ask in cycle(asks):
            if time.perf_counter() > until:
                break
            answer = await (connection.request("POST", ask.path, ask.body) if ask.body else connection.request("GET", ask.path))
            count += 1
            wrong += answer.status != 200 or not ask.right(parameters(answer.json()))
        connection.close()

    await worker(time.perf_counter() + 0.5)
    wrong = count = 0
    before, until = cpu_seconds(pid), time.perf_counter() + seconds
    await asyncio.gather(*(worker(until) for _ in range(CONNECTIONS)))
    return (cpu_seconds(pid) - before) / count * 1000, count, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each operation is measured")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, this_server(Path(folder), 1) as own:
        assert own.pid
        for name, asks in ASKED.items():
            cpu, _, wrong = asyncio.run(measured(own.base, asks, own.pid, options.seconds))
            rows.append([name, f"{cpu:.3f}", f"{1000 / cpu:,.0f}", f"{GOAL:,}" if "validate-code" in name else "", str(wrong)])
    show("Terminology over HTTP", rows, HEAD)
    if options.out:
        about = "Eight kept" + (__doc__ or "").partition("Eight kept")[2]
        table = markdown("One worker process", rows, HEAD)
        options.out.write_text(f"# {dt.date.today()}: terminology over HTTP\n\n{machine()}\n\n{about}\n{table}", encoding="utf-8")
    return 0 if all(row[-1] == "0" for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
