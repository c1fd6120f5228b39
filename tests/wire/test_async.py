"""Asynchronous requests over HTTP. https://hl7.org/fhir/R5/async-bundle.html"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.interactions.bundles import batch, entry, fresh, patient, transaction

ASYNC = {"Prefer": "respond-async"}


def finished(client: httpx.Client, address: str, **headers: str) -> httpx.Response:
    """The answer of a status address when the work is done."""
    deadline = time.monotonic() + 60
    while (answer := client.get(address, headers=headers)).status_code == 202:
        assert time.monotonic() < deadline and "x-progress" in answer.headers and "retry-after" in answer.headers
        time.sleep(0.05)
    return answer


def test_a_search_from_kick_off_to_result(client, server):
    value = fresh()
    client.post("Patient", json=patient(value))
    accepted = client.get(f"Patient?identifier={value}", headers=ASYNC)
    address = accepted.headers["content-location"]
    assert accepted.status_code == 202 and address.startswith(server.base + "/")
    answer = finished(client, address)
    assert answer.status_code == 200 and parsedate_to_datetime(answer.headers["expires"]).timestamp() > time.time()
    (one,) = answer.json()["entry"]
    (match,) = one["resource"]["entry"]
    assert match["resource"]["identifier"][0]["value"] == value and match["fullUrl"].startswith(server.base + "/Patient/")
    assert client.get(f"Patient?identifier={value}", headers={"Prefer": "respond-sync"}).status_code == 200


def test_links_and_full_urls_have_the_address_that_the_client_used(client, server):
    value, other = fresh(), server.base.replace("127.0.0.1", "localhost")
    client.post("Patient", json=patient(value))
    accepted = client.get(f"{other}/Patient?identifier={value}", headers=ASYNC)
    address = accepted.headers["content-location"]
    assert address.startswith(other + "/")
    found = finished(client, address.replace("localhost", "127.0.0.1")).json()["entry"][0]["resource"]
    assert found["link"][0]["url"].startswith(other + "/") and found["entry"][0]["fullUrl"].startswith(other + "/")


@pytest.mark.parametrize("make", [batch, transaction])
def test_a_bundle_in_xml_and_its_result_in_xml(client, make):
    value = fresh()
    request = "<request><method value='POST'/><url value='Patient'/></request>"
    resource = f"<resource><Patient xmlns='http://hl7.org/fhir'><identifier><value value='{value}'/></identifier></Patient></resource>"
    sent = f"<Bundle xmlns='http://hl7.org/fhir'><type value='{make()['type']}'/><entry>{resource}{request}</entry></Bundle>"
    kind = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
    accepted = client.post("", content=sent, headers={**ASYNC, **kind})
    assert accepted.status_code == 202 and accepted.headers["content-type"].startswith("application/fhir+xml")
    address = accepted.headers["content-location"]
    answer = finished(client, address)
    assert answer.headers["content-type"].startswith("application/fhir+xml") and '<type value="batch-response"/>' in answer.text
    as_json = finished(client, address, Accept="application/fhir+json").json()
    assert as_json["entry"][0]["resource"]["entry"][0]["response"]["status"].startswith("201")
    assert client.get(address + "?_format=xml").headers["content-type"].startswith("application/fhir+xml")
    assert len(client.get(f"Patient?identifier={value}").json()["entry"]) == 1


def test_compressed_content_is_taken(client):
    import gzip
    import json

    value = fresh()
    content = gzip.compress(json.dumps(batch(entry("POST", "Patient", patient(value)))).encode())
    headers = {**ASYNC, "Content-Encoding": "gzip", "Content-Type": "application/fhir+json"}
    accepted = client.post("", content=content, headers=headers)
    assert finished(client, accepted.headers["content-location"]).status_code == 200
    assert len(client.get(f"Patient?identifier={value}").json()["entry"]) == 1


def test_delete_and_other_methods_at_the_status_address(client):
    address = client.get("Patient?_count=1", headers=ASYNC).headers["content-location"]
    finished(client, address)
    assert client.head(address).status_code == 200
    refused = client.put(address, json={})
    assert refused.status_code == 405 and "DELETE" in refused.headers["allow"]
    assert client.delete(address).status_code == 202
    gone = client.get(address)
    assert gone.status_code == 404 and gone.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("place", ["%00", "%ED%A0%80", "%E4%BD%A0%E5%A5%BD", "a%0Ab", "*", "%24"])
def test_a_made_up_status_address_is_404(client, place):
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"$async-status/{place}")
        assert answer.status_code == 404 and answer.json()["resourceType"] == "OperationOutcome"


def test_pages_of_a_browser_may_read_the_headers_of_the_pattern(client):
    answer = client.get("Patient?_count=1", headers={**ASYNC, "Origin": "http://localhost:5000"})
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("content-location", "retry-after", "x-progress"))


def test_any_worker_answers_the_status(start):
    server = start("--workers", "2")
    with server.client() as client:
        value = fresh()
        sent = batch(*(entry("POST", "Patient", patient(f"{value}-{n}")) for n in range(30)))
        address = client.post("", json=sent, headers=ASYNC).headers["content-location"]
        assert finished(client, address).status_code == 200
    for _ in range(12):  # each over a connection of its own
        answer = httpx.get(address, timeout=30)
        assert answer.status_code == 200 and len(answer.json()["entry"][0]["resource"]["entry"]) == 30
    assert httpx.delete(address, timeout=30).status_code == 202
    assert {httpx.get(address, timeout=30).status_code for _ in range(8)} == {404}
