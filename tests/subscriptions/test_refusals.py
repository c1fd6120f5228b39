"""What is not served is refused when it is written, over the wire, with element, value and rule in both languages. conformance.md K4, K17

Known failure 10 of others: unsupported criteria fire for everything. https://hl7.org/fhir/R4/subscription.html#criteria
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.subscriptions.test_topic_subscriptions import GUIDE, asked, topic
from tests.subscriptions.world import subscription

Json = dict[str, Any]
URL = "http://127.0.0.1:9/hook"
TOPIC = "http://example.org/SubscriptionTopic/refusals"
R5_FILTER = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.filterBy"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def refused(client: Any, resource: Json) -> dict[str, tuple[str, str]]:
    """Expression -> what is said in English and in Chinese, alike by POST, by PUT and in a transaction; nothing is left behind."""
    id = "never"
    resource = {**resource, "id": id}
    entry = {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{id}"}}
    answers = [
        client.post(resource["resourceType"], json=resource),
        client.put(f"{resource['resourceType']}/{id}", json=resource),
        client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}),
        client.post(resource["resourceType"], json=resource, headers={"Accept-Language": "zh-CN"}),
    ]
    assert [answer.status_code for answer in answers] == [422] * 4, [answer.text for answer in answers]
    assert client.get(f"{resource['resourceType']}/{id}").status_code == 404
    english, *others, chinese = (answer.json()["issue"] for answer in answers)
    for other in others:  # in a Bundle with the number of the entry
        assert all(one["diagnostics"] in same["diagnostics"] for one, same in zip(english, other, strict=True)), other
    assert all("text" not in issue.get("details", {}) for issue in english), "nobody asked for Chinese"
    told = {}
    for one, same in zip(english, chinese, strict=True):
        (place,) = one["expression"]
        assert CHINESE.search(same["details"]["text"]) and not CHINESE.search(one["diagnostics"])
        told[place.removeprefix(f"{resource['resourceType']}.")] = one["diagnostics"], same["details"]["text"]
    return told


# --- criteria that are a search


@pytest.mark.parametrize(
    ("criteria", "value", "english", "chinese"),
    [
        ("Observation?&", "Observation?&", "are empty", "为空"),
        ("Observation?code", "code", "needs a value", "缺少值"),
        ("Observation?code=", "code", "needs a value", "缺少值"),
        ("Observation?=", "Observation?=", "needs a value", "缺少值"),
        ("?code=1", "?code=1", "is no resource type", "不是资源类型"),
        ("observation?code=1", "'observation'", "is no resource type", "不是资源类型"),
        ("Nonsense?code=1", "'Nonsense'", "is no resource type", "不是资源类型"),
        ("Observation/1", "'Observation/1'", "is no resource type", "不是资源类型"),
        ("/Observation?code=1", "'/Observation'", "is no resource type", "不是资源类型"),
        ("Observation?kode=1", "'kode'", "is not known", "不支持检索参数"),
        ("Observation?_since=2026", "'_since'", "is not known", "不支持检索参数"),
        ("Observation?code:wrong=1", "'wrong'", "modifier", "修饰符"),
        ("Observation?code:exact=1", "'exact'", "modifier", "修饰符"),
        ("Observation?code:missing=maybe", "maybe", "true or false", "无效"),
        ("Observation?date=never", "never", "is not of the form", "无效"),
        ("Observation?date=zz2026", "'zz'", "prefix", "前缀"),
        ("Observation?value-quantity=much", "much", "is no number", "无效"),
        ("Observation?subject.name=x", "subject.name", "chained", "链式"),
        ("Observation?subject:Patient.name=x", "subject:Patient.name", "chained", "链式"),
        ("Observation?_filter=subject.name eq x", "_filter", "chained", "链式"),
        ("Patient?_has:Observation:patient:code=1", "_has", "_has", "_has"),
        ("Patient?_list=l1", "_list", "look at other resources", "其他资源"),
        ("Observation?code:in=http://x.org/v", "code:in", "value sets", "值集"),
        ("Observation?code:not-in=http://x.org/v", "code:not-in", "value sets", "值集"),
        ("Condition?code:below=http://snomed.info/sct|1", "code:below", "hierarchies", "层级"),
        ("Condition?code:above=http://snomed.info/sct|1", "code:above", "hierarchies", "层级"),
        ("Observation?code:text=x", "code:text", "cannot decide about a write", "全文检索"),
        ("Observation?_text=x", "_text", "cannot decide about a write", "全文检索"),
        ("Observation?_content=x", "_content", "cannot decide about a write", "全文检索"),
        ("Observation?code=1&_query=q", "_query", "no named queries", "命名查询"),
        *(
            (f"Observation?code=1&{name}={value}", name, "only parameters that filter", "只能使用筛选参数")
            for name, value in {
                "_include": "Observation:subject", "_include:iterate": "Observation:subject", "_revinclude": "Provenance:target",
                "_sort": "date", "_count": "5", "_total": "accurate", "_summary": "true", "_elements": "id", "_format": "json",
                "_pretty": "true", "_contained": "true", "_containedType": "container", "_type": "Observation",
            }.items()
        ),
    ],
)  # fmt: skip
def test_criteria_that_cannot_be_watched(client, criteria: str, value: str, english: str, chinese: str) -> None:
    told = refused(client, subscription(URL, criteria=criteria))
    assert set(told) == {"criteria"}
    assert value in told["criteria"][0] and english in told["criteria"][0]
    assert chinese in told["criteria"][1] and criteria[:40] in told["criteria"][1]


def test_empty_criteria_are_no_string_of_fhir(client) -> None:
    """ele-1: an element must have a value. https://hl7.org/fhir/R4/datatypes.html#string"""
    for value in ("", " "):
        answer = client.post("Subscription", json=subscription(URL, criteria=value))
        assert answer.status_code in (400, 422) and answer.json()["issue"][0]["expression"] == ["Subscription.criteria"], answer.text
    bare = {name: value for name, value in subscription(URL).items() if name != "criteria"}
    answer = client.post("Subscription", json=bare)
    assert answer.status_code in (400, 422) and "Subscription.criteria" in answer.text


