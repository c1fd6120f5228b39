"""$graphql refuses what the definitions do not have before it looks at any data.

https://hl7.org/fhir/R4/graphql.html#errors, https://spec.graphql.org/October2021/#sec-Validation
"""

from __future__ import annotations

import pytest

from tests.operations.graphql_asking import ask, faults, post, refused
from tests.wire.resources import observation, patient, unique


@pytest.fixture(scope="module")
def place(server) -> str:
    """A Patient with hardly any content: what is refused is refused by the definitions, not by the data."""
    with server.client() as http:
        return "Patient/" + http.post("Patient", json={"resourceType": "Patient", "active": True}).json()["id"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("{ colour }", ["colour", "Patient"]),
        ("{ name { colour } }", ["colour", "HumanName"]),
        ("{ contact { name { given famly } } }", ["famly", "family"]),
        ("{ link { other { resource { colour } } } }", ["colour"]),
        ("{ link { other { resource(type: Patient) { name { colour } } } } }", ["colour", "HumanName"]),
        ("{ link { other { resource(type: Patient) { status } } } }", ["status", "Patient"]),
        ("{ link { other { resource(type: Patent) { id } } } }", ["Patent"]),
        ("{ name(colour: red) { given } }", ["colour", "name"]),
        ("{ name(given: 5) { given } }", ["5"]),
        ("{ name(_count: \"two\") { given } }", ["two"]),
        ("{ name(_count: -1) { given } }", ["_count", "-1"]),
        ("{ name { given(_count: 1) } }", ["_count", "given"]),
        ("{ active @unknown }", ["@unknown"]),
        ("{ active @skip }", ["@skip", "if"]),
        ("{ active @include(if: 3) }", ["3"]),
        ("{ name @slice { given } }", ["@slice", "path"]),
        ("{ name @first(count: 2) { given } }", ["count", "@first"]),
        ("{ name @slice(path: \"use(\") { given } }", ["use("]),
        ("{ name(fhirpath: \"family.exists(\") { given } }", ["family.exists("]),
        ("{ active { value } }", ["active"]),
        ("{ name }", ["name"]),
        ("{ ...F }", ["F"]),
        ("{ active } fragment F on Patient { id }", ["F"]),
        ("{ ...F } fragment F on Observation { id }", ["F", "Observation", "Patient"]),
        ("{ ... on Medication { id } }", ["Medication", "Patient"]),
        ("{ ... on Medicine { id } }", ["Medicine"]),
        ("{ ... on Boolean { id } }", ["Boolean"]),
        ("{ ...F } fragment F on Patient { id } fragment F on Patient { active }", ["F"]),
        ("{ a: active a: gender }", ["a", "conflict"]),
        ("{ name(use: official) { given } name(use: usual) { given } }", ["name", "conflict"]),
        ("query a { id } query a { id }", ["a"]),
        ("query ($v: Boolean) { id }", ["$v"]),
        ("{ id @include(if: $v) }", ["$v"]),
        ("query ($v: String!) { id @include(if: $v) }", ["$v", "String", "Boolean"]),
        ("query ($v: Colour) { id @include(if: $v) }", ["Colour"]),
        ("query ($v: Patient) { id @include(if: $v) }", ["Patient"]),
        ("query ($v: [Boolean]) { id @include(if: $v) }", ["$v"]),
        ("query ($n: [Int]) { name(_count: $n) { given } }", ["$n"]),
        ("{ ObservationList { id } }", ["_reference"]),
        ("{ ObservationList(_reference: colour) { id } }", ["colour", "subject"]),
        ("{ ObservationList(_reference: patient, colour: red) { id } }", ["colour"]),
        ("{ ObservationConnection(_reference: patient, _cursor: \"x\") { count } }", ["_cursor"]),
        ("{ PatientConnection { count } }", ["PatientConnection"]),
        ("{ a { b }", ["Syntax Error"]),
        ("query { }", ["at least one field"]),
    ],
)  # fmt: skip
def test_what_the_definitions_do_not_have_is_an_error_that_names_it(client, place, query, named):
    messages = " ".join(one["message"] for one in faults(post(client, place, query), 400))
    for one in named:
        assert one in messages


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("{ Patent(id: 1) { id } }", ["Patent"]),
        ("{ Patient { id } }", ["id"]),
        ("{ Patient(id: \"a b\") { id } }", ["a b"]),
        ("{ Patient(id: null) { id } }", ["ID!"]),
        ("{ Patient(id: 1, name: x) { id } }", ["name"]),
        ("{ PatientList(colour: red) { id } }", ["colour", "PatientList"]),
        ("{ PatientList(_include: \"Patient:link\") { id } }", ["_include"]),
        ("{ PatientList(_reference: link) { id } }", ["_reference"]),
        ("{ PatientList(name: []) { id } }", ["name"]),
        ("{ PatientList(birthdate: \"yesterday\") { id } }", ["yesterday"]),
        ("{ PatientConnection { total } }", ["total"]),
        ("{ PatientConnection { edges { id } } }", ["id", "PatientEdge"]),
        ("{ PatientList(fhirpath: \"name.\") { id } }", ["name."]),
        ("{ active }", ["active"]),
        ("subscription { Patient(id: 1) { id } }", ["subscription"]),
    ],
)  # fmt: skip
def test_so_it_is_on_the_system(client, query, named):
    answer = post(client, "", query)
    messages = " ".join(one["message"] for one in faults(answer, answer.status_code))
    assert answer.status_code in (400, 501)
    for one in named:
        assert one in messages


