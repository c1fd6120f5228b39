"""Header values: entity tags, dates, Prefer, Accept, content codings, ids. https://hl7.org/fhir/R4/http.html, RFC 9110, RFC 7240"""

from __future__ import annotations

import gzip
import zlib

import pytest
import zstandard

from fhir_server.errors import FhirError
from fhir_server.interactions.encoding import decoded, encoded
from fhir_server.interactions.headers import etag, http_date, instant, parse_http_date, parse_tags
from fhir_server.interactions.http import Request
from fhir_server.interactions.ids import is_id, new_id
from fhir_server.interactions.negotiate import coding, content_form, form_of
from fhir_server.interactions.prefer import Preferences, preferences, without_respond_async
from fhir_server.interactions.query_string import encoded as query_of
from fhir_server.interactions.query_string import pairs


def test_entity_tags_are_weak():
    assert etag(3) == 'W/"3"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('W/"3"', ["3"]),
        ('"3"', ["3"]),
        ("3", ["3"]),
        ('W/"1", "2" , W/"x"', ["1", "2", "x"]),
        ("*", None),
        (" * ", None),
        ('""', [""]),
        ("", []),
    ],
)
def test_entity_tags_are_read_in_all_their_forms(text, expected):
    assert parse_tags(text) == expected


def test_http_dates():
    # RFC 9110 section 5.6.7 has this very date.
    assert http_date(784111777_000) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert parse_http_date("yesterday") is None


def test_instants_have_milliseconds_in_utc():
    assert instant(784111777_005) == "1994-11-06T08:49:37.005Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return=minimal", Preferences("minimal")),
        ("return=OperationOutcome; handling=lenient", Preferences("OperationOutcome", False)),
        ("handling=strict, return=representation", Preferences("representation", True)),
        ("return=something", Preferences()),
        ("", Preferences()),
    ],
)
def test_prefer(text, expected):
    assert preferences(Request("GET", "", headers={"prefer": text})) == expected


def test_respond_async_is_a_wish_beside_others():
    """RFC 7240 sections 4.1 and 4.3."""
    asked = preferences(Request("GET", "", headers={"prefer": "respond-async, wait=10, return=minimal"}))
    assert (asked.respond_async, asked.representation) == (True, "minimal")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("respond-async", ""),
        ("Respond-Async; wait=5, return=minimal", "return=minimal"),
        ("respond-async; return=minimal", "return=minimal"),
        ("handling=lenient, respond-async, wait=10, return=OperationOutcome", "handling=lenient, return=OperationOutcome"),
        ("return=minimal", "return=minimal"),
    ],
)
def test_what_is_left_without_the_wish_for_an_asynchronous_answer(text, rest):
    assert without_respond_async(text) == rest


@pytest.mark.parametrize(
    ("accept", "format", "form"),
    [
        (None, None, "json"),
        ("*/*", None, "json"),
        ("application/fhir+json; fhirVersion=4.0", None, "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None, "json"),
        ("application/fhir+xml", None, "xml"),
        ("text/xml", None, "xml"),
        ("application/fhir+xml", "json", "json"),
        ("application/fhir+json", "xml", "xml"),
        ("application/fhir+json, application/fhir+xml", None, "json"),
        ("application/fhir+xml, */*;q=0.1", None, "xml"),
        ("application/fhir+xml;q=0, application/json;q=0.2", None, "json"),
        (None, "application/fhir json", "json"),
        (None, "application/fhir xml", "xml"),
        ("application/fhir+json;q=0", None, None),
        ("application/fhir+json; fhirVersion=5.0", None, None),
        ("application/fhir+xml; fhirVersion=5.0", None, None),
        ("text/turtle", None, None),
        (None, "ttl", None),
    ],
)
def test_negotiation(accept, format, form):
    if form:
        assert form_of(accept, format) == form
    else:
        with pytest.raises(FhirError) as refused:
            form_of(accept, format)
        assert refused.value.status == 406


def test_content_types():
    assert content_form(None) == "json"
    assert content_form('application/fhir+json; charset="utf-8"; fhirVersion=4.0') == "json"
    assert content_form("application/fhir+xml; charset=UTF-8") == content_form("text/xml") == "xml"
    for kind in (
        "application/fhir+xml; fhirVersion=5.0",
        "application/fhir+json; fhirVersion=3.0",
        "text/json; charset=latin-1",
        "text/turtle",
    ):
        with pytest.raises(FhirError) as refused:
            content_form(kind)
        assert refused.value.status == 415


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("identity", None),
        ("gzip;q=0", None),
        ("", None),
    ],
)
def test_the_content_coding_follows_the_client(header, expected):
    assert coding(header) == expected


def test_content_codings_are_undone_within_the_limit():
    text = b"x" * 100_000
    for body, name in (
        (gzip.compress(text), "gzip"),
        (zlib.compress(text), "deflate"),
        (zstandard.compress(text), "zstd"),
        (text, "identity"),
    ):
        assert decoded(body, name, 100_000) == text
        if name != "identity":
            with pytest.raises(FhirError) as refused:
                decoded(body, name, 99_999)
            assert refused.value.status == 413
    for name in ("gzip", "zstd"):
        assert decoded(encoded(text, name), name, 100_000) == text


def test_an_endless_zstd_window_is_refused():
    """A frame that asks for 2 GB of window memory."""
    frame = bytes.fromhex("28b52ffd") + bytes([0x00, 21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(FhirError) as refused:
        decoded(frame, "zstd", 1000)
    assert refused.value.status == 400


def test_new_ids_are_fhir_ids_unique_and_grow_with_time():
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == 5000
    assert all(is_id(id) for id in ids)
    assert [id[:11] for id in ids] == sorted(id[:11] for id in ids)


def test_query_strings_are_read_and_written():
    assert pairs("a=1&b=%E7%8E%8B+x&c&=d&&a=2") == [("a", "1"), ("b", "王 x"), ("c", ""), ("", "d"), ("a", "2")]
    sent = [("code", "http://loinc.org|8867-4"), ("name:exact", "a&b=c+d %"), ("_sort", "-date,_id")]
    assert pairs(query_of(sent)) == sent
    with pytest.raises(FhirError):
        pairs("a=%ff")
