"""Wrong input is answered clearly, leaves nothing behind, and the server lives.

Known failure 25: an error without an OperationOutcome, or with a stack trace.
"""

from __future__ import annotations

import gzip
import http.client
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.wire.resources import outcome, patient, unique

JSON = {"Content-Type": "application/fhir+json"}


@pytest.fixture(autouse=True)
def nothing_is_left_behind(client):
    """No test here may change how many Patients there are."""
    before = client.get("Patient?_summary=count").json()["total"]
    yield
    assert client.get("Patient?_summary=count").json()["total"] == before


def post(client, body: bytes):
    return client.post("Patient", content=body, headers=JSON)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "empty"),
        (b"{", "JSON"),
        (b'{"resourceType":"Patient"', "JSON"),
        (b'{"resourceType":"Patient",}', "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"Patient"', "object"),
        (b"{}", "resourceType"),
        (b'{"resourceType":"Group"}', "Group"),
        (b'{"resourceType":["Patient"]}', "resourceType"),
        (b'{"resourceType":"Patient","active":true,"active":false}', "active"),
        (b'{"resourceType":"Patient","multipleBirthInteger":NaN}', "JSON"),
        (b'{"resourceType":"Patient","name":[{"family":"\xff\xfe"}]}', "UTF-8"),
        (b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}', ""),
        (b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}', "U+0000"),
        (b"<Patient xmlns='http://hl7.org/fhir'/>", "JSON"),
    ],
)
def test_what_is_not_a_resource_in_json_is_400(client, body, hint):
    assert hint in outcome(post(client, body), 400)


@pytest.mark.parametrize(
    ("body", "status", "expression"),
    [
        (b'{"resourceType":"Patient","gender":"maleX"}', 422, "Patient.gender"),
        (b'{"resourceType":"Patient","colour":"red"}', 400, "Patient.colour"),
        (b'{"resourceType":"Patient","active":"true"}', 400, "Patient.active"),
        (b'{"resourceType":"Patient","birthDate":"1990-02-30"}', 400, "Patient.birthDate"),
        (b'{"resourceType":"Patient","name":{"family":"x"}}', 400, "Patient.name"),
        (b'{"resourceType":"Patient","contact":[{"gender":"x"}]}', 422, "Patient.contact[0].gender"),
        (b'{"resourceType":"Patient","link":[{"type":"seealso"}]}', 422, "Patient.link[0].other"),
        (b'{"resourceType":"Patient","managingOrganization":{"reference":"Patient/1"}}', 422, "Patient.managingOrganization"),
    ],
)
def test_wrong_content_is_named_by_its_path(client, body, status, expression):
    answer = post(client, body)
    outcome(answer, status)
    named = [place for issue in answer.json()["issue"] for place in issue.get("expression", [])]
    assert any(place.startswith(expression) for place in named), named


def test_all_faults_are_told_at_once(client):
    answer = post(client, b'{"resourceType":"Patient","gender":"maleX","maritalStatus":{"coding":[{"system":"not a uri "}]},"link":[{}]}')
    outcome(answer, answer.status_code)
    assert len(answer.json()["issue"]) >= 3


