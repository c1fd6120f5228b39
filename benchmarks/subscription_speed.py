"""Subscriptions (W13): from the acknowledged commit to the receiver, and what many subscriptions cost a write.

python -m benchmarks.subscription_speed [--seconds N] [--many N] [--sockets N] [--out FILE]

A receiver on loopback notes when each event arrives. `many`: subscriptions that watch one patient each, none of whom is written about;
`sockets`: websocket clients that all bind one Subscription.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import track
from websockets.asyncio.client import connect

from benchmarks.__main__ import machine, markdown, show, this_server
from benchmarks.http import Connection
from benchmarks.process import cpu_seconds

RATE = 200
"""Events per second."""
GOAL_MS = 100
TOPIC = "http://example.org/SubscriptionTopic/observations"
_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
_CONTENT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content"
HEAD = ["what", "this", "goal"]


def topic() -> dict[str, Any]:
    """All creations of Observations; can be filtered by patient."""
    trigger = [{"url": "resource", "valueUri": "Observation"}, {"url": "supportedInteraction", "valueCode": "create"}]
    return {
        "resourceType": "Basic", "id": "observations",
        "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
        "modifierExtension": [{"url": _R5 + "status", "valueCode": "active"}],
        "extension": [
            {"url": _R5 + "url", "valueUri": TOPIC}, {"url": _R5 + "resourceTrigger", "extension": trigger},
            {"url": _R5 + "canFilterBy", "extension": [{"url": "filterParameter", "valueString": "patient"}]},
        ],
    }  # fmt: skip


def observation(patient: str) -> bytes:
    coding = {"system": "http://loinc.org", "code": "2823-3"}
    quantity = {"value": 4.1, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    subject = {"reference": f"Patient/{patient}"}
    base = {"resourceType": "Observation", "status": "final", "code": {"coding": [coding]}}
    return orjson.dumps({**base, "subject": subject, "valueQuantity": quantity})


def subscription(id: str, criteria: str, channel: dict[str, Any]) -> dict[str, Any]:
    """Active at once; a topic is greeted before its first event."""
    return {"resourceType": "Subscription", "id": id, "status": "active", "reason": "benchmark", "criteria": criteria, "channel": channel}


class Receiver:
    """Notes when the id of each event arrived."""

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        self.order: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                length = 0
                while (head := await reader.readline()) not in (b"\r\n", b""):
                    if head.lower().startswith(b"content-length:"):
                        length = int(head.split(b":")[1])
                body = await reader.readexactly(length)
                id = line.split(b" ")[1].rpartition(b"/")[2].decode()
                if line.startswith(b"POST"):
                    parts = orjson.loads(body)["entry"][0]["resource"]["parameter"]
                    event = next((row["part"] for row in parts if row["name"] == "notification-event"), None)
                    id = next(p["valueReference"]["reference"] for p in event if p["name"] == "focus").rpartition("/")[2] if event else ""
                if id:  # a handshake is no event
                    self.arrived.setdefault(id, time.perf_counter())
                    self.order.append(id)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the benchmark is over
        finally:
            writer.close()


async def write(connection: Connection, patient: str) -> tuple[str, float]:
    """Id and time of the acknowledgement of a new Observation."""
    answer = await connection.request("POST", "Observation", observation(patient))
    assert answer.status == 201, answer.body[:300]
    return answer.json()["id"], time.perf_counter()


async def latencies(base: str, receiver: Receiver, seconds: float) -> tuple[list[float], bool]:
    """Milliseconds from acknowledgement to arrival at RATE events a second; whether they came in the order of the commits."""
    receiver.order.clear()
    connection = Connection(base)
    sent: list[tuple[str, float]] = []
    begun = time.perf_counter()
    for number in range(round(seconds * RATE)):
        await asyncio.sleep(max(0, begun + number / RATE - time.perf_counter()))
        sent.append(await write(connection, "watched"))
    for _ in range(200):
        if all(id in receiver.arrived for id, _ in sent):
            break
        await asyncio.sleep(0.05)
    connection.close()
    order = list(dict.fromkeys(receiver.order)) == [id for id, _ in sent]
    return sorted((receiver.arrived[id] - at) * 1000 for id, at in sent), order


async def cost(base: str, pid: int, writes: int) -> float:
    """CPU ms of the server for a write that no subscription is told of."""
    connection = Connection(base)
    for _ in range(100):
        await write(connection, "nobody")
    await asyncio.sleep(1.5)
    before = cpu_seconds(pid)
    for _ in range(writes):
        await write(connection, "nobody")
    await asyncio.sleep(1.5)
    spent = cpu_seconds(pid) - before
    connection.close()
    return spent / writes * 1000


async def put(connection: Connection, resource: dict[str, Any]) -> None:
    answer = await connection.request("PUT", f"{resource['resourceType']}/{resource['id']}", orjson.dumps(resource))
    assert answer.status in (200, 201), answer.body[:300]


async def told_by_sockets(base: str, number: int) -> tuple[float, int]:
    """Milliseconds until the last of so many clients has an event; how many got it."""
    connection = Connection(base)
    token = (await connection.request("GET", "Subscription/socket/$get-ws-binding-token")).json()["parameter"]
    said = {row["name"]: next(value for key, value in row.items() if key != "name") for row in token}
    sockets = []
    for _ in track(range(number), "websockets", console=Console(stderr=True)):
        socket = await connect(said["websocket-url"], compression=None, proxy=None)
        await socket.send(f"bind-with-token {said['token']}")
        await socket.recv()
        sockets.append(socket)
    waiting = [asyncio.create_task(socket.recv()) for socket in sockets]
    _, at = await write(connection, "watched")
    done, _ = await asyncio.wait(waiting, timeout=30)
    spent = (time.perf_counter() - at) * 1000
    for socket in sockets:
        await socket.close()
    connection.close()
    return spent, len(done)


def percentile(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


async def measure(base: str, pid: int, seconds: float, many: int, sockets: int) -> list[list[str]]:
    """The rows of the table."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    connection = Connection(base)
    rows: list[list[str]] = []
    plain = await cost(base, pid, 2000)
    rows.append(["a write without subscriptions, CPU ms", f"{plain:.3f}", ""])
    await put(connection, topic())
    hook = {"type": "rest-hook", "endpoint": url, "payload": "application/fhir+json"}
    kinds = {
        "search": ("Observation?subject=Patient/watched", hook),
        "topic, id-only": (TOPIC, {**hook, "_payload": {"extension": [{"url": _CONTENT, "valueCode": "id-only"}]}}),
    }
    for name, (criteria, channel) in kinds.items():
        await put(connection, subscription("one", criteria, channel))
        await asyncio.sleep(1)
        times, order = await latencies(base, receiver, seconds)
        told = f"p50 {percentile(times, 0.5):.1f}, p95 {percentile(times, 0.95):.1f}, p99 {percentile(times, 0.99):.1f} ms"
        state = "none lost, in order" if order else "OUT OF ORDER"
        rows.append([f"commit to receiver at {RATE} events/s, {name} ({len(times)} events)", f"{told}; {state}", f"p95 {GOAL_MS} ms"])
    await put(connection, {**subscription("one", "Observation", hook), "status": "off"})
    for number in track(range(many), "subscriptions", console=Console(stderr=True)):
        await put(connection, subscription(f"m{number}", f"Observation?subject=Patient/q{number}&code=2823-3", hook))
    await asyncio.sleep(3)
    with_many = await cost(base, pid, 2000)
    rows.append([f"a write beside {many:,} subscriptions, CPU ms", f"{with_many:.3f} ({with_many / plain:.2f} times)", "as without"])
    content = {"extension": [{"url": _CONTENT, "valueCode": "id-only"}]}
    socket = subscription("socket", TOPIC, {"type": "websocket", "payload": "application/fhir+json", "_payload": content})
    await put(connection, socket | {"_criteria": {"extension": [{"url": _FILTER, "valueString": "Observation?patient=Patient/watched"}]}})
    await asyncio.sleep(2)
    spent, got = await told_by_sockets(base, sockets)
    rows.append([f"an event to {sockets:,} websocket clients", f"{spent:.0f} ms until the last; {got:,} got it", "1,000 clients"])
    connection.close()
    server.close()
    return rows


_FILTER = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of each run at a steady rate")
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536) if most > 0 else 65_536, most))
    with tempfile.TemporaryDirectory() as folder, this_server(Path(folder), 1) as own:
        assert own.pid
        rows = asyncio.run(measure(own.base, own.pid, options.seconds, options.many, options.sockets))
    show("Subscriptions (W13)", rows, HEAD)
    if options.out:
        table = markdown("One worker process", rows, HEAD)
        about = "Receiver and clients share the machine."
        options.out.write_text(f"# {dt.date.today()}: Subscriptions\n\n{machine()}\n\n{about}\n\n{table}", encoding="utf-8")


if __name__ == "__main__":
    main()
