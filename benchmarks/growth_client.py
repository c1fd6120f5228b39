"""One kept connection that times nothing but the exchange, CPU time in nanoseconds, and the loop that measures a workload."""

from __future__ import annotations

import math
import random
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.drive import WrongAnswer
from benchmarks.process import tree

FOR_P99 = 2000
"""Requests below which a p99 would rest on fewer than twenty of them and is not shown."""
ENOUGH, LEAST = 300, 20
"""A workload that takes longer than its time ends after ENOUGH requests, or, when it takes three times as long, after LEAST."""
BATCH = 10
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I).search


@dataclass(slots=True)
class Answer:
    """Status, head and body of an answer."""

    status: int
    head: bytes
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def header(self, name: str) -> str:
        """The value of a header, '' where it is missing."""
        found = re.search(rb"\r\n" + name.encode() + rb": *([^\r]*)", self.head, re.I)
        return found[1].decode("latin-1") if found else ""


@dataclass(slots=True)
class Ask:
    """A request, and what raises WrongAnswer unless the answer to it is right."""

    target: str
    check: Callable[[Answer], None]
    method: str = "GET"
    body: bytes = b""


@dataclass(slots=True)
class Workload:
    """Requests of one kind: `make` draws the next one."""

    name: str
    group: str
    make: Callable[[random.Random], Ask]
    cold: bool = False
    """Whether its first answer after a start is of interest."""


@dataclass(slots=True)
class Line:
    """One workload at one size: milliseconds; `p99` None after too few requests, `cold` None where it was not asked."""

    name: str
    group: str
    requests: int
    p50: float
    p99: float | None
    cpu: float
    cold: float | None = None
    wrong: list[str] = field(default_factory=list)


class Client:
    """A kept connection to `base` (http://127.0.0.1:port/path)."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._prefix = parts.path.rstrip("/")
        self._host = f"{parts.hostname}:{parts.port}"
        self._socket = socket.create_connection((str(parts.hostname), parts.port or 80), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def prepared(self, ask: Ask) -> bytes:
        """The bytes of a request; `ask.target` is below the base ('Patient/1') or an absolute URL."""
        if ask.target.startswith("http://"):
            parts = urlsplit(ask.target)
            target = f"{parts.path}?{parts.query}"
        else:
            target = f"{self._prefix}/{ask.target}"
        head = f"{ask.method} {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/fhir+json\r\n"
        if ask.body:
            head += f"Content-Length: {len(ask.body)}\r\nContent-Type: application/fhir+json\r\n"
        return head.encode() + b"\r\n" + ask.body

    def exchange(self, data: bytes) -> tuple[float, bytes]:
        """Send it; seconds from the first byte out to the last byte in, and what came."""
        began = time.perf_counter()
        self._socket.sendall(data)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        found = _LENGTH(got, 0, end)
        if found is None:
            raise RuntimeError(f"an answer without Content-Length: {got[:end]!r}")
        missing = end + 4 + int(found[1]) - len(got)
        parts = [got]
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return time.perf_counter() - began, parts[0] if len(parts) == 1 else b"".join(parts)

    def _more(self) -> bytes:
        part = self._socket.recv(1 << 18)
        if not part:
            raise RuntimeError("the server closed the connection")
        return part

    def ask(self, ask: Ask) -> Answer:
        """The answer to one request, unchecked."""
        return answer(self.exchange(self.prepared(ask))[1])


def answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    return Answer(int(head[9:12]), head, body)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of living processes, all their threads, in nanoseconds' steps (/proc counts hundredths of seconds).

    The number of a process's CPU clock is made as clock_getcpuclockid(3) makes it.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def percentile(ascending: list[float], share: float) -> float:
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _is_done(made: int, took: float, requests: int, seconds: float) -> bool:
    if made >= requests:
        return True
    return (took > seconds and made >= ENOUGH) or (took > 3 * seconds and made >= LEAST)


def measure(base: str, pid: int, workload: Workload, requests: int, seconds: float) -> Line:
    """So many requests one after the other, after a batch of warming up; fewer when they take longer than `seconds`.

    Requests are prepared before, and answers parsed and checked after each batch: neither is in the times or in the server's CPU.
    """
    draw, pids = random.Random(17), tree(pid)
    took: list[float] = []
    wrong: list[str] = []
    used, passed, warming = 0.0, 0.0, True
    with Client(base) as client:
        while warming or not _is_done(len(took), passed, requests, seconds):
            asks = [workload.make(draw) for _ in range(min(BATCH, requests if warming else requests - len(took)))]
            prepared = [client.prepared(ask) for ask in asks]
            cpu = cpu_seconds(pids)
            answers = [client.exchange(data) for data in prepared]
            cpu = cpu_seconds(pids) - cpu
            for ask, (_, raw) in zip(asks, answers, strict=True):
                wrong.extend(faults(ask, answer(raw)))
            if not warming:
                used += cpu
                took.extend(time for time, _ in answers)
                passed += sum(time for time, _ in answers)
            warming = False
    took.sort()
    p99 = 1000 * percentile(took, 0.99) if len(took) >= FOR_P99 else None
    return Line(workload.name, workload.group, len(took), 1000 * percentile(took, 0.5), p99, 1000 * used / len(took), wrong=wrong)


def faults(ask: Ask, found: Answer) -> list[str]:
    """What is wrong about an answer: nothing, or one sentence."""
    try:
        ask.check(found)
    except (WrongAnswer, ValueError, LookupError, TypeError) as fault:
        return [f"{ask.method} {ask.target[:200]}: {found.status}: {fault!r}"]
    return []
