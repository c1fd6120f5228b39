"""Values that mean something elsewhere are themselves; what cannot be a value is a clear 400.

Specification: https://hl7.org/fhir/R4/search.html#escaping, https://hl7.org/fhir/R4/search.html#string, https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

import html
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.conftest import Server, start_server
from tests.wire.hostile import BESIDE, LITERALS, escaped
from tests.wire.resources import outcome, seen

SPACE = "urn:hostile"
VALUES = [*LITERALS, *BESIDE]
LEGAL = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""https://hl7.org/fhir/R4/datatypes.html#id"""
PATIENTS = {value if LEGAL.fullmatch(value) else f"h{at}": value for at, value in enumerate(VALUES)}
"""The family name of each Patient by its id, which is the name itself where it can be one."""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def world() -> Iterator[dict[str, Any]]:
    """A Patient, an Observation and, where it is a URI, a ValueSet of each value."""
    for id, value in PATIENTS.items():
        coding = {"system": SPACE, "code": value}
        told = f'<div xmlns="http://www.w3.org/1999/xhtml">{html.escape(value)}</div>'
        yield {
            "resourceType": "Patient",
            "id": id,
            "meta": {"tag": [coding]},
            "text": {"status": "additional", "div": told},
            "identifier": [{"system": SPACE, "value": value}],
            "name": [{"family": value}],
        }
        yield seen(f"o-{id}", {"coding": [coding]}, subject={"reference": f"Patient/{id}"}, valueQuantity={"value": 1})
        if not re.search(r"\s", value):
            yield {"resourceType": "ValueSet", "id": f"v-{id}", "url": value, "status": "draft"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, httpx.Client]]:
    server = start_server(tmp_path_factory.mktemp("hostile") / "data")
    try:
        with server.client() as client:
            entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in world()]
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
            assert answer.status_code == 200, answer.text
            yield server, client
    finally:
        server.kill()


@pytest.fixture
def asks(asked: tuple[Server, httpx.Client]) -> Iterator[httpx.Client]:
    """A client; whatever a test sends, the server lives on and no error was unforeseen."""
    server, client = asked
    before = len(server.log)
    yield client
    assert client.get("Patient?_summary=count").json()["total"] == len(PATIENTS)
    assert server.process.poll() is None
    assert not [line for line in server.log[before:] if "Traceback" in line or "request failed" in line]


def both(client: httpx.Client, type: str, name: str, value: str) -> httpx.Response:
    """The answer to a search by GET, which that by POST equals."""
    query = f"{quote(name, safe=':')}={quote(value, safe='')}"
    found = client.get(f"{type}?_count=1000&{query}")
    posted = client.post(f"{type}/_search?_count=1000", content=query, headers=FORM)
    assert posted.status_code == found.status_code, (found.text, posted.text)
    assert ids(posted) == ids(found)
    return found


def ids(answer: httpx.Response) -> list[str]:
    if answer.status_code != 200:
        return []
    return sorted(one["resource"]["id"] for one in answer.json().get("entry", []))


def named(test: Callable[[str], bool]) -> list[str]:
    return sorted(id for id, value in PATIENTS.items() if test(value))


# --- values are literals

