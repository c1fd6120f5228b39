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


WHOLE = {
    "resourceType": "ValueSet", "id": "whole", "url": "http://example.org/ValueSet/whole", "status": "active",
    "compose": {"include": [{"system": SYSTEM}], "exclude": [{"system": SYSTEM, "concept": [{"code": "I10"}]}]},
}  # fmt: skip


def test_a_value_set_of_a_whole_system_has_only_codes_that_the_system_has(tmp_path: Path) -> None:
    """As `$validate-code` says: a code that is written there by mistake is not in it."""
    write(tmp_path / "data", SYSTEM, "1", "ICD", "en", {}, ROWS)
    wrong = condition("wrong", "Z99.typo")
    with stocked(tmp_path, [*RESOURCES, WHOLE, wrong]) as client:
        says = {}
        for code in ("E11", "I10", "Z99.typo"):
            answer = client.get("ValueSet/$validate-code", params={"url": WHOLE["url"], "system": SYSTEM, "code": code}).json()
            says[code] = next(row["valueBoolean"] for row in answer["parameter"] if row["name"] == "result")
        assert says == {"E11": True, "I10": False, "Z99.typo": False}
        assert ids(client, f"Condition?code:in={WHOLE['url']}") == {"group", "two", "plain"}
        assert ids(client, f"Condition?code:not-in={WHOLE['url']}") == {"bp", "wrong"}


def test_units_of_a_value_set_of_all_of_ucum_are_units(tmp_path: Path) -> None:
    """Codes of a system without an end are asked for one by one."""
    ucum = "http://unitsofmeasure.org"
    units = {**WHOLE, "id": "units", "url": "http://example.org/ValueSet/units", "compose": {"include": [{"system": ucum}]}}
    masses = {**units, "id": "masses", "url": "http://example.org/ValueSet/masses", "compose": {
        "include": [{"system": ucum, "filter": [{"property": "canonical", "op": "=", "value": "g"}]}]
    }}  # fmt: skip
    coded = [
        {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "unit"},
         "valueCodeableConcept": {"coding": [{"system": ucum, "code": code}]}}
        for id, code in (("weight", "kg"), ("length", "cm"), ("none", "stone-ish"))
    ]  # fmt: skip
    with stocked(tmp_path, [units, masses, *coded]) as client:
        assert ids(client, f"Observation?value-concept:in={units['url']}") == {"weight", "length"}
        assert ids(client, f"Observation?value-concept:in={masses['url']}") == {"weight"}
        assert ids(client, f"Observation?value-concept:not-in={masses['url']}") == {"length", "none"}
