"""What a refusal, or a wished-for outcome, says to a client that likes Chinese best. https://www.rfc-editor.org/rfc/rfc9110#section-12.5.4"""

from __future__ import annotations

import pytest

from tests.wire.resources import patient

CHINESE = {"accept-language": "zh-CN, en;q=0.5"}
PATCH = {"content-type": "application/json-patch+json"}
LONE = '[{"op": "replace", "path": "/nothing", "value": 1}]'


@pytest.mark.parametrize(
    ("method", "place", "content", "headers", "status", "said"),
    [
        ("PATCH", "Patient/{id}", "[]", {"content-type": "text/csv"}, 415, "不支持补丁格式“text/csv”"),
        ("PATCH", "Patient/{id}", "", PATCH, 400, "补丁为空"),
        ("PATCH", "Patient/{id}", '[{"op": "jump"}]', PATCH, 400, "JSON Patch 的操作 0：“op”应为 add、"),
        ("PATCH", "Patient/{id}", LONE, PATCH, 422, "JSON Patch 的操作 0（replace “/nothing”）：没有成员“nothing”"),
        ("DELETE", "Patient/{id}", "", {"if-match": 'W/"7"'}, 412, "If-Match 要求 Patient/{id} 的版本为 7，但其当前版本为 1"),
        ("GET", "Patient?birthdate=soon", "", {}, 400, "检索参数 birthdate 的值无效：soon（“soon”不符合格式"),
        ("GET", "Patient?_filter=name", "", {}, 400, "检索参数 _filter 的值无效：name（在应为运算符（例如 eq）之处结束）"),
        ("GET", "Patient?_include=Patient", "", {}, 400, "检索参数 _include 的值无效：Patient（格式应为 Type:parameter"),
        ("GET", "Patient?_cursor=x", "", {}, 400, "_cursor：此分页链接已被改动"),
        ("POST", "", "{}", {"content-type": "application/fhir+json"}, 400, "向基地址 POST 的内容必须是 Bundle"),
        ("GET", "$graphql?query={{x}}", "", {}, 400, "GraphQL 查询无效（第 1 行，第 2 列）："),
    ],
)
def test_a_refusal_names_the_same_in_chinese(client, method, place, content, headers, status, said):
    id = client.post("Patient", json=patient()).json()["id"]
    place, said = place.format(id=id), said.replace("{id}", id)
    answer = client.request(method, place, content=content, headers={**headers, **CHINESE})
    assert answer.status_code == status, answer.text
    (issue,) = (answer.json()["errors"][0]["extensions"]["resource"] if "errors" in answer.json() else answer.json())["issue"]
    assert issue["details"]["text"].startswith(said)
    assert "details" not in client.request(method, place, content=content, headers=headers).text


def test_an_outcome_that_is_wished_for_is_chinese_too(client):
    wish = {"prefer": "return=OperationOutcome", **CHINESE}
    made = client.post("Patient", json=patient(), headers=wish)
    place = made.headers["location"].partition("/_history")[0].rpartition("Patient/")[2]
    assert made.json()["issue"][0]["details"]["text"] == f"Patient/{place} 已创建，版本为 1"
    gone = client.delete(f"Patient/{place}", headers=wish)
    assert gone.json()["issue"][0]["details"]["text"] == f"Patient/{place} 已删除"
    again = client.delete(f"Patient/{place}", headers=wish)
    assert again.json()["issue"][0]["details"]["text"] == "没有可删除的资源"
