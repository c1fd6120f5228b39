"""What is wrong with an expression is said in Chinese too, with the same names, values and places."""

from __future__ import annotations

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "id": "p", "name": [{"given": ["A", "B"]}, {"given": ["C"]}], "birthDate": "1970-01-01"}


def refused(client: httpx.Client, expression: str, **headers: str) -> tuple[int, dict[str, object]]:
    asked = {"resourceType": "Parameters", "parameter": [
        {"name": "expression", "valueString": expression}, {"name": "resource", "resource": PATIENT},
    ]}  # fmt: skip
    answer = client.post("$fhirpath", json=asked, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    return answer.status_code, answer.json()["issue"][0]


@pytest.mark.parametrize(
    ("expression", "english", "chinese"),
    [
        ("name.", "a name or function is expected, not the end", "此处应为名称或函数，而不是表达式的结尾（第 1 行第 6 列）"),
        ("name.given.nothing()", "there is no function nothing()", "没有函数 nothing()"),
        ("Patient.nam", "has no element 'nam'", "没有元素“nam”"),
        ("name.where('x'", "')' is expected", "此处应为“)”"),
        ("'abc", "does not end", "字符串或名称没有结束"),
        ("name.given.single()", "single() needs a single item, not 3", "single() 需要单个项，而不是 3 个"),
        ("name.given + 'x'", "single item, not 3", "单个项，而不是 3 个"),
        ("%nowhere", "the variable %nowhere is not defined", "变量 %nowhere 未定义"),
        ("birthDate + 3 'mm'", "is no time of definite length", "不是确定的时长"),
        ("'a'.matches('(')", "is no regular expression", "不是正则表达式"),
        ("(1).round(-1)", "round() needs a precision of 0 or more", "round() 的精度须不小于 0"),
        ("iif(name.given, 1, 2)", "iif() needs a single boolean", "iif() 的条件须为单个布尔值"),
        ("@2020-13-01", "does not exist", "不存在"),
        ("99999999999", "it is too large", "过大"),
        ("children().first()", "depends on order", "依赖顺序"),
        ("substring(1)", "substring() needs a string, not Patient", "substring() 需要字符串，而不是 Patient"),
    ],
)
def test_each_fault_is_said_in_both_languages(client: httpx.Client, expression: str, english: str, chinese: str) -> None:
    status, issue = refused(client, expression, **{"Accept-Language": "zh-CN"})
    assert english in str(issue["diagnostics"])
    details = issue["details"]
    assert isinstance(details, dict) and chinese in details["text"]
    again, plain = refused(client, expression, **{"Accept-Language": "en"})
    assert again == status and english in str(plain["diagnostics"]) and chinese not in str(plain)
