"""Locations near a place.

Specification: https://hl7.org/fhir/R4/location.html#positional. Distances between cities from published great-circle tables:
London-Paris 344 km, New York-Los Angeles 3,936 km, Sydney-Auckland 2,156 km, Beijing-Shanghai 1,067 km.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import start_server

PLACES = {
    "london": (51.5074, -0.1278), "paris": (48.8566, 2.3522), "new-york": (40.7128, -74.0060), "los-angeles": (34.0522, -118.2437),
    "sydney": (-33.8688, 151.2093), "auckland": (-36.8485, 174.7633), "beijing": (39.9042, 116.4074), "shanghai": (31.2304, 121.4737),
    "west-of-the-date-line": (0, 179.9), "east-of-the-date-line": (0, -179.9), "pole": (89.9, 0), "beyond-the-pole": (89.9, 180),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = start_server(tmp_path_factory.mktemp("near") / "data")
    try:
        with server.client() as client:
            for name, (latitude, longitude) in PLACES.items():
                place = {"resourceType": "Location", "id": name, "status": "active"}
                place["position"] = {"latitude": latitude, "longitude": longitude}
                assert client.put(f"Location/{name}", json=place).status_code == 201
            assert client.put("Location/nowhere", json={"resourceType": "Location", "id": "nowhere", "status": "active"}).status_code == 201
            assert client.put("Location/moved", json={**place, "id": "moved", "status": "inactive"}).status_code == 201
            moved = {**place, "id": "moved", "status": "inactive", "position": {"latitude": 48.86, "longitude": 2.35}}
            assert client.put("Location/moved", json=moved).status_code == 200
            yield client
    finally:
        server.kill()


RULES = [
    ("51.5074|-0.1278|343|km", {"london"}),
    ("51.5074|-0.1278|345|km", {"london", "paris", "moved"}),
    ("51.5074|-0.1278|345000|m", {"london", "paris", "moved"}),
    ("51.5074|-0.1278|215|[mi_i]", {"london", "paris", "moved"}),
    ("51.5074|-0.1278|213|[mi_i]", {"london"}),
    ("51.5074|-0.1278|345", {"london", "paris", "moved"}),
    ("48.8566|2.3522", {"paris", "moved"}),
    ("48.8566|2.3522||km", {"paris", "moved"}),
    ("40.7128|-74.006|3940", {"new-york", "los-angeles"}),
    ("40.7128|-74.006|3930", {"new-york"}),
    ("-33.8688|151.2093|2160", {"sydney", "auckland"}),
    ("-33.8688|151.2093|2150", {"sydney"}),
    ("39.9042|116.4074|1070", {"beijing", "shanghai"}),
    ("39.9042|116.4074|1060", {"beijing"}),
    # 0.2 degrees of the equator are 22 km
    ("0|179.9|23", {"west-of-the-date-line", "east-of-the-date-line"}),
    ("0|-180|12", {"west-of-the-date-line", "east-of-the-date-line"}),
    ("0|179.9|21", {"west-of-the-date-line"}),
    ("89.9|0|23", {"pole", "beyond-the-pole"}),
    ("90|0|12", {"pole", "beyond-the-pole"}),
    ("48.86|2.35|0", {"moved"}),
    ("51.5074|-0.1278|1,48.8566|2.3522|1", {"london", "paris", "moved"}),
    ("0|0|30000", {*PLACES, "moved"}),
]


@pytest.mark.parametrize(("near", "wanted"), RULES)
def test_what_lies_within_the_distance(world: httpx.Client, near: str, wanted: set[str]) -> None:
    answer = world.get("Location", params={"near": near, "_count": "50"})
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == wanted


def test_together_with_other_parameters(world: httpx.Client) -> None:
    def found(**params: str) -> list[str]:
        return sorted(entry["resource"]["id"] for entry in world.get("Location", params=params).json().get("entry", []))

    assert found(near="48.8566|2.3522|10", status="active") == ["paris"]
    assert found(**{"near:missing": "true"}) == ["nowhere"]
    assert found(near="48.8566|2.3522|400", _id="london,shanghai") == ["london"]


WRONG = [
    ("48.8", "latitude|longitude"),
    ("91|0|1", "latitude"),
    ("0|181|1", "longitude"),
    ("north|0|1", "latitude"),
    ("0|0|-1", "distance"),
    ("0|0|far", "distance"),
    ("0|0|1|kg", "unit of length"),
    ("0|0|1|leagues", "unit of length"),
    ("0|0|1|km|x", "latitude|longitude"),
]


@pytest.mark.parametrize(("near", "named"), WRONG)
def test_wrong_values_are_refused(world: httpx.Client, near: str, named: str) -> None:
    answer = world.get("Location", params={"near": near})
    assert answer.status_code == 400
    assert named in answer.json()["issue"][0]["diagnostics"]