EXACT = {
    "string": ("Patient", "family:exact", escaped, ""),
    "identifier": ("Patient", "identifier", lambda value: f"{SPACE}|{escaped(value)}", ""),
    "identifier of any system": ("Patient", "identifier", escaped, ""),
    "tag": ("Patient", "_tag", lambda value: f"{SPACE}|{escaped(value)}", ""),
    "code": ("Observation", "code", escaped, "o-"),
    "composite": ("Observation", "code-value-quantity", lambda value: f"{escaped(value)}$1", "o-"),
    "has": ("Patient", "_has:Observation:subject:code", escaped, ""),
    "chain": ("Observation", "subject:Patient.family:exact", escaped, "o-"),
    "has in a chain": ("Observation", "subject:Patient._has:Observation:subject:code", escaped, "o-"),
    "or": ("Patient", "family:exact", lambda value: f"no-one,{escaped(value)},nobody", ""),
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_value_finds_the_one_that_holds_it(asks, kind):
    type, name, written, prefix = EXACT[kind]
    for id, value in PATIENTS.items():
        answer = both(asks, type, name, written(value))
        assert answer.status_code == 200, (value, answer.text)
        assert ids(answer) == [prefix + id], value


def test_a_uri_finds_the_one_that_holds_it(asks):
    for id, value in PATIENTS.items():
        expected = [] if re.search(r"\s", value) else [f"v-{id}"]
        assert ids(both(asks, "ValueSet", "url", escaped(value))) == expected, value


def test_a_name_finds_what_begins_with_it_or_contains_it(asks):
    for value in VALUES:
        wanted = value.casefold()
        begins = named(lambda name, wanted=wanted: name.casefold().startswith(wanted))
        contains = named(lambda name, wanted=wanted: wanted in name.casefold())
        whole = named(lambda name, wanted=wanted: wanted == name.casefold())
        text = json.dumps(value)
        for name, written, expected in (
            ("family", escaped(value), begins),
            ("family:contains", escaped(value), contains),
            ("_filter", f"family eq {text}", whole),
            ("_filter", f"family sw {text}", begins),
            ("_filter", f"family co {text}", contains),
            ("_filter", f"(not (family ne {text}))", whole),
        ):
            assert ids(both(asks, "Patient", name, written)) == expected, (name, value)


def test_a_code_in_a_filter_is_a_literal(asks):
    """`_filter` has no escape for the bar between system and code: what holds one is refused, or not found, never something else."""
    for id, value in PATIENTS.items():
        answer = both(asks, "Patient", "_filter", f"identifier eq {json.dumps(f'{SPACE}|{value}')}")
        if "|" in value:
            outcome(answer, 400)
        else:
            assert ids(answer) == [id], value


def test_words_are_words(asks):
    """A text between quotes is a phrase, its other signs separate words; what holds no word is refused."""
    split = {id: re.findall(r"[^\W_]+", value.casefold()) for id, value in PATIENTS.items()}
    for value in VALUES:
        wanted = re.findall(r"[^\W_]+", value.casefold())
        for name in ("_text", "_content"):
            answer = both(asks, "Patient", name, escaped('"' + value.replace('"', "") + '"'))
            if not wanted:
                assert name in outcome(answer, 400)
                continue
            holding = [id for id, words in split.items() if any(words[at : at + len(wanted)] == wanted for at in range(len(words)))]
            assert ids(answer) == sorted(holding), (name, value)


def test_an_id_is_a_literal(asks):
    for value in VALUES:
        expected = [value] if LEGAL.fullmatch(value) else []
        assert ids(both(asks, "Patient", "_id", escaped(value))) == expected, value
        # What stands behind # is a place inside of the resource that is referred to.
        for written in (value,) if "#" in value else (value, f"Patient/{value}"):
            answer = both(asks, "Observation", "subject", escaped(written))
            if expected:
                assert ids(answer) == [f"o-{value}"], value
            elif answer.status_code == 200:
                assert ids(answer) == [], value
            else:
                assert "subject" in outcome(answer, 400)


def test_a_condition_is_a_literal(asks):
    for id, value in PATIENTS.items():
        condition = f"identifier={SPACE}%7C{quote(escaped(value), safe='')}"
        answer = asks.post("Patient", json={"resourceType": "Patient"}, headers={"If-None-Exist": condition})
        assert answer.status_code == 200, (value, answer.text)
        assert f"/Patient/{id}" in answer.headers["location"]
        held = {"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "POST", "url": "Patient", "ifNoneExist": condition}, "resource": {"resourceType": "Patient"}},
            {"request": {"method": "GET", "url": f"Patient?{condition}"}},
        ]}  # fmt: skip
        first, second = asks.post("", json=held).json()["entry"]
        assert first["response"]["status"].startswith("200"), value
        assert [one["resource"]["id"] for one in second["resource"]["entry"]] == [id], value


def test_a_condition_in_utf_8_as_it_is_finds_what_it_names(asks):
    """A header that is not percent-encoded must not make a second resource."""
    for value in (one for one in VALUES if not one.isascii()):
        sent = {b"If-None-Exist": f"identifier={SPACE}|{value}".encode()}
        assert asks.post("Patient", json={"resourceType": "Patient"}, headers=sent).status_code == 200, value
    outcome(asks.post("Patient", json={"resourceType": "Patient"}, headers={b"If-None-Exist": b"identifier=a|\xff"}), 400)


# --- what cannot be a value

SEARCHED = [
    *("family", "family:exact", "family:contains", "identifier", "identifier:text", "_tag", "_profile", "_id", "organization"),
    *("_text", "_content", "_filter", "birthdate", "_lastUpdated", "_has:Observation:subject:code", "link:Patient.family"),
]


@pytest.mark.parametrize("name", SEARCHED)
def test_nul_is_refused(asks, name):
    assert "U+0000" in outcome(both(asks, "Patient", name, "a\0b"), 400)


