"""Attempts at jobs: in the trace of their cause, or linked to it (https://opentelemetry.io/docs/specs/otel/trace/api/#link)."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fhir_server.observability import tracing
from fhir_server.storage.port import ClaimedJob, Effects
from subscriptions.jobs.kinds import Kind

TRACE = "0af7651916cd43dd8448eb211c80319c"


def cause(number: int) -> str:
    return f"00-{TRACE}-{number:016x}-01"


def job(number: int, traceparent: str = "") -> ClaimedJob:
    return ClaimedJob(number, "send", "k", {"traceparent": traceparent} if traceparent else {}, 0, 2, "lease")


@pytest.fixture
async def spans(monkeypatch: pytest.MonkeyPatch):
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    exporter = InMemorySpanExporter()
    provider = tracing.begin(exporter=exporter)
    yield exporter.get_finished_spans
    await provider.stop()


async def nothing(job, services):
    return None


async def broken(job, services):
    raise ValueError("geheim")


async def test_a_job_is_in_the_trace_of_its_cause(spans) -> None:
    await Kind("send", nothing).attempt([job(1, cause(7))], None)
    (span,) = spans()
    assert span.name == "job send" and f"{span.context.trace_id:032x}" == TRACE and span.parent.span_id == 7
    assert dict(span.attributes) == {"job.kind": "send", "job.attempt": 2}


async def test_a_timer_begins_a_trace_and_is_linked_to_its_cause(spans) -> None:
    await Kind("send", nothing, timer=True).attempt([job(1, cause(7))], None)
    (span,) = spans()
    assert span.parent is None and [link.context.span_id for link in span.links] == [7]


async def test_of_several_jobs_done_at_once_all_causes_are_told_and_of_the_rest_none(spans) -> None:
    async def train(jobs, services):
        return 3, Effects()

    await Kind("send", None, train=train).attempt([job(n, cause(n)) for n in (1, 2, 3, 4)], None)
    (span,) = spans()
    assert span.parent.span_id == 1 and [link.context.span_id for link in span.links] == [2, 3]


async def test_a_job_without_a_cause_or_with_a_broken_one_begins_a_trace(spans) -> None:
    for sent in ("", "00-zz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        await Kind("send", nothing).attempt([job(1, sent)], None)
    assert [span.parent for span in spans()] == [None] * 3


async def test_of_a_fault_only_its_class_is_told(spans) -> None:
    with pytest.raises(ValueError):
        await Kind("send", broken).attempt([job(1)], None)
    (span,) = spans()
    assert span.attributes["error.type"] == "ValueError" and span.status.status_code.name == "ERROR"
    assert "geheim" not in span.to_json() and not span.events
