"""HL7 v2 over MLLP: messages per second and server CPU per message, each acknowledged after its durable commit.

python -m benchmarks.hl7v2_speed [--seconds S] [--out FILE]

A fresh server, 200 admitted patients; then results of 1, 6 and 20 OBX and admissions on one and on eight connections, each sender
waiting for its acknowledgement. Afterwards the store's Observations are counted: a message lost or doubled makes the run fail.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.__main__ import machine, markdown, show
from benchmarks.process import cpu_seconds, memory_mib

ROOT = Path(__file__).resolve().parent.parent
PATIENTS = 200
HEAD = ["workload", "connections", "messages/s", "goal", "p50/p99 ms", "CPU ms/message", "budget", "wrong"]
TESTS = (
    ("2345-7^Glucose^LN", "5.6", "mmol/L", "3.9-6.1", ""),
    ("2823-3^Potassium^LN", "4.4", "mmol/L", "3.5-5.3", "N"),
    ("2951-2^Sodium^LN", "139", "mmol/L", "137-147", ""),
    ("TC^总胆固醇^LIS", "6.35", "mmol/L", "<5.20", "↑"),
    ("HDL^高密度脂蛋白^LIS", "0.92", "mmol/L", "1.04～1.55", "↓"),
    ("2160-0^Creatinine^LN", "71", "umol/L", "57-97", ""),
)
_numbers = itertools.count(1)


def header(type: str, control: str) -> str:
    return f"MSH|^~\\&|LIS|CENTRAL|FHIR|HM|20260120103000||{type}|{control}|P|2.5.1||||||UNICODE UTF-8"


def person(number: int) -> str:
    return f"PID|1||B{number}^^^CENTRAL^MR||朱^自强^^^^^L||19681201|M"


def admission(number: int) -> bytes:
    """An ADT^A01 of one of the patients, a new stay each time."""
    control = next(_numbers)
    visit = f"PV1|1|I|MED^310^2||||1501^Kraft^Ute||||||||||||V{control}^^^CENTRAL^VN" + "|" * 25 + "20260115082000"
    evn = "EVN|A01|20260115083000"
    rows = [header("ADT^A01", f"A{control}"), evn, person(number), visit, "DG1|1||J18.9^Pneumonia^I10|Pneumonia|20260115|A"]
    return ("\r".join(rows) + "\r").encode()


def report(size: int) -> Callable[[int], bytes]:
    """An ORU^R01 with `size` OBX: a new report each time."""

    def make(number: int) -> bytes:
        control = next(_numbers)
        obr = f"OBR|1|PL{control}^HIS|FL{control}^LIS|CHEM^生化^LIS|||20260120081000" + "|" * 15 + "20260120101500||LAB|F"
        rows = [header("ORU^R01^ORU_R01", f"R{control}"), person(number), obr]
        for at in range(size):
            code, value, unit, normal, flag = TESTS[at % len(TESTS)]
            if at >= len(TESTS):
                code = f"{at}{code}"
            rows.append(f"OBX|{at + 1}|NM|{code}||{value}|{unit}|{normal}|{flag}|||F|||20260120093000")
        return ("\r".join(rows) + "\r").encode()

    return make


class Sender(threading.Thread):
    """One connection that sends, waits for the acknowledgement, and sends the next, until `until`."""

    def __init__(self, address: tuple[str, int], make: Callable[[int], bytes], until: float) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_connection(address, 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.make, self.until = make, until
        self.times: list[float] = []
        self.wrong = 0

    def run(self) -> None:
        number = 0
        while time.perf_counter() < self.until:
            number = (number + 7) % PATIENTS
            self.once(self.make(number))
        self.socket.close()

    def once(self, message: bytes) -> None:
        began = time.perf_counter()
        self.socket.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            answer += data
        self.times.append(time.perf_counter() - began)
        self.wrong += b"\rMSA|AA|" not in answer


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, str, tuple[str, int]]]:
    """A fresh server: process id, FHIR base, MLLP address."""
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", "0", "--mllp-port", "0", "--data-dir", str(folder / "data")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        assert process.stdout
        words = next((line.split() for line in process.stdout if line.startswith("fhir-server ready ")), None)
        if words is None:
            raise RuntimeError("the server did not start; try fhir-server serve")
        host, _, port = words[3].removeprefix("mllp=").rpartition(":")
        yield process.pid, words[2], (host, int(port))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def counted(base: str, type: str) -> int:
    """How many resources of a type the store has."""
    with urllib.request.urlopen(f"{base}/{type}?_summary=count", timeout=60) as answer:
        return int(json.load(answer)["total"])


def drive(
    address: tuple[str, int], pid: int, make: Callable[[int], bytes], connections: int, seconds: float
) -> tuple[float, str, float, int, int]:
    """(messages/s, 'p50/p99' in ms, CPU ms per message, not accepted, sent)."""
    began, cpu = time.perf_counter(), cpu_seconds(pid)
    senders = [Sender(address, make, began + seconds) for _ in range(connections)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    took, used = time.perf_counter() - began, cpu_seconds(pid) - cpu
    times = sorted(1000 * one for sender in senders for one in sender.times)
    sent = len(times)
    latency = f"{statistics.median(times):.1f}/{times[int(sent * 0.99)]:.1f}"
    return sent / took, latency, used * 1000 / sent, sum(sender.wrong for sender in senders), sent


WORKLOADS: tuple[tuple[str, Callable[[int], bytes], int, int, float | None, float | None], ...] = (
    ("ORU, 1 OBX", report(1), 1, 1, 150, None),
    ("ORU, 1 OBX", report(1), 1, 8, 400, None),
    ("ORU, 6 OBX", report(6), 6, 1, None, 1.4),
    ("ORU, 6 OBX", report(6), 6, 8, None, 1.4),
    ("ORU, 20 OBX", report(20), 20, 8, 40, None),
    ("ADT^A01", admission, 0, 8, None, None),
)
"""Name, message, OBX in it, connections, goal in messages/s, budget in CPU ms."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hl7v2_speed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file")
    options = parser.parse_args()
    rows, observations, bad = [], 0, 0
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (pid, base, address):
        first = Sender(address, admission, 0)
        for number in range(PATIENTS):
            first.once(admission(number))
        bad += first.wrong
        for title, make, size, connections, goal, budget in WORKLOADS:
            rate, latency, cpu, wrong, sent = drive(address, pid, make, connections, options.seconds)
            observations += size * sent
            bad += wrong
            shown = ["" if one is None else f"{one:g}" for one in (goal, budget)]
            rows.append([title, str(connections), f"{rate:.0f}", shown[0], latency, f"{cpu:.2f}", shown[1], str(wrong)])
        memory = memory_mib(pid)
        there = counted(base, "Observation")
        people = counted(base, "Patient")
    show("HL7 v2 over MLLP", rows, HEAD)
    facts = f"{observations} Observations sent, {there} stored; {people} of {PATIENTS} patients; {memory:.0f} MiB at the end."
    print(facts)
    if options.out:
        head = f"# {dt.date.today().isoformat()}: HL7 v2 over MLLP, embedded store, synchronous=FULL\n\n{machine()}\n\n{facts}\n\n"
        options.out.write_text(head + markdown("Messages", rows, HEAD), encoding="utf-8")
    if bad or there != observations or people != PATIENTS:
        print("Wrong: a message was not accepted, lost, or doubled.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
