"""Lists and connections of $graphql: whole or an error, page by page on cursors, at system and type level.

https://hl7.org/fhir/R4/graphql.html#searching
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.operations.graphql_asking import ask, refused
from tests.wire.resources import outcome, patient, unique

FIELDS = "count offset pagesize first previous next last edges { mode score resource { id } }"


@pytest.fixture(scope="module")
def seven(server) -> tuple[str, list[str]]:
    """A family name of seven Patients, and their ids in the order of their birth dates; two of them were born on the same day."""
    name = unique("Seven")
    days = ["1990-01-01", "1991-01-01", "1992-01-01", "1993-01-01", "1993-01-01", "1995-01-01", "1996-01-01"]
    with server.client() as http:
        made = [http.post("Patient", json=patient(name=[{"family": name}], birthDate=day, active=n % 2 == 0)) for n, day in enumerate(days)]
    return name, [one.json()["id"] for one in made]


def pages(client: Any, start: str, link: str) -> list[dict[str, Any]]:
    """The connections from one on, along a link."""
    found = [ask(client, "", f"{{ PatientConnection({start}) {{ {FIELDS} }} }}")["PatientConnection"]]
    while found[-1][link] is not None:
        assert len(found) < 20
        found.append(ask(client, "", f'{{ PatientConnection(_cursor: "{found[-1][link]}") {{ {FIELDS} }} }}')["PatientConnection"])
    return found


def ids(page: dict[str, Any]) -> list[str]:
    return [one["resource"]["id"] for one in page["edges"]]


# --- lists


def test_arguments_are_search_parameters_with_underscores(client, seven):
    name, made = seven
    shown = ask(client, "", f'{{ PatientList(family: "{name}", birthdate: "lt1992", _sort: "birthdate") {{ id }} }}')
    assert shown == {"PatientList": [{"id": one} for one in made[:2]]}
    condition = {"resourceType": "Condition", "subject": {"reference": f"Patient/{made[0]}"}, "clinicalStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "relapse"}]}}  # fmt: skip
    wanted = client.post("Condition", json=condition).json()["id"]
    shown = ask(client, "", f'{{ ConditionList(clinical_status: relapse, patient: "{made[0]}") {{ id }} }}')
    assert shown == {"ConditionList": [{"id": wanted}]}


def test_values_of_an_array_are_alternatives(client, seven):
    _, made = seven
    shown = ask(client, "", f'{{ PatientList(_id: ["{made[3]}", "{made[0]}", nobody, 5], _sort: ["birthdate"]) {{ id }} }}')
    assert shown == {"PatientList": [{"id": made[0]}, {"id": made[3]}]}


def test_a_comma_is_part_of_a_value(client):
    """'the composite syntax (multiple arguments separated by comma) is not used'."""
    name = unique("Comma")
    made = client.post("Patient", json=patient(name=[{"family": f"{name}, the Elder"}])).json()["id"]
    client.post("Patient", json=patient(name=[{"family": name}]))
    assert ask(client, "", f'{{ PatientList(family: "{name}, the") {{ id }} }}') == {"PatientList": [{"id": made}]}


def test_booleans_and_filters_search(client, seven):
    name, made = seven
    shown = ask(client, "", f'{{ PatientList(family: "{name}", active: true, _sort: "-birthdate") {{ id }} }}')
    assert shown == {"PatientList": [{"id": made[n]} for n in (6, 4, 2, 0)]}
    query = f'{{ PatientList(_filter: "family eq {name} and birthdate gt 1995-06-01") {{ id }} }}'
    assert ask(client, "", query) == {"PatientList": [{"id": made[6]}]}


def test_fhirpath_is_evaluated_on_the_matches(client, seven):
    name, made = seven
    query = f'{{ PatientList(family: "{name}", fhirpath: "birthDate > @1995-06-01") {{ id }} }}'
    assert ask(client, "", query) == {"PatientList": [{"id": made[6]}]}


def test_a_list_is_whole_or_as_long_as_was_asked_for(client):
    """'they SHALL return an error indicating that the query could not be fulfilled (rather than silently filtering the list)'."""
    name = unique("Many")
    entries = [{"resource": patient(name=[{"family": name}]), "request": {"method": "POST", "url": "Patient"}} for _ in range(60)]
    client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).raise_for_status()
    assert len(ask(client, "", f'{{ PatientList(family: "{name}") {{ id }} }}')["PatientList"]) == 60
    assert len(ask(client, "", f'{{ PatientList(family: "{name}", _count: 25) {{ id }} }}')["PatientList"]) == 25
    assert ask(client, "", f'{{ PatientList(family: "{name}", _count: 0) {{ id }} }}') == {"PatientList": []}


def test_more_resources_than_a_query_may_hold_are_an_error(client):
    name = unique("TooMany")
    for _ in range(3):
        entries = [{"resource": patient(name=[{"family": name}]), "request": {"method": "POST", "url": "Patient"}} for _ in range(700)]
        client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).raise_for_status()
    message = refused(client, "", f'{{ PatientList(family: "{name}") {{ id }} }}', 422)
    assert "2000" in message
    assert "Connection" in message
    shown = ask(client, "", f'{{ PatientConnection(family: "{name}", _count: 5) {{ count }} }}')
    assert shown == {"PatientConnection": {"count": 2100}}


# --- connections


def test_a_connection_says_what_it_is(client, seven):
    name, made = seven
    shown = ask(client, "", f'{{ PatientConnection(family: "{name}", _sort: birthdate, _count: 3) {{ {FIELDS} __typename }} }}')[
        "PatientConnection"
    ]
    assert (shown["count"], shown["offset"], shown["pagesize"]) == (7, 0, 3)
    assert shown["edges"] == [{"mode": "match", "score": None, "resource": {"id": one}} for one in made[:3]]
    assert shown["previous"] is None
    assert shown["next"]
    assert shown["__typename"] == "PatientConnection"


def test_next_and_previous_walk_through_all_pages(client, seven):
    name, made = seven
    forth = pages(client, f'family: "{name}", _sort: birthdate, _count: 3', "next")
    assert [ids(page) for page in forth] == [made[:3], made[3:6], made[6:]]
    assert [page["offset"] for page in forth] == [0, 3, 6]
    assert [page["count"] for page in forth] == [7, 7, 7]
    back = pages(client, f'_cursor: "{forth[-1]["previous"]}"', "previous")
    assert [ids(page) for page in back] == [made[3:6], made[:3]]
    for page in forth:
        for link, wanted in (("first", made[:3]), ("last", made[6:])):
            there = ask(client, "", f'{{ PatientConnection(cursor: "{page[link]}") {{ {FIELDS} }} }}')["PatientConnection"]
            assert ids(there) == wanted
            assert there["offset"] == (0 if link == "first" else 6)
    last = ask(client, "", f'{{ PatientConnection(_cursor: "{forth[0]["last"]}") {{ {FIELDS} }} }}')["PatientConnection"]
    assert last["next"] is None
    assert [ids(page) for page in pages(client, f'_cursor: "{last["previous"]}"', "previous")] == [made[3:6], made[:3]]


def test_all_pages_show_one_state_of_the_store(client):
    name = unique("Stable")
    made = [client.post("Patient", json=patient(name=[{"family": name}], birthDate=f"199{n}-01-01")).json()["id"] for n in range(5)]
    first = ask(client, "", f'{{ PatientConnection(family: "{name}", _sort: birthdate, _count: 2) {{ {FIELDS} }} }}')["PatientConnection"]
    client.delete(f"Patient/{made[3]}")
    client.post("Patient", json=patient(name=[{"family": name}], birthDate="1989-01-01"))
    rest = pages(client, f'_cursor: "{first["next"]}"', "next")
    assert [ids(page) for page in rest] == [made[2:4], made[4:]]
    assert ids(pages(client, f'_cursor: "{first["first"]}"', "previous")[0]) == made[:2]
    assert ids(pages(client, f'_cursor: "{first["last"]}"', "next")[0]) == made[4:]
    assert rest[0]["count"] == 5


def test_a_cursor_stands_alone_and_belongs_to_its_type(client, seven):
    name, _ = seven
    cursor = ask(client, "", f'{{ PatientConnection(family: "{name}", _count: 2) {{ next }} }}')["PatientConnection"]["next"]
    assert name not in cursor
    assert "_cursor" in refused(client, "", f'{{ PatientConnection(_cursor: "{cursor}", active: true) {{ count }} }}')
    assert "_cursor" in refused(client, "", f'{{ PatientConnection(_cursor: "{cursor}", cursor: "{cursor}") {{ count }} }}')
    assert "cursor" in refused(client, "", f'{{ ConditionConnection(_cursor: "{cursor}") {{ count }} }}')
    changed = cursor[:-4] + ("AAAA" if cursor[-4:] != "AAAA" else "BBBB")
    assert "cursor" in refused(client, "", f'{{ PatientConnection(_cursor: "{changed}") {{ count }} }}')
    assert "cursor" in refused(client, "", '{ PatientConnection(_cursor: "nonsense!") { count } }')


def test_counting_alone_gives_no_edges(client, seven):
    name, _ = seven
    shown = ask(client, "", f'{{ PatientConnection(family: "{name}", _count: 0) {{ count edges {{ mode }} next last }} }}')
    assert shown == {"PatientConnection": {"count": 7, "edges": [], "next": None, "last": shown["PatientConnection"]["last"]}}


def test_an_empty_connection_has_no_pages_around_it(client):
    shown = ask(client, "", f'{{ PatientConnection(family: "{unique("None")}") {{ {FIELDS} }} }}')["PatientConnection"]
    assert (shown["count"], shown["edges"], shown["next"], shown["previous"]) == (0, [], None, None)


def test_fhirpath_shortens_pages(client, seven):
    name, made = seven
    argument = f'family: "{name}", _sort: birthdate, _count: 3, fhirpath: "active"'
    shown = pages(client, argument, "next")
    assert [ids(page) for page in shown] == [[made[0], made[2]], [made[4]], [made[6]]]


# --- type level


def test_at_type_level_the_root_holds_that_type(client, seven):
    name, made = seven
    query = f'{{ Patient(id: "{made[0]}") {{ id }} PatientList(family: "{name}", _sort: birthdate, _count: 1) {{ id }} }}'
    assert ask(client, "Patient", query) == {"Patient": {"id": made[0]}, "PatientList": [{"id": made[0]}]}
    assert client.get("Patient/$graphql", params={"query": query}).status_code == 200
    assert "ObservationList" in refused(client, "Patient", "{ ObservationList { id } }")
    shown = ask(client, "Patient", f'{{ PatientConnection(family: "{name}") {{ count }} }}')
    assert shown == {"PatientConnection": {"count": 7}}
    shown = ask(client, "Patient", "{ __schema { queryType { fields { name } } } }")["__schema"]
    assert [one["name"] for one in shown["queryType"]["fields"]] == ["Patient", "PatientList", "PatientConnection"]


def test_the_capability_statement_lists_the_operation(client):
    rest = client.get("metadata").json()["rest"][0]
    listed = {"name": "graphql", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-graphql"}
    assert listed in rest["operation"]
    assert all(listed in one["operation"] for one in rest["resource"])


# --- entries of Bundles


def shown_in(entry: dict[str, Any]) -> Any:
    """The result in an entry: the Binary that http://hl7.org/fhir/OperationDefinition/Resource-graphql gives."""
    assert entry["resource"]["resourceType"] == "Binary"
    assert entry["resource"]["contentType"] == "application/json"
    return json.loads(base64.b64decode(entry["resource"]["data"]))["data"]


