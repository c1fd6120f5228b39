"""Codes within dates: the count is the length of the list, whatever the dates look like; without `_sort` the newest date comes first."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import start_server

DAY = dt.timedelta(days=1)
START = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
EVER = (dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC))
MANY = 900
CODES = ("a", "b")


def form(rnd: random.Random) -> tuple[dict[str, Any], tuple[dt.datetime, dt.datetime] | None]:
    """A date of one of the forms of `effective[x]`, and the half-open interval that it means."""
    at = START + dt.timedelta(minutes=rnd.randrange(60 * 24 * 400))
    first = at.replace(hour=0, minute=0)
    kind = rnd.randrange(12)
    if kind < 5:
        return {"effectiveDateTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}, (at, at + dt.timedelta(seconds=1))
    if kind < 7:
        return {"effectiveDateTime": f"{at:%Y-%m-%d}"}, (first, first + DAY)
    if kind < 8:
        month = first.replace(day=1)
        return {"effectiveDateTime": f"{month:%Y-%m}"}, (month, (month + 31 * DAY).replace(day=1))
    if kind == 10:
        return {"effectivePeriod": {"start": f"{first:%Y-%m-%d}"}}, (first, EVER[1])
    if kind == 11:
        return {"effectivePeriod": {"end": f"{first:%Y-%m-%d}"}}, (EVER[0], first + DAY)
    if kind < 9:
        end = first + rnd.randrange(1, 5) * DAY
        return {"effectivePeriod": {"start": f"{first:%Y-%m-%d}", "end": f"{end:%Y-%m-%d}"}}, (first, end + DAY)
    return {}, None


Row = tuple[str, str, tuple[dt.datetime, dt.datetime] | None]


def observation(rnd: random.Random, id: str) -> tuple[dict[str, Any], Row]:
    code = rnd.choice(CODES)
    date, means = form(rnd)
    made = {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [{"system": "urn:c", "code": code}]}, **date}
    return made, (id, code, means)


@pytest.fixture(scope="module", params=[1, 2])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, list[Row]]]:
    """Observations of which some were changed and some are gone, so that old entries lie between those of today."""
    rnd = random.Random(request.param)
    server = start_server(tmp_path_factory.mktemp("dated") / "data", env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    try:
        with server.client() as client:
            rows: dict[str, Row] = {}
            for numbers in (range(MANY), rnd.sample(range(MANY), 40)):
                entries = []
                for number in numbers:
                    made, row = observation(rnd, f"o{number}")
                    rows[row[0]] = row
                    entries.append({"request": {"method": "PUT", "url": f"Observation/{row[0]}"}, "resource": made})
                answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
                assert answer.status_code == 200, answer.text
            for number in rnd.sample(range(MANY), 20):
                assert client.delete(f"Observation/o{number}").status_code in (200, 204)
                del rows[f"o{number}"]
            yield client, list(rows.values())
    finally:
        server.kill()


def meets(prefix: str, low: dt.datetime, high: dt.datetime, of: tuple[dt.datetime, dt.datetime]) -> bool:
    """https://hl7.org/fhir/R4/search.html#prefix"""
    inside = low <= of[0] and of[1] <= high
    tests = {
        "eq": inside, "ne": not inside, "gt": of[1] > high, "lt": of[0] < low, "ge": of[1] > high or inside, "le": of[0] < low or inside,
        "sa": of[0] >= high, "eb": of[1] <= low,
    }  # fmt: skip
    return tests[prefix]


def asked(rnd: random.Random) -> tuple[str, str, dt.datetime, dt.datetime]:
    """A date criterion, and the half-open interval of its value."""
    at = START + dt.timedelta(minutes=rnd.randrange(60 * 24 * 400))
    prefix = rnd.choice(("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"))
    if rnd.random() < 0.4:
        return f"date={prefix}{at:%Y-%m-%dT%H:%M:%SZ}", prefix, at, at + dt.timedelta(seconds=1)
    first = at.replace(hour=0, minute=0)
    if rnd.random() < 0.6:
        return f"date={prefix}{first:%Y-%m-%d}", prefix, first, first + DAY
    month = first.replace(day=1)
    return f"date={prefix}{month:%Y-%m}", prefix, month, (month + 31 * DAY).replace(day=1)


def test_counts_are_the_lengths_of_lists(house: tuple[httpx.Client, list[Row]]) -> None:
    client, rows = house
    rnd = random.Random(7)
    for _ in range(150):
        criteria = [asked(rnd) for _ in range(rnd.choice((1, 1, 2)))]
        code = rnd.choice((*CODES, "", "a,urn:c|b"))
        query = "&".join([*([f"code=urn:c|{code}"] if code else []), *(one[0] for one in criteria)])
        codes = code.replace("urn:c|", "").split(",") if code else CODES
        wanted = {
            id for id, of, means in rows
            if of in codes and means is not None and all(meets(prefix, low, high, means) for _, prefix, low, high in criteria)
        }  # fmt: skip
        assert client.get(f"Observation?{query}&_summary=count").json()["total"] == len(wanted), query
        page = client.get(f"Observation?{query}&_count=1000&_elements=id").json()
        assert {one["resource"]["id"] for one in page.get("entry", [])} == wanted, query


@pytest.mark.parametrize("criteria", ["code=urn:c|a&date=ge2025-03", "date=ge2025-03", "date=lt2025-12&date=ge2025-02", "date=ne2025-05"])
@pytest.mark.parametrize("count", [7, 1000])
def test_without_sort_the_newest_date_comes_first(house: tuple[httpx.Client, list[Row]], criteria: str, count: int) -> None:
    client, rows = house
    begins = {id: means[0] for id, _, means in rows if means is not None}

    def pages(query: str) -> list[str]:
        found, place = [], f"Observation?{query}&_count={count}&_elements=id"
        while place and len(found) < 60:
            bundle = client.get(place).json()
            found += [one["resource"]["id"] for one in bundle["entry"]]
            place = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        return found

    found = pages(criteria)
    assert len(found) == len(set(found)) > 50
    dates = [begins[id] for id in found]
    assert dates == sorted(dates, reverse=True)
    assert found == pages(criteria + "&_sort=-date")
    # what is asked for has its own order
    updated = pages(criteria + "&_sort=_lastUpdated")
    assert updated != found
