"""XML in and out over HTTP. https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/http.html#mime-type"""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest
from lxml import etree

from tests.wire.resources import outcome, patient, unique

FHIR = "http://hl7.org/fhir"
XML = "application/fhir+xml"
AS_XML = {"accept": XML}
SENT = {"content-type": XML, "accept": XML}


def document(answer: httpx.Response) -> Any:
    """The root of an XML answer."""
    assert answer.headers["content-type"] == "application/fhir+xml; charset=utf-8"
    return etree.fromstring(answer.content)


def texts(root: Any, path: str) -> list[str]:
    """What an XPath finds, with the prefix f for FHIR."""
    return [str(one) for one in root.xpath(path, namespaces={"f": FHIR})]


def patient_xml(family: str, id: str = "") -> bytes:
    own = f'<id value="{id}"/>' if id else ""
    return f'<Patient xmlns="{FHIR}">{own}<name><family value="{family}"/><given value="三"/></name></Patient>'.encode()


def test_what_is_sent_as_xml_is_read_as_json_and_back(client):
    made = client.post("Patient", content=patient_xml("张"), headers=SENT)
    assert made.status_code == 201
    id = texts(document(made), "/f:Patient/f:id/@value")[0]
    as_json = client.get(f"Patient/{id}").json()
    assert as_json["name"] == [{"family": "张", "given": ["三"]}]
    as_xml = client.get(f"Patient/{id}", headers=AS_XML)
    assert texts(document(as_xml), "/f:Patient/f:name/f:family/@value") == ["张"]
    assert as_xml.headers["etag"] == 'W/"1"'
    again = client.put(f"Patient/{id}", content=as_xml.content.replace("张".encode(), "李".encode()), headers=SENT)
    assert again.status_code == 200
    assert client.get(f"Patient/{id}").json()["name"][0]["family"] == "李"


@pytest.mark.parametrize(
    ("accept", "format", "kind"),
    [
        ("application/xml", "", "xml"), ("text/xml", "", "xml"), ("application/fhir+xml;fhirVersion=4.0", "", "xml"),
        ("application/fhir+json;q=0.5, application/fhir+xml", "", "xml"), ("application/fhir+xml;q=0.5, application/json", "", "json"),
        ("application/fhir+json", "xml", "xml"), (XML, "json", "json"), ("", "application/fhir+xml", "xml"), ("*/*", "", "json"),
        # a browser
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "", "json"),
    ],
)  # fmt: skip
def test_the_form_is_negotiated(client, accept, format, kind):
    id = client.post("Patient", json=patient()).json()["id"]
    answer = client.get(f"Patient/{id}", params={"_format": format} if format else {}, headers={"accept": accept} if accept else {})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"application/fhir+{kind}; charset=utf-8"


def test_bundles_leave_as_xml(client):
    mark = unique("xml")
    for _ in range(3):
        client.post("Patient", json=patient(identifier=[{"system": "urn:mrn", "value": mark}]))
    root = document(client.get(f"Patient?identifier=urn:mrn|{mark}&_count=2&_total=accurate&_format=xml&_pretty=true"))
    assert texts(root, "/f:Bundle/f:total/@value") == ["3"]
    assert len(root.xpath("/f:Bundle/f:entry/f:resource/f:Patient", namespaces={"f": FHIR})) == 2
    (following,) = texts(root, "/f:Bundle/f:link[f:relation/@value='next']/f:url/@value")
    assert "_format=xml" in following
    assert len(document(client.get(following)).xpath("/f:Bundle/f:entry", namespaces={"f": FHIR})) == 1
    for place in ("Patient/_history", "metadata", "$meta"):
        document(client.get(place, headers=AS_XML))