def test_queries_are_entries_of_batches_and_transactions(client, seven):
    _, made = seven
    entry = {"request": {"method": "GET", "url": f"Patient/{made[0]}/$graphql?query=%7Bactive%7D"}}
    for kind in ("batch", "transaction"):
        answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["entry"][0]["response"]["status"].startswith("200")
        assert shown_in(answer.json()["entry"][0]) == {"active": True}


def test_a_wrong_query_fails_its_transaction_and_its_entry_of_a_batch(client):
    name = unique("Failing")
    entries = [
        {"resource": patient(name=[{"family": name}]), "request": {"method": "POST", "url": "Patient"}},
        {"request": {"method": "GET", "url": "$graphql?query=%7BPatientList%7Bcolour%7D%7D"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert "colour" in outcome(client.post("", json=bundle), 400)
    assert client.get("Patient", params={"family": name}).json()["total"] == 0
    answers = client.post("", json={**bundle, "type": "batch"}).json()["entry"]
    assert [one["response"]["status"][:3] for one in answers] == ["201", "400"]
    assert "colour" in answers[1]["response"]["outcome"]["issue"][0]["diagnostics"]


def test_a_query_in_a_transaction_sees_what_the_transaction_writes(client):
    name = unique("Seen")
    entries = [
        {"resource": patient(name=[{"family": name}]), "request": {"method": "POST", "url": "Patient"}},
        {"request": {"method": "GET", "url": f"$graphql?query=%7BPatientConnection(family:%22{name}%22)%7Bcount%7D%7D"}},
    ]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    assert shown_in(answer.json()["entry"][1]) == {"PatientConnection": {"count": 1}}
