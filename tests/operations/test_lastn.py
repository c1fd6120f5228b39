"""Observation/$lastn over HTTP. https://hl7.org/fhir/R4/observation-operation-lastn.html"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.operations.observation_groups import Groups, code_keys
from tests.wire.resources import observation, outcome, patient


def concept(*codes: str, text: str | None = None) -> dict[str, Any]:
    coding = {"coding": [{"system": "urn:codes", "code": code} for code in codes]} if codes else {}
    return {**coding, **({"text": text} if text else {})}


CATEGORY = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}]


@pytest.fixture
def subject(client):
    return f"Patient/{client.post('Patient', json=patient()).json()['id']}"


@pytest.fixture
def add(client, subject):
    """Store an Observation of a code at a time; gives its id."""

    def store(code: dict[str, Any], when: str | None, **more: Any) -> str:
        content = observation(subject, code=code, category=CATEGORY, **more)
        content.pop("effectiveDateTime")
        if when:
            content["effectiveDateTime"] = when
        answer = client.post("Observation", json=content)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    return store


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["type"] == "searchset"
    return [entry["resource"]["id"] for entry in content.get("entry", []) if entry["search"]["mode"] == "match"]


def test_without_max_the_newest_of_each_code_is_given(client, subject, add):
    add(concept("a"), "2024-01-01")
    new_b = add(concept("b"), "2024-02-01")
    new_a = add(concept("a"), "2024-03-01")
    add(concept("a"), "2023-12-31")
    assert ids(client.get(f"Observation/$lastn?patient={subject}&category=vital-signs")) == [new_a, new_b]


def test_max_limits_each_code_newest_first(client, subject, add):
    a = [add(concept("a"), f"2024-01-{day:02}") for day in (3, 1, 2, 4)]
    b = add(concept("b"), "2020-01-01")
    assert ids(client.get(f"Observation/$lastn?subject={subject}&code=a,b&max=3")) == [a[3], a[0], a[2], b]


def test_a_tie_gives_both(client, subject, add):
    add(concept("a"), "2024-01-01")
    first = add(concept("a"), "2024-01-02T08:00:00Z")
    other = add(concept("a"), "2024-01-02T10:00:00+02:00")
    newest = add(concept("a"), "2024-01-03")
    found = ids(client.get(f"Observation/$lastn?patient={subject}&code=a&max=2"))
    assert found[0] == newest and set(found[1:]) == {first, other}
    assert len(ids(client.get(f"Observation/$lastn?patient={subject}&code=a&max=1"))) == 1


@pytest.mark.parametrize(
    ("codes", "groups"),
    [
        ([concept("a"), concept("b"), concept("c")], 3),
        ([concept("a"), concept("b"), concept("a", "c")], 2),
        ([concept("a"), concept("b"), concept("a", "b")], 1),
        ([concept(text="textM"), concept(text="Text"), concept(text="t e x t")], 3),
    ],
)
def test_the_groups_of_the_specifications_table(client, subject, add, codes, groups):
    joined = Groups()
    for code in codes:
        joined.join(code_keys(code))
    assert len({joined.root(code_keys(code)[0]) for code in codes}) == groups
    for day, code in enumerate(codes, 1):
        add(code, f"2024-01-0{day}")
    assert len(ids(client.get(f"Observation/$lastn?patient={subject}&category=vital-signs"))) == groups


def test_more_than_a_page_of_one_code(client, subject, add):
    entries = [
        {
            "request": {"method": "POST", "url": "Observation"},
            "resource": {**observation(subject, code=concept("a")), "effectiveDateTime": f"20{n // 28 % 90:02}-01-{n % 28 + 1:02}"},
        }
        for n in range(1200)
    ]
    assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
    answer = client.get(f"Observation/$lastn?patient={subject}&code=a&max=30")
    times = [entry["resource"]["effectiveDateTime"] for entry in answer.json()["entry"]]
    wanted = sorted((entry["resource"]["effectiveDateTime"] for entry in entries), reverse=True)
    assert times == wanted[:30]


def test_other_parameters_filter_first_and_every_status_counts(client, subject, add):
    final = add(concept("a"), "2024-01-01")
    wrong = add(concept("a"), "2024-02-01", status="entered-in-error")
    assert ids(client.get(f"Observation/$lastn?patient={subject}&code=a")) == [wrong]
    assert ids(client.get(f"Observation/$lastn?patient={subject}&code=a&status=final")) == [final]
    assert ids(client.get(f"Observation/$lastn?patient={subject}&code=a&date=lt2024-01-15")) == [final]


def test_periods_instants_and_no_time_at_all(client, subject, add):
    none = add(concept("a"), None)
    period = add(concept("a"), None, effectivePeriod={"start": "2024-05-01", "end": "2024-05-03"})
    instant = add(concept("a"), None, effectiveInstant="2024-04-01T00:00:00Z")
    assert ids(client.get(f"Observation/$lastn?patient={subject}&code=a&max=9")) == [period, instant, none]


def test_post_and_includes(client, subject, add):
    mine = add(concept("a"), "2024-01-01")
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "patient", "valueString": subject}, {"name": "code", "valueString": "urn:codes|a"}, {"name": "max", "valuePositiveInt": 2},
    ]}  # fmt: skip
    assert ids(client.post("Observation/$lastn", json=body)) == [mine]
    content = client.get(f"Observation/$lastn?patient={subject}&code=a&_include=Observation:patient").json()
    assert [entry["search"]["mode"] for entry in content["entry"]] == ["match", "include"]
    assert content["total"] == 1


def test_no_match_is_an_empty_searchset(client, subject):
    content = client.get(f"Observation/$lastn?patient={subject}&code=none").json()
    assert content["total"] == 0 and "entry" not in content


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("code=a", "'patient' or 'subject'"),
        ("patient=x", "'category'"),
        ("patient=x&status=final", "'category'"),
        ("patient=x&code=a&max=0", "max=0"),
        ("patient=x&code=a&max=many", "max=many"),
        ("patient=x&code=a&max=1&max=2", "max=2"),
        ("patient=x&code=a&_count=3", "_count"),
        ("patient=x&code=a&_sort=date", "_sort"),
        ("patient=x&code=a&colour=red", "colour"),
        ("patient=x&code=a&date=yesterday", "yesterday"),
        ("patient=x&code=", "code"),
    ],
)
def test_wrong_parameters_are_refused_by_name(client, query, names):
    assert names in outcome(client.get(f"Observation/$lastn?{query}"), 400)


def test_other_methods_levels_and_types_are_refused(client):
    outcome(client.delete("Observation/$lastn?patient=x&code=a"), 405)
    outcome(client.get("Observation/1/$lastn?patient=x&code=a"), 400)
    outcome(client.get("Patient/$lastn?patient=x&code=a"), 400)
