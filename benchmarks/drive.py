"""Closed-loop driver: N connections repeat an operation for some seconds; only right answers count."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.http import Connection
from benchmarks.process import cpu_seconds, memory_mib


class WrongAnswer(Exception):
    """The server answered something else than the specification says."""


def expect(condition: bool, what: str) -> None:
    """Raise WrongAnswer unless the condition holds."""
    if not condition:
        raise WrongAnswer(what)


@dataclass(slots=True)
class Worker:
    """What an operation gets: its connection, its own random numbers, a number, and a place for memory."""

    connection: Connection
    number: int
    draw: random.Random
    memory: dict[str, object] = field(default_factory=dict)
    count: int = 0


Operation = Callable[[Worker], Awaitable[None]]


@dataclass(slots=True)
class Result:
    """One run: operations per second, latency percentiles in ms, server CPU in ms per operation, memory in MiB."""

    name: str
    clients: int
    operations: int
    seconds: float
    wrong: list[str]
    p50: float
    p95: float
    p99: float
    cpu_ms: float
    memory: float

    @property
    def rate(self) -> float:
        return self.operations / self.seconds if self.seconds else 0.0


async def drive(
    name: str, base: str, operation: Operation, *, clients: int, seconds: float, pid: int | tuple[int, ...] | None, warm: float = 0.5
) -> Result:
    """Run `operation` on `clients` connections; latencies are of whole operations."""
    workers = [Worker(Connection(base), number, random.Random(number * 7919 + 1)) for number in range(clients)]
    wrong: list[str] = []

    async def loop(worker: Worker, until: float, latencies: list[float]) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                await operation(worker)
            except WrongAnswer as fault:
                wrong.append(str(fault))
                if len(wrong) > 20:
                    return
            worker.count += 1
            latencies.append(time.perf_counter() - began)

    async def phase(duration: float) -> list[float]:
        latencies: list[float] = []
        until = time.perf_counter() + duration
        await asyncio.gather(*(loop(worker, until, latencies) for worker in workers))
        return latencies

    pids = () if pid is None else pid if isinstance(pid, tuple) else (pid,)
    await phase(warm)
    wrong.clear()
    cpu, began = cpu_seconds(*pids), time.perf_counter()
    latencies = sorted(await phase(seconds))
    took = time.perf_counter() - began
    used = cpu_seconds(*pids) - cpu
    for worker in workers:
        worker.connection.close()

    def at(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000, 2) if latencies else 0.0

    count = max(1, len(latencies))
    return Result(name, clients, len(latencies), took, wrong, at(0.5), at(0.95), at(0.99), used * 1000 / count, memory_mib(*pids))
