"""Request counters and durations as plain integers, exported to Prometheus when asked.

An observation costs about a microsecond: no locks, no label objects on the hot path. With several worker processes each
publishes a snapshot in a folder of the server, and whoever is asked adds them up.
Exposition: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import orjson

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the duration buckets in seconds."""
Labels = tuple[str, ...]


class Family(NamedTuple):
    """What is told of metrics of one name. `bounds`: upper bounds of the buckets of a histogram."""

    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


COUNTERS = {
    "fhir_slow_searches": Family("Searches that took longer than FHIR_SERVER_SLOW_QUERY_MS", ("type",)),
    "fhir_job_attempts": Family("Attempts at jobs, by how they ended: done, retried, dead, lost", ("kind", "result")),
    "fhir_subscription_deliveries": Family("Calls to endpoints of Subscriptions: taken, failed, dropped", ("kind", "outcome")),
}
SUMMED = {"fhir_subscription_circuits_open": Family("Endpoints whose circuit is open: they are tried at intervals only")}
"""Gauges of which each process has a part."""
HISTOGRAMS = {
    "fhir_search_duration_seconds": Family("Time of searches by resource type or compartment, '' for the whole system", ("type",), BOUNDS),
    "fhir_store_commit_duration_seconds": Family("Time from the begin of a transaction until it is durable", (), BOUNDS),
    "fhir_store_commit_size": Family(
        "Pieces of work that one transaction made durable together", (), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    ),
}


