"""`:in`, `:not-in`, `:above` and `:below` over code systems that lie in files (releases that a site brings).

Specification: https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from fhir_server.terminology.large import Row, write
from tests.search.stocked import stocked

SYSTEM = "http://example.org/icd"
ROWS = [
    Row("E10-E14", "Diabetes mellitus"), Row("E11", "Type 2", parents=["E10-E14"]), Row("E11.9", "Type 2, plain", parents=["E11"]),
    Row("I10", "Hypertension"),
]  # fmt: skip
DIABETES = {
    "resourceType": "ValueSet", "id": "diabetes", "url": "http://example.org/ValueSet/diabetes", "status": "active",
    "compose": {"include": [{"system": SYSTEM, "filter": [{"property": "concept", "op": "is-a", "value": "E10-E14"}]}]},
}  # fmt: skip


def condition(id: str, code: str) -> dict[str, object]:
    return {
        "resourceType": "Condition",
        "id": id,
        "subject": {"reference": "Patient/1"},
        "code": {"coding": [{"system": SYSTEM, "code": code}]},
    }


RESOURCES = [DIABETES, *(condition(id, code) for id, code in (("group", "E10-E14"), ("two", "E11"), ("plain", "E11.9"), ("bp", "I10")))]


def ids(client: httpx.Client, query: str) -> set[str]:
    answer = client.get(query)
    assert answer.status_code == 200, answer.text
    return {entry["resource"]["id"] for entry in answer.json().get("entry", ())}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"Condition?code:below={SYSTEM}|E11", "two plain"),
        (f"Condition?code:above={SYSTEM}|E11.9", "plain two group"),
        (f"Condition?code:in={DIABETES['url']}", "group two plain"),
        (f"Condition?code:not-in={DIABETES['url']}", "bp"),
    ],
)
def test_hierarchies_of_files_are_searched(tmp_path: Path, query: str, found: str) -> None:
    write(tmp_path / "data", SYSTEM, "1", "ICD", "en", {}, ROWS)
    with stocked(tmp_path, RESOURCES) as client:
        assert ids(client, query) == set(found.split())


def test_a_release_that_is_loaded_while_the_server_runs_counts_at_once(tmp_path: Path) -> None:
    with stocked(tmp_path, RESOURCES) as client:
        refused = client.get(f"Condition?code:below={SYSTEM}|E11")
        assert refused.status_code == 400 and SYSTEM in refused.text
        write(tmp_path / "data", SYSTEM, "1", "ICD", "en", {}, ROWS)
        assert ids(client, f"Condition?code:in={DIABETES['url']}") == {"group", "two", "plain"}
        write(tmp_path / "data", SYSTEM, "1", "ICD", "en", {}, [*ROWS[:1], Row("E11", "Type 2"), *ROWS[2:]])
        assert ids(client, f"Condition?code:in={DIABETES['url']}") == {"group"}
        unknown = client.get(f"Condition?code:below={SYSTEM}|X99")
        assert unknown.status_code == 400 and "X99" in unknown.text