def test_a_transaction_as_xml(client):
    entry = (
        "<entry><fullUrl value='urn:uuid:{0}'/><resource>{1}</resource><request><method value='POST'/><url value='{2}'/></request></entry>"
    )
    first = entry.format("6f1e0c9e-0001-4e7b-8d0a-000000000001", patient_xml("赵").decode(), "Patient")
    observation = (
        '<Observation><status value="final"/><code><text value="x"/></code>'
        '<subject><reference value="urn:uuid:6f1e0c9e-0001-4e7b-8d0a-000000000001"/></subject></Observation>'
    )
    second = entry.format("6f1e0c9e-0001-4e7b-8d0a-000000000002", observation, "Observation")
    answer = client.post("", content=f'<Bundle xmlns="{FHIR}"><type value="transaction"/>{first}{second}</Bundle>'.encode(), headers=SENT)
    assert answer.status_code == 200, answer.text
    assert [status[:3] for status in texts(document(answer), "//f:response/f:status/@value")] == ["201", "201"]
    place = texts(document(answer), "//f:response/f:location/@value")[1].partition("/_history")[0]
    assert client.get(place).json()["subject"]["reference"].startswith("Patient/")


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (f'<!DOCTYPE Patient [<!ENTITY x SYSTEM "file:///etc/passwd">]><Patient xmlns="{FHIR}"><id value="&x;"/></Patient>', 400, "DTD"),
        (f'<Patient xmlns="{FHIR}"><nam value="x"/></Patient>', 400, "Patient.nam"),
        (f'<Patient xmlns="{FHIR}"><gender value="man"/></Patient>', 422, "Patient.gender"),
        (f'<Patient xmlns="{FHIR}"><birthDate value="soon"/></Patient>', 400, "Patient.birthDate"),
        (f'<Group xmlns="{FHIR}"/>', 400, "Group"),
        ("{}", 400, "not XML"),
        ("", 400, "empty"),
    ],
)
def test_wrong_xml_is_refused_in_xml_and_leaves_nothing(client, content, status, words):
    before = client.get("Patient?_summary=count").json()["total"]
    answer = client.post("Patient", content=content.encode(), headers=SENT)
    assert answer.status_code in (status, 400 if status == 422 else status)
    root = document(answer)
    assert etree.QName(root).localname == "OperationOutcome"
    assert words in answer.text
    assert client.get("Patient?_summary=count").json()["total"] == before


def test_errors_are_told_in_the_form_that_is_wanted(client):
    for place in ("Patient/nobody", "Patient?famly=x", "Nothing/1"):
        root = document(client.get(place, headers=AS_XML))
        assert texts(root, "/f:OperationOutcome/f:issue/f:severity/@value") == ["error"]
    outcome(client.get("Patient", headers={"accept": "text/turtle"}), 406, "not-supported")
    sent = {"content-type": "application/fhir+xml; charset=gb18030"}
    outcome(client.post("Patient", content=patient_xml("x"), headers=sent), 415, "not-supported")


def test_a_compressed_body_and_answer(client):
    sent = {**SENT, "content-encoding": "gzip", "accept-encoding": "gzip", "prefer": "return=representation"}
    answer = client.post("Patient", content=gzip.compress(patient_xml("甲" * 3000)), headers=sent)
    assert answer.status_code == 201
    assert answer.headers["content-encoding"] == "gzip"
    assert texts(document(answer), "/f:Patient/f:name/f:family/@value") == ["甲" * 3000]


PATCHES = [
    ('<diff><replace sel="Patient/gender/@value">female</replace></diff>', "application/xml-patch+xml"),
    (f'<diff xmlns="{FHIR}"><replace sel="Patient/gender/@value">female</replace></diff>', "application/xml-patch+xml"),
    ('<diff xmlns:x="http://hl7.org/fhir"><replace sel="/x:Patient/x:gender"><x:gender value="female"/></replace></diff>', XML),
    (
        f'<Parameters xmlns="{FHIR}"><parameter><name value="operation"/>'
        '<part><name value="type"/><valueCode value="replace"/></part>'
        '<part><name value="path"/><valueString value="Patient.gender"/></part>'
        '<part><name value="value"/><valueCode value="female"/></part></parameter></Parameters>',
        XML,
    ),
]