class Gauge(NamedTuple):
    """A value as it is now; those of one name differ in their labels."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}


class Histogram:
    """Numbers of values by bucket, and their sum."""

    __slots__ = ("bounds", "numbers", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.numbers, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.numbers[bisect_left(self.bounds, value)] += 1
        self.total += value


Source = Callable[[], Iterable[tuple[str, Labels, float]]]
"""Counts that are kept elsewhere in the process: name (of COUNTERS or SUMMED), values of the labels, number."""


class RequestMetrics:
    """Counts by (interaction, resource type, status), durations by interaction, and other counters by name."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int], int] = {}
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}
        self.events: dict[str, int] = {}
        self.messages: dict[tuple[str, str], int] = {}
        self.message_buckets = [0] * (len(BOUNDS) + 1)
        self.message_seconds = 0.0
        self.counters: dict[tuple[str, Labels], float] = {}
        self.histograms: dict[tuple[str, Labels], Histogram] = {}
        self._sources: list[Source] = []

    def observe(self, interaction: str, type: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (interaction, type, status)
        counts = self.counts
        counts[key] = counts.get(key, 0) + 1
        buckets = self.buckets.get(interaction)
        if buckets is None:
            buckets = self.buckets[interaction] = [0] * (len(BOUNDS) + 1)
            self.seconds[interaction] = 0.0
        buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[interaction] += seconds
        if interaction == "search":
            self.measure("fhir_search_duration_seconds", seconds, (type,))

    def count(self, name: str, labels: Labels = (), by: float = 1) -> None:
        """Count something of COUNTERS; `labels`: the values in the order that is declared there."""
        self.counters[name, labels] = self.counters.get((name, labels), 0) + by

    def measure(self, name: str, value: float, labels: Labels = ()) -> None:
        """Put a value into a histogram of HISTOGRAMS."""
        histogram = self.histograms.get((name, labels))
        if histogram is None:
            histogram = self.histograms[name, labels] = Histogram(HISTOGRAMS[name].bounds)
        histogram.add(value)

    def committed(self, size: int, seconds: float) -> None:
        """Note one transaction of the store: how many pieces of work it held, how long it took."""
        self.measure("fhir_store_commit_size", size)
        self.measure("fhir_store_commit_duration_seconds", seconds)

    def watch(self, source: Source) -> None:
        """Also tell what is counted elsewhere."""
        self._sources.append(source)

    def counted(self) -> dict[tuple[str, Labels], float]:
        """What was counted, here and elsewhere."""
        found = dict(self.counters)
        for source in self._sources:
            for name, labels, number in source():
                found[name, labels] = found.get((name, labels), 0) + number
        return found

    def event(self, name: str) -> None:
        """Count something that happened (`unexpected_errors`, `slow_clients` ...)."""
        self.events[name] = self.events.get(name, 0) + 1

    def message(self, type: str, outcome: str, seconds: float) -> None:
        """Count one answered HL7 v2 message: its type ('ADT^A01'), and AA, AE, AR or duplicate."""
        self.messages[type, outcome] = self.messages.get((type, outcome), 0) + 1
        self.message_buckets[bisect_left(BOUNDS, seconds)] += 1
        self.message_seconds += seconds

    def snapshot(self) -> dict[str, Any]:
        """All values as JSON."""
        counts = [[*key, number] for key, number in self.counts.items()]
        messages = [[*key, number] for key, number in self.messages.items()]
        durations = {"message_buckets": self.message_buckets, "message_seconds": self.message_seconds}
        return {
            "counts": counts,
            "buckets": self.buckets,
            "seconds": self.seconds,
            "events": self.events,
            "messages": messages,
            **durations,
            "counters": [[*key, number] for key, number in self.counted().items()],
            "histograms": [[*key, one.numbers, one.total] for key, one in self.histograms.items()],
        }

    def add(self, snapshot: dict[str, Any]) -> None:
        """Add the values of another process's snapshot."""
        for interaction, type, status, number in snapshot["counts"]:
            key = (interaction, type, status)
            self.counts[key] = self.counts.get(key, 0) + number
        for interaction, numbers in snapshot["buckets"].items():
            mine = self.buckets.setdefault(interaction, [0] * (len(BOUNDS) + 1))
            self.buckets[interaction] = [a + b for a, b in zip(mine, numbers, strict=True)]
            self.seconds[interaction] = self.seconds.get(interaction, 0.0) + snapshot["seconds"][interaction]
        for name, number in snapshot["events"].items():
            self.events[name] = self.events.get(name, 0) + number
        for type, outcome, number in snapshot["messages"]:
            self.messages[type, outcome] = self.messages.get((type, outcome), 0) + number
        self.message_buckets = [a + b for a, b in zip(self.message_buckets, snapshot["message_buckets"], strict=True)]
        self.message_seconds += snapshot["message_seconds"]
        for name, labels, number in snapshot["counters"]:
            self.count(name, tuple(labels), number)
        for name, labels, numbers, total in snapshot["histograms"]:
            mine_too = self.histograms.setdefault((name, tuple(labels)), Histogram(HISTOGRAMS[name].bounds))
            mine_too.numbers = [a + b for a, b in zip(mine_too.numbers, numbers, strict=True)]
            mine_too.total += total


class SharedSnapshots:
    """The snapshots of all workers as files of one folder."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder, self._mine = folder, folder / f"worker-{worker}.json"

    def publish(self, metrics: RequestMetrics) -> None:
        """Replace this worker's snapshot."""
        temporary = self._mine.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(orjson.dumps(metrics.snapshot()))
        temporary.replace(self._mine)

    def total(self, own: RequestMetrics) -> RequestMetrics:
        """This worker's live values and the others' last published ones.

        The own ones are published first: whichever worker answers the next scrape, no counter goes back.
        """
        self.publish(own)
        total = RequestMetrics()
        total.add(own.snapshot())
        for file in self._folder.glob("worker-*.json"):
            if file != self._mine:
                # A worker that is just being replaced has no file for a moment.
                with contextlib.suppress(FileNotFoundError):
                    total.add(orjson.loads(file.read_bytes()))
        return total


def _cumulated(numbers: list[int], bounds: tuple[float, ...] = BOUNDS) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: (upper bound, number up to it)."""
    return list(zip((*map(str, bounds), "+Inf"), map(float, accumulate(numbers)), strict=True))


def exposition(metrics: RequestMetrics, gauges: Iterable[Gauge] = ()) -> bytes:
    """Prometheus text of the metrics, of gauges, and of this process."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import Metric
    from prometheus_client.process_collector import ProcessCollector

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _requests(metrics)
            yield from _others(metrics)
            yield from _gauges(gauges)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())  # type: ignore[arg-type]
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _requests(metrics: RequestMetrics) -> Iterator[Any]:
    """What was asked, over HTTP and MLLP."""
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    requests = CounterMetricFamily("fhir_requests", "Answered requests", labels=["interaction", "type", "status"])
    for (interaction, type, status), number in sorted(metrics.counts.items()):
        requests.add_metric([interaction, type, str(status)], number)
    yield requests
    durations = HistogramMetricFamily("fhir_request_duration_seconds", "Time from request to answer", labels=["interaction"])
    for interaction, numbers in sorted(metrics.buckets.items()):
        durations.add_metric([interaction], _cumulated(numbers), metrics.seconds[interaction])
    yield durations
    messages = CounterMetricFamily("hl7v2_messages", "Answered HL7 v2 messages", labels=["type", "outcome"])
    for (type, outcome), number in sorted(metrics.messages.items()):
        messages.add_metric([type, outcome], number)
    yield messages
    rows = _cumulated(metrics.message_buckets)
    help = "Time from an HL7 v2 message to its acknowledgement"
    yield HistogramMetricFamily("hl7v2_message_duration_seconds", help, buckets=rows, sum_value=metrics.message_seconds)
    events = CounterMetricFamily("fhir_server_events", "Things that happened", labels=["event"])
    for name, number in sorted(metrics.events.items()):
        events.add_metric([name], number)
    yield events


def _others(metrics: RequestMetrics) -> Iterator[Any]:
    """What COUNTERS, SUMMED and HISTOGRAMS declare; each is there from the first moment on."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    counted = sorted(metrics.counted().items())
    for made, families in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, SUMMED)):
        for name, family in families.items():
            shown = made(name, family.help, labels=family.labels)
            found = [(labels, number) for (its, labels), number in counted if its == name]
            for labels, number in found if found or family.labels else [((), 0.0)]:
                shown.add_metric(labels, number)
            yield shown
    for name, family in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
        for (its, labels), one in sorted(metrics.histograms.items()):
            if its == name:
                histogram.add_metric(labels, _cumulated(one.numbers, one.bounds), one.total)
        yield histogram


def _gauges(gauges: Iterable[Gauge]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    families: dict[str, Any] = {}
    for gauge in gauges:
        if gauge.name not in families:
            families[gauge.name] = GaugeMetricFamily(gauge.name, gauge.help, labels=list(gauge.labels))
        families[gauge.name].add_metric(list(gauge.labels.values()), gauge.value)
    yield from families.values()