def test_a_patch_cannot_make_of_good_criteria_bad_ones(client) -> None:
    made = client.post("Subscription", json=subscription(URL, criteria="Observation?code=nobody")).json()
    patch = [{"op": "replace", "path": "/criteria", "value": "Observation?subject.name=x"}]
    for address in (f"Subscription/{made['id']}", f"Subscription?_id={made['id']}"):
        answer = client.patch(address, json=patch, headers={"Content-Type": "application/json-patch+json"})
        assert answer.status_code == 422 and "chained" in answer.text
    assert client.get(f"Subscription/{made['id']}").json()["criteria"] == "Observation?code=nobody"


# --- topics: K17


def by_topic(**more: Any) -> Json:
    return asked(URL, **{"criteria": TOPIC, **more})


def one(url: str, **value: Any) -> Json:
    return {"extension": [{"url": url, **value}]}


@pytest.mark.parametrize(
    ("made", "place", "english", "chinese"),
    [
        (by_topic(criteria="http://example.org/SubscriptionTopic/nobody"), "criteria", "SubscriptionTopic/nobody is not known", "没有主题"),
        (by_topic(criteria=f"{TOPIC}|9"), "criteria", f"{TOPIC}|9 is not known", "没有主题"),
        (by_topic(filters=("Encounter?class=IMP",)), "criteria.extension", "cannot be filtered by 'class'", "不能按“class”筛选"),
        (by_topic(filters=("Encounter?patients=Patient/1",)), "criteria.extension", "'patients'", "“patients”"),
        (by_topic(filters=("Patient?patient=Patient/1",)), "criteria.extension", "'Patient' is no type of the topic", "没有类型“Patient”"),
        (by_topic(filters=("Encounter?patient.name=x",)), "criteria.extension", "'patient.name'", "“patient.name”"),
        (by_topic(filters=("Encounter?patient:exact=x",)), "criteria.extension", "modifier 'exact'", "修饰符“exact”"),
        (by_topic(filters=("Encounter?date=sa2026",)), "criteria.extension", "comparator 'sa'", "比较符“sa”"),
        (by_topic(filters=("Encounter?",)), "criteria.extension", "nothing stands behind", "没有参数"),
        (by_topic(_criteria=one(R5_FILTER, valueString="Encounter?patient=Patient/1")), "criteria", R5_FILTER, R5_FILTER),
        (
            by_topic(_criteria=one("http://hl7.org/fhir/5.0/StructureDefinition/backport-filter-criteria", valueString="x")),
            "criteria", "5.0/StructureDefinition/backport-filter-criteria", "本机不支持",
        ),
        (by_topic(channel={"type": "sms", "endpoint": "tel:1"}), "channel.type", "'sms' is not served", "不支持“sms”"),
        (
            by_topic(channel={"_type": one(GUIDE + "backport-channel-type", valueCoding={"system": "urn:x", "code": "pigeon"})}),
            "channel.type", "backport-channel-type is not understood here", "本机不支持",
        ),
        (by_topic(channel={"endpoint": "example.org/hook"}), "channel.endpoint", "http or https URL", "http 或 https"),
        (by_topic(channel={"endpoint": "ftp://example.org/x"}), "channel.endpoint", "http or https URL", "http 或 https"),
        (by_topic(channel={"endpoint": "http://10.0.0.1/x"}), "channel.endpoint", "10.0.0.1", "内网"),
        (by_topic(channel={"payload": "text/csv"}), "channel.payload", "'text/csv' is not served", "不支持“text/csv”"),
        (by_topic(content="all"), "channel.payload", "'all', not one of empty, id-only, full-resource", "之一"),
        (by_topic(channel={"_payload": None}), "channel.payload", "backport-payload-content is required", "缺少扩展"),
        (
            by_topic(channel={"type": "websocket", "endpoint": None, "payload": "application/fhir+xml"}),
            "channel.payload", "a websocket carries application/fhir+json", "websocket 只能携带",
        ),
        (by_topic(channel={"header": ["X: y\r\nZ: 1"]}), "channel.header[0]", "line breaks", "不含换行"),
        *(
            (by_topic(channel=one(f"{GUIDE}backport-{name}", **value)), "channel.extension", f"{name} must be a whole number", "大于 0")
            for name, value in (
                ("heartbeat-period", {"valueUnsignedInt": 0}), ("timeout", {"valueUnsignedInt": 0}), ("timeout", {"valueString": "soon"}),
                ("max-count", {"valueString": "9"}),
            )
        ),
    ],
)  # fmt: skip
def test_k17_what_a_topic_subscription_must_not_ask_for(client, made: Json, place: str, english: str, chinese: str) -> None:
    client.put("Basic/refusals", json=topic("refusals", TOPIC)).raise_for_status()
    made["channel"] = {name: value for name, value in made["channel"].items() if value is not None}
    told = refused(client, made)
    assert set(told) == {place}
    assert english in told[place][0] and chinese in told[place][1]


