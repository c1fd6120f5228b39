"""Observation/$stats: tables calculated by hand or published, and the operation over HTTP.

https://hl7.org/fhir/R4/observation-operation-stats.html
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from fhir_server.model import json_codec
from fhir_server.operations import statistics
from tests.wire.resources import observation, outcome, patient

STRENGTHS = (1345, 1301, 1368, 1322, 1310, 1370, 1318, 1350, 1303, 1299)
TEN = (3, 4, 5, 2, 3, 4, 5, 6, 4, 7)


@pytest.mark.parametrize(
    ("code", "values", "result"),
    [
        # The examples in the vendor's documentation of VAR, STDEV, SKEW, KURT, QUARTILE.INC and PERCENTILE.INC.
        ("variance", STRENGTHS, "754.26666667"),
        ("std-dev", STRENGTHS, "27.46391572"),
        ("skew", TEN, "0.359543071"),
        ("kurtosis", TEN, "-0.151799637"),
        ("4-lower", (1, 2, 4, 7, 8, 9, 10, 12), "3.5"),
        # By hand: 1..6, places 1, 2, 3, 4 of the quintiles and 1.25, 3.75 of the quartiles.
        ("5-1", range(1, 7), "2"),
        ("5-2", range(1, 7), "3"),
        ("5-3", range(1, 7), "4"),
        ("5-4", range(1, 7), "5"),
        ("20-percent", range(1, 7), "2"),
        ("80-percent", range(1, 7), "5"),
        ("4-upper", range(1, 7), "4.75"),
        ("4-dev", range(1, 7), "1.25"),
        ("median", range(1, 7), "3.5"),
        ("median", (5, 1, 9), "5"),
        ("average", (1, 2, 2), "1.66666667"),
        ("sum", (1, 2, 2), "5"),
        ("maximum", (3, 9, 2), "9"),
        ("minimum", (3, 9, 2), "2"),
    ],
)
def test_published_and_hand_calculated_values(code, values, result):
    found = statistics.OF_VALUES[code]([Fraction(value) for value in values])
    assert found is not None
    assert abs(statistics.rounded(found) - Decimal(result)) < Decimal("0.00000001")


def test_decimals_are_exact():
    tenths = [Fraction(Decimal(text)) for text in ("0.1", "0.2", "0.3")]
    assert str(statistics.rounded(statistics.OF_VALUES["sum"](tenths))) == "0.6"
    assert str(statistics.rounded(statistics.OF_VALUES["average"](tenths))) == "0.2"
    assert str(statistics.rounded(statistics.OF_VALUES["variance"](tenths))) == "0.01"
    assert str(statistics.rounded(statistics.OF_VALUES["std-dev"](tenths))) == "0.1"
    assert str(statistics.rounded(Fraction(1200))) == "1200"


def test_what_is_not_defined_is_absent():
    one = [Fraction(1)]
    assert [code for code, of in statistics.OF_VALUES.items() if of(one) is None] == ["std-dev", "variance", "skew", "kurtosis"]
    equal = [Fraction(5)] * 5
    assert statistics.skew(equal) is None and statistics.kurtosis(equal) is None
    assert statistics.regression([Fraction(1)] * 2, [Fraction(1), Fraction(2)]) is None


def test_regression_by_hand():
    # Times 0, 1, 2; values 1, 3, 8: gradient (−1·−3 + 1·4)/2 = 3.5, intercept 4 − 3.5 = 0.5.
    assert statistics.regression([Fraction(n) for n in range(3)], [Fraction(n) for n in (1, 3, 8)]) == (Fraction(7, 2), Fraction(1, 2))


@pytest.fixture
def subject(client):
    return f"Patient/{client.post('Patient', json=patient()).json()['id']}"


def quantity(value: Any, code: str = "/min") -> dict[str, Any]:
    return {"value": value, "unit": code, "system": "http://unitsofmeasure.org", "code": code}


@pytest.fixture
def add(client, subject):
    def store(hour: int, **more: Any) -> str:
        answer = client.post("Observation", json=observation(subject, effectiveDateTime=f"2025-03-01T{hour:02}:00:00Z", **more))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    return store


def answered(answer: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    assert answer.status_code == 200, answer.text
    found = json_codec.loads(answer.content).get("parameter", [])
    return tuple([one["resource"] for one in found if one["name"] == name] for name in ("statistics", "source"))  # type: ignore[return-value]


def values(statistic: dict[str, Any]) -> dict[str, str | None]:
    return {
        component["code"].get("text", component["code"]["coding"][0]["code"]): str(component["valueQuantity"]["value"])
        if "valueQuantity" in component
        else None
        for component in statistic["component"]
    }


HEART = "code=8867-4&system=http://loinc.org"


def test_one_observation_for_each_code_with_a_component_for_each_statistic(client, subject, add):
    for hour, value in enumerate((60, 70, 80)):
        add(hour, valueQuantity=quantity(value))
    ((found,), sources) = answered(
        client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic=average&statistic=max,min&statistic=count&statistic=regression")
    )
    assert found["status"] == "final" and found["subject"] == {"reference": subject}
    assert found["code"]["coding"] == [{"system": "http://loinc.org", "code": "8867-4"}]
    assert found["effectivePeriod"] == {"start": "2025-03-01T00:00:00.000Z", "end": "2025-03-01T02:00:00.000Z"}
    assert values(found) == {
        "average": "70", "maximum": "80", "minimum": "60", "count": "3",
        "gradient per hour": "10", "intercept at 2025-03-01T00:00:00.000Z": "60",
    }  # fmt: skip
    assert found["component"][0]["valueQuantity"]["code"] == "/min"
    assert not sources


def test_the_answer_is_a_valid_resource(client, subject, add):
    add(1)
    ((found,), _) = answered(client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic={','.join(statistics.CODES)}"))
    assert len(found["component"]) == len(statistics.CODES) + 1
    checked = client.post("Observation", content=json_codec.dumps(found), headers={"Content-Type": "application/fhir+json"})
    assert checked.status_code == 201, checked.text


def test_invalid_values_count_in_the_total_only_and_errors_not_at_all(client, subject, add):
    add(1, valueQuantity=quantity(60))
    add(2, valueQuantity={"value": 70})
    add(3, valueQuantity={**quantity(50), "comparator": "<"})
    add(4, valueQuantity=quantity(5, "kg"))
    add(5, valueQuantity=quantity(900), status="entered-in-error")
    ((found,), _) = answered(client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic=count,total-count&include=true"))
    # The newest valid unit is kg; /min is not commensurable with it.
    assert values(found) == {"count": "1", "total-count": "4"}


def test_units_are_converted_into_the_newest_ones(client, subject, add):
    add(1, valueQuantity=quantity(1200, "mg"))
    add(2, valueQuantity=quantity(0.8, "g"))
    ((found,), _) = answered(client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic=average,variance"))
    assert values(found) == {"average": "1", "variance": "0.08"}
    assert [component["valueQuantity"]["code"] for component in found["component"]] == ["g", "(g)2"]


def test_a_panel_stands_for_its_components_and_members(client, subject, add):
    def loinc(code: str) -> dict[str, Any]:
        return {"coding": [{"system": "http://loinc.org", "code": code}]}

    def pressure(hour: int, systolic: int, diastolic: int, **more: Any) -> None:
        parts = [
            {"code": loinc(code), "valueQuantity": quantity(value, "mm[Hg]")}
            for code, value in (("8480-6", systolic), ("8462-4", diastolic))
        ]
        content = {**observation(subject, code=loinc("85354-9"), component=parts, effectiveDateTime=f"2025-03-01T{hour:02}:00:00Z"), **more}
        del content["valueQuantity"]
        assert client.post("Observation", json=content).status_code == 201

    pressure(1, 120, 80)
    member = add(2, code=loinc("8867-4"), valueQuantity=quantity(66))
    pressure(3, 130, 84, hasMember=[{"reference": f"Observation/{member}"}])
    groups, sources = answered(
        client.get(f"Observation/$stats?subject={subject}&coding=http://loinc.org|85354-9&statistic=average&include=true")
    )
    assert {group["code"]["coding"][0]["code"]: values(group)["average"] for group in groups} == {
        "8480-6": "125", "8462-4": "82", "8867-4": "66",
    }  # fmt: skip
    assert len(sources) == 3
    ((one,), _) = answered(client.get(f"Observation/$stats?subject={subject}&coding=http://loinc.org|8480-6&statistic=average"))
    assert values(one) == {"average": "125"}


def test_period_and_duration_and_limit(client, subject, add):
    for hour in range(5):
        add(hour, valueQuantity=quantity(60 + hour))
    body = {"resourceType": "Parameters", "parameter": [
        {"name": "subject", "valueUri": subject},
        {"name": "coding", "valueCoding": {"system": "http://loinc.org", "code": "8867-4"}},
        {"name": "period", "valuePeriod": {"start": "2025-03-01T01:00:00Z", "end": "2025-03-01T03:00:00Z"}},
        {"name": "statistic", "valueCode": "sum"}, {"name": "include", "valueBoolean": True}, {"name": "limit", "valuePositiveInt": 2},
    ]}  # fmt: skip
    ((found,), sources) = answered(client.post("Observation/$stats", json=body))
    assert values(found) == {"sum": "186"}
    assert [source["valueQuantity"]["value"] for source in sources] == [63, 62]
    ((none,), _) = answered(client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic=sum,count&duration=1"))
    assert values(none) == {"sum": None, "count": "0"}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (f"{HEART}&statistic=count", "'subject'"),
        (f"subject=Patient/1&{HEART}", "'statistic'"),
        ("subject=Patient/1&statistic=count", "'code'"),
        (f"subject=Patient/1&{HEART}&statistic=mode", "statistic=mode"),
        (f"subject=everybody&{HEART}&statistic=count", "subject=everybody"),
        (f"subject=Patient/1&{HEART}&statistic=count&duration=-1", "duration=-1"),
        (f"subject=Patient/1&{HEART}&statistic=count&duration=long", "duration=long"),
        (f"subject=Patient/1&{HEART}&statistic=count&period=2025", "period=2025"),
        (f"subject=Patient/1&{HEART}&statistic=count&include=1", "include=1"),
        (f"subject=Patient/1&{HEART}&statistic=count&include=true&limit=0", "limit=0"),
        (f"subject=Patient/1&{HEART}&statistic=count&colour=red", "colour"),
    ],
)
def test_wrong_parameters_are_refused_by_name(client, query, names):
    assert names in outcome(client.get(f"Observation/$stats?{query}"), 400)


def test_limit_is_ignored_without_include(client, subject, add):
    """The definition: without include "the limit parameter SHALL be ignored by the server"."""
    for query in ("", "&include=false"):
        (answer,) = client.get(f"Observation/$stats?subject={subject}&{HEART}&statistic=count{query}&limit=0").json()["parameter"]
        assert answer["name"] == "statistics"


def test_other_methods_are_refused(client):
    outcome(client.put("Observation/$stats", json={}), 405)
