"""W12: validation off, of structure, of R4's own rules and against profiles; memory over many validations; other validators beside.

python -m benchmarks.validation_speed [--count N] [--peer NAME=BASE --peer-pid PID[+PID]] [--out FILE]

The resources are those of Synthea's transaction Bundles, the profiles those of US Core 6.1.0 and 3.1.1 (`$FHIR_TEST_DATA`).
`jsonschema-rs` and `fhir.resources` are measured where they are installed; a peer (HAPI FHIR) over HTTP, by its CPU per request.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import os
import re
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import track

from benchmarks.__main__ import ROOT, machine, markdown, show, this_server
from benchmarks.process import cpu_seconds, memory_mib
from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.model.library import Library
from fhir_server.model.packages import read_package
from fhir_server.validation import structure
from fhir_server.validation.profiles import ProfileRoom

TYPES = ("Patient", "Observation", "Encounter", "Condition", "Claim", "DiagnosticReport")
PATIENTS = 200
GUIDES = ("hl7.fhir.us.core-6.1.0.tgz", "hl7.fhir.us.core-3.1.1.tgz")
HEAD = ["validator", *TYPES]
Judge = Callable[[dict[str, Any], bytes], Any]


def resources(corpora: Path) -> dict[str, list[bytes]]:
    """Resources by type, as JSON, with the profiles of US Core in their meta."""
    found: dict[str, list[bytes]] = defaultdict(list)
    with tarfile.open(corpora / "synthea" / "transaction-bundles.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isfile() else None
            for entry in orjson.loads(opened.read())["entry"] if opened else ():
                found[entry["resource"]["resourceType"]].append(orjson.dumps(entry["resource"]))
    return found


def micros(judge: Judge, sample: list[bytes], seconds: float = 1.0) -> float:
    """CPU microseconds per resource, warm: the best of three rounds."""
    pairs = [(json_codec.loads(one), one) for one in sample] if judge.__name__ != "gate" else [(orjson.loads(one), one) for one in sample]
    for resource, raw in pairs:
        judge(resource, raw)
    best = float("inf")
    for _ in range(3):
        started, count = time.process_time(), 0
        while time.process_time() - started < seconds / 3:
            for resource, raw in pairs:
                judge(resource, raw)
            count += len(pairs)
        best = min(best, (time.process_time() - started) / count)
    return best * 1e6


def judges(room: ProfileRoom, corpora: Path) -> dict[str, Judge]:
    """The validators that are here."""
    found: dict[str, Judge] = {
        "structure (on every write)": lambda resource, raw: structure.validate(resource),
        "R4's invariants, extensions, codes": lambda resource, raw: room.validate(resource, declared=False),
        "profiles (US Core)": lambda resource, raw: room.validate(resource),
        "structure and profiles": lambda resource, raw: (structure.validate(resource), room.validate(resource)),
    }
    try:
        import jsonschema_rs
    except ImportError:
        pass
    else:
        schema = json.loads(gzip.decompress((corpora / "r4" / "definitions" / "fhir.schema.json.gz").read_bytes()))
        for name in re.findall(r'"#/definitions/(\w+)"', json.dumps(schema)):
            schema["definitions"].setdefault(name, {})  # some are named in the schema, but not in it
        compiled = jsonschema_rs.validator_for(schema)

        def gate(resource: dict[str, Any], raw: bytes) -> Any:
            return compiled.is_valid(resource)

        found["jsonschema-rs, structural gate"] = gate
    try:
        from fhir.resources.R4B import get_fhir_model_class
    except ImportError:
        pass
    else:

        def parse(resource: dict[str, Any], raw: bytes) -> Any:
            try:
                return get_fhir_model_class(resource["resourceType"]).model_validate_json(raw)
            except ValueError as fault:
                return fault

        found["fhir.resources (R4B), parse"] = parse
    return found


def against_profiles(room: ProfileRoom, patients: list[bytes]) -> list[list[str]]:
    """200 Patients, cold and warm."""
    parsed = [json_codec.loads(one) for one in patients]
    started = time.perf_counter()
    wrong = sum(any(issue.severity == "error" for issue in room.validate(one)) for one in parsed)
    cold = time.perf_counter() - started
    started = time.perf_counter()
    for one in parsed:
        room.validate(one)
    warm = time.perf_counter() - started
    started = time.perf_counter()
    for raw in patients:
        resource = json_codec.loads(raw)
        structure.validate(resource)
        room.validate(resource)
    whole = time.perf_counter() - started
    return [
        ["200 US Core Patients against their profiles, warm", f"{warm:.3f} s", "0.5 s", "32 s (HAPI, reported)"],
        ["the same, cold: profiles compiled on the way", f"{cold:.3f} s", "", ""],
        ["the same with reading JSON and structure, warm", f"{whole:.3f} s", "", ""],
        ["of these with errors", str(wrong), "0", ""],
    ]


def memory(room: ProfileRoom, sample: list[bytes], count: int) -> list[tuple[int, float]]:
    """(validations, MiB of this process) along the way."""
    parsed = [json_codec.loads(one) for one in sample]
    found = []
    step = max(1, count // 5)
    for number in track(range(count), description="memory", console=Console(stderr=True)):
        if number % step == 0:
            found.append((number, memory_mib(os.getpid())))
        room.validate(parsed[number % len(parsed)])
    found.append((count, memory_mib(os.getpid())))
    return found


def over_http(base: str, pids: tuple[int, ...], patients: list[bytes]) -> tuple[float, float]:
    """(CPU ms per request, seconds for all) of `Patient/$validate` for these patients, after one round to warm up."""
    import httpx

    with httpx.Client(timeout=120, headers={"Content-Type": "application/fhir+json"}) as client:
        for one in patients:
            answer = client.post(f"{base}/Patient/$validate", content=one)
            if answer.json().get("resourceType") != "OperationOutcome":
                raise RuntimeError(f"{base}: {answer.status_code} {answer.text[:200]}")
        before, started = cpu_seconds(*pids), time.perf_counter()
        for one in patients:
            client.post(f"{base}/Patient/$validate", content=one)
        return (cpu_seconds(*pids) - before) / len(patients) * 1000, time.perf_counter() - started


def beside(name: str, peer: str, pids: tuple[int, ...], patients: list[bytes]) -> list[list[str]]:
    """This server and a peer over HTTP, one after the other."""
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, this_server(Path(folder), 1) as own:
        assert own.pid
        cpu, seconds = over_http(own.base, (own.pid,), patients)
        found.append(["this server", f"{cpu:.2f}", f"{seconds:.2f}"])
    cpu, seconds = over_http(peer, pids, patients)
    found.append([name, f"{cpu:.2f}", f"{seconds:.2f}"])
    show("Patient/$validate over HTTP, one connection", found, ["server", "CPU ms", "s for 200"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--count", type=int, default=100_000, help="validations over which memory is watched")
    parser.add_argument("--peer", default="", help="another server on this machine: NAME=FHIR base")
    parser.add_argument("--peer-pid", default="", help="its process ids, joined by +")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    held = resources(options.corpora)
    guides = [read_package(options.corpora / "igs" / name) for name in GUIDES]
    room = ProfileRoom(Library(one for guide in guides for one in guide.resources).find)
    patients = list(islice(cycle(held["Patient"]), PATIENTS))

    rows = against_profiles(room, patients)
    show("W12", rows, ["what", "this", "goal", "others"])

    table: list[list[str]] = []
    for name, judge in judges(room, options.corpora).items():
        row = [name]
        for type in TYPES:
            try:
                row.append(f"{micros(judge, held[type][:200]):.0f}")
            except FhirError as fault:  # a validator that refuses is measured all the same; one that breaks is not
                row.append(str(fault)[:20])
        table.append(row)
    show("CPU microseconds per resource", table, HEAD)

    watched = memory(room, held["Patient"] + held["Observation"][:500] + held["Encounter"][:100], options.count)
    kept = [[f"{number:,}", f"{mib:.1f}"] for number, mib in watched]
    show("Memory of the process", kept, ["validations", "MiB"])

    name, _, base = options.peer.partition("=")
    http = beside(name, base, tuple(map(int, options.peer_pid.split("+"))), patients) if options.peer else []
    if options.out:
        about = "The resources" + (__doc__ or "").partition("The resources")[2]
        text = f"# {dt.date.today()}: validation\n\n{machine()}\n\n{about}\n"
        text += markdown("W12", rows, ["what", "this", "goal", "others"])
        text += "\n" + markdown("CPU microseconds per resource, one core, warm", table, HEAD)
        text += "\n" + markdown("Memory of the process", kept, ["validations", "MiB"])
        if http:
            text += "\n" + markdown(
                "Patient/$validate over HTTP, one connection, no profiles installed", http, ["server", "CPU ms per request", "s for 200"]
            )
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
