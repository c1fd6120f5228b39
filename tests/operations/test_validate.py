"""`$validate` over the wire. Specification: https://hl7.org/fhir/R4/resource-operation-validate.html"""

from __future__ import annotations

import pytest

from tests.validation.profiled import OWN, profile

JSON = {"Content-Type": "application/fhir+json"}
NAMED = profile("named", "Patient", {"path": "birthDate", "min": 1}, version="1.0.0")
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'
GOOD = {"resourceType": "Patient", "text": {"status": "generated", "div": DIV}}


def issues(answer, status=200):
    assert answer.status_code == status, answer.text[:400]
    assert answer.json()["resourceType"] == "OperationOutcome"
    return [issue for issue in answer.json()["issue"] if issue["severity"] in ("error", "fatal")]


def rules(answer):
    return [issue["details"]["coding"][0]["code"] for issue in issues(answer)]


@pytest.fixture
def stored(client):
    assert client.put("StructureDefinition/named", json=NAMED | {"id": "named"}).status_code in (200, 201)
    return client.post("Patient", json=GOOD).json()


def test_all_is_well(client) -> None:
    answer = client.post("Patient/$validate", json=GOOD)
    assert issues(answer) == [] and answer.json()["issue"][0]["severity"] == "information"


def test_an_error_names_element_location_rule_and_profile(client, stored) -> None:
    (issue,) = issues(client.post("Patient/$validate", params={"profile": NAMED["url"]}, json=GOOD))
    assert issue["expression"] == issue["location"] == ["Patient.birthDate"]
    assert issue["details"]["coding"] == [{"system": "urn:fhir-server:validation-rules", "code": "cardinality"}]
    assert issue["extension"] == [
        {"url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-source", "valueString": OWN + "named|1.0.0"}
    ]


def test_messages_in_chinese(client, stored) -> None:
    (issue,) = issues(client.post("$validate", params={"profile": NAMED["url"]}, json=GOOD, headers={"Accept-Language": "zh-CN"}))
    assert issue["details"]["text"].startswith("Patient.birthDate：") and issue["diagnostics"].startswith("Patient.birthDate: ")


def test_the_resource_as_a_parameter_with_mode_and_profile(client, stored) -> None:
    def asked(*more):
        return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": GOOD}, *more]}

    named = {"name": "profile", "valueUri": NAMED["url"]}
    assert issues(client.post("$validate", json=asked())) == []
    assert rules(client.post("Patient/$validate", json=asked(named))) == ["cardinality"]
    assert rules(client.post("$validate", json=asked({"name": "mode", "valueCode": "profile"}, named))) == ["cardinality"]
    refused = client.post("$validate", json=asked({"name": "colour", "valueCode": "red"}))
    assert refused.status_code == 400 and "colour" in refused.text


def test_a_parameters_resource_itself_is_validated(client) -> None:
    itself = {"resourceType": "Parameters", "parameter": [{"name": "x", "valueString": "y", "valueInteger": 1}]}
    assert issues(client.post("Parameters/$validate", json=itself))[0]["expression"] == ["Parameters.parameter[0].value"]


def test_content_that_cannot_be_read_is_an_outcome_too(client) -> None:
    for content in (b"{", b"[]", b'{"resourceType":"Patient","gender":1}', b'{"resourceType":"Bird"}'):
        assert issues(client.post("$validate", content=content, headers=JSON)), content


def test_xml_is_validated_and_answered(client) -> None:
    xml = b'<Patient xmlns="http://hl7.org/fhir"><contact><gender value="male"/></contact></Patient>'
    headers = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
    answer = client.post("Patient/$validate", content=xml, headers=headers)
    assert answer.status_code == 200 and b'<expression value="Patient.contact[0]"/>' in answer.content


def test_the_address_names_type_and_id(client, stored) -> None:
    assert rules(client.post("Observation/$validate", json=GOOD)) == ["address"]
    place = f"Patient/{stored['id']}/$validate"
    assert rules(client.post(place, params={"mode": "update"}, json=GOOD)) == ["address"]
    assert rules(client.post(place, params={"mode": "update"}, json=GOOD | {"id": "other"})) == ["address"]
    assert issues(client.post(place, params={"mode": "update"}, json=GOOD | {"id": stored["id"]})) == []


def test_what_is_stored_is_validated_by_its_address(client, stored) -> None:
    place = f"Patient/{stored['id']}/$validate"
    assert issues(client.get(place)) == []
    assert rules(client.get(place, params={"profile": NAMED["url"]})) == ["cardinality"]
    assert issues(client.post(place, params={"mode": "delete"})) == []
    assert issues(client.get("Patient/nobody/$validate", params={"mode": "delete"}))


def test_wrong_parameters_are_400_and_name_what_is_wrong(client) -> None:
    for params, part in (({"mode": "guess"}, "guess"), ({"colour": "red"}, "colour"), ({"mode": "profile"}, "profile")):
        answer = client.post("$validate", params=params, json=GOOD)
        assert answer.status_code == 400 and part in answer.text
    assert client.post("$validate").status_code == 400