@pytest.mark.parametrize(("content", "kind"), PATCHES)
def test_patches_in_xml(client, content, kind):
    id = client.post("Patient", json=patient(gender="male")).json()["id"]
    answer = client.patch(f"Patient/{id}", content=content.encode(), headers={"content-type": kind, "accept": XML})
    assert answer.status_code == 200, answer.text
    assert texts(document(answer), "/f:Patient/f:gender/@value") == ["female"]
    assert client.get(f"Patient/{id}").json()["gender"] == "female"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ('<diff><replace sel="Patient/nothing/@value">x</replace></diff>', 422, "0 nodes"),
        ('<diff><remove sel="Patient/*"/></diff>', 422, "it must meet one"),
        ('<diff><replace sel="Patient/gender/@value">man</replace></diff>', 422, "gender"),
        ('<diff><add sel="Patient"><nam value="x"/></add></diff>', 422, "nam"),
        ('<diff><remove sel="//gender"/></diff>', 400, "//"),
        ('<diff><remove sel="Patient/gender[document(1)]"/></diff>', 400, "document"),
        ("<diff><remove/></diff>", 400, "sel"),
        ('<diff><move sel="Patient/gender"/></diff>', 400, "move"),
        ("<diff/>", 400, "no operation"),
        ('<!DOCTYPE diff [<!ENTITY x "y">]><diff><remove sel="Patient/gender"/></diff>', 400, "DTD"),
        ("<other/>", 400, "diff"),
    ],
)
def test_wrong_patches_are_refused_and_change_nothing(client, content, status, words):
    made = client.post("Patient", json=patient(gender="male")).json()
    answer = client.patch(f"Patient/{made['id']}", content=content.encode(), headers={"content-type": "application/xml-patch+xml"})
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert client.get(f"Patient/{made['id']}").json() == made


def test_a_binary_is_wrapped_only_where_it_is_a_binary(client):
    raw = client.post("Binary", content=b"<page>1</page>", headers={"content-type": "application/xml"}).json()
    assert raw["contentType"] == "application/xml"
    assert client.get(f"Binary/{raw['id']}", headers={"accept": "application/xml"}).content == b"<page>1</page>"
    root = document(client.get(f"Binary/{raw['id']}", headers=AS_XML))
    assert texts(root, "/f:Binary/f:contentType/@value") == ["application/xml"]
    wrapped = f'<Binary xmlns="{FHIR}"><contentType value="text/plain"/><data value="aGk="/></Binary>'.encode()
    for kind in (XML, "application/xml"):
        made = client.post("Binary", content=wrapped, headers={"content-type": kind}).json()
        assert (made["contentType"], made["data"]) == ("text/plain", "aGk=")


def test_the_capability_statement_names_both_forms(client):
    told = client.get("metadata").json()
    assert {"application/fhir+json", "application/fhir+xml"} <= set(told["format"])
    assert "application/xml-patch+xml" in told["patchFormat"]


def test_convert(client):
    """OperationDefinition/Resource-convert: the content in the form that is asked for; nothing is stored."""
    before = client.get("Patient?_summary=count").json()["total"]
    answer = client.post("$convert", content=patient_xml("王", "p"), headers={"content-type": XML, "accept": "application/fhir+json"})
    assert answer.json() == {"resourceType": "Patient", "id": "p", "name": [{"family": "王", "given": ["三"]}]}
    back = client.post("$convert", json=answer.json(), headers=AS_XML)
    assert etree.canonicalize(back.text.partition("?>")[2]) == etree.canonicalize(patient_xml("王", "p").decode())
    assert client.get("Patient?_summary=count").json()["total"] == before
    outcome(client.post("$convert", json={"resourceType": "Patient", "nam": 1}), 400)
    outcome(client.post("$convert?depth=1", json={"resourceType": "Patient"}), 400, "not-supported")
    outcome(client.get("$convert"), 405)


HUGE = "1" * 400


def test_what_json_refuses_is_refused_in_xml(client):
    """Both forms have the same values: numbers that no double holds, and characters that XML does not have."""
    quantity = f'<valueQuantity><value value="{HUGE}"/></valueQuantity>'
    inside = f'<id value="huge"/><status value="final"/><code><text value="x"/></code>{quantity}'
    xml = f'<Observation xmlns="http://hl7.org/fhir">{inside}</Observation>'
    outcome(client.put("Observation/huge", content=xml.encode(), headers={"Content-Type": "application/fhir+xml"}), 400)
    json = f'{{"resourceType":"Observation","id":"huge","status":"final","code":{{"text":"x"}},"valueQuantity":{{"value":{HUGE}}}}}'
    outcome(client.put("Observation/huge", content=json.encode(), headers={"Content-Type": "application/fhir+json"}), 400)
    assert client.get("Observation/huge").status_code == 404
    for text in ('"a\\uffffb"', '"a\uffffb"', '"a\\uFFFEb"'):
        body = f'{{"resourceType":"Patient","name":[{{"family":{text}}}]}}'.encode()
        outcome(client.post("Patient", content=body, headers={"Content-Type": "application/fhir+json"}), 400)