@pytest.mark.parametrize("shape", [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_of_depth_10000_is_refused(client, shape):
    opening, closing = shape
    outcome(post(client, opening * 10_000 + b"1" + closing * 10_000), 400)
    outcome(post(client, b'{"resourceType":"Patient","extension":' + opening * 10_000 + b"1" + closing * 10_000 + b"}"), 400)


def test_a_50_mb_body_is_refused(client):
    body = b'{"resourceType":"Patient","name":[{"family":"' + b"x" * 50_000_000 + b'"}]}'
    outcome(post(client, body), 413, "too-long")


def test_a_body_above_the_limit_is_refused_before_it_comes(server):
    """Announced by Content-Length: the answer comes although hardly a byte of 300 MB was sent."""
    address = urlsplit(server.base)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.putrequest("POST", "/fhir/Patient")
    connection.putheader("Content-Type", "application/fhir+json")
    connection.putheader("Content-Length", "300000000")
    connection.endheaders()
    connection.send(b"{")
    started = time.monotonic()
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"OperationOutcome" in answer.read(answer.length)
    assert time.monotonic() - started < 3
    connection.close()


def test_a_chunked_body_above_the_limit_is_refused_while_it_comes(start):
    server = start(env={"FHIR_SERVER_MAX_BODY_MB": "1"})

    def chunks():
        for _ in range(40):
            yield b" " * 65_536

    with server.client() as client:
        outcome(client.post("Patient", content=chunks(), headers=JSON), 413, "too-long")
        assert client.get("metadata?_summary=true").status_code == 200


def test_a_gzip_bomb_is_refused_in_bounded_memory(start):
    server = start(env={"FHIR_SERVER_MAX_BODY_MB": "10"})
    bomb = gzip.compress(b" " * 500_000_000, 9)
    with server.client() as client:
        answer = client.post("Patient", content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
        outcome(answer, 413, "too-long")
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 300_000, f"{peak} kB"


def test_compressed_requests_are_read_and_broken_ones_refused(client):
    body = gzip.compress(b'{"resourceType":"Patient","gender":"maleX"}')
    for coding in ("gzip", "x-gzip"):
        outcome(client.post("Patient", content=body, headers={**JSON, "Content-Encoding": coding}), 422)
    outcome(client.post("Patient", content=body[:-9], headers={**JSON, "Content-Encoding": "gzip"}), 400)
    outcome(client.post("Patient", content=b"no gzip", headers={**JSON, "Content-Encoding": "gzip"}), 400)
    outcome(client.post("Patient", content=body, headers={**JSON, "Content-Encoding": "br"}), 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 400),
        ("GET", "nothing", 404),
        ("GET", "Patient/1/2/3/4", 404),
        ("GET", "Patient//1", 404),
        ("GET", "$no-such-operation", 404),
        ("GET", "Patient/1/$no-such-operation", 404),
        ("DELETE", "", 405),
        ("PUT", "metadata", 405),
        ("POST", "_history", 405),
        ("BREW", "Patient", 400),
        ("TRACE", "Patient/1", 405),
        ("POST", "Patient/1/_history/1", 405),
    ],
)
def test_every_wrong_address_is_answered_with_an_outcome(client, method, path, status):
    outcome(client.request(method, path), status)


def test_what_is_outside_of_fhir_is_not_found(client, server):
    answer = client.get(server.root + "/no-such-page")
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def raw(server, content: bytes) -> bytes:
    address = urlsplit(server.base)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(content)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense\r\n\r\n",
        b"GET /fhir/Patient HTTP/9.9\r\n\r\n",
        b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_with_an_outcome(server, content):
    answer = raw(server, content)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"OperationOutcome"' in answer


def test_endless_headers_are_refused(server):
    answer = raw(server, b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 200_000)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b'"OperationOutcome"' in answer


def test_slow_clients_are_let_go(start):
    """Headers and bodies that come drop by drop end with 408, not only idle connections."""
    server = start(env={"FHIR_SERVER_BODY_SECONDS": "1"})
    started = time.monotonic()
    assert raw(server, b"GET /fhir/Patient HTTP/1.1\r\nHost: x\r\n").startswith(b"HTTP/1.1 408")
    assert "请求头传送得太慢".encode() in raw(server, b"GET /fhir/Patient HTTP/1.1\r\nAccept-Language: zh\r\nHost: x\r\n")
    answer = raw(server, b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"OperationOutcome"' in answer
    assert time.monotonic() - started < 12


def test_links_never_take_an_unlisted_host(server, client):
    for headers in (
        {"Host": "evil.example"},
        {"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        {"Host": f"127.0.0.1:{urlsplit(server.base).port}@evil.example"},
    ):
        answer = client.get("Patient?_count=1", headers=headers)
        assert "evil" not in answer.text
        created = client.put(f"Observation/{unique()}x", json={"resourceType": "Observation"}, headers=headers)
        assert "evil" not in str(created.headers)


def test_unexpected_methods_and_bodies_do_not_confuse_the_connection(client):
    for _ in range(3):
        client.request("GET", "Patient?_count=0", content=b"a body that nobody reads")
        assert client.get("Patient?_count=0").status_code == 200


def test_errors_come_in_chinese_where_the_client_reads_chinese(client):
    answer = client.post("Patient", content=b"{", headers={**JSON, "Accept-Language": "zh-CN"})
    outcome(answer, 400)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in answer.json()["issue"][0]["details"]["text"])


def test_writes_of_no_one_are_seen(client):
    """Validation refuses before the store is touched: no version number is spent."""
    id = unique("fresh")
    outcome(client.put(f"Patient/{id}", json=patient(id=id, gender="maleX")), 422)
    outcome(client.get(f"Patient/{id}"), 404)