def test_all_faults_are_told_at_once_with_their_places(client, place):
    answer = post(client, place, "{\n  colour\n  name { hue } }")
    issues = faults(answer, 400)[0]["extensions"]["resource"]["issue"]
    assert len(issues) == 2
    assert "line 2, column 3" in issues[0]["diagnostics"]
    assert "line 3, column 10" in issues[1]["diagnostics"]


def test_every_element_and_choice_of_the_definitions_may_be_asked_for(client):
    made = client.post("Observation", json=observation("Patient/none")).json()["id"]
    query = (
        "{ status valueQuantity { value unit } valueString component { valueCodeableConcept { text } } meta { versionId } implicitRules }"
    )
    assert ask(client, f"Observation/{made}", query) == {
        "status": "final",
        "valueQuantity": {"value": 72, "unit": "/min"},
        "meta": {"versionId": "1"},
    }


def test_extensions_of_primitives_stand_under_the_underscore(client):
    born = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "2016-05-18T10:28:45Z"}]}
    made = client.post("Patient", json=patient(birthDate="2016-05-18", _birthDate=born)).json()["id"]
    shown = ask(client, f"Patient/{made}", "{ birthDate _birthDate { extension { valueDateTime } } }")
    assert shown == {"birthDate": "2016-05-18", "_birthDate": {"extension": [{"valueDateTime": "2016-05-18T10:28:45Z"}]}}


def test_an_element_called_resource_type_is_an_element(client):
    scenario = {"resourceType": "ExampleScenario", "status": "draft", "instance": [{"resourceId": "one", "resourceType": "Patient"}]}
    made = client.post("ExampleScenario", json=scenario).json()["id"]
    query = "{ resourceType instance { resourceId resourceType __typename } __typename }"
    assert ask(client, f"ExampleScenario/{made}", query) == {
        "resourceType": "ExampleScenario",
        "instance": [{"resourceId": "one", "resourceType": "Patient", "__typename": "ExampleScenarioInstance"}],
        "__typename": "ExampleScenario",
    }


def test_selections_of_one_field_merge(client):
    made = client.post("Patient", json=patient()).json()["id"]
    query = "{ name { family } ...F name { given } } fragment F on Patient { name { family use } }"
    assert ask(client, f"Patient/{made}", query) == {"name": [{"family": "Chalmers", "given": ["Peter", "James"]}]}


def test_fragments_apply_to_their_type_and_to_what_it_is_derived_from(client):
    made = client.post("Observation", json=observation("Patient/" + client.post("Patient", json=patient()).json()["id"])).json()["id"]
    query = """{ subject { resource { __typename ... on Resource { resourceType } ... on DomainResource { text { status } }
        ... on Patient { gender } ... on Group { actual } } } ... { status } }"""
    shown = {"subject": {"resource": {"__typename": "Patient", "resourceType": "Patient", "gender": "male"}}, "status": "final"}
    assert ask(client, f"Observation/{made}", query) == shown


# --- variables