def test_k4_all_elements_of_the_profile_are_taken_and_given_back(client) -> None:
    client.put("Basic/refusals", json=topic("refusals", TOPIC)).raise_for_status()
    extensions = [
        {"url": GUIDE + "backport-heartbeat-period", "valueUnsignedInt": 86400},
        {"url": GUIDE + "backport-timeout", "valueUnsignedInt": 5},
        {"url": GUIDE + "backport-max-count", "valuePositiveInt": 20},
    ]
    channel = {"extension": extensions, "header": ["X-One: 1", "X-Two: 2"]}
    made = by_topic(filters=("Encounter?patient=Patient/1", "Encounter?date=ge2026"), channel=channel)
    answer = client.post("Subscription", json=made)
    assert answer.status_code == 201, answer.text
    kept = client.get(answer.headers["location"]).json()
    for name in ("criteria", "_criteria", "channel", "reason"):
        assert kept[name] == made[name]
    client.delete(f"Subscription/{kept['id']}").raise_for_status()


# --- operations


@pytest.mark.parametrize("language", [None, "en", "zh", "fr"])
@pytest.mark.parametrize("asked_for", ["live", "active,live", "Active"])
def test_k15_an_unknown_status_is_refused(client, language: str | None, asked_for: str) -> None:
    headers = {"Accept-Language": language} if language else {}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "status", "valueCode": asked_for}]}
    wrong = asked_for.rpartition(",")[2]
    for answer in (
        client.get("Subscription/$status", params={"status": asked_for}, headers=headers),
        client.post("Subscription/$status", json=parameters, headers=headers),
    ):
        assert answer.status_code == 400
        (issue,) = answer.json()["issue"]
        assert (issue["severity"], issue["expression"]) == ("error", ["status"])
        assert f"status={wrong}" in issue["diagnostics"] and "requested, active, error, off" in issue["diagnostics"]
        text = issue.get("details", {}).get("text", "")
        assert bool(CHINESE.search(text)) is (language == "zh") and (language != "zh" or f"status={wrong}" in text)