@pytest.mark.parametrize("sent", ["%FF", "%C0%AE", "%ED%A0%80", "%ED%A0%BD%ED%B8%80", "%F5%80%80%80", "a%E7%8E"])
def test_what_is_not_utf_8_is_refused(asks, sent):
    """https://www.rfc-editor.org/rfc/rfc3629#section-3: no overlong forms, no surrogates, nothing above U+10FFFF, nothing cut off."""
    for query in (f"family={sent}", f"{sent}=a", f"_filter=family eq %22{sent}%22"):
        assert "UTF-8" in outcome(asks.get(f"Patient?{query}"), 400)
        assert "UTF-8" in outcome(asks.post("Patient/_search", content=query, headers=FORM), 400)
    condition = {"If-None-Exist": f"identifier={sent}"}
    assert "UTF-8" in outcome(asks.post("Patient", json={"resourceType": "Patient"}, headers=condition), 400)


def test_a_form_that_is_not_percent_encoded_is_refused(asks):
    outcome(asks.post("Patient/_search", content="family=王".encode(), headers=FORM), 400)
    outcome(asks.post("Patient/_search", content=b"family=\xff", headers=FORM), 400)


@pytest.mark.parametrize("sent", ["%", "%2", "%zz", "100%"])
def test_a_percent_sign_that_encodes_nothing_is_itself(asks, sent):
    """As forms are read (https://url.spec.whatwg.org/#percent-decode)."""
    expected = named(lambda name: name.startswith(sent))
    assert ids(asks.get(f"Patient?_count=1000&family={sent}")) == expected
    assert ids(asks.post("Patient/_search?_count=1000", content=f"family={sent}", headers=FORM)) == expected


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "\r\n\r\n<html>", "a\x01b", "a\x1b[31mb", "\x7f", "a\u0085b", "a\u2028b"])
def test_control_characters_stay_values(asks, value):
    for name in ("family", "family:exact", "identifier", "_tag", "code"):
        answer = both(asks, "Observation" if name == "code" else "Patient", name, escaped(value))
        assert answer.status_code == 200, answer.text
        assert ids(answer) == []
        assert "x-evil" not in answer.headers
    for place in (f"Patient/{quote(value, safe='')}", f"Patient?{quote(value, safe='')}=1", f"Patient?birthdate={quote(value)}"):
        answer = asks.get(place)
        told = outcome(answer, 400)
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", told), "no FHIR string holds them"
        assert "x-evil" not in answer.headers


@pytest.mark.parametrize("name", [*SEARCHED, "_sort", "_include", "_revinclude", "_elements", "_count", "_total", "_summary", "_cursor"])
def test_a_value_of_100_kb_is_refused(asks, name):
    body = f"{name}={'a' * 100_000}"
    told = outcome(asks.post("Patient/_search", content=body, headers=FORM), 400)
    assert name in told
    assert len(told) < 1000


def raw(server: Server, target: bytes, *headers: bytes) -> tuple[int, dict[str, Any]]:
    """Status and content of the answer to a GET of an address that HTTP clients refuse to send."""
    address = urlsplit(server.base)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(b"\r\n".join([b"GET /fhir/" + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""]))
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("headers", [(), (b"Connection: close",)])
def test_a_long_address_is_refused(asked, asks, headers):
    for query in (b"family=" + b"a" * 65_000, b"a" * 65_000 + b"=1", b"family=a&" * 10_000, b"family=" + b"a" * 1_000_000):
        status, content = raw(asked[0], b"Patient?" + query, *headers)
        assert status in (414, 431)
        assert (content["resourceType"], content["issue"][0]["code"]) == ("OperationOutcome", "too-long")


@pytest.mark.parametrize("headers", [(), (b"Connection: close",)])
@pytest.mark.parametrize(
    "sent", ["Patient?family=王".encode(), b"Patient?family=\xff", b"Patient?family=a\x00", b"Patient?family=a\x01", "王".encode()]
)
def test_what_may_not_stand_in_an_address_is_refused(asked, asks, sent, headers):
    status, content = raw(asked[0], sent, *headers)
    assert status == 400
    assert "percent-encoded" in content["issue"][0]["diagnostics"]


def test_a_long_name_is_named_shortly(asks):
    for name in ("a" * 50_000, "family:" + "a" * 50_000, "link." + "a" * 50_000, "_has:Observation:subject:" + "a" * 50_000):
        assert len(outcome(asks.post("Patient/_search", content=f"{name}=x", headers=FORM), 400)) < 1500


# --- many values


def quickly(client: httpx.Client, type: str, body: str) -> httpx.Response:
    """The answer to a search by POST, which must come within five seconds (it takes tenths of one)."""
    started = time.monotonic()
    answer = client.post(f"{type}/_search", content=body, headers=FORM)
    assert time.monotonic() - started < 5
    return answer