def test_nothing_is_stored(client) -> None:
    before = client.get("Patient", params={"_summary": "count"}).json()["total"]
    client.post("Patient/$validate", json=GOOD)
    assert client.get("Patient", params={"_summary": "count"}).json()["total"] == before


def test_references_to_what_is_stored_are_followed(client, stored) -> None:
    demands = profile("about", "Observation", {"path": "subject", "type": [{"code": "Reference", "targetProfile": [NAMED["url"]]}]})
    assert client.post("StructureDefinition", json=demands).status_code == 201
    content = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": {"reference": f"Patient/{stored['id']}"}}
    assert rules(client.post("$validate", params={"profile": demands["url"]}, json=content)) == ["target-profile"]


def test_a_changed_profile_counts_at_once(client) -> None:
    made = client.post("StructureDefinition", json=profile("fresh", "Patient", {"path": "gender", "min": 1})).json()
    asked = {"params": {"profile": OWN + "fresh"}, "json": GOOD}
    assert rules(client.post("$validate", **asked)) == ["cardinality"]
    made["differential"]["element"][1]["min"] = 0
    assert client.put(f"StructureDefinition/{made['id']}", json=made).status_code == 200
    assert rules(client.post("$validate", **asked)) == []
    assert client.delete(f"StructureDefinition/{made['id']}").status_code in (200, 204)
    answer = client.post("$validate", **asked)
    assert any("is not known here" in issue["diagnostics"] for issue in answer.json()["issue"])


def test_fhirpath_asks_value_sets_and_profiles(client, stored) -> None:
    """memberOf, subsumes and conformsTo of https://hl7.org/fhir/R4/fhirpath.html#functions"""

    def asked(expression):
        parameter = [{"name": "expression", "valueString": expression}, {"name": "resource", "resource": GOOD | {"gender": "male"}}]
        answer = client.post("$fhirpath", json={"resourceType": "Parameters", "parameter": parameter})
        assert answer.status_code == 200, answer.text
        return [part["valueBoolean"] for row in answer.json()["parameter"] if row["name"] == "result" for part in row.get("part", ())]

    assert asked("gender.memberOf('http://hl7.org/fhir/ValueSet/administrative-gender')") == [True]
    assert asked("gender.memberOf('http://hl7.org/fhir/ValueSet/address-use')") == [False]
    assert asked("gender.memberOf('http://nowhere.org/ValueSet/x')") == []
    assert asked(f"conformsTo('{NAMED['url']}')") == [False]


def test_a_measure_report_is_held_against_a_stored_measure(client) -> None:
    from tests.validation.test_measure_reports import ONE, group, measure, report

    stored = measure(ONE) | {"url": "http://example.org/Measure/stored"}
    wrong = report(group(populations=("initial-population", "numerator"))) | {"measure": stored["url"]}
    assert client.put("Measure/stored", json=stored | {"id": "stored"}).status_code in (200, 201)
    issues = client.post("MeasureReport/$validate", json=wrong).json()["issue"]
    assert [one["details"]["coding"][0]["code"] for one in issues if one["severity"] == "error"] == ["measure-population"]


@pytest.mark.parametrize(
    ("header", "chinese"),
    [
        ("zh", True), ("zh-CN,zh;q=0.9,en;q=0.8", True), ("en;q=0.1, zh;q=0.9", True), ("de, zh;q=0.5", True), ("zh;q=0", False),
        ("en, zh;q=0.9", False), ("fr", False), ("*", False), ("", False),
    ],
)  # fmt: skip
def test_the_language_that_is_liked_best(client, header: str, chinese: bool) -> None:
    """RFC 9110 section 12.5.4"""
    answer = client.post("Patient/$validate", json={"resourceType": "Patient", "gender": "x"}, headers={"Accept-Language": header})
    assert ("text" in answer.json()["issue"][0].get("details", {})) is chinese
    well = client.post(
        "Patient/$validate", json={"resourceType": "Patient", "active": True, "text": NARRATIVE}, headers={"Accept-Language": header}
    )
    assert ("未发现问题" in well.text) is chinese


NARRATIVE = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"name": "resource", "resource": {"resourceType": "Patient"}}] * 2, "twice"),
        ([{"name": "mode", "valueCode": "create"}, {"name": "mode", "valueCode": "delete"}], "twice"),
        ([{"name": "resource", "resource": {"resourceType": "Patient"}, "foo": 1}], "'foo'"),
        ([{"name": "mode", "valueInteger": 1}], "valueInteger"),
    ],
)
def test_parameters_are_read_to_the_letter(client, rows, words) -> None:
    answer = client.post("Patient/$validate", json={"resourceType": "Parameters", "parameter": rows})
    assert answer.status_code == 400 and words in answer.text
