"""Long lists in the order of a name or a date: the right order, each resource once, and no page costs what sorting all of them would.

Specification: https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import start_server

MANY = 2600
CHINESE = {"安": "an", "毕": "bi", "常": "chang", "郑": "zheng"}
FAMILIES = [*CHINESE, "Aalto", "Bergmann", "Cook", "Dahl", "Yang"]


def made(rnd: random.Random, number: int) -> dict[str, Any]:
    patient: dict[str, Any] = {"resourceType": "Patient", "id": f"p{number}", "gender": rnd.choice(("male", "female"))}
    names = [f"{rnd.choice(FAMILIES)}" for _ in range(rnd.choice((0, 1, 1, 1, 2)))]
    if names:
        patient["name"] = [{"family": name} for name in names]
    if rnd.random() < 0.9:
        patient["birthDate"] = f"{rnd.randrange(1930, 2020)}" + rnd.choice(("", "-05", "-05-17", "-11-02"))
    return patient


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, dict[str, Any]]]]:
    """Patients of which some were changed and some are gone."""
    rnd = random.Random(11)
    server = start_server(tmp_path_factory.mktemp("sorted") / "data", env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    try:
        with server.client() as client:
            stored: dict[str, dict[str, Any]] = {}
            for numbers in (range(MANY // 2), range(MANY // 2, MANY), rnd.sample(range(MANY), 60)):
                patients = [made(rnd, number) for number in numbers]
                stored |= {patient["id"]: patient for patient in patients}
                entries = [{"request": {"method": "PUT", "url": f"Patient/{one['id']}"}, "resource": one} for one in patients]
                answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}, timeout=60)
                assert answer.status_code == 200, answer.text
            for number in rnd.sample(range(MANY), 30):
                assert client.delete(f"Patient/p{number}").status_code in (200, 204)
                del stored[f"p{number}"]
            yield client, stored
    finally:
        server.kill()


def value(patient: dict[str, Any], key: str) -> str | None:
    """By what a patient is sorted: the lowest value, descending the highest."""
    pick = max if key.startswith("-") else min
    if "birthdate" in key:
        # without a month a date begins with the year
        return (patient["birthDate"] + "-01-01")[:10] if "birthDate" in patient else None
    families = [name["family"] for name in patient.get("name", ())]
    spelled = [CHINESE[family] for family in families if family in CHINESE]
    return pick(spelled or [family.lower() for family in families], default=None)


def pages(client: httpx.Client, query: str, most: int = 10_000) -> list[str]:
    found, place = [], query
    while place and len(found) < most:
        bundle = client.get(place).json()
        found += [one["resource"]["id"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]
        place = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    return found


KEYS = ["family", "-family", "birthdate", "-birthdate", "name"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("criteria", ["", "&gender=female"])
def test_each_once_in_order_missing_last(house: tuple[httpx.Client, dict[str, dict[str, Any]]], key: str, criteria: str) -> None:
    client, stored = house
    found = pages(client, f"Patient?_sort={key}&_count=150&_elements=id{criteria}")
    wanted = {id for id, patient in stored.items() if not criteria or patient["gender"] == "female"}
    assert len(found) == len(set(found))
    assert set(found) == wanted
    values = [value(stored[id], key) for id in found]
    there = [one for one in values if one is not None]
    assert values == there + [None] * (len(values) - len(there))
    assert there == sorted(there, reverse=key.startswith("-"))


@pytest.mark.parametrize("key", KEYS)
def test_a_page_is_read_off_not_sorted(house: tuple[httpx.Client, dict[str, dict[str, Any]]], key: str) -> None:
    client, _ = house
    bundle = client.get(f"Patient?_sort={key}&_count=20&_explain=true").json()
    (said,) = [one["resource"] for one in bundle["entry"] if one["search"]["mode"] == "outcome"]
    (plan,) = json.loads(said["issue"][0]["diagnostics"])["plan"]
    assert plan["cost"] < MANY // 10
    assert all("ORDER BY d.folded" in text or "ORDER BY d.low" in text for text in plan["statements"])


@pytest.mark.parametrize("key", ["family", "-birthdate"])
def test_pages_are_of_one_state(house: tuple[httpx.Client, dict[str, dict[str, Any]]], key: str) -> None:
    """What is written behind the first page does not move the others: http.html#paging."""
    client, stored = house
    before = pages(client, f"Patient?_sort={key}&_count=200&_elements=id")
    first = client.get(f"Patient?_sort={key}&_count=200&_elements=id").json()
    changed = before[250:900:50]
    try:
        for id in changed:
            client.put(f"Patient/{id}", json={**stored[id], "name": [{"family": "Aaaa"}], "birthDate": "1930-01-01"})
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        assert [one["resource"]["id"] for one in first["entry"]] + pages(client, following) == before
    finally:
        for id in changed:
            client.put(f"Patient/{id}", json=stored[id])
