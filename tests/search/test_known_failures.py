"""Failures of other servers, each a rule here: rest-search.md section 4, by number.

12 (pages under writes) and 14 (compartments) are in tests/wire/test_search.py, 13 also with a million matches in `make bench-growth`,
21 (`$reindex`) in tests/operations/test_reindex.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import start_server

UCUM = "http://unitsofmeasure.org"
LOINC = "http://loinc.org"
PATIENTS = 60
MANY = 1000


def observation(id: str, code: str = "1-1", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": id, "status": "final", "subject": {"reference": "Patient/p0"},
        "code": {"coding": [{"system": LOINC, "code": code}]}, **more,
    }  # fmt: skip


def part(code: str, value: float) -> dict[str, Any]:
    quantity = {"value": value, "system": UCUM, "code": "mm[Hg]"}
    return {"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": quantity}


RESOURCES: list[dict[str, Any]] = [
    *({"resourceType": "Patient", "id": f"p{n}", "name": [{"family": f"F{n}"}], "gender": "female"} for n in range(PATIENTS)),
    observation("panel", "85354-9", component=[part("8480-6", 120), part("8462-4", 80)]),
    observation("systolic", "8480-6", valueQuantity={"value": 120, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}),
    observation("march", effectiveDateTime="2026-03"),
    observation("day", effectiveDateTime="2026-03-15"),
    observation("quarter", effectivePeriod={"start": "2026-01-10", "end": "2026-03-20"}),
    # one hour after midnight by the clock of the hospital, the day before in Greenwich
    observation("night", effectiveDateTime="2026-05-02T01:00:00+08:00"),
    observation("zoneless", effectivePeriod={"start": "2026-06-01", "end": "2026-06-01"}),
    {"resourceType": "Condition", "id": "bare", "subject": {"reference": "Patient/p1"}, "code": {"coding": [{"code": "X1"}]}},
    {
        "resourceType": "Condition", "id": "of-system", "subject": {"reference": "Patient/p2"},
        "code": {"coding": [{"system": "urn:s", "code": "X1"}]},
    },
    *(
        {"resourceType": "Procedure", "id": f"x{n}", "status": "completed", "subject": {"reference": f"Patient/p{n % PATIENTS}"}}
        for n in range(MANY)
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = start_server(tmp_path_factory.mktemp("known") / "data", env={"FHIR_SERVER_TIME_ZONE": "Asia/Shanghai"})
    entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in RESOURCES]
    try:
        with server.client() as client:
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}, timeout=60)
            assert answer.status_code == 200, answer.text
            yield client
    finally:
        server.kill()


def found(client: httpx.Client, query: str) -> str:
    answer = client.get(query)
    assert answer.status_code == 200, answer.text
    return " ".join(sorted(one["resource"]["id"] for one in answer.json().get("entry", []) if one["search"]["mode"] == "match"))


def explained(bundle: dict[str, Any]) -> dict[str, Any]:
    """The plan of the first type, told in the outcome beside the matches."""
    (said,) = [one["resource"] for one in bundle["entry"] if one["search"]["mode"] == "outcome"]
    return json.loads(said["issue"][0]["diagnostics"])["plan"][0]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("Patient?famly=F1", "famly family"),
        ("Patient?family:exakt=F1", "exakt exact"),
        ("Observation?date=xx2026", "xx eq ne"),
        ("Patient?_sort=famly", "famly family"),
        ("Patient?_include=Patient:organisation", "organisation organization"),
        ("Observation?subject.nam=F1", "nam name"),
        ("Patient?_has:Observation:subjct:code=1-1", "subjct subject"),
        ("Patient?_totl=accurate", "_totl _total"),
    ],
)
def test_1_a_misspelt_name_is_refused_and_named(house: httpx.Client, query: str, names: str) -> None:
    answer = house.get(query)
    assert answer.status_code == 400
    assert all(name in answer.text for name in names.split()), answer.text


@pytest.mark.parametrize(
    ("date", "ids"),
    [
        ("2026-03", "day march"), ("2026-03-15", "day"), ("eq2026-03", "day march"), ("ap2026-03-15", "day"),
        ("2026", "day march night quarter zoneless"),
        ("ne2026-03", "night quarter zoneless"), ("2026-03-15T10:00:00+08:00", ""),
    ],
)  # fmt: skip
def test_2_eq_of_a_date_is_containment(house: httpx.Client, date: str, ids: str) -> None:
    """ "The range of the search value fully contains the range of the target value": search.html#prefix."""
    if date.startswith("ap"):
        assert "day" in found(house, f"Observation?date={date}").split()
    else:
        assert found(house, f"Observation?date={date}") == ids