@pytest.mark.parametrize(
    ("type", "name", "first", "expected"),
    [
        ("Patient", "identifier", f"{SPACE}|axb", "axb"),
        ("Patient", "_tag", "axb", "axb"),
        ("Patient", "_id", "axb", "axb"),
        ("Patient", "_has:Observation:subject:code", "axb", "axb"),
        ("Observation", "subject", "Patient/axb", "o-axb"),
        ("Observation", "subject:Patient.identifier", "axb", "o-axb"),
        ("ValueSet", "url", "axb", "v-axb"),
    ],
)
def test_10000_values_find_what_one_of_them_names(asks, type, name, first, expected):
    rest = [f"none-{number}" for number in range(9_999)]
    for at in (0, 5_000, 9_999):
        answer = quickly(asks, type, f"{name}={','.join([*rest[:at], first, *rest[at:]])}")
        assert answer.status_code == 200, answer.text
        assert ids(answer) == [expected]


def test_more_values_than_can_be_looked_for_are_refused(asks):
    for type, name, number in (
        ("Patient", "identifier", 10_001),
        ("Patient", "birthdate", 10_000),
        ("Patient", "family", 10_000),
        ("Patient", "family:contains", 10_000),
        ("Patient", "_content", 10_000),
        ("Observation", "code-value-quantity", 10_000),
    ):
        answer = quickly(asks, type, f"{name}={','.join(['2000$1'] * number)}")
        assert name.partition(":")[0] in outcome(answer, 400)
    # Each of the types that `target` and `subject` may mean is asked for each value.
    outcome(quickly(asks, "Provenance", f"target.subject.identifier={','.join(map(str, range(10_000)))}"), 400, "too-costly")
    answer = asks.post("_search", content=f"_tag={','.join(map(str, range(10_000)))}", headers=FORM)
    outcome(answer, 400, "too-costly")


def test_many_parameters_are_all_heeded_or_refused(asks):
    for name in ("identifier", "family:contains", "_has:Observation:subject:code", "_filter", "_sort", "_include"):
        outcome(quickly(asks, "Patient", "&".join([f"{name}=a"] * 1001)), 400, "too-costly")
    assert ids(quickly(asks, "Patient", "&".join(["family:exact=axb"] * 999))) == ["axb"]
    assert ids(quickly(asks, "Patient", "&".join([*["family:exact=axb"] * 998, "family:exact=ab"]))) == []
    assert ids(quickly(asks, "Patient", "&".join([*[f"identifier:not={at}" for at in range(900)], "identifier=axb"]))) == ["axb"]
    assert ids(quickly(asks, "Patient", "&".join([*[f"_filter=family ne {at}" for at in range(900)], "identifier=axb"]))) == ["axb"]


def test_a_sort_key_counts_once(asks):
    """A key that has ordered already orders no more: 900 of it cost what one does."""
    whole = {"_sort=family&" + "&".join(["_sort=-family"] * 900), "_sort=" + ",".join(["family"] * 2000)}
    once = [one["resource"]["id"] for one in asks.get("Patient?_count=1000&_sort=family").json()["entry"]]
    for query in whole:
        answer = quickly(asks, "Patient", f"_count=1000&{query}")
        assert [one["resource"]["id"] for one in answer.json()["entry"]] == once


# --- depth


def test_what_is_deep_is_answered_or_refused(asks):
    for type, body in (
        ("Patient", f"_filter={'(' * 5000}family eq axb{')' * 5000}"),
        ("Patient", f"_filter={'not(' * 3000}family eq axb{')' * 3000}"),
        ("Patient", f"_filter={'link[' * 3000}family eq axb"),
        ("Patient", f"_filter={'.'.join(['link'] * 3000)} eq axb"),
        ("Patient", f"_content={'(' * 5000}axb{')' * 5000}"),
        ("Patient", f"_text={'NOT ' * 4000}axb"),
        ("Patient", f"{'.'.join(['link:Patient'] * 5000)}.family=axb"),
        ("Observation", f"{'.'.join(['focus'] * 5000)}.code=axb"),
        ("Patient", f"{'_has:Patient:link:' * 5000}family=axb"),
        ("Patient", f"{'_has:Patient:link:link:Patient.' * 2500}family=axb"),
    ):
        told = outcome(quickly(asks, type, body), 400)
        assert body.partition("=")[0][:20] in told
        assert len(told) < 1500
    assert ids(quickly(asks, "Patient", f"_filter={'(' * 20}family eq axb{')' * 20}")) == ["axb"]
    assert ids(quickly(asks, "Patient", f"_filter={'not(' * 20}family eq axb{')' * 20}")) == ["axb"]
    there_and_back = "subject:Patient._has:Observation:subject:"
    assert ids(quickly(asks, "Observation", f"{there_and_back * 10}code=axb")) == ["o-axb"]
