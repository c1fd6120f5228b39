"""Traces of a running server, over the wire: from the request through store and job to the receiver of the notification.

https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

from tests.console.receiver import Receiver, observation, subscription, until
from tests.observability.collector import Collector

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""The example of the specification, section 3.2.2.5."""
SENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.shut()


class Hook(Receiver):
    """A receiver that also keeps headers: (path, names in lower case -> values)."""

    headers: list[tuple[str, dict[str, str]]]

    def open(self) -> None:
        super().open()
        self.headers = kept = []
        taking = self._server.RequestHandlerClass

        class Keeping(taking):
            def _take(self) -> None:
                kept.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                super()._take()

            do_POST = do_PUT = _take

        self._server.RequestHandlerClass = Keeping


@pytest.fixture
def hook():
    made = Hook()
    made.open()
    yield made
    made.shut()


def traced(start, collector, *arguments, **more):
    variables = {"FHIR_SERVER_TRACING": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100", **more}
    return start(*arguments, env=variables)


def attributes(span) -> dict:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_one_trace_leads_from_the_request_to_the_receiver_of_the_notification(start, collector, hook) -> None:
    client = traced(start, collector).client()
    client.put(
        "Subscription/sub-geheim", json=subscription(hook, "sub-geheim", "Observation?subject=Patient/pat-geheim")
    ).raise_for_status()
    until(lambda: client.get("Subscription/sub-geheim").json()["status"] == "active")
    seen = observation("obs-geheim", "pat-geheim")
    client.put("Observation/obs-geheim", json=seen, headers={"traceparent": SENT, "tracestate": "vendor=geheim"}).raise_for_status()
    until(lambda: any("/Observation/obs-geheim" in path for _, path, _ in hook.hits))
    mine = until(lambda: len(found := [one for one in collector.spans if one.trace_id.hex() == TRACE]) >= 4 and found)
    by_name = {span.name: span for span in mine}
    request, unit = by_name["PUT Observation/{id}"], by_name["store transact"]
    job, call = by_name["job subscription.deliver"], by_name["PUT"]
    assert request.parent_span_id.hex() == SPAN
    assert unit.parent_span_id == request.span_id
    assert job.parent_span_id == unit.span_id, "the job is caused by what the request wrote"
    assert call.parent_span_id == job.span_id
    assert attributes(unit)["fhir.writes"] == 1
    assert attributes(request)["http.response.status_code"] == 201
    assert attributes(job) == {"job.kind": "subscription.deliver", "job.attempt": 1}
    assert attributes(call)["http.response.status_code"] == 200 and attributes(call)["server.address"] == "127.0.0.1"
    headers = next(headers for path, headers in hook.headers if "obs-geheim" in path)
    assert headers["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert "tracestate" not in headers
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "fhir-server"


def test_the_trace_of_a_job_survives_kill_9(start, collector, hook, tmp_path) -> None:
    hook.shut()
    server = traced(start, collector)
    client = server.client()
    client.put("Subscription/s1", json=subscription(hook, "s1", "Observation?subject=Patient/p1")).raise_for_status()
    until(lambda: client.get("Subscription/s1").json()["status"] != "requested")
    client.put("Observation/o1", json=observation("o1", "p1"), headers={"traceparent": SENT}).raise_for_status()
    server.kill()
    collector.spans.clear()
    again = traced(start, collector)
    found = until(lambda: [one for one in collector.named("job subscription.deliver") if one.trace_id.hex() == TRACE])
    assert found[0].status.code == 2, "the receiver is gone, so the attempt failed"
    again.kill()


def test_no_span_holds_an_id_a_value_or_content(start, collector, hook) -> None:
    server = traced(start, collector)
    client = server.client()
    name = {"family": "Geheim", "given": ["Geheimnis"]}
    client.put("Subscription/geheim-s", json=subscription(hook, "geheim-s", "Patient?name=geheim")).raise_for_status()
    client.put("Patient/geheim-1", json={"resourceType": "Patient", "id": "geheim-1", "name": [name]}).raise_for_status()
    client.get("Patient/geheim-1/_history/1")
    client.get("Patient", params={"family": "Geheim", "geheim": "1", "identifier": "urn:geheim|1"})
    client.get("Patient/geheim-1/Observation", params={"code": "geheim"})
    client.get("Patient/geheim-1/$geheim")
    client.get("Geheim/1")
    client.request("GEHEIM", "Patient/geheim-1")
    client.post("Patient", content=b'{"resourceType":"Patient","gender":"geheim"}', headers={"Content-Type": "application/json"})
    client.post("Patient/_search", data={"family": "Geheim"}, headers={"X-Request-Id": "geheim"})
    until(lambda: any("/Patient/geheim-1" in path for _, path, _ in hook.hits))
    assert server.stop() == 0, "what was not sent yet is sent at the end"
    assert len(collector.spans) > 12
    sent = b"".join(collector.raw).lower()
    assert b"geheim" not in sent
    names = {span.name for span in collector.spans}
    assert {"PUT Patient/{id}", "GET Patient/{id}/_history/{vid}", "GET Patient?…", "GET Patient/{id}/Observation?…"} <= names
    assert {"GET Patient/{id}/$…", "POST Patient", "POST Patient?…"} <= names


def test_the_standard_variables_are_heeded(start, collector) -> None:
    named = traced(start, collector, OTEL_SERVICE_NAME="ward-7", OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test")
    httpx_get(named, "Patient/1")
    assert named.stop() == 0
    assert collector.resources[0]["service.name"] == "ward-7" and collector.resources[0]["deployment.environment.name"] == "test"
    collector.spans.clear()
    silent = traced(start, collector, OTEL_TRACES_SAMPLER="always_off")
    httpx_get(silent, "Patient/1")
    assert silent.stop() == 0
    assert collector.spans == []


def httpx_get(server, place: str) -> None:
    with server.client() as client:
        client.get(place)


def test_a_receiver_that_is_gone_holds_up_neither_answers_nor_the_end(start, collector) -> None:
    collector.shut()
    server = traced(start, collector)
    with server.client() as client:
        assert client.get("metadata").status_code == 200
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_the_start(start, collector, variables, said) -> None:
    with pytest.raises(RuntimeError, match=said):
        traced(start, collector, **variables)


def test_without_the_setting_nothing_is_sent_and_no_record_is_kept(start, collector) -> None:
    server = start(env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"})
    with server.client() as client:
        client.put("Patient/p1", json={"resourceType": "Patient", "id": "p1"}, headers={"traceparent": SENT}).raise_for_status()
    assert server.stop() == 0
    assert collector.raw == []
