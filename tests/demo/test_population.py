"""The demonstration clinic: invented people with right identity numbers, valid resources, the same for the same seed."""

from __future__ import annotations

import datetime as dt

import pytest

from fhir_server.demo.feed import demo_messages
from fhir_server.demo.people import person
from fhir_server.demo.population import population
from fhir_server.validation.structure import check

NOW = dt.datetime(2026, 3, 2, 9, tzinfo=dt.timezone(dt.timedelta(hours=8)))


def check_character(body: str) -> str:
    """GB 11643-1999: sum of digit times 2^(18-position) modulo 11, looked up in the standard's table."""
    total = sum(int(digit) * (2 ** (17 - position) % 11) for position, digit in enumerate(body))
    return "10X98765432"[total % 11]


@pytest.mark.parametrize("number", range(40))
def test_identity_numbers_have_a_right_check_character_and_an_area_that_does_not_exist(number: int) -> None:
    who = person(number, 7)
    assert who.resident_id[:6] == "990101"
    assert who.resident_id[6:14] == who.birth.strftime("%Y%m%d")
    assert int(who.resident_id[16]) % 2 == int(who.male)
    assert who.resident_id[17] == check_character(who.resident_id[:17])


def test_the_same_seed_gives_the_same_population_and_another_seed_other_people() -> None:
    assert list(population(5, seed=3)) == list(population(5, seed=3))
    assert list(population(5, seed=3)) != list(population(5, seed=4))


def test_every_resource_is_valid_r4() -> None:
    for group in population(20, seed=2, years=2):
        for resource in group:
            check(resource)


def test_references_point_to_resources_that_came_before() -> None:
    seen: set[str] = set()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["reference"]] if isinstance(value.get("reference"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        if isinstance(value, list):
            return [found for inner in value for found in references(inner)]
        return []

    for group in population(10, seed=1):
        for resource in group:
            assert set(references(resource)) <= seen
            seen.add(f"{resource['resourceType']}/{resource['id']}")


def test_the_feed_tells_admission_results_and_discharge_in_order_in_both_charsets() -> None:
    messages = list(demo_messages(3, run="A", now=NOW))
    events = [message.content.decode(message.charset).split("|")[8] for message in messages]
    assert events == ["ADT^A01^ADT_A01"] * 3 + ["ORU^R01^ORU_R01"] * 3 + ["ADT^A03^ADT_A03"] * 3
    assert {message.charset for message in messages} == {"utf-8", "gb18030"}


def test_one_potassium_of_the_feed_is_critical() -> None:
    flags = [
        segment.split("|")[8]
        for message in demo_messages(4, run="A", now=NOW)
        for segment in message.content.decode(message.charset).split("\r")
        if segment.startswith("OBX|1|NM|2823-3")
    ]
    assert flags.count("HH") == 1
    assert len(flags) == 4


def test_control_ids_differ_within_a_run_and_between_runs() -> None:
    def ids(run: str) -> list[str]:
        return [message.content.decode(message.charset).split("|")[9] for message in demo_messages(4, run=run, now=NOW)]

    assert len(set(ids("A"))) == len(ids("A"))
    assert not set(ids("A")) & set(ids("B"))
    assert ids("A") == ids("A")
