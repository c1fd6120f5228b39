"""Traces with OpenTelemetry: off unless the extra `otel` is installed and FHIR_SERVER_TRACING is on; then nothing of it is imported.

No span holds an id, a value, a name of a person, an address with its query, or the text of an error: attributes are types, templates,
numbers and statuses. Where spans go, and how many, is said by the standard variables OTEL_*.
Specification: https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
Decision: docs/decisions/0099-observability.md
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

EXPORTERS = ("otlp", "console", "none")
PROTOCOL = "http/protobuf"
HEADER = "traceparent"
_FLUSH_SECONDS = 3.0


class TracingError(Exception):
    """Traces are asked for and cannot be made; the text names the variable and what to do."""


class Nothing:
    """A span that is not made."""

    __slots__ = ()

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Note attributes."""

    def answered(self, status: int) -> None:
        """Note the HTTP status of the answer."""

    def name(self, name: str) -> None:
        """Be called so."""

    def caused_by(self, traceparents: Iterable[str]) -> None:
        """Link what was brought about elsewhere."""


NOTHING = Nothing()
_OFF = nullcontext(NOTHING)


class Span(Nothing):
    """A span under way."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Any]) -> None:
        self._span.set_attributes(attributes)

    def answered(self, status: int) -> None:
        """From 500 on it is an error; for the one who asked, from 400 on."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if status >= (400 if getattr(self._span, "kind", None) is SpanKind.CLIENT else 500):
            self._span.set_status(Status(StatusCode.ERROR))

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def caused_by(self, traceparents: Iterable[str]) -> None:
        for text in dict.fromkeys(traceparents):
            if (cause := _cause(text)) is not None:
                self._span.add_link(cause)


_tracer: Any = None
_propagator: Any = None


def on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def begin(*, exporter: Any = None) -> Provider:
    """Make spans from now on, as the variables OTEL_* say; `exporter` (of tests) takes the place of the one that they name.

    Raises TracingError.
    """
    global _tracer, _propagator
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError as fault:
        raise TracingError(
            f"FHIR_SERVER_TRACING=on wants OpenTelemetry, which is not installed ({fault.name}); "
            "install the extra: pip install 'fhir-server[otel]' 请安装：pip install 'fhir-server[otel]'"
        ) from None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "fhir-server"}
    if "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        named = {}
    try:
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        if exporter is not None:
            provider.add_span_processor(SimpleSpanProcessor(exporter))
        elif (made := _exporter()) is not None:
            provider.add_span_processor(BatchSpanProcessor(made))
    except ValueError as fault:
        raise TracingError(f"a variable OTEL_* cannot be used 环境变量 OTEL_* 无效: {fault}") from fault
    _propagator = TraceContextTextMapPropagator()
    _tracer = provider.get_tracer("fhir_server")
    return Provider(provider)


def _exporter() -> Any:
    """What OTEL_TRACES_EXPORTER names. Raises TracingError."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if wanted not in EXPORTERS:
        said = f"OTEL_TRACES_EXPORTER={wanted} is not one of {', '.join(EXPORTERS)}"
        raise TracingError(f"{said} OTEL_TRACES_EXPORTER 只能是 {', '.join(EXPORTERS)}")
    if wanted == "none":
        return None
    if wanted == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(name, "")
        if protocol and protocol != PROTOCOL:
            raise TracingError(f"{name}={protocol} is not served; only {PROTOCOL} is 只支持 {PROTOCOL}")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as fault:
        raise TracingError(f"the exporter of traces is not installed 未安装 ({fault.name}): pip install 'fhir-server[otel]'") from None
    return OTLPSpanExporter()


class Provider:
    """What makes spans, to be stopped at the end."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    async def start(self) -> Provider:
        """It works already; gives itself."""
        return self

    async def stop(self) -> None:
        """Send what is not sent yet, within a few seconds: a receiver that is gone does not hold up the end."""
        global _tracer
        _tracer = None
        ended = threading.Thread(target=self._provider.shutdown, name="fhir-traces-end", daemon=True)
        ended.start()
        until = asyncio.get_running_loop().time() + _FLUSH_SECONDS
        while ended.is_alive() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)


# --- spans
def span(name: str, attributes: Mapping[str, Any] | None = None, *, kind: str = "INTERNAL", parent: str = "") -> Any:
    """A context manager that gives a span, the current one within it. `parent`: a `traceparent`; '' = the current span."""
    return _OFF if _tracer is None else _span(name, kind, parent, attributes or {})


@contextmanager
def _span(name: str, kind: str, parent: str, attributes: Mapping[str, Any]) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    # The text of an exception may be about a person: only its class is told.
    with _tracer.start_as_current_span(
        name,
        _context(parent) if parent else None,
        SpanKind[kind],
        attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield Span(started)
        except BaseException as fault:
            started.set_attribute("error.type", type(fault).__name__)
            started.set_status(Status(StatusCode.ERROR))
            raise


def here() -> Nothing:
    """The current span."""
    if _tracer is None:
        return NOTHING
    from opentelemetry.trace import get_current_span

    return Span(get_current_span())


def attempt(kind: str, number: int, cause: str, *, linked: bool) -> Any:
    """The span of an attempt at a job: part of the trace of what caused it (a `traceparent` or ''), or only `linked` to that."""
    return _OFF if _tracer is None else _attempt(kind, number, cause, linked)


@contextmanager
def _attempt(kind: str, number: int, cause: str, linked: bool) -> Iterator[Span]:
    attributes = {"job.kind": kind, "job.attempt": number}
    with _span(f"job {kind}", "CONSUMER", "" if linked else cause, attributes) as started:
        if linked and cause:
            started.caused_by([cause])
        token = _kind.set(kind)
        try:
            yield started
        finally:
            _kind.reset(token)


_kind: ContextVar[str] = ContextVar("kind of the job that is attempted", default="")


def attempted() -> str:
    """The kind of the job that is being attempted; '' outside of jobs."""
    return _kind.get()


def _context(traceparent: str) -> Any:
    from opentelemetry.context import Context

    return _propagator.extract({HEADER: traceparent}, Context())


def _cause(traceparent: str) -> Any:
    """The span that a `traceparent` names; None where it names none."""
    from opentelemetry.trace import get_current_span

    found = get_current_span(_context(traceparent)).get_span_context()
    return found if found.is_valid else None


def current() -> str:
    """The `traceparent` of the current span where it is recorded, else ''."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import get_current_span

    return _sent() if get_current_span().is_recording() else ""


def _sent() -> str:
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(HEADER, "")


def sent_on(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers of an outgoing request with `traceparent`, unless they have one; `tracestate` and baggage are not for strangers."""
    if _tracer is None or any(name.lower() == HEADER for name, _ in headers):
        return headers
    sent = _sent()
    return [*headers, (HEADER, sent)] if sent else headers


def trace_id() -> str:
    """The current trace's id (32 hexadecimal digits), which log lines carry; '' without one."""
    sent = _sent() if _tracer is not None else ""
    return sent.split("-")[1] if sent else ""
