"""Transactions over the wire: https://hl7.org/fhir/R4/http.html#trules"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.interactions.bundles import SYSTEM, batch, entry, fresh, observation, patient, transaction


def post(client: httpx.Client, content: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post("", json=content, headers={"Content-Type": "application/fhir+json", **headers})


def done(client: httpx.Client, content: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """The entries of a transaction that must succeed."""
    answer = post(client, content, **headers)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["resourceType"], result["type"]) == ("Bundle", "transaction-response")
    entries: list[dict[str, Any]] = result.get("entry", [])
    return entries


def refused(client: httpx.Client, content: dict[str, Any], status: int, **headers: str) -> dict[str, Any]:
    answer = post(client, content, **headers)
    assert answer.status_code == status, answer.text
    outcome: dict[str, Any] = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return outcome


def told(outcome: dict[str, Any]) -> str:
    return json.dumps(outcome["issue"], ensure_ascii=False)


def located(told_entry: dict[str, Any]) -> str:
    """Type/id of a response entry."""
    return str(told_entry["response"]["location"]).split("/_history")[0]


def count(client: httpx.Client, search: str) -> int:
    answer = client.get(search + ("&" if "?" in search else "?") + "_total=accurate")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["total"])


def urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def test_entries_answer_in_the_order_of_the_request_with_status_location_etag_and_time(client: httpx.Client) -> None:
    me = urn()
    a, b = f"a{fresh()}", fresh()
    answers = done(
        client,
        transaction(
            entry("PUT", f"Patient/{a}", patient(id=a)),
            entry("POST", "Patient", patient(b), me),
            entry("POST", "Observation", observation(me)),
        ),
    )
    assert [told_entry["response"]["status"][:3] for told_entry in answers] == ["201", "201", "201"]
    assert located(answers[0]) == f"Patient/{a}"
    for told_entry in answers:
        assert told_entry["response"]["etag"] == 'W/"1"'
        assert told_entry["response"]["lastModified"].endswith("Z")
        assert "resource" not in told_entry, "without a wish an entry answers without a body"
    stored = client.get(located(answers[2])).json()
    assert stored["subject"]["reference"] == located(answers[1])


def test_an_empty_transaction_is_fine(client: httpx.Client) -> None:
    assert done(client, transaction()) == []


@pytest.mark.parametrize(
    ("prefer", "member"), [("return=representation", "resource"), ("return=OperationOutcome", "outcome"), ("return=minimal", None)]
)
def test_prefer_says_what_the_entries_carry(client: httpx.Client, prefer: str, member: str | None) -> None:
    (answer,) = done(client, transaction(entry("POST", "Patient", patient(fresh()))), Prefer=prefer)
    assert ("resource" in answer) == (member == "resource")
    assert ("outcome" in answer["response"]) == (member == "outcome")
    if member == "resource":
        assert answer["resource"]["id"] == located(answer).split("/")[1]
        assert answer["fullUrl"].endswith(located(answer))


def test_links_of_all_kinds_to_other_entries_are_rewritten(client: httpx.Client) -> None:
    me, document = urn(), "urn:oid:1.2.3.4"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{me}">who</a><img src="{document}" alt="d"/></div>'
    entries = [
        entry("POST", "DocumentReference", {
            "resourceType": "DocumentReference", "status": "current", "subject": {"reference": me},
            "content": [{"attachment": {"url": document}}], "text": {"status": "generated", "div": div}}),
        entry("POST", "Patient", patient(fresh()), me),
        entry("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain", "data": "aGk="}, document),
    ]  # fmt: skip
    answers = done(client, transaction(*entries))
    stored = client.get(located(answers[0])).json()
    person, binary = located(answers[1]), located(answers[2])
    assert stored["subject"]["reference"] == person
    assert stored["content"][0]["attachment"]["url"] == binary
    assert f'<a href="{person}">' in stored["text"]["div"]
    assert f'src="{binary}"' in stored["text"]["div"]


def test_circular_references_are_rewritten(client: httpx.Client) -> None:
    one, two = urn(), urn()
    answers = done(
        client,
        transaction(
            entry("POST", "Observation", observation("Patient/x", hasMember=[{"reference": two}]), one),
            entry("POST", "Observation", observation("Patient/x", derivedFrom=[{"reference": one}]), two),
        ),
    )
    assert client.get(located(answers[0])).json()["hasMember"][0]["reference"] == located(answers[1])
    assert client.get(located(answers[1])).json()["derivedFrom"][0]["reference"] == located(answers[0])


def test_a_relative_reference_resolves_against_the_restful_full_url_of_its_entry(client: httpx.Client) -> None:
    answers = done(
        client,
        transaction(
            entry("POST", "Patient", patient(fresh(), id="old"), "http://elsewhere.example/fhir/Patient/old"),
            entry("POST", "Observation", observation("Patient/old"), "http://elsewhere.example/fhir/Observation/o"),
        ),
    )
    assert client.get(located(answers[1])).json()["subject"]["reference"] == located(answers[0])


def test_references_between_put_entries_need_no_full_url(client: httpx.Client) -> None:
    a, o = f"a{fresh()}", f"o{fresh()}"
    done(
        client,
        transaction(entry("PUT", f"Observation/{o}", observation(f"Patient/{a}", id=o)), entry("PUT", f"Patient/{a}", patient(id=a))),
    )
    assert client.get(f"Observation/{o}").json()["subject"]["reference"] == f"Patient/{a}"


def test_a_versioned_reference_is_kept(client: httpx.Client) -> None:
    me = urn()
    answers = done(
        client,
        transaction(entry("POST", "Patient", patient(fresh()), me), entry("POST", "Observation", observation("Patient/p/_history/3"))),
    )
    assert client.get(located(answers[1])).json()["subject"]["reference"] == "Patient/p/_history/3"


# --- conditional references


def test_a_conditional_reference_becomes_the_resource_that_meets_it(client: httpx.Client) -> None:
    value = fresh()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    (answer,) = done(client, transaction(entry("POST", "Observation", observation(f"Patient?identifier={SYSTEM}|{value}"))))
    assert client.get(located(answer)).json()["subject"]["reference"] == located(made)


def test_a_conditional_reference_in_a_fhirpath_patch_becomes_the_resource_that_meets_it(client: httpx.Client) -> None:
    value = fresh()
    (made, seen) = done(
        client, transaction(entry("POST", "Patient", patient(value)), entry("POST", "Observation", observation("Patient/1")))
    )
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Observation.subject"},
        {"name": "value", "valueReference": {"reference": f"Patient?identifier={SYSTEM}|{value}"}},
    ]
    change = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    address = "/".join(located(seen).split("/")[:2])
    done(client, transaction(entry("PATCH", address, change)))
    assert client.get(address).json()["subject"]["reference"] == located(made)


@pytest.mark.parametrize("matches", [0, 2])
def test_a_conditional_reference_without_exactly_one_match_is_412_naming_entry_element_and_criteria(
    client: httpx.Client, matches: int
) -> None:
    value, trace = fresh(), fresh()
    for _ in range(matches):
        done(client, transaction(entry("POST", "Patient", patient(value))))
    criteria = f"Patient?identifier={SYSTEM}|{value}"
    outcome = refused(
        client,
        transaction(
            entry("POST", "Patient", patient(trace)),
            entry("POST", "Observation", observation("Patient/1", performer=[{"reference": criteria}])),
        ),
        412,
    )
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[1].resource.performer[0].reference"]
    assert criteria in told(outcome)
    assert count(client, f"Patient?identifier={trace}") == 0


def test_a_conditional_reference_may_name_a_resource_of_the_same_bundle(client: httpx.Client) -> None:
    value = fresh()
    answers = done(
        client,
        transaction(
            entry("POST", "Observation", observation(f"Patient?identifier={SYSTEM}|{value}")),
            entry("POST", "Patient", patient(value)),
        ),
    )
    assert client.get(located(answers[0])).json()["subject"]["reference"] == located(answers[1])


def test_a_conditional_reference_does_not_find_what_the_same_bundle_deletes(client: httpx.Client) -> None:
    value = fresh()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    criteria = f"Patient?identifier={SYSTEM}|{value}"
    refused(client, transaction(entry("POST", "Observation", observation(criteria)), entry("DELETE", located(made))), 412)
    assert client.get(located(made)).status_code == 200


def test_unreadable_criteria_of_a_conditional_reference_are_refused_naming_it(client: httpx.Client) -> None:
    outcome = refused(client, transaction(entry("POST", "Observation", observation("Patient?no-such-parameter=1"))), 400)
    assert "no-such-parameter" in told(outcome)
    assert "Bundle.entry[0].resource.subject.reference" in told(outcome)


# --- conditional entries


def test_a_conditional_create_that_finds_its_match_answers_200_and_references_point_to_the_match(client: httpx.Client) -> None:
    value = fresh()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    me = urn()
    answers = done(
        client,
        transaction(
            entry("POST", "Patient", patient(value), me, ifNoneExist=f"identifier={SYSTEM}|{value}"),
            entry("POST", "Observation", observation(me)),
        ),
    )
    assert answers[0]["response"]["status"].startswith("200")
    assert located(answers[0]) == located(made)
    assert client.get(located(answers[1])).json()["subject"]["reference"] == located(made)
    assert count(client, f"Patient?identifier={value}") == 1


def test_a_conditional_create_that_finds_nothing_creates_and_references_point_to_it(client: httpx.Client) -> None:
    value, me = fresh(), urn()
    answers = done(
        client,
        transaction(
            entry("POST", "Observation", observation(me)),
            entry("POST", "Patient", patient(value), me, ifNoneExist=f"Patient?identifier={SYSTEM}|{value}"),
        ),
    )
    assert answers[1]["response"]["status"].startswith("201")
    assert client.get(located(answers[0])).json()["subject"]["reference"] == located(answers[1])


def test_a_conditional_create_sees_what_an_earlier_entry_creates(client: httpx.Client) -> None:
    value, me = fresh(), urn()
    answers = done(
        client,
        transaction(
            entry("POST", "Patient", patient(value)),
            entry("POST", "Patient", patient(value), me, ifNoneExist=f"identifier={SYSTEM}|{value}"),
            entry("POST", "Observation", observation(me)),
        ),
    )
    assert [told_entry["response"]["status"][:3] for told_entry in answers] == ["201", "200", "201"]
    assert located(answers[1]) == located(answers[0])
    assert client.get(located(answers[2])).json()["subject"]["reference"] == located(answers[0])


def test_a_conditional_create_with_several_matches_is_412_naming_its_entry(client: httpx.Client) -> None:
    value = fresh()
    done(client, transaction(entry("POST", "Patient", patient(value)), entry("POST", "Patient", patient(value))))
    outcome = refused(client, transaction(entry("POST", "Patient", patient(), ifNoneExist=f"identifier={value}")), 412)
    assert "Bundle.entry[0]" in told(outcome)


def test_a_delete_comes_before_a_conditional_create_of_the_same_criteria(client: httpx.Client) -> None:
    value = fresh()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    answers = done(
        client,
        transaction(
            entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={value}"), entry("DELETE", f"Patient?identifier={value}")
        ),
    )
    assert answers[0]["response"]["status"].startswith("201")
    assert answers[1]["response"]["status"].startswith("204")
    assert located(answers[0]) != located(made)
    assert client.get(located(made)).status_code == 410


def test_a_conditional_update_is_found_by_references_to_its_full_url(client: httpx.Client) -> None:
    value, me = fresh(), urn()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    answers = done(
        client,
        transaction(
            entry("POST", "Observation", observation(me)),
            entry("PUT", f"Patient?identifier={SYSTEM}|{value}", patient(value, active=True), me),
        ),
    )
    assert answers[1]["response"]["status"].startswith("200")
    assert located(answers[1]) == located(made)
    assert client.get(located(answers[0])).json()["subject"]["reference"] == located(made)


# --- preconditions


def test_if_match_that_fails_is_412_naming_the_entry_and_nothing_is_written(client: httpx.Client) -> None:
    value, trace = fresh(), fresh()
    (made,) = done(client, transaction(entry("POST", "Patient", patient(value))))
    id = located(made).split("/")[1]
    changed = patient(value, id=id, active=True)
    outcome = refused(
        client, transaction(entry("POST", "Patient", patient(trace)), entry("PUT", f"Patient/{id}", changed, ifMatch='W/"7"')), 412
    )
    assert "Bundle.entry[1]" in told(outcome)
    assert count(client, f"Patient?identifier={trace}") == 0
    (answer,) = done(client, transaction(entry("PUT", f"Patient/{id}", changed, ifMatch='W/"1"')))
    assert answer["response"]["etag"] == 'W/"2"'


def test_if_none_match_on_a_read_answers_304_inside_the_bundle(client: httpx.Client) -> None:
    (made,) = done(client, transaction(entry("POST", "Patient", patient(fresh()))))
    (answer,) = done(client, transaction(entry("GET", located(made), ifNoneMatch='W/"1"')))
    assert answer["response"]["status"].startswith("304")
    assert "resource" not in answer
    (answer,) = done(client, transaction(entry("GET", located(made), ifModifiedSince="2999-01-01T00:00:00Z")))
    assert answer["response"]["status"].startswith("304")


# --- the same resource twice (known failure 8)


def test_the_same_resource_twice_by_address_is_400_naming_both_entries(client: httpx.Client) -> None:
    a, trace = f"a{fresh()}", fresh()
    outcome = refused(
        client,
        transaction(entry("PUT", f"Patient/{a}", patient(id=a)), entry("POST", "Patient", patient(trace)), entry("DELETE", f"Patient/{a}")),
        400,
    )
    assert "Bundle.entry[0]" in told(outcome)
    assert "Bundle.entry[2]" in told(outcome)
    assert client.get(f"Patient/{a}").status_code == 404
    assert count(client, f"Patient?identifier={trace}") == 0


def test_two_conditional_updates_of_the_same_resource_are_400_naming_both(client: httpx.Client) -> None:
    one, two = fresh(), fresh()
    both = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": one}, {"system": SYSTEM, "value": two}]}
    (made,) = done(client, transaction(entry("POST", "Patient", both)))
    outcome = refused(
        client,
        transaction(
            entry("PUT", f"Patient?identifier={one}", {**both, "active": True}),
            entry("PUT", f"Patient?identifier={two}", {**both, "active": False}),
        ),
        400,
    )
    assert "Bundle.entry[0]" in told(outcome)
    assert "Bundle.entry[1]" in told(outcome)
    assert client.get(located(made)).json()["meta"]["versionId"] == "1"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_equal_criteria_without_a_match_are_400_naming_both(client: httpx.Client, method: str) -> None:
    value = fresh()
    if method == "POST":
        entries = [entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={SYSTEM}|{value}") for _ in range(2)]
    else:
        entries = [entry("PUT", f"Patient?identifier={SYSTEM}|{value}", patient(value)) for _ in range(2)]
    outcome = refused(client, transaction(*entries), 400)
    assert "Bundle.entry[0]" in told(outcome)
    assert "Bundle.entry[1]" in told(outcome)
    assert count(client, f"Patient?identifier={value}") == 0


def test_two_entries_with_the_same_full_url_are_refused(client: httpx.Client) -> None:
    me = urn()
    answer = post(client, transaction(entry("POST", "Patient", patient(fresh()), me), entry("POST", "Patient", patient(fresh()), me)))
    assert answer.status_code in (400, 422)
    assert "fullUrl" in answer.text


# --- faults


def test_all_faults_of_all_contents_are_told_at_once_with_their_place(client: httpx.Client) -> None:
    trace = fresh()
    outcome = refused(
        client,
        transaction(
            entry("POST", "Patient", patient(trace)),
            entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "2020-02-30"}),
            entry("POST", "Patient", {"resourceType": "Patient", "nosuch": 1}),
            entry("POST", "Observation", {"resourceType": "Observation", "status": "final"}),
        ),
        400,
    )
    places = {expression for issue in outcome["issue"] for expression in issue.get("expression", [])}
    assert "Bundle.entry[1].resource.birthDate" in places
    assert any(place.startswith("Bundle.entry[2].resource") for place in places)
    assert any(place.startswith("Bundle.entry[3].resource") for place in places)
    assert count(client, f"Patient?identifier={trace}") == 0


def test_content_that_only_breaks_a_rule_is_422(client: httpx.Client) -> None:
    outcome = refused(client, transaction(entry("POST", "Patient", {"resourceType": "Patient", "gender": "maleX"})), 422)
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[0].resource.gender"]


@pytest.mark.parametrize(
    ("faulty", "status", "place"),
    [
        ({"resource": {"resourceType": "Patient"}}, 422, "Bundle.entry[1]"),
        ({"request": {"method": "POST", "url": "Patient"}}, 400, "Bundle.entry[1]"),
        ({"request": {"method": "POST", "url": "Patientt"}, "resource": {"resourceType": "Patient"}}, 404, "Bundle.entry[1]"),
        (
            {"request": {"method": "FETCH", "url": "Patient"}, "resource": {"resourceType": "Patient"}},
            422,
            "Bundle.entry[1].request.method",
        ),
        ({"request": {"method": "PUT", "url": "Patient/a"}, "resource": {"resourceType": "Patient", "id": "b"}}, 400, "Bundle.entry[1]"),
        ({"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Flag"}}, 400, "Bundle.entry[1]"),
        (
            {"request": {"method": "POST", "url": "http://elsewhere.example/fhir/Patient"}, "resource": {"resourceType": "Patient"}},
            400,
            "Bundle.entry[1]",
        ),
        ({"request": {"method": "GET", "url": "Patient/not-there"}}, 404, "Bundle.entry[1]"),
        ({"request": {"method": "GET", "url": "Patient?nosuch=1"}}, 400, "Bundle.entry[1]"),
        ({"request": {"method": "GET", "url": "Patient/not-there/_history/1"}}, 404, "Bundle.entry[1]"),
        ({"request": {"method": "PATCH", "url": "Patient/not-there"}, "resource": {"resourceType": "Parameters"}}, 404, "Bundle.entry[1]"),
    ],
)
def test_the_failing_entry_is_named_with_its_own_status_and_nothing_is_left(
    client: httpx.Client, faulty: dict[str, Any], status: int, place: str
) -> None:
    trace = fresh()
    outcome = refused(client, transaction(entry("POST", "Patient", patient(trace)), faulty), status)
    assert place in told(outcome)
    assert count(client, f"Patient?identifier={trace}") == 0


@pytest.mark.parametrize(
    "content", [{"resourceType": "Bundle"}, {"resourceType": "Bundle", "type": "collection"}, {"resourceType": "Patient"}]
)
def test_what_is_neither_batch_nor_transaction_is_400(client: httpx.Client, content: dict[str, Any]) -> None:
    refused(client, content, 400)


def test_entry_500_of_500_failing_leaves_no_trace(client: httpx.Client) -> None:
    """Known failure 9: no resource, no history row, no search hit, no version gap."""
    trace, id = fresh(), f"a{fresh()}"
    (kept,) = done(client, transaction(entry("PUT", f"Patient/{id}", patient(id=id))))
    before = client.get("_history?_count=1").json()["entry"][0]["response"]["location"]
    entries = [entry("POST", "Patient", patient(trace)) for _ in range(498)]
    entries.append(entry("PUT", f"Patient/{id}", patient(id=id, active=True)))
    entries.append(entry("PUT", "Patient/other", patient(id="other"), ifMatch='W/"99"'))
    outcome = refused(client, transaction(*entries), 412)
    assert "Bundle.entry[499]" in told(outcome)
    assert count(client, f"Patient?identifier={trace}") == 0
    assert client.get("_history?_count=1").json()["entry"][0]["response"]["location"] == before
    assert client.get(f"Patient/{id}").json()["meta"]["versionId"] == kept["response"]["etag"][3:-1]
    (answer,) = done(client, transaction(entry("PUT", f"Patient/{id}", patient(id=id, active=True))))
    assert answer["response"]["etag"] == 'W/"2"', "no gap in the versions"


# --- reads


def test_reads_see_the_state_after_the_writes(client: httpx.Client) -> None:
    value, a = fresh(), f"a{fresh()}"
    answers = done(
        client,
        transaction(
            entry("GET", f"Patient/{a}"),
            entry("GET", f"Patient?identifier={value}"),
            entry("PUT", f"Patient/{a}", patient(value, id=a)),
            entry("POST", "Patient", patient(value)),
            entry("HEAD", f"Patient/{a}"),
            entry("GET", f"Patient/{a}/_history"),
        ),
    )
    assert answers[0]["resource"]["id"] == a
    assert len(answers[1]["resource"]["entry"]) == 2
    assert answers[4]["response"]["status"].startswith("200")
    assert "resource" not in answers[4]
    assert answers[5]["resource"]["type"] == "history"


def test_reading_what_the_transaction_deletes_fails_it(client: httpx.Client) -> None:
    (made,) = done(client, transaction(entry("POST", "Patient", patient(fresh()))))
    refused(client, transaction(entry("DELETE", located(made)), entry("GET", located(made))), 410)
    assert client.get(located(made)).status_code == 200


def test_all_reads_of_one_transaction_see_one_snapshot(client: httpx.Client, server: Any) -> None:
    value = fresh()
    stop = threading.Event()

    def write() -> None:
        with server.client() as other:
            while not stop.is_set():
                other.post("Patient", json=patient(value), headers={"Content-Type": "application/fhir+json"})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            search = f"Patient?identifier={value}&_summary=count"
            answers = done(client, transaction(*(entry("GET", search) for _ in range(10)), entry("POST", "Patient", patient(fresh()))))
            assert len({told_entry["resource"]["total"] for told_entry in answers[:10]}) == 1
    finally:
        stop.set()
        writer.join()


# --- patches


def json_patch(*operations: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


def test_patch_entries_of_both_forms_work_and_their_links_are_rewritten(client: httpx.Client) -> None:
    a, o, me = f"a{fresh()}", f"o{fresh()}", urn()
    done(client, transaction(entry("PUT", f"Patient/{a}", patient(id=a)), entry("PUT", f"Observation/{o}", observation("Patient/x", id=o))))
    by_path = {
        "resourceType": "Parameters",
        "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"},
            {"name": "name", "valueString": "active"}, {"name": "value", "valueBoolean": True}]}],
    }  # fmt: skip
    answers = done(
        client,
        transaction(
            entry("PATCH", f"Patient/{a}", by_path),
            entry("PATCH", f"Observation/{o}", json_patch({"op": "replace", "path": "/subject/reference", "value": me})),
            entry("POST", "Patient", patient(fresh()), me),
        ),
    )
    assert [told_entry["response"]["status"][:3] for told_entry in answers] == ["200", "200", "201"]
    assert client.get(f"Patient/{a}").json()["active"] is True
    assert client.get(f"Observation/{o}").json()["subject"]["reference"] == located(answers[2])


def test_a_patch_may_bring_a_conditional_reference(client: httpx.Client) -> None:
    value, o = fresh(), f"o{fresh()}"
    (made, _) = done(
        client, transaction(entry("POST", "Patient", patient(value)), entry("PUT", f"Observation/{o}", observation("Patient/x", id=o)))
    )
    change = json_patch({"op": "replace", "path": "/subject", "value": {"reference": f"Patient?identifier={SYSTEM}|{value}"}})
    done(client, transaction(entry("PATCH", f"Observation/{o}", change)))
    assert client.get(f"Observation/{o}").json()["subject"]["reference"] == located(made)


# --- concurrency and size


def test_64_equal_transactions_with_a_conditional_create_make_one_resource(server: Any) -> None:
    """Known failure 7, inside bundles: every caller is answered 200, and the one resource is created once."""
    value = fresh()
    content = transaction(entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={SYSTEM}|{value}"))

    def send(_: int) -> tuple[int, str, str]:
        with server.client() as http:
            answer = post(http, content)
            told_entry = answer.json()["entry"][0]
            return answer.status_code, told_entry["response"]["status"][:3], located(told_entry)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(64)))
    assert {status for status, _, _ in answers} == {200}
    assert sorted(status for _, status, _ in answers) == ["200"] * 63 + ["201"]
    assert len({place for _, _, place in answers}) == 1


def test_a_large_transaction_leaves_the_server_responsive(client: httpx.Client, server: Any) -> None:
    """Known failure 23 in its short form (the soak form has 30,000 entries)."""
    large_transaction(client, server, 3000, within=20.0)


@pytest.mark.soak
def test_a_transaction_of_30_000_entries_is_done_within_a_minute(client: httpx.Client, server: Any) -> None:
    large_transaction(client, server, 30_000, within=60.0)


def large_transaction(client: httpx.Client, server: Any, size: int, within: float) -> None:
    value, me = fresh(), urn()
    entries = [entry("POST", "Patient", patient(value), me)]
    entries += [entry("POST", "Observation", observation(me, valueInteger=at)) for at in range(size - 1)]
    longest = 0.0
    finished = threading.Event()

    def look() -> None:
        nonlocal longest
        with server.client() as other:
            while not finished.is_set():
                started = time.monotonic()
                assert other.get("Patient/none").status_code == 404
                longest = max(longest, time.monotonic() - started)
                finished.wait(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.monotonic()
    try:
        with httpx.Client(base_url=client.base_url, timeout=120) as patient_client:
            answers = done(patient_client, transaction(*entries))
    finally:
        finished.set()
        watcher.join()
    assert time.monotonic() - started < within
    assert len(answers) == size
    assert count(client, f"Observation?subject={located(answers[0])}") == size - 1
    assert longest < 5.0, f"a read waited {longest:.1f} s"


def test_transaction_inside_a_batch_is_no_entry(client: httpx.Client) -> None:
    answer = post(client, batch(entry("POST", "", transaction())))
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        assert answer.json()["entry"][0]["response"]["status"].startswith("4")
