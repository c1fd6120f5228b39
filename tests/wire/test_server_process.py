"""Start and stop of the server process: readiness, signals, workers, refusals. design: interfaces, "Start and stop"."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from fhir_server.serve import _end_with_parent
from tests.conftest import ROOT
from tests.wire.resources import identified, outcome, patient


def children_of(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8")
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry))
    return sorted(found)


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fhir_server.cli", *arguments]
    return subprocess.run(line, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=30, check=False)


def test_a_server_is_ready_fast_and_says_where_it_is(start):
    started = time.monotonic()
    server = start()
    answer = httpx.get(server.base + "/Patient?_count=0")
    assert answer.status_code == 200
    # The promise is 2 seconds on an idle machine; tests share theirs.
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_ready_line_is_one_write(tmp_path, workers):
    """Whoever waits for it reads it whole, although workers write to the same pipe and nothing is buffered."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a datagram for each write
    line = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", "0", "--mllp-port", "off", "--workers", workers]
    process = subprocess.Popen(
        [*line, "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    theirs.close()
    try:
        ours.settimeout(30)
        written = ours.recv(65536).decode()
        while "fhir-server ready" not in written:
            written = ours.recv(65536).decode()
        assert re.fullmatch(r"fhir-server ready http://\S+:\d+/fhir\n", written)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        ours.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_finishes_what_is_in_flight_and_ends_with_0(start, workers):
    server = start("--workers", workers)
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        with server.client() as client:
            while not stop.is_set():
                try:
                    answer = client.post("Patient", json=patient())
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.append(answer.json()["id"])
                elif answer.status_code >= 500:
                    assert answer.json()["resourceType"] == "OperationOutcome"

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    time.sleep(0.7)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    stop.set()
    for writer in writers:
        writer.join()
    assert acknowledged
    again = start("--workers", workers, data_dir=server.data_dir)
    with again.client() as client:
        for id in acknowledged:
            assert client.get(f"Patient/{id}").status_code == 200


def test_workers_share_one_store(start):
    server = start("--workers", "3")
    assert len(children_of(server.process.pid)) == 3
    created = httpx.post(server.base + "/Patient", json=identified("shared")).json()
    for _ in range(20):  # each a new connection, so that every worker answers some
        answer = httpx.get(f"{server.base}/Patient?identifier=urn:mrn|shared")
        assert answer.json()["entry"][0]["resource"] == created


def test_a_dead_worker_is_replaced(start):
    server = start("--workers", "2")
    before = children_of(server.process.pid)
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 15
    while len(set(children_of(server.process.pid)) - set(before)) < 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(children_of(server.process.pid)) == 2
    for _ in range(20):
        assert httpx.get(server.base + "/Patient?_count=0", timeout=20).status_code == 200
    assert server.stop() == 0


def test_workers_end_when_their_parent_is_killed(start):
    server = start("--workers", "2")
    workers = children_of(server.process.pid)
    os.kill(server.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]


async def test_a_worker_whose_parent_is_gone_before_it_looks_ends_too():
    class Serving:
        should_exit = False

    await asyncio.wait_for(_end_with_parent(Serving, parent=os.getpid()), 5)  # the parent of this process is another one
    assert Serving.should_exit


def test_a_kill_loses_nothing_acknowledged(start):
    server = start()
    with server.client() as client:
        ids = [client.post("Patient", json=patient()).json()["id"] for _ in range(50)]
    server.kill()
    again = start(data_dir=server.data_dir)
    with again.client() as client:
        assert [client.get(f"Patient/{id}").status_code for id in ids] == [200] * 50


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_no_one_else_gets_in_while_authorization_is_off(host, tmp_path):
    ended = command("serve", "--host", host, "--port", "0", "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert host in ended.stderr and "loopback" in ended.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [("--store", "mongodb://localhost"), ("--auth", "smart"), ("--jobs", "celery"), ("--mllp-port", "x"), ("--workers", "0")],
)
def test_what_is_not_served_yet_is_refused_by_name(option, value, tmp_path):
    ended = command("serve", option, value, "--port", "0", "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert option in ended.stderr


def test_a_wrong_setting_is_named(tmp_path):
    ended = command("serve", "--port", "0", "--data-dir", str(tmp_path), env={"FHIR_SERVER_MAX_BODY_MB": "many"})
    assert ended.returncode == 2
    assert "max-body-mb" in ended.stderr


def test_a_taken_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = command("serve", "--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert "another server" in ended.stderr


def test_ipv6_loopback_is_served(start):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = start("--host", "::1")
    assert urlsplit(server.base).hostname == "::1"
    answer = httpx.post(server.base + "/Patient", json=patient())
    assert answer.headers["location"].startswith(server.base)


def test_the_public_url_is_that_of_links(start):
    server = start(env={"FHIR_SERVER_PUBLIC_URL": "https://fhir.example.org/"})
    address = f"http://127.0.0.1:{urlsplit(server.base).port}/fhir"
    answer = httpx.post(address + "/Patient", json=patient())
    assert answer.headers["location"].startswith("https://fhir.example.org/fhir/Patient/")


def test_allowed_hosts_appear_in_links(start):
    server = start(env={"FHIR_SERVER_ALLOWED_HOSTS": "fhir.local"})
    with server.client() as client:
        answer = client.get("Patient", headers={"Host": "fhir.local:8080"})
        assert answer.json()["link"][0]["url"].startswith("http://fhir.local:8080/fhir/Patient")


def test_a_foreign_data_folder_is_refused(tmp_path, start):
    (tmp_path / "data").mkdir()
    for name in ("fhir.db", "fhir.sqlite", "fhir.sqlite3"):
        (tmp_path / "data" / name).write_bytes(b"not a database at all" * 1000)
    with pytest.raises(RuntimeError) as refused:
        start()
    assert "data" in str(refused.value) and "Traceback" not in str(refused.value)


def test_respects_readiness(server, client):
    assert httpx.get(server.root + "/health/live").status_code == 200
    ready = httpx.get(server.root + "/health/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready"
    outcome(client.get("Patient/nobody"), 404)
