"""Traces are off unless they are asked for, and what they leave in the store is small and ends."""

from __future__ import annotations

import sys

import pytest

from fhir_server.app import compose
from fhir_server.interactions.asgi import FhirApplication
from fhir_server.observability import tracing
from fhir_server.observability.traced_store import MOST, marked
from fhir_server.settings import Settings
from fhir_server.storage.port import Commit, Facts, Job, Outcome, Record, Stored, Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore

SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def effects(unit: Unit):
    return unit.decide(Facts([], {}))


def concluded(conclude, outcomes):
    steps = conclude(Commit(outcomes, 1))
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return list(end.value)


def outcome(number: int, result: str = "created") -> Outcome:
    return Outcome(result, Stored(number, "Patient", f"p{number}", 1, 0, "PUT", b"{}"))


async def test_a_server_without_traces_has_neither_the_wrapped_store_nor_the_wrapped_application(tmp_path) -> None:
    app = await compose(Settings(data_dir=tmp_path, mllp_port="off"), 0)
    try:
        assert type(app.fhir) is FhirApplication and type(app.store) is SqliteStore
        assert not tracing.on() and tracing.current() == "" and tracing.trace_id() == ""
        headers = [("Content-Type", "application/fhir+json")]
        assert tracing.sent_on(headers) is headers
        assert tracing.span("a") is tracing.span("b"), "no object is made"
    finally:
        await app.stop()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(tracing.TracingError, match=r"fhir-server\[otel\]"):
        tracing.begin()
    assert not tracing.on()


def test_jobs_of_a_unit_carry_what_caused_them() -> None:
    (job,) = effects(marked(Unit.of(jobs=[Job("send", "k", {"id": "x"})]), SENT, "")).jobs
    assert job.payload == {"id": "x", "traceparent": SENT}


def test_a_job_that_asks_for_its_next_run_begins_a_trace_of_its_own() -> None:
    before = {"version": 1, "traceparent": SENT}
    (beat, other) = effects(marked(Unit.of(jobs=[Job("beat", "k", before), Job("send", "k", {})]), SENT, "beat")).jobs
    assert beat.payload == {"version": 1, "traceparent": ""}
    assert other.payload["traceparent"] == SENT


def test_each_version_that_is_written_is_noted_beside_what_the_unit_itself_keeps() -> None:
    own = Record("mine", "k", {})
    unit = Unit.of(Write("PUT", "Patient", "p1", {}), records=[own])
    made = effects(marked(unit, SENT, ""))
    assert made.records == [own]
    kept = concluded(made.conclude, [outcome(1), outcome(2, "unchanged")])
    assert [(one.collection, one.key, one.data) for one in kept] == [("trace", "Patient/p1/1", {"traceparent": SENT})]


def test_a_large_unit_leaves_a_bounded_number_of_notes() -> None:
    made = effects(marked(Unit.of(Write("PUT", "Patient", "p1", {})), SENT, ""))
    assert len(concluded(made.conclude, [outcome(number) for number in range(5000)])) == MOST
