"""A search names nothing that does not exist: the answer is a 400 that repeats the wrong name and suggests one that is close.

Specification: https://hl7.org/fhir/R4/search.html#errors, https://hl7.org/fhir/R4/search.html#2.21.1.3
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import Server
from tests.wire.resources import outcome

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

NEAR = [
    # parameters
    ("Patient", "brithdate=2020", "birthdate"),
    ("Patient", "BirthDate=2020", "birthdate"),
    ("Patient", "birth_date=2020", "birthdate"),
    ("Patient", "_lastupdate=2020", "_lastUpdated"),
    ("Patient", "_cout=3", "_count"),
    ("Patient", "_sumary=count", "_summary"),
    ("Patient", "_fliter=name eq a", "_filter"),
    ("Patient", "_hass:Observation:subject:code=x", "_has"),
    ("Observation", "_includ=Observation:subject", "_include"),
    ("Observation", "_revinclud=Observation:subject", "_revinclude"),
    ("", "_typ=Patient", "_type"),
    ("", "_type=Patient,Practitioner&nmae=x", "name"),
    # modifiers
    ("Patient", "name:exct=x", "exact"),
    ("Patient", "family:contians=x", "contains"),
    ("Patient", "identifier:of_type=a|b|c", "of-type"),
    ("Patient", "birthdate:mising=true", "missing"),
    ("Observation", "code:nott=x", "not"),
    ("Observation", "subject:Patinet=x", "Patient"),
    ("Observation", "subject:identifer=x", "identifier"),
    ("", "_type=Patient,Practitioner&name:exct=x", "exact"),
    # prefixes
    ("Observation", "date=gr2020", "gt"),
    ("Observation", "value-quantity=lr5", "lt"),
    # sort keys
    ("Patient", "_sort=brithdate", "birthdate"),
    ("Patient", "_sort=family,-brithdate", "birthdate"),
    ("Patient", "_sort=_lastUpdate", "_lastUpdated"),
    # includes
    ("Observation", "_include=Observation:subjct", "subject"),
    ("Observation", "_include=Observaton:subject", "Observation"),
    ("Observation", "_include=Observation:subject:Patiet", "Patient"),
    ("Observation", "_include:iterat=Observation:subject", "iterate"),
    ("Patient", "_revinclude=Observation:subjct", "subject"),
    ("Patient", "_revinclude=Observaton:subject", "Observation"),
    # chains and _has
    ("Observation", "subjct.name=x", "subject"),
    ("Observation", "subject.nmae=x", "name"),
    ("Observation", "subject:Patinet.name=x", "Patient"),
    ("Observation", "subject:Patient.general-practitoner.name=x", "general-practitioner"),
    ("Observation", "subject.name:exct=x", "exact"),
    ("Patient", "_has:Observaton:subject:code=x", "Observation"),
    ("Patient", "_has:Observation:subjct:code=x", "subject"),
    ("Patient", "_has:Observation:subject:cdoe=x", "code"),
    ("Patient", "_has:Observation:subject:code:nto=x", "not"),
    ("Patient", "_has:Observation:subject:_has:Provenance:targt:agent=x", "target"),
    # elements, types, operators
    ("Patient", "_elements=name,gendr", "gender"),
    ("", "_type=Patient,Observaton&_id=1", "Observation"),
    ("Patient", '_filter=nmae eq "x"', "name"),
    ("Patient", '_filter=name eqq "x"', "eq"),
]
"""Searches with a name that is nearly right, and the right one."""

FAR = [
    ("Patient", "zzzzzz=1", "zzzzzz"),
    ("Patient", "$where=1", "$where"),
    ("Patient", "name:$regex=x", "$regex"),
    ("Observation", "date=xx2020", "xx"),
    ("Observation", "value-quantity=zz5", "zz"),
    ("RiskAssessment", "probability=qq0.5", "qq"),
    ("Patient", "_lastUpdated=xx2020", "xx"),
    ("Observation", "code-value-date=1$xx2020", "code-value-date"),
    ("Patient", "_sort=zzzzzz", "zzzzzz"),
    ("Patient", "_sort=birthdate,", "sort key"),
    ("Patient", "_sort:desc=birthdate", "desc"),
    ("Observation", "_include=Observation:code", "code"),
    ("Observation", "_include=Zzz:code", "Zzz"),
    ("Patient", "_include=Observation:subject", "Observation"),
    ("Observation", "_include=zzz", "zzz"),
    ("Patient", "_revinclude=Patient:name", "name"),
    ("Patient", "_has=x", "_has:Type:reference:parameter"),
    ("Patient", "_has:Observation:subject=x", "_has:Type:reference:parameter"),
    ("Patient", "_has:Observation:device:code=x", "Observation.device"),
    ("Observation", "code.text=x", "code"),
    ("Observation", "subject.=x", "subject."),
    ("Observation", "subject:Practitioner=x", "Practitioner"),
    ("Patient", "_elements=zzz", "zzz"),
    ("Patient", "_elements=,", "_elements"),
    ("", "_type=Zzz", "Zzz"),
    ("Patient", "_type=Patient", "_type"),
    ("Patient", "_total=exact", "accurate"),
    ("Patient", "_summary=yes", "true"),
    ("Patient", "_count=-1", "_count"),
    ("Patient", "_count=1e3", "_count"),
    ("Patient", "_pretty=yes", "_pretty"),
    ("Patient", "_contained=yes", "both"),
    ("Patient", "_containedType=x", "container"),
    ("Patient", "_explain=x", "_explain"),
    ("Patient", "_query=everybody", "everybody"),
    ("Patient", "_id:exact=x", "exact"),
    ("Patient", "_text:exact=x", "exact"),
    ("Patient", "_filter=birthdate xx 2020", "xx"),
    ("Patient", "_offset=2", "_offset"),
    ("", "name=x", "name"),
]
"""Searches with a name that nothing is close to, and what the answer must say."""


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """One client for all: making one takes longer than a search."""
    with server.client() as http:
        yield http


def asked(client, type: str, query: str):
    """The answer by GET, which that by POST says too."""
    query = quote(query, safe="=&:,$_-.")
    answer = client.get(f"{type}?{query}")
    posted = client.post(f"{type}/_search" if type else "_search", content=query, headers=FORM)
    assert outcome(posted, 400) == outcome(answer, 400)
    chinese = client.get(f"{type}?{query}", headers=CHINESE)
    assert outcome(chinese, 400) == outcome(answer, 400)
    return answer, chinese.json()["issue"][0]["details"]["text"]


@pytest.mark.parametrize(("type", "query", "right"), NEAR)
def test_a_name_that_is_nearly_right_is_named_with_the_right_one(client, type, query, right):
    answer, chinese = asked(client, type, query)
    told = outcome(answer, 400, "not-supported")
    assert "did you mean" in told
    assert f"'{right}'" in told.partition("did you mean")[2]
    assert right in chinese.partition("是否应为")[2]


@pytest.mark.parametrize(("type", "query", "named"), FAR)
def test_what_nothing_is_close_to_is_named(client, type, query, named):
    answer, chinese = asked(client, type, query)
    assert named in outcome(answer, 400)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


@pytest.mark.parametrize("wanted", ["jsn", "html", "application/fhir+jsn", "$where"])
def test_a_format_that_is_not_served_is_named(client, wanted):
    """https://hl7.org/fhir/R4/http.html#mime-type: 406 Not Acceptable."""
    query = f"_format={quote(wanted, safe='')}"
    for answer in (client.get(f"Patient?{query}"), client.post("Patient/_search", content=query, headers=FORM)):
        told = outcome(answer, 406)
        assert f"_format={wanted}" in told
        assert "application/fhir+json" in told
    assert "不支持" in client.get(f"Patient?{query}", headers=CHINESE).json()["issue"][0]["details"]["text"]


