"""The form of what operations answer: asked for as with any interaction. https://hl7.org/fhir/R4/http.html#mime-type"""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

import pytest

from tests.wire.resources import outcome, patient

PLACES = ("{0}/$everything", "{0}/$meta", "$meta", "$reindex", "Observation/$lastn?patient=1&category=x", "{0}/$diff?fromVersion=1")


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_served_is_refused_as_for_reads(client, place):
    place = place.format("Patient/" + client.post("Patient", json=patient()).json()["id"])
    assert client.get(place).status_code == 200
    for unserved in ("ttl", "text/turtle", "bogus"):
        said = outcome(client.get(f"{place}{'&' if '?' in place else '?'}_format={unserved.replace('+', '%2B')}"), 406, "not-supported")
        assert unserved in said
    outcome(client.get(place, headers={"accept": "text/turtle"}), 406, "not-supported")
    assert client.get(place, headers={"accept": "application/fhir+xml"}).headers["content-type"].startswith("application/fhir+xml")
    # _format outranks the header.
    answer = client.get(f"{place}{'&' if '?' in place else '?'}_format=json&_pretty=true", headers={"accept": "application/fhir+xml"})
    assert answer.status_code == 200 and answer.text.startswith("{\n")


def test_graphql_is_always_json(client):
    """OperationDefinition/Resource-graphql: "The content is always returned as application/json"."""
    answer = client.get("$graphql", params={"query": "{ PatientList { id } }"}, headers={"accept": "application/graphql-response+json"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("method", "place", "status", "said"),
    [
        ("GET", "Patient/$everything?colour=red", 400, "$everything 不支持参数“colour”；可用：start、end、_since、_type、_count、_cursor"),
        (
            "GET",
            "Patient/$everything?start=soon",
            400,
            "参数 start 的值无效：soon（“soon”不符合格式 YYYY、YYYY-MM、YYYY-MM-DD 或 YYYY-MM-DDThh:mm:ss(.sss)时区）",
        ),
        ("GET", "$everything", 400, "$everything 不能在 system 级别调用，只能在：instance, type"),
        ("GET", "Observation/1/$document", 400, "$document 不适用于 Observation，只适用于：Composition"),
        ("GET", "Patient/$nothing", 404, "本服务器不提供操作 $nothing；可用的操作见 CapabilityStatement"),
        ("PUT", "Patient/$everything", 405, "$everything 不支持 PUT；可用：GET, HEAD, POST"),
        ("GET", "$reindex?job=999", 404, "没有编号为 999 的 $reindex 任务"),
    ],
)
def test_refusals_are_told_in_chinese_to_who_asks_in_chinese(client, method, place, status, said):
    answer = client.request(method, place, headers={"accept-language": "zh-CN"})
    assert answer.status_code == status
    (issue,) = answer.json()["issue"]
    assert issue["details"]["text"] == said and issue["diagnostics"].isascii()
    (english,) = client.request(method, place).json()["issue"]
    assert "details" not in english and english["diagnostics"] == issue["diagnostics"]


def test_reindex_tells_its_state_in_chinese_to_who_asks_in_chinese(client):
    begun = client.post("Flag/$reindex", headers={"accept-language": "zh-CN"})
    assert begun.json()["issue"][0]["details"]["text"].startswith("任务 1 正在为 Flag 的资源重建索引；进度：")
    place, deadline = begun.headers["content-location"], time.monotonic() + 30
    while (state := client.get(place, headers={"accept-language": "zh-CN"})).status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.05)
    outcome = next(one["resource"] for one in state.json()["parameter"] if one["name"] == "outcome")
    assert outcome["issue"][0]["details"]["text"] == "已索引 0 个资源，没有错误"


def test_each_definition_that_hl7_is_said_to_publish_is_published(client, corpus):
    """A canonical of http://hl7.org/fhir that does not exist would mislead; what is this server's own has a name of its own."""
    with tarfile.open(corpus / "r4" / "definitions" / "hl7.fhir.r4.core-4.0.1.tgz") as package:
        published = {
            f"http://hl7.org/fhir/OperationDefinition/{Path(name).stem.removeprefix('OperationDefinition-')}" for name in package.getnames()
        }
    (rest,) = client.get("metadata").json()["rest"]
    listed = {one["definition"] for holder in (rest, *rest["resource"]) for one in holder.get("operation", ())}
    claimed = {one for one in listed if one.startswith("http://hl7.org/fhir/OperationDefinition/")}
    assert len(claimed) >= 9 and claimed <= published
