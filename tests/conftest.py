"""Fixtures for all tests: the corpora, and real servers as processes of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("SOAK") == "1"
READY = re.compile(r"fhir-server ready (\S+)(?: mllp=(\S+))?")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests run only with SOAK=1 (`make soak`); a short form of each runs always."""
    if SOAK:
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="long form: make soak"))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of the large corpora (`$FHIR_TEST_DATA`); the test is skipped where it is absent."""
    folder = Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "r4").is_dir():
        pytest.skip(f"the corpora are not at {folder} (FHIR_TEST_DATA)")
    return folder


@dataclass
class Server:
    """A running server: `base` is its FHIR base URL, `root` the address without /fhir, `mllp` host and port or None."""

    process: subprocess.Popen[str]
    base: str
    mllp: tuple[str, int] | None
    data_dir: Path
    log: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.base.removesuffix("/fhir")

    def client(self, **options: object) -> httpx.Client:
        """A client whose relative URLs start at the FHIR base."""
        return httpx.Client(base_url=self.base + "/", timeout=60, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """kill -9 the server and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def start_server(
    data_dir: Path, *arguments: str, env: dict[str, str] | None = None, wait: float = 30.0, command: tuple[str, ...] = ("serve",)
) -> Server:
    """Start `fhir-server serve` (or another command that serves) on free ports and wait for its ready line.

    Raises RuntimeError with the output when it ends or is not ready in time.
    """
    line = [sys.executable, "-m", "fhir_server.cli", *command, "--port", "0", "--data-dir", str(data_dir)]
    if not any(argument.startswith("--mllp-port") for argument in arguments):
        line += ["--mllp-port", "off"]
    environment = {**os.environ, **(env or {}), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*line, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    log: list[str] = []
    ready = threading.Event()
    found: list[re.Match[str]] = []

    def follow() -> None:
        assert process.stdout
        for line in process.stdout:
            log.append(line)
            if not found and (match := READY.search(line)):
                found.append(match)
                ready.set()
        ready.set()

    threading.Thread(target=follow, daemon=True).start()
    deadline = time.monotonic() + wait
    while not ready.wait(0.05) and time.monotonic() < deadline:
        pass
    if not found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise RuntimeError("the server did not become ready:\n" + "".join(log[-60:]))
    base, mllp = found[0].groups()
    host, _, port = (mllp or "").rpartition(":")
    return Server(process, base, (host, int(port)) if port.isdigit() else None, data_dir, log)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; all are killed at the end. `start(*arguments, data_dir=..., env=...)`."""
    running: list[Server] = []

    def run(*arguments: str, data_dir: Path | None = None, env: dict[str, str] | None = None) -> Server:
        server = start_server(data_dir or tmp_path / "data", *arguments, env=env)
        running.append(server)
        return server

    yield run
    for server in running:
        server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with an MLLP listener, shared by the tests of a module."""
    running = start_server(tmp_path_factory.mktemp("server") / "data", "--mllp-port", "0")
    yield running
    running.kill()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """An HTTP client on the module's server; relative URLs start at the FHIR base."""
    with server.client() as http:
        yield http