def test_variables_are_coerced_to_their_types(client):
    name = unique("Coerced")
    made = client.post("Patient", json=patient(name=[{"family": name, "use": "official", "given": ["A", "B"]}])).json()["id"]
    query = "query ($id: ID!, $use: String, $n: Int = 1) { Patient(id: $id) { name(use: $use, _count: $n) { family } } }"
    assert ask(client, "", query, variables={"id": made, "use": "official"}) == {"Patient": {"name": [{"family": name}]}}
    assert ask(client, "", query, variables={"id": made, "n": 0}) == {}
    assert ask(client, "", query, variables={"id": made, "use": None, "n": None}) == {"Patient": {"name": [{"family": name}]}}
    lists = "query ($ids: [ID!]!) { PatientList(_id: $ids) { id } }"
    assert ask(client, "", lists, variables={"ids": [made, "nobody"]}) == {"PatientList": [{"id": made}]}
    assert ask(client, "", lists, variables={"ids": made}) == {"PatientList": [{"id": made}]}
    single = "query ($id: ID) { PatientList(_id: $id) { id } }"
    assert ask(client, "", single, variables={"id": made}) == {"PatientList": [{"id": made}]}


@pytest.mark.parametrize(
    ("declared", "value", "named"),
    [
        ("[ID!]!", ["a", None], "$v"),
        ("[ID!]!", None, "$v"),
        ("[ID!]!", [["a"]], "$v"),
        ("[ID]", [True], "$v"),
        ("[ID]", {"a": "b"}, "$v"),
        ("[String]", [5], "$v"),
        ("Int", "5", "$v"),
        ("Int", 5.5, "$v"),
        ("Int", 1 << 31, "$v"),
        ("Int", True, "$v"),
        ("Boolean", "true", "$v"),
        ("Float", "1.5", "$v"),
    ],
)
def test_a_value_of_another_type_than_its_variable_is_refused(client, declared, value, named):
    assert named in refused(client, "", f"query ($v: {declared}) {{ PatientList(_id: $v) {{ id }} }}", variables={"v": value})


def test_a_variable_that_is_needed_must_be_given(client):
    assert "$v" in refused(client, "", "query ($v: ID!) { PatientList(_id: $v) { id } }")
    assert "if" in refused(client, "", "query ($v: Boolean) { PatientList(_id: x) @skip(if: $v) { id } }")


def test_numbers_of_any_form_are_search_values(client):
    made = client.post("RiskAssessment", json={
        "resourceType": "RiskAssessment", "status": "final", "subject": {"reference": "Patient/none"},
        "prediction": [{"probabilityDecimal": 0.25}],
    }).json()["id"]  # fmt: skip
    query = "query ($p: Float) { a: RiskAssessmentList(probability: 0.25) { id } b: RiskAssessmentList(probability: $p) { id } }"
    shown = ask(client, "", query, variables={"p": 0.25})
    assert shown == {"a": [{"id": made}], "b": [{"id": made}]}


# --- directives and operations


def test_skip_and_include_decide_together(client, place):
    query = "query ($a: Boolean!, $b: Boolean!) { id @skip(if: $a) @include(if: $b) ... @include(if: $b) { active } }"
    id = place.split("/")[1]
    assert ask(client, place, query, variables={"a": False, "b": True}) == {"id": id, "active": True}
    assert ask(client, place, query, variables={"a": True, "b": True}) == {"active": True}
    assert ask(client, place, query, variables={"a": False, "b": False}) == {}
    assert "line 1" in refused(client, place, "{ id @skip(if: true) @skip(if: false) }")


def test_operation_name_chooses(client, place):
    query = "query one { active } query two { id }"
    assert ask(client, place, query, operationName="one") == {"active": True}
    assert ask(client, place, query, operationName="two") == {"id": place.split("/")[1]}
    assert "operationName" in refused(client, place, query)
    assert "three" in refused(client, place, query, operationName="three")
    answer = client.get(f"{place}/$graphql", params={"query": query, "operationName": "one"})
    assert answer.json() == {"data": {"active": True}}


# --- the ways to ask


def test_unknown_members_and_parameters_are_refused(client, place):
    assert "colour" in faults(client.get(f"{place}/$graphql", params={"query": "{ id }", "colour": "red"}), 400)[0]["message"]
    assert "colour" in faults(client.post(f"{place}/$graphql", json={"query": "{ id }", "colour": "red"}), 400)[0]["message"]
    assert "query" in faults(client.post(f"{place}/$graphql", json={}), 400)[0]["message"]
    assert "variables" in faults(client.post(f"{place}/$graphql", json={"query": "{id}", "variables": [1]}), 400)[0]["message"]
    faults(client.post(f"{place}/$graphql", content=b"{id}", headers={"content-type": "text/plain"}), 415)


