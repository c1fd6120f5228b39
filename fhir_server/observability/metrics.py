"""Request counters and durations as plain integers, exported to Prometheus when asked.

An observation costs about a microsecond: no locks, no label objects on the hot path. With several worker processes each
publishes a snapshot in a folder of the server, and whoever is asked adds them up.
Exposition: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the duration buckets in seconds."""


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


def _cumulated(numbers: list[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: (upper bound, number up to it)."""
    return list(zip((*map(str, BOUNDS), "+Inf"), map(float, accumulate(numbers)), strict=True))


def exposition(metrics: RequestMetrics, gauges: Iterable[tuple[str, str, float]] = ()) -> bytes:
    """Prometheus text of the metrics, of further gauges (name, help, value), and of this process."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.process_collector import ProcessCollector

    class Collector:
        def collect(self) -> Iterator[Metric]:
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
            for name, help, value in gauges:
                yield GaugeMetricFamily(name, help, value=value)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())  # type: ignore[arg-type]
    ProcessCollector(registry=registry)
    return generate_latest(registry)
