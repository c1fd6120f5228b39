"""Batches over the wire: https://hl7.org/fhir/R4/http.html#transaction"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.interactions.bundles import SYSTEM, batch, bundle, entry, fresh, observation, patient
from tests.interactions.test_transaction import count, located, post


def done(client: httpx.Client, content: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    answer = post(client, content, **headers)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["resourceType"], result["type"]) == ("Bundle", "batch-response")
    entries: list[dict[str, Any]] = result.get("entry", [])
    return entries


def statuses(answers: list[dict[str, Any]]) -> list[str]:
    return [told["response"]["status"][:3] for told in answers]


def test_entries_succeed_and_fail_for_themselves(client: httpx.Client) -> None:
    value = fresh()
    answers = done(
        client,
        batch(
            entry("POST", "Patient", patient(value)),
            entry("POST", "Patient", {"resourceType": "Patient", "gender": "maleX"}),
            entry("GET", "Patient/not-there"),
            entry("POST", "Patient", {"resourceType": "Patient", "nosuch": 1}),
            entry("GET", "Patient?nosuch=1"),
            entry("DELETE", "Patient/not-there"),
            entry("GET", f"Patient?identifier={value}"),
        ),
    )
    assert statuses(answers) == ["201", "422", "404", "400", "400", "204", "200"]
    for at in (1, 2, 3, 4):
        outcome = answers[at]["response"]["outcome"]
        assert outcome["resourceType"] == "OperationOutcome"
        assert f"Bundle.entry[{at}]" in str(outcome["issue"])
    assert answers[1]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.gender"]
    assert len(answers[6]["resource"]["entry"]) == 1, "reads come after writes"


def test_an_entry_without_request_fails_alone(client: httpx.Client) -> None:
    answers = done(client, batch({"resource": patient()}, entry("POST", "Patient", patient(fresh()))))
    assert statuses(answers) == ["422", "201"]


def test_an_empty_batch_is_fine(client: httpx.Client) -> None:
    assert done(client, batch()) == []


def test_a_faulty_envelope_refuses_the_whole_batch(client: httpx.Client) -> None:
    answer = post(client, {**batch(entry("GET", "metadata")), "nosuch": 1})
    assert answer.status_code == 400
    assert "nosuch" in answer.text


def test_conditional_entries_work_as_they_do_alone(client: httpx.Client) -> None:
    value = fresh()
    (first,) = done(client, batch(entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={SYSTEM}|{value}")))
    answers = done(
        client,
        batch(
            entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={SYSTEM}|{value}"),
            entry("PUT", f"Patient?identifier={SYSTEM}|{value}", patient(value, active=True)),
            entry("GET", located(first), ifNoneMatch='W/"2"'),
            entry("PUT", located(first), patient(value, id=located(first).split("/")[1]), ifMatch='W/"7"'),
        ),
    )
    assert statuses(answers) == ["200", "200", "304", "412"]
    assert located(answers[0]) == located(first)
    assert count(client, f"Patient?identifier={value}") == 1


def test_two_updates_of_one_resource_are_done_in_their_order(client: httpx.Client) -> None:
    a = f"a{fresh()}"
    done(client, batch(*(entry("PUT", f"Patient/{a}", patient(id=a, name=[{"family": f"n{at}"}])) for at in range(20))))
    stored = client.get(f"Patient/{a}").json()
    assert stored["name"][0]["family"] == "n19"
    assert stored["meta"]["versionId"] == "20"


def test_capabilities_searches_and_histories_may_be_entries(client: httpx.Client) -> None:
    answers = done(client, batch(entry("GET", "metadata"), entry("GET", "_history?_count=1"), entry("POST", "Patient/_search?_count=1")))
    assert statuses(answers) == ["200", "200", "200"]
    assert [told["resource"]["resourceType"] for told in answers] == ["CapabilityStatement", "Bundle", "Bundle"]


def test_an_absolute_url_of_this_server_is_understood(client: httpx.Client, server: Any) -> None:
    (answer,) = done(client, batch(entry("GET", f"{server.base}/Patient?_count=0")))
    assert answer["response"]["status"].startswith("200")


def test_prefer_counts_for_every_entry(client: httpx.Client) -> None:
    content = batch(entry("POST", "Patient", patient(fresh())), entry("GET", "Patient?nosuch=1"))
    answers = done(client, content, Prefer="return=representation, handling=lenient")
    assert answers[0]["resource"]["resourceType"] == "Patient"
    assert statuses(answers) == ["201", "200"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_entry_resources_keep_their_digits(client: httpx.Client, kind: str) -> None:
    """Known failure 19: 1.10 stays 1.10, also through a Bundle."""
    text = """{"resourceType":"Bundle","type":"%s","entry":[{"request":{"method":"POST","url":"Observation"},"resource":
    {"resourceType":"Observation","status":"final","code":{"text":"\\ud83d\\ude00"},"valueQuantity":{"value":1.10}}}]}"""
    answer = client.post("", content=text % kind, headers={"Content-Type": "application/fhir+json"})
    stored = client.get(located(answer.json()["entry"][0]))
    assert '"value":1.10' in stored.text.replace(" ", "")
    assert stored.json()["code"]["text"] == "\U0001f600"


def test_parallel_batches_of_measurements_all_arrive(server: Any) -> None:
    value = fresh()
    content = batch(*(entry("POST", "Observation", observation("Patient/p", identifier=[{"value": value}])) for _ in range(50)))

    def send(_: int) -> list[str]:
        with server.client() as http:
            return statuses(done(http, content))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert all(told == ["201"] * 50 for told in answers)
    with server.client() as http:
        assert count(http, f"Observation?identifier={value}") == 800


def test_a_large_batch_is_done_in_time(client: httpx.Client) -> None:
    value = fresh()
    content = bundle("batch", *(entry("POST", "Observation", observation("Patient/p", identifier=[{"value": value}])) for _ in range(2000)))
    started = time.monotonic()
    assert statuses(done(client, content)) == ["201"] * 2000
    assert time.monotonic() - started < 30
    assert count(client, f"Observation?identifier={value}") == 2000