def test_lenient_handling_leaves_out_what_is_unknown_and_says_so_in_chinese(client):
    """https://hl7.org/fhir/R4/search.html#errors: a lenient search may go on without it."""
    query = "brithdate=2020&name:exct=x&_sort=brithdate&_include=Patient:orgnization&_count=0"
    answer = client.get(f"Patient?{query}", headers={"Prefer": "handling=lenient", **CHINESE})
    assert answer.status_code == 200
    [remark] = [one["resource"] for one in answer.json()["entry"] if one["search"]["mode"] == "outcome"]
    told = [issue["details"]["text"] for issue in remark["issue"]]
    assert ["birthdate" in told[0], "exact" in told[1], "birthdate" in told[2], "organization" in told[3]] == [True] * 4
    assert answer.json()["link"][0]["url"].endswith("Patient?_count=0")


def test_a_condition_with_an_unknown_name_writes_nothing(client):
    before = client.get("Patient?_summary=count").json()["total"]
    one = {"resourceType": "Patient", "name": [{"family": "x"}]}
    for condition in ("identifer=x", "name:exct=x", "_sort=name", "organization.nmae=x"):
        outcome(client.post("Patient", json=one, headers={"If-None-Exist": condition}), 400)
        outcome(client.put(f"Patient?{condition}", json=one), 400)
        outcome(client.delete(f"Patient?{condition}"), 400)
        entry = {"request": {"method": "POST", "url": "Patient", "ifNoneExist": condition}, "resource": one}
        outcome(client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}), 400)
    assert client.get("Patient?_summary=count").json()["total"] == before


@pytest.mark.parametrize(("place", "wrong", "right"), [("Patinet", "Patinet", "Patient"), ("observation/1", "observation", "Observation")])
def test_an_unknown_type_in_the_address_is_named_with_a_suggestion(client, place, wrong, right):
    told = outcome(client.get(place), 404)
    assert wrong in told and f"did you mean '{right}'" in told
    chinese = client.get(place, headers=CHINESE).json()["issue"][0]["details"]["text"]
    assert "未知的资源类型" in chinese and right in chinese
    assert "did you mean" not in outcome(client.get("Xyzzy"), 404)
