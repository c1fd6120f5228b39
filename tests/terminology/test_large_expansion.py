"""A filter in a code system that lies in a file finds texts, not the file's own form, and says where it finds more than it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhir_server.terminology.expansion import FOUND, Wishes, expansion
from fhir_server.terminology.large import LargeSystems, Row, write
from fhir_server.terminology.room import Terminology

URL = "http://example.org/large"


@pytest.fixture
def room(tmp_path: Path) -> Terminology:
    def write_version(version: str, *rows: Row) -> None:
        write(tmp_path, URL, version, "Large", "en", {"component": "string"}, rows)

    zh = [{"language": "zh-CN", "value": "血清钾"}]
    potassium = Row("2823-3", "Potassium [Moles/volume] in Serum", zh, [("component", "K")])
    write_version("1", potassium)
    write_version(
        "2", potassium, Row("2", "Sodium level", [], [("component", "value")]), *(Row(f"h{n}", f"高血压 {n}") for n in range(FOUND + 5))
    )
    large = LargeSystems(tmp_path)
    large.refresh()
    return Terminology(lambda canonical: None, large=large.find)


def found(room: Terminology, words: str, version: str = "", **wishes: Any) -> dict[str, Any]:
    include = {"system": URL, **({"version": version} if version else {})}
    content = room.content({"resourceType": "ValueSet", "compose": {"include": [include]}})
    return expansion(room, content, Wishes(words, **wishes), [], "2026-01-01T00:00:00Z")


def codes(made: dict[str, Any]) -> list[str]:
    return [row["code"] for row in made.get("contains", ())]


@pytest.mark.parametrize("words", ["potassium", "Mol serum", "血清", "2823", "POTASSIUM 钾"])
def test_words_begin_words_of_texts_and_chinese_stands_anywhere(room: Terminology, words: str) -> None:
    assert codes(found(room, words)) == ["2823-3"]


@pytest.mark.parametrize("words", ["tassium", "language", "component", "zh-cn", "value"])
def test_what_stands_in_no_text_is_not_found(room: Terminology, words: str) -> None:
    assert codes(found(room, words)) == []


def test_more_than_is_told_is_no_total(room: Terminology) -> None:
    made = found(room, "高血压", count=1)
    assert "total" not in made and {"name": "limitedExpansion", "valueBoolean": True} in made["parameter"]
    assert found(room, "potassium", count=1)["total"] == 1


def test_the_version_that_is_named_is_searched(room: Terminology) -> None:
    first = found(room, "potassium", version="1")
    assert first["contains"][0]["version"] == "1" and {"name": "version", "valueUri": f"{URL}|1"} in first["parameter"]
    assert codes(found(room, "sodium", version="1")) == [] and codes(found(room, "sodium")) == ["2"]
    assert {"name": "version", "valueUri": f"{URL}|2"} in found(room, "sodium")["parameter"]
