"""Mutations of $graphql: ordinary writes, by POST only, one after the other, each whole or not at all.

https://hl7.org/fhir/R4/graphql.html#mutations, https://spec.graphql.org/October2021/#sec-Mutation
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.graphql_asking import ask, faults, post, refused
from tests.wire.resources import observation, outcome, patient, unique


def total(client: Any, name: str) -> int:
    return client.get("Patient", params={"family": name, "_summary": "count"}).json()["total"]


# --- the three


def test_create_stores_the_resource_under_a_new_id(client):
    name = unique("Created")
    query = f"""mutation {{ PatientCreate(res: {{ resourceType: "Patient", id: "mine", active: true, birthDate: "1990-01-01",
        name: {{ family: "{name}", given: ["A", "B"] }} }}) {{ id active name {{ family given }} meta {{ versionId }} }} }}"""
    shown = ask(client, "", query)["PatientCreate"]
    assert shown["id"] != "mine"
    assert (shown["active"], shown["meta"]["versionId"]) == (True, "1")
    stored = client.get(f"Patient/{shown['id']}").json()
    assert stored["name"] == [{"family": name, "given": ["A", "B"]}]
    assert stored["birthDate"] == "1990-01-01"


def test_content_comes_as_a_variable_with_all_its_digits(client):
    sent = observation("Patient/none")
    sent["valueQuantity"]["value"] = 0
    query = "mutation ($res: ObservationInput!) { ObservationCreate(res: $res) { id } }"
    text = client.build_request("POST", "$graphql", json={"query": query, "variables": {"res": sent}}).content
    body = text.replace(b'"value":0', b'"value":72.500').replace(b'"value": 0', b'"value": 72.500')
    answer = client.post("$graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    made = answer.json()["data"]["ObservationCreate"]["id"]
    assert '"value":72.500' in client.get(f"Observation/{made}").text
    literal = 'mutation { ObservationCreate(res: { status: final, code: { text: "x" }, valueQuantity: { value: 1.10 } }) { id } }'
    made = ask(client, "", literal)["ObservationCreate"]["id"]
    assert '"value":1.10' in client.get(f"Observation/{made}").text


def test_update_makes_the_next_version_and_creates_under_a_clients_id(client):
    made = client.post("Patient", json=patient()).json()["id"]
    query = "mutation ($id: ID!) { PatientUpdate(id: $id, res: { gender: female }) { id gender name { family } meta { versionId } } }"
    shown = ask(client, "", query, variables={"id": made})["PatientUpdate"]
    assert shown == {"id": made, "gender": "female", "meta": {"versionId": "2"}}
    own = unique("own")
    shown = ask(client, "", query, variables={"id": own})["PatientUpdate"]
    assert shown == {"id": own, "gender": "female", "meta": {"versionId": "1"}}


def test_delete_returns_nothing(client):
    for query in ("PatientDelete(id: $id)", "PatientDelete(id: $id) { id }"):
        made = client.post("Patient", json=patient()).json()["id"]
        shown = ask(client, "", f"mutation ($id: ID!) {{ {query} }}", variables={"id": made})
        assert shown == {"PatientDelete": None}
        assert client.get(f"Patient/{made}").status_code == 410


def test_mutations_of_one_type_are_served_at_its_level(client):
    shown = ask(client, "Patient", "mutation { PatientCreate(res: { active: true }) { active } }")
    assert shown == {"PatientCreate": {"active": True}}
    assert "ObservationDelete" in refused(client, "Patient", "mutation { ObservationDelete(id: 1) }")
    made = client.post("Patient", json=patient()).json()["id"]
    assert "instance" in refused(client, f"Patient/{made}", f'mutation {{ PatientDelete(id: "{made}") }}')
    assert client.get(f"Patient/{made}").status_code == 200


# --- the same checks as any write


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("PatientCreate { id }", "res"),
        ("PatientCreate(res: { colour: red }) { id }", "colour"),
        ("PatientCreate(res: { active: 5 }) { id }", "Boolean"),
        ("PatientCreate(res: { name: { given: { a: b } } }) { id }", "a: b"),
        ("PatientUpdate(res: { active: true }) { id }", "id"),
        ("PatientCreate(res: { active: true }) { colour }", "colour"),
        ("PatientCreate(res: { active: true })", "PatientCreate"),
        ("PatientPatch(id: 1, res: { active: true }) { id }", "PatientPatch"),
        ("PatientList { id }", "PatientList"),
    ],
)
def test_what_the_schema_does_not_have_is_refused_before_anything_is_done(client, query, named):
    name = unique("Before")
    whole = f'mutation {{ first: PatientCreate(res: {{ name: {{ family: "{name}" }} }}) {{ id }} {query} }}'
    assert named in refused(client, "", whole)
    assert total(client, name) == 0


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ('PatientCreate(res: { gender: "red", name: { family: "NAME" } }) { id }', 422, "gender"),
        ('PatientCreate(res: { birthDate: "yesterday", name: { family: "NAME" } }) { id }', 400, "birthDate"),
        ('PatientCreate(res: { resourceType: "Group", name: { family: "NAME" } }) { id }', 400, "Group"),
        ('PatientUpdate(id: "a", res: { id: "b", name: { family: "NAME" } }) { id }', 400, "'b'"),
        ('PatientUpdate(id: "a b", res: { name: { family: "NAME" } }) { id }', 400, "a b"),
        ('PatientUpdate(id: "new-NAME", ifMatch: "7", res: { name: { family: "NAME" } }) { id }', 412, "new-NAME"),
    ],
)
def test_content_is_validated_as_that_of_any_write(client, query, status, named):
    name = unique("Wrong")
    answer = post(client, "", f"mutation {{ {query.replace('NAME', name)} }}")
    fault = faults(answer, status)[0]
    assert named.replace("NAME", name) in fault["message"]
    assert list(answer.json()["data"].values()) == [None]
    assert fault["path"] == list(answer.json()["data"])
    assert total(client, name) == 0


def test_versions_are_checked(client):
    made = client.post("Patient", json=patient()).json()["id"]
    query = "mutation ($tag: String) { PatientUpdate(id: ID, ifMatch: $tag, res: { gender: female }) { meta { versionId } } }"
    query = query.replace("ID", f'"{made}"', 1)
    faults(post(client, "", query, variables={"tag": "2"}), 412)
    assert client.get(f"Patient/{made}").json()["gender"] == "male"
    assert ask(client, "", query, variables={"tag": "1"}) == {"PatientUpdate": {"meta": {"versionId": "2"}}}
    faults(post(client, "", f'mutation {{ PatientDelete(id: "{made}", ifMatch: "W/\\"1\\"") }}'), 412)
    assert ask(client, "", f'mutation {{ PatientDelete(id: "{made}", ifMatch: "W/\\"2\\"") }}') == {"PatientDelete": None}


def test_a_server_that_demands_if_match_demands_it_here(start):
    server = start(env={"FHIR_SERVER_REQUIRE_IF_MATCH": "true"})
    with server.client() as http:
        made = http.post("Patient", json=patient()).json()["id"]
        faults(post(http, "", f'mutation {{ PatientUpdate(id: "{made}", res: {{ gender: female }}) {{ id }} }}'), 428)
        shown = ask(http, "", f'mutation {{ PatientUpdate(id: "{made}", ifMatch: "1", res: {{ gender: female }}) {{ gender }} }}')
        assert shown == {"PatientUpdate": {"gender": "female"}}


def test_a_conditional_create_finds_what_is_there(client):
    number = unique("mrn")
    query = """mutation ($q: String!, $v: String!) { PatientCreate(ifNoneExist: $q,
        res: { identifier: [{ system: "urn:mrn", value: $v }] }) { id } }"""
    variables = {"q": f"identifier=urn:mrn|{number}", "v": number}
    first = ask(client, "", query, variables=variables)
    assert ask(client, "", query, variables=variables) == first
    assert (
        client.get("Patient", params={"identifier": f"urn:mrn|{number}"}).json()["entry"][0]["resource"]["id"]
        == first["PatientCreate"]["id"]
    )


# --- order and wholeness


def test_fields_are_done_in_their_order_and_see_each_other(client):
    own = unique("serial")
    query = f"""mutation {{
        one: PatientUpdate(id: "{own}", res: {{ gender: male }}) {{ meta {{ versionId }} }}
        two: PatientUpdate(id: "{own}", res: {{ gender: female }}) {{ meta {{ versionId }} }}
        obs: ObservationCreate(res: {{ status: final, code: {{ text: "x" }}, subject: {{ reference: "Patient/{own}" }} }}) {{
            subject {{ resource {{ ... on Patient {{ gender }} }} }} }}
        gone: PatientDelete(id: "{own}")
        again: PatientUpdate(id: "{own}", res: {{ gender: other }}) {{
            meta {{ versionId }} ObservationList(_reference: subject) {{ status }} }}
    }}"""
    answer = post(client, "", query)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()["data"].items()) == [
        ("one", {"meta": {"versionId": "1"}}),
        ("two", {"meta": {"versionId": "2"}}),
        ("obs", {"subject": {"resource": {"gender": "female"}}}),
        ("gone", None),
        ("again", {"meta": {"versionId": "4"}, "ObservationList": [{"status": "final"}]}),
    ]


def test_a_field_that_fails_leaves_nothing_behind_and_the_others_are_done(client):
    good, bad = unique("Good"), unique("Bad")
    query = f"""mutation {{
        a: PatientCreate(res: {{ name: {{ family: "{good}" }} }}) {{ name {{ family }} }}
        b: PatientCreate(res: {{ name: {{ family: "{bad}" }}, gender: red }}) {{ id }}
        c: PatientCreate(res: {{ name: {{ family: "{good}" }} }}) {{ name {{ family }} }}
    }}"""
    answer = post(client, "", query)
    found = faults(answer, 422)
    assert [one["path"] for one in found] == [["b"]]
    assert found[0]["locations"] == [{"line": 3, "column": 9}]
    shown = {"name": [{"family": good}]}
    assert answer.json()["data"] == {"a": shown, "b": None, "c": shown}
    assert (total(client, good), total(client, bad)) == (2, 0)


def test_what_cannot_be_answered_is_not_written(client):
    """The selection is tried on what is about to be stored: an answer that would be an error means nothing is stored."""
    name = unique("Unanswerable")
    query = f"""mutation {{ PatientCreate(res: {{
            name: {{ family: "{name}" }}, managingOrganization: {{ reference: "Organization/nobody" }} }})
        {{ id managingOrganization {{ resource {{ id }} }} }} }}"""
    answer = post(client, "", query)
    assert "Organization/nobody" in faults(answer, 404)[0]["message"]
    assert total(client, name) == 0


def test_a_resource_that_refers_to_itself_is_resolved(client):
    own = unique("self")
    query = f"""mutation {{ PatientUpdate(id: "{own}", res: {{
            gender: male, link: {{ type: seealso, other: {{ reference: "Patient/{own}" }} }} }})
        {{ link {{ other {{ resource(type: Patient) {{ gender }} }} }} }} }}"""
    assert ask(client, "", query) == {"PatientUpdate": {"link": [{"other": {"resource": {"gender": "male"}}}]}}


def test_writes_appear_in_the_history_and_in_searches(client):
    name = unique("Events")
    made = ask(client, "", f'mutation {{ PatientCreate(res: {{ name: {{ family: "{name}" }} }}) {{ id }} }}')["PatientCreate"]["id"]
    ask(client, "", f'mutation {{ PatientUpdate(id: "{made}", res: {{ name: {{ family: "{name}" }}, active: true }}) {{ id }} }}')
    ask(client, "", f'mutation {{ PatientDelete(id: "{made}") }}')
    history = client.get(f"Patient/{made}/_history").json()["entry"]
    assert [one["request"]["method"] for one in history] == ["DELETE", "PUT", "POST"]
    assert total(client, name) == 0


# --- where a mutation may be


def test_get_and_head_never_change_anything(client):
    made = client.post("Patient", json=patient()).json()["id"]
    query = f'mutation {{ PatientDelete(id: "{made}") }}'
    answer = client.get("$graphql", params={"query": query})
    faults(answer, 405)
    assert "POST" in answer.headers["allow"]
    assert client.head("$graphql", params={"query": query}).status_code == 405
    faults(client.get("$graphql", params={"query": "query a { PatientList(_count: 0) { id } } " + query.replace("mutation", "mutation b"),
                                          "operationName": "b"}), 405)  # fmt: skip
    assert client.get(f"Patient/{made}").status_code == 200


def test_a_transaction_takes_no_mutation_and_a_batch_does(client):
    made = client.post("Patient", json=patient()).json()["id"]
    name = unique("Whole")
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "query", "valueString": f'mutation {{ PatientDelete(id: "{made}") }}'}],
    }
    entry = {"resource": parameters, "request": {"method": "POST", "url": "$graphql"}}
    other = {"resource": patient(name=[{"family": name}]), "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [other, entry]}
    outcome(client.post("", json=bundle), 400)
    assert client.get(f"Patient/{made}").status_code == 200
    assert total(client, name) == 0
    answer = client.post("", json={**bundle, "type": "batch"})
    assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["201", "200"]
    assert client.get(f"Patient/{made}").status_code == 410


def test_subscriptions_of_graphql_are_not_served(client):
    assert "Subscription" in refused(client, "", "subscription { PatientList { id } }", 501)
