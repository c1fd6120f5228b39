"""What is refused is told in Chinese where that is asked for, with the value and the reason; and in English always.

Specification: https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/http.html#parameters (_pretty)
"""

from __future__ import annotations

import pytest

from tests.wire.resources import outcome

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9"}
PATIENT = {"resourceType": "Patient", "id": "told", "active": True}
SYSTEM = {
    "resourceType": "CodeSystem", "id": "tiny", "url": "http://example.org/tiny", "status": "active", "content": "complete",
    "concept": [{"code": "a"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _stored(client):
    for one in (PATIENT, SYSTEM, {**PATIENT, "id": "deleted"}):
        assert client.put(f"{one['resourceType']}/{one['id']}", json=one).status_code in (200, 201)
    client.delete("Patient/deleted")


def refused(answer, status):
    outcome(answer, status)
    (issue,) = answer.json()["issue"]
    return issue


CASES = [
    ("GET", "Patient/nope", None, 404, "Patient/nope is not known", "没有 Patient/nope"),
    ("GET", "Patient/deleted", None, 410, "was deleted", "Patient/deleted 已删除"),
    ("GET", "Patient/told/_history/99", None, 404, "no version '99'", "没有版本“99”"),
    ("PUT", "Patient/told", {**PATIENT, "id": "other"}, 400, "The content's id is 'other'", "内容的 id 是“other”，而地址中是 Patient/told"),
    ("PUT", "Patient/told", {"resourceType": "Patient"}, 400, "The content has no id", "内容没有 id，而地址中是 Patient/told"),
    (
        "PUT",
        "Patient/told",
        {"resourceType": "Group", "id": "told"},
        400,
        "resourceType is 'Group'",
        "resourceType 是“Group”，而地址中是 Patient",
    ),
    ("PUT", "Patient/told", {"id": "told"}, 400, "resourceType is missing", "resourceType 缺失"),
    ("PUT", "Patient", PATIENT, 400, "An update needs an id", "更新需要 id"),
    ("DELETE", "Patient", None, 400, "A delete needs an id", "删除需要 id"),
    ("GET", "Observation?code:below=http://example.org/tiny%7Cx", None, 400, "'x' is no code of", "“x”不是 http://example.org/tiny 的编码"),
    ("GET", "Observation?code:above=http://example.org/tiny%7Cx", None, 400, "'x' is no code of", "“x”不是 http://example.org/tiny 的编码"),
    ("GET", "Observation?code:below=x", None, 400, "needs the form system|code", "需要“系统|编码”的形式"),
    ("GET", "Patient/told?_summary=some", None, 400, "_summary=some is not one of", "_summary=some 应为 true、"),
    ("GET", "Patient/told/_history?_count=x", None, 400, "_count=x is not a whole number", "_count=x 应为非负整数"),
    ("GET", "metadata?mode=x", None, 400, "mode=x is not one of", "mode=x 应为"),
]


@pytest.mark.parametrize(("method", "place", "content", "status", "english", "chinese"), CASES)
def test_refusals_are_told_in_chinese(client, method, place, content, status, english, chinese) -> None:
    issue = refused(client.request(method, place, json=content, headers=CHINESE), status)
    assert english in issue["diagnostics"] and chinese in issue["details"]["text"]
    issue = refused(client.request(method, place, json=content), status)
    assert english in issue["diagnostics"] and "text" not in issue.get("details", {})


@pytest.mark.parametrize(
    ("method", "place", "content"),
    [
        ("GET", "Patient/told", None),
        ("GET", "Patient/told/_history", None),
        ("GET", "Patient/told/_history/1", None),
        ("GET", "metadata", None),
        ("GET", "Patient", None),
        ("POST", "Patient", {"resourceType": "Patient"}),
        ("PUT", "Patient/told", PATIENT),
        ("POST", "Patient/$validate", {"resourceType": "Patient"}),
        ("POST", "", {"resourceType": "Bundle", "type": "batch"}),
    ],
)
def test_pretty_is_true_or_false(client, method, place, content) -> None:
    for value in ("maybe", "TRUE"):
        issue = refused(client.request(method, place, params={"_pretty": value}, json=content, headers=CHINESE), 400)
        assert f"_pretty={value}"[:9] in issue["diagnostics"] and "true" in issue["details"]["text"]
    for value in ("true", "false"):
        assert client.request(method, place, params={"_pretty": value}, json=content).status_code in (200, 201)


def test_pretty_in_an_entry_is_true_or_false(client) -> None:
    entry = {"request": {"method": "GET", "url": "Patient/told?_pretty=maybe"}}
    answer = client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert answer.json()["entry"][0]["response"]["status"].startswith("400")
