"""Health, metrics and logs, without personal data. https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

import json
import time

import httpx

from tests.wire.resources import identified


def values(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line and not line.startswith("#")}


def metrics(server) -> dict[str, float]:
    answer = httpx.get(server.root + "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return values(answer.text)


def test_metrics_count_requests_by_interaction_type_and_status(server, client):
    def count(interaction: str, status: str) -> float:
        return metrics(server).get(f'fhir_requests_total{{interaction="{interaction}",status="{status}",type="Patient"}}', 0)

    before = count("create", "201"), count("read", "404")
    client.post("Patient", json=identified("metric"))
    client.get("Patient/nobody")
    assert (count("create", "201"), count("read", "404")) == (before[0] + 1, before[1] + 1)


def test_metrics_hold_durations_memory_and_cpu(server, client):
    client.get("Patient/nobody")
    found = metrics(server)
    assert (
        found['fhir_request_duration_seconds_bucket{interaction="read",le="+Inf"}']
        == found['fhir_request_duration_seconds_count{interaction="read"}']
        > 0
    )
    assert found['fhir_request_duration_seconds_sum{interaction="read"}'] > 0
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_cpu_seconds_total"] > 0


def test_metrics_of_all_workers_are_added_up(start):
    server = start("--workers", "2")
    for _ in range(40):
        httpx.get(server.base + "/Patient/nobody")
    deadline = time.monotonic() + 10
    name = 'fhir_requests_total{interaction="read",status="404",type="Patient"}'
    while metrics(server).get(name) != 40 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert metrics(server)[name] == 40


def test_metrics_carry_no_ids_or_values(server, client):
    client.get("Patient?family=Geheim")
    client.get("Geheim/1")
    assert "Geheim" not in httpx.get(server.root + "/metrics").text


def test_the_log_is_json_without_personal_data(start):
    server = start()
    with server.client() as client:
        id = client.post("Patient", json=identified("secret-number"), headers={"X-Request-Id": "trace-7"}).json()["id"]
        client.get(f"Patient/{id}")
        client.get("Patient?family=Geheim&identifier=urn:mrn|secret-number")
        client.post("Patient", content=b'{"resourceType":"Patient","gender":"Geheim"}', headers={"Content-Type": "application/json"})
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log if line.startswith("{")]
    requests = [line for line in lines if line.get("event") == "request"]
    assert [(line["interaction"], line["type"], line["status"]) for line in requests] == [
        ("create", "Patient", 201),
        ("read", "Patient", 200),
        ("search", "Patient", 200),
        ("create", "Patient", 422),
    ]
    assert requests[0]["request_id"] == "trace-7"
    assert all(line["ms"] > 0 and line["timestamp"] for line in requests)
    text = "".join(server.log)
    assert "Geheim" not in text and "secret-number" not in text and id not in text


def test_each_answer_has_a_request_id(client):
    first, second = client.get("Patient/nobody"), client.get("Patient/nobody")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert client.get("Patient/nobody", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("Patient/nobody", headers={"X-Request-Id": "bad id <x>"}).headers["x-request-id"] != "bad id <x>"


def test_live_and_ready(server):
    assert httpx.get(server.root + "/health/live").json() == {"status": "live"}
    ready = httpx.get(server.root + "/health/ready").json()
    assert ready["status"] == "ready"
    assert "store" in ready
