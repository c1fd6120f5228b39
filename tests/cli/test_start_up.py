"""The cost of a start: ready in little processor time, small when idle, and commands that import only what they need.

Issue 3: start-up under 2 s in total, under 150 MB idle. Processor time is judged, for the clock is shared with other tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT

TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Memory of a process, what it shares with others included."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def test_a_server_is_ready_within_2_seconds_of_processor_time(start):
    server = start("--mllp-port", "0")
    assert processor_seconds(server.process.pid) < 2


def test_an_idle_server_is_small_and_idle(start):
    server = start("--mllp-port", "0")
    httpx.get(server.base + "/Patient?_count=1")
    httpx.get(server.base + "/metadata")
    assert resident_mb(server.process.pid) < 150
    before = processor_seconds(server.process.pid)
    time.sleep(2)
    assert processor_seconds(server.process.pid) - before < 0.5, "an idle server costs a quarter of a core at most"


def test_help_imports_no_command():
    line = [sys.executable, "-X", "importtime", "-m", "fhir_server.cli", "--help"]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    imported = {entry.rpartition("|")[2].strip() for entry in ended.stderr.splitlines() if entry.startswith("import time:")}
    assert "typer" in imported
    assert not imported & {"fhir_server.app", "fhir_server.model.definitions", "fastapi", "uvicorn", "fhir_server.commands.load"}
    assert "serve" in ended.stdout and "load" in ended.stdout


@pytest.mark.parametrize("module", ["fhir_server.model.definitions", "fhir_server.validation.structure", "fhir_server.fhirpath"])
def test_a_lower_room_starts_without_the_server(module):
    """What stands below the interactions imports no web framework and no settings."""
    code = f"import sys, {module}; print(sorted({{'fastapi', 'starlette', 'pydantic', 'httpx'}} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
