"""Quantities are compared across units: what is asked in one UCUM unit finds values in every unit of the same kind.

Specification: https://hl7.org/fhir/R4/search.html#quantity ("The search processor may choose to perform a search based on canonical
units"); factors: https://ucum.org/ucum
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import start_server

UCUM = "http://unitsofmeasure.org"
VALUES = {
    "g": (5.4, "g"), "mg": (5400, "mg"), "low": (5399, "mg"), "kg": (0.0054, "kg"),
    "cel": (38.5, "Cel"), "degf": (101.3, "[degF]"), "kelvin": (300, "K"),
    "mmhg": (120, "mm[Hg]"), "kpa": (16, "kPa"), "glucose-mmol": (5.5, "mmol/L"), "glucose-mg": (99, "mg/dL"),
    "ph": (7.4, "[pH]"), "acid": (7.2, "[pH]"), "count": (4.5, "10*9/L"), "count-ul": (4500, "/uL"), "min": (90, "min"), "h": (2, "h"),
}  # fmt: skip


def observation(name: str) -> dict:
    value, code = VALUES[name]
    quantity = {"value": value, "unit": code, "system": UCUM, "code": code}
    return {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "x"}, "valueQuantity": quantity}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("units")
    server = start_server(folder / "data")
    try:
        with server.client() as client:
            for name in VALUES:
                assert client.put(f"Observation/{name}", json=observation(name)).status_code == 201
            other = {"value": 5.4, "unit": "g", "system": "urn:x", "code": "g"}
            local = {"value": 5.4, "unit": "spoons", "system": UCUM, "code": "spoons"}
            for id, quantity in (("not-ucum", other), ("no-unit-of-ucum", local)):
                assert client.put(f"Observation/{id}", json={**observation("g"), "id": id, "valueQuantity": quantity}).status_code == 201
            yield client
    finally:
        server.kill()


def found(client: httpx.Client, *conditions: str) -> set[str]:
    answer = client.get("Observation", params=[("value-quantity", one) for one in conditions] + [("_count", "100")])
    assert answer.status_code == 200, answer.text
    return {entry["resource"]["id"] for entry in answer.json().get("entry", [])}


RULES = [
    # 5.4 g means [5.35, 5.45) g, 5400 mg means [5399.5, 5400.5) mg
    (f"5400|{UCUM}|mg", {"g", "mg", "kg"}),
    (f"5.4|{UCUM}|g", {"g", "mg", "low", "kg"}),
    (f"gt5399|{UCUM}|mg", {"g", "mg", "kg"}),
    (f"ge5400|{UCUM}|mg", {"g", "mg", "kg"}),
    (f"gt5400|{UCUM}|mg", set()),
    (f"lt0.0054|{UCUM}|kg", {"low"}),
    (f"sa5399.5|{UCUM}|mg", {"g", "mg", "kg"}),
    (f"eb5399.5|{UCUM}|mg", {"low"}),
    (f"ne5400|{UCUM}|mg", {"low"}),
    (f"5.4|{UCUM}|g,120|{UCUM}|mm[Hg]", {"g", "mg", "low", "kg", "mmhg", "kpa"}),
    # 38.5 °C = 101.3 °F; 300 K = 26.85 °C
    (f"38.5|{UCUM}|Cel", {"cel", "degf"}),
    (f"101.3|{UCUM}|[degF]", {"cel", "degf"}),
    (f"lt37|{UCUM}|Cel", {"kelvin"}),
    (f"300|{UCUM}|K", {"kelvin"}),
    # 16 kPa = 120.01 mm[Hg]
    (f"ge120|{UCUM}|mm[Hg]", {"mmhg", "kpa"}),
    (f"gt120|{UCUM}|mm[Hg]", {"kpa"}),
    # mass and amount of substance are different kinds: nothing is converted by a molar mass
    (f"ge1|{UCUM}|mmol/L", {"glucose-mmol"}),
    (f"ge1|{UCUM}|mg/dL", {"glucose-mg"}),
    # a higher pH is a lower concentration: 10^-7.3 mol/L = 50.1 nmol/L
    (f"gt50.1|{UCUM}|nmol/L", {"acid", "glucose-mmol"}),
    (f"lt7.3|{UCUM}|[pH]", {"acid", "glucose-mmol"}),
    (f"4.5|{UCUM}|10*9/L", {"count", "count-ul"}),
    (f"1.5|{UCUM}|h", {"min"}),
    (f"ge1.5|{UCUM}|h", {"min", "h"}),
    # what is not UCUM is compared letter by letter
    (f"5.4|{UCUM}|spoons", {"no-unit-of-ucum"}),
    ("5.4|urn:x|g", {"not-ucum"}),
    ("5.4||g", {"g", "not-ucum"}),
    ("5.4", {"g", "not-ucum", "no-unit-of-ucum"}),
    (f"5400|{UCUM}|ug", set()),
    (f"1|{UCUM}|lx", set()),
]


@pytest.mark.parametrize(("condition", "wanted"), RULES)
def test_one_condition(lab: httpx.Client, condition: str, wanted: set[str]) -> None:
    assert found(lab, condition) == wanted


def test_conditions_together_may_name_different_units(lab: httpx.Client) -> None:
    assert found(lab, f"ge5399|{UCUM}|mg", f"lt5.4|{UCUM}|g") == {"low"}
    assert found(lab, f"ge5399|{UCUM}|mg", f"lt5400|{UCUM}|mg") == {"low"}
    assert found(lab, f"ge5399|{UCUM}|mg", f"ge1|{UCUM}|mmol/L") == set()


def test_the_total_counts_every_unit(lab: httpx.Client) -> None:
    answer = lab.get("Observation", params={"value-quantity": f"5400|{UCUM}|mg", "_summary": "count"})
    assert answer.json()["total"] == 3
