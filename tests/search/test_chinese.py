"""Chinese names are found by characters, pinyin (with and without tones) and initials, traditional or simplified, and by parts.

Readings: 现代汉语词典 and 通用规范汉字表; surnames with a reading of their own (单 Shàn, 解 Xiè, 曾 Zēng, 欧阳 Ōuyáng): 中国姓氏大辞典.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked


def patient(id: str, **name: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "name": [name]}


RESOURCES = [
    patient("wxh", text="王小红", family="王", given=["小红"]),
    patient("whole", text="王 伟"),
    patient("parts", family="陈", given=["水", "生"]),
    patient("trad", text="張學友", family="張", given=["學友"]),
    patient("shan", family="单", given=["田芳"]),
    patient("xie", text="解晓东"),
    patient("zeng", text="曾志伟"),
    patient("ouyang", text="欧阳娜娜", family="欧阳", given=["娜娜"]),
    patient("lv", text="吕布"),
    patient("yuchi", text="尉迟恭"),
    patient("latin", text="Wang Wei", family="Wang", given=["Wei"]),
    patient("both", text="Anna 李", family="Li"),
    {"resourceType": "Organization", "id": "org", "name": "北京协和医院"},
    {"resourceType": "Practitioner", "id": "doctor", "name": [{"text": "赵医生"}]},
]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("chinese"), RESOURCES) as client:
        yield client


RULES = [
    # characters, from the beginning or anywhere
    ("Patient?name=王小红", "wxh"), ("Patient?name=王", "wxh whole"), ("Patient?name:contains=小", "wxh"), ("Patient?given=小红", "wxh"),
    ("Patient?name:exact=王小红", "wxh"), ("Patient?name=陈水生", "parts"), ("Patient?name:contains=水生", "parts"),
    # full pinyin: in one word, with blanks, with tones as marks or digits, in capitals
    ("Patient?name=wangxiaohong", "wxh"), ("Patient?name=wang xiao hong", "wxh"), ("Patient?name=wáng xiǎo hóng", "wxh"),
    ("Patient?name=wang2 xiao3 hong2", "wxh"), ("Patient?name=WangXiao", "wxh"), ("Patient?name=wangwei", "whole"),
    ("Patient?name=wang wei", "whole latin"), ("Patient?name=chenshuisheng", "parts"), ("Patient?family=chen", "parts"),
    ("Patient?given=xiaohong", "wxh"), ("Patient?name:contains=xiaoh", "wxh"),
    # initials (the example of the follow-up system: wxh finds 王小红)
    ("Patient?name=wxh", "wxh"), ("Patient?name=WXH", "wxh"), ("Patient?name=zxy", "trad"), ("Patient?name=oynn", "ouyang"),
    ("Patient?name=css", "parts"), ("Patient?name=ycg", "yuchi"),
    # traditional and simplified
    ("Patient?name=张学友", "trad"), ("Patient?name=張學友", "trad"), ("Patient?name=zhangxueyou", "trad"),
    ("Patient?name=陳水生", "parts"),
    # surnames with readings of their own; ü as v or u
    ("Patient?name=shantianfang", "shan"), ("Patient?name=xiexiaodong", "xie"), ("Patient?name=zengzhiwei", "zeng"),
    ("Patient?name=ouyangnana", "ouyang"), ("Patient?name=yuchigong", "yuchi"),
    ("Patient?name=lvbu", "lv"), ("Patient?name=lubu", "lv"), ("Patient?name=lǚ bù", "lv"),
    # as it was sent only
    ("Patient?name:exact=wangxiaohong", ""), ("Patient?name:exact=張學友", "trad"), ("Patient?name:exact=张学友", ""),
    ("Patient?name=xiaohong", "wxh"), ("Patient?name=hong", ""),
    # names of departments and staff
    ("Organization?name=bjxh", "org"), ("Organization?name=beijingxiehe", "org"), ("Practitioner?name=zhao", "doctor"),
]  # fmt: skip


@pytest.mark.parametrize(("search", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, search: str, wanted: str) -> None:
    type, _, rest = search.partition("?")
    name, _, value = rest.partition("=")
    answer = ward.get(type, params={name: value})
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


def test_the_order_of_names_is_that_of_their_pinyin(ward: httpx.Client) -> None:
    """陈 chén, 吕 lǚ, 尉迟 yùchí, 曾 zēng, 张 zhāng; Latin names among them."""
    answer = ward.get("Patient?_sort=family&_elements=id").json()
    found = [entry["resource"]["id"] for entry in answer["entry"]]
    known = [one for one in found if one in ("parts", "both", "ouyang", "shan", "wxh", "trad")]
    assert known == ["parts", "both", "ouyang", "shan", "wxh", "trad"]
    down = [entry["resource"]["id"] for entry in ward.get("Patient?_sort=-name&_elements=id").json()["entry"]]
    assert down.index("trad") < down.index("wxh") < down.index("lv")


def test_by_a_chain(ward: httpx.Client) -> None:
    seen = {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/wxh"}}
    assert ward.put("Encounter/e", json=seen).status_code == 201
    assert [entry["resource"]["id"] for entry in ward.get("Encounter?patient.name=wxh").json()["entry"]] == ["e"]