def test_variables_come_in_the_address_too(client, place):
    query = "query ($v: Boolean!) { active @include(if: $v) id @skip(if: $v) }"
    assert client.get(f"{place}/$graphql", params={"query": query, "variables": '{"v": true}'}).json() == {"data": {"active": True}}


def test_the_operation_takes_parameters(client, place):
    """http://hl7.org/fhir/OperationDefinition/Resource-graphql has the parameter `query`."""
    content = {"resourceType": "Parameters", "parameter": [{"name": "query", "valueString": "{ active }"}]}
    assert client.post(f"{place}/$graphql", json=content).json() == {"data": {"active": True}}


def test_a_missing_or_deleted_instance_is_told(client):
    assert "Patient/nobody" in refused(client, "Patient/nobody", "{ id }", 404)
    made = client.post("Patient", json=patient()).json()["id"]
    client.delete(f"Patient/{made}")
    assert made in refused(client, f"Patient/{made}", "{ id }", 410)


# --- introspection


def test_the_schema_describes_itself(client):
    query = """{ __schema { queryType { name } mutationType { name } subscriptionType { name }
        directives { name args { name type { kind ofType { name } } } } types { name } } }"""
    shown = ask(client, "", query)["__schema"]
    assert shown["queryType"] == {"name": "Query"}
    assert shown["mutationType"] == {"name": "Mutation"}
    assert shown["subscriptionType"] is None
    assert {one["name"] for one in shown["directives"]} == {"skip", "include", "flatten", "first", "singleton", "slice"}
    names = [one["name"] for one in shown["types"]]
    assert len(names) == len(set(names))
    assert {"Patient", "PatientContact", "HumanName", "Reference", "PatientConnection", "PatientEdge", "PatientInput", "__Type"} <= set(
        names
    )


def test_types_are_described_as_the_definitions_have_them(client):
    kind = "type { kind name ofType { kind name } }"
    shown = ask(client, "", f'{{ __type(name: "Patient") {{ kind interfaces {{ name }} fields {{ name {kind} args {{ name }} }} }} }}')[
        "__type"
    ]
    assert shown["kind"] == "OBJECT"
    assert {one["name"] for one in shown["interfaces"]} == {"Resource", "DomainResource"}
    fields = {one["name"]: one for one in shown["fields"]}
    assert fields["birthDate"]["type"] == {"kind": "SCALAR", "name": "date", "ofType": None}
    assert fields["birthDate"]["args"] == []
    assert fields["name"]["type"] == {"kind": "LIST", "name": None, "ofType": {"kind": "OBJECT", "name": "HumanName"}}
    assert {"fhirpath", "_count", "_offset", "use", "family"} <= {one["name"] for one in fields["name"]["args"]}
    assert {"deceasedBoolean", "deceasedDateTime", "_gender", "ObservationList", "ConditionConnection"} <= set(fields)
    shown = ask(client, "Patient", '{ __type(name: "Nothing") { name } }')
    assert shown == {"__type": None}
    shown = ask(client, "", '{ __type(name: "PatientInput") { inputFields { name type { kind ofType { name } } } } }')["__type"]
    assert {"name": "name", "type": {"kind": "LIST", "ofType": {"name": "HumanNameInput"}}} in shown["inputFields"]


def test_the_whole_schema_can_be_read_by_tools_and_built_again(client):
    """What GraphiQL, Apollo and other tools send."""
    graphql = pytest.importorskip("graphql")
    shown = ask(client, "", graphql.get_introspection_query(descriptions=False))
    schema = graphql.build_client_schema(shown)
    assert str(schema.query_type.fields["Patient"].type) == "Patient"
    assert str(schema.query_type.fields["PatientList"].args["name"].type) == "[String]"
    assert str(schema.get_type("Task").fields["input"].type) == "[Task_Input]"


def test_introspection_that_nests_is_bounded(client):
    deep = "fields { type { fields { type { fields { type { fields { name } } } } } } }"
    refused(client, "", f"{{ __schema {{ types {{ {deep} }} }} }}")