def test_3_a_bar_before_a_code_means_no_system(house: httpx.Client) -> None:
    assert found(house, "Condition?code=|X1") == "bare"
    assert found(house, "Condition?code=X1") == "bare of-system"
    assert found(house, "Condition?code=urn:s|X1") == "of-system"


def test_4_code_is_not_that_of_a_component(house: httpx.Client) -> None:
    assert found(house, "Observation?code=8480-6") == "systolic"
    assert found(house, "Observation?component-code=8480-6") == "panel"
    assert found(house, "Observation?combo-code=8480-6") == "panel systolic"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (f"120|{UCUM}|mm[Hg]", "systolic"), ("120||mmHg", "systolic"), ("120||mm[Hg]", "systolic"), ("120", "systolic"),
        # the same in another unit: 120 mm[Hg] = 15.99864 kPa
        (f"16.0|{UCUM}|kPa", "systolic"),
        # what the digits say: 1.2e2 is 115 to 125, 120 is 119.5 to 120.5, 119 ends at 119.5
        ("1.2e2", "systolic"), ("119", ""), ("119.6", ""), ("120.4", ""), ("gt119.9", "systolic"), ("lt120", ""), ("le120", "systolic"),
    ],
)  # fmt: skip
def test_5_quantities_with_units_and_implicit_ranges(house: httpx.Client, value: str, ids: str) -> None:
    assert found(house, f"Observation?value-quantity={value.replace('[', '%5B').replace(']', '%5D')}") == ids


def test_6_everything_that_refers_to_a_match_is_included(house: httpx.Client) -> None:
    answer = house.get("Patient?_id=p1&_revinclude=*")
    assert answer.status_code == 200
    included = {one["resource"]["id"] for one in answer.json()["entry"] if one["search"]["mode"] == "include"}
    assert included == {"bare", *(f"x{n}" for n in range(1, MANY, PATIENTS))}


@pytest.mark.parametrize("query", ["_summary=count", "_count=0", "_total=accurate&_count=1"])
def test_13_a_count_is_exact(house: httpx.Client, query: str) -> None:
    assert house.get(f"Procedure?status=completed&{query}").json()["total"] == MANY
    assert house.get(f"Procedure?status=completed&patient=p7&{query}").json()["total"] == len(range(7, MANY, PATIENTS))


def test_16_chains(house: httpx.Client) -> None:
    # `patient` leads to Patients alone, so no type is needed; `subject` leads to several, so one may be said
    for parameter in ("patient.family", "subject:Patient.family", "patient:Patient.family"):
        assert found(house, f"Condition?{parameter}=F1") == "bare"
    # eleven values cost no more than eleven times one; a reference leads to its posting instead of a scan
    costs = {}
    for many in (1, 11):
        families = ",".join(f"F{20 + n}" for n in range(many))
        answer = house.get(f"Procedure?patient.family:exact={families}&_explain=true")
        assert answer.status_code == 200
        costs[many] = explained(answer.json())["cost"]
        total = house.get(f"Procedure?patient.family:exact={families}&_summary=count").json()["total"]
        assert total == sum(1 for n in range(MANY) if 20 <= n % PATIENTS < 20 + many)
    assert costs[11] <= 11 * costs[1]
    plan = explained(house.get("Procedure?patient=p3&_explain=true").json())
    assert plan["estimate"] == len(range(3, MANY, PATIENTS))


def test_17_any_parameter_is_a_sort_key(house: httpx.Client) -> None:
    def order(query: str) -> list[str]:
        return [one["resource"]["id"] for one in house.get(query).json()["entry"]]

    assert order("Patient?_sort=-family&_count=3") == ["p9", "p8", "p7"]
    assert order("Observation?_sort=date&_count=2") == ["quarter", "march"]
    assert order("Observation?_sort=-date&_count=2") == ["zoneless", "night"]
    assert order("Observation?_sort=-value-quantity&_count=1") == ["systolic"]
    assert order("Condition?_sort=patient") == ["bare", "of-system"]
    assert order("Condition?_sort=-patient,code") == ["of-system", "bare"]


def test_24_a_date_without_a_zone_is_the_sites(house: httpx.Client) -> None:
    assert found(house, "Observation?date=2026-05-02") == "night"
    assert found(house, "Observation?date=2026-05-01") == ""
    assert found(house, "Observation?date=2026-06-01") == "zoneless"
    assert found(house, "Observation?date=ge2026-05-31T16:00:00Z&date=le2026-06-01T15:59:59Z") == "zoneless"
