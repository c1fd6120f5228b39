"""The request of a rest-hook notification. https://hl7.org/fhir/R4/subscription.html#2.46.5.1, conformance.md K22."""

from __future__ import annotations

import pytest

from fhir_server.storage.port import Stored
from subscriptions.delivery.rest_hook import call_of, header_complaint

STORED = Stored(7, "Observation", "o1", 2, 0, "PUT", b'{"resourceType":"Observation"}')


def test_without_payload_an_empty_post() -> None:
    call = call_of({"endpoint": "https://x.org/hook?k=1", "header": ["Authorization: Bearer a"]}, STORED)
    assert (call.method, call.url, call.body) == ("POST", "https://x.org/hook?k=1", b"")
    assert ("Authorization", "Bearer a") in call.headers
    assert not [name for name, _ in call.headers if name.lower() == "content-type"]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://x.org/hook", "https://x.org/hook/Observation/o1"),
        ("https://x.org/hook/", "https://x.org/hook/Observation/o1"),
        ("https://x.org", "https://x.org/Observation/o1"),
        ("https://x.org/hook?k=1", "https://x.org/hook/Observation/o1?k=1"),
    ],
)
def test_with_payload_the_resource_is_put_below_the_endpoint(endpoint: str, url: str) -> None:
    call = call_of({"endpoint": endpoint, "payload": "application/fhir+json"}, STORED)
    assert (call.method, call.url, call.body) == ("PUT", url, STORED.body)
    content_type = dict(call.headers)["Content-Type"]
    assert content_type.startswith("application/fhir+json")


def test_the_payloads_mime_type_is_sent_as_it_was_asked() -> None:
    asked = "application/fhir+json; charset=utf-8"
    assert dict(call_of({"endpoint": "https://x.org", "payload": asked}, STORED).headers)["Content-Type"] == asked


def test_the_media_type_is_that_of_the_payload_whatever_the_headers_say() -> None:
    asked = {"endpoint": "https://x.org", "payload": "application/fhir+json", "header": ["Content-Type: text/html", "X-A: b"]}
    headers = call_of(asked, STORED).headers
    assert [value for name, value in headers if name.lower() == "content-type"] == ["application/fhir+json;charset=utf-8"]
    assert ("X-A", "b") in headers


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Authorization: Bearer abc.def", None),
        ("X-Empty:", None),
        ("X-Name: 值", None),
        ("no colon", "Name: value"),
        ("Bad Name: x", "Name: value"),
        (": x", "Name: value"),
        ("X-A: b\r\nX-Evil: 1", "line breaks"),
        ("X-A: b\nX-Evil: 1", "line breaks"),
        ("X-A\n: b", "Name: value"),
        ("Transfer-Encoding\n: chunked", "Name: value"),
        ("X-A: \x00", "control characters"),
        ("Host: other", "belongs to the connection"),
        ("content-length: 3", "belongs to the connection"),
        ("Transfer-Encoding: chunked", "belongs to the connection"),
    ],
)
def test_headers_that_would_break_the_request_are_named(line: str, complaint: str | None) -> None:
    found = header_complaint(line)
    assert (found is None) if complaint is None else (found is not None and complaint in found)


def test_secrets_do_not_show_in_a_representation() -> None:
    call = call_of({"endpoint": "https://x.org", "header": ["Authorization: Bearer geheim"]}, STORED)
    assert "geheim" not in repr(call) and "geheim" not in f"{call}"
