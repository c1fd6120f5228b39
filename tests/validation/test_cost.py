"""What hostile content costs: nothing grows faster than the content does, and the checks of ordinary content stay quick."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fhir_server.model import json_codec
from fhir_server.validation.structure import validate
from tests.validation.judge import observation, patient

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


def told(content: str) -> dict[str, Any]:
    return patient(text={"status": "generated", "div": f"{DIV}{content}</div>"})


@pytest.mark.parametrize(
    "hostile",
    [
        patient(**{"x" * 200_000 + str(number): 1 for number in range(100)}),
        patient(**{f"birthDat{number}": 1 for number in range(100_000)}),
        patient(
            contained=[
                {"resourceType": "Organization", "id": f"o{n}", "partOf": {"reference": f"#o{(n + 1) % 30_000}"}} for n in range(30_000)
            ]
        ),
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": f"http://x/Patient/{n}", "resource": patient()} for n in range(50_000)],
        },
        observation(subject={"reference": "http://" + "a/Patient/" * 100_000}),
        observation(subject={"reference": "Patient/" + "a" * 1_000_000}),
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "http://" + "/A/a" * 250_000, "resource": patient()}]},
        patient(language="aa-" + "-".join(["abcde"] * 100_000) + "!"),
        patient(language="aa" + "-a-bb" * 150_000 + "!"),
        patient(photo=[{"contentType": "a/b" + ";  a" * 200_000 + "; "}]),
        patient(maritalStatus={"coding": [{"code": "a " * 400_000 + " "}]}),
        patient(extension=[{"url": "urn:x", "valueOid": "urn:oid:1" + ".1" * 400_000 + "x"}]),
        {"resourceType": "Binary", "contentType": "a/b", "data": "A " * 2_000_000 + "!"},
        observation(effectiveDateTime="2020-01-01T00:00:00." + "1" * 900_000 + "Z"),
        told(' a="' * 500_000),
        told("<img " + 'a="" ' * 500_000),
        told('<img a="" ' * 200_000),
        told("<div>" * 200_000),
        told("href = " * 300_000),
        told('<a href="' + "a/" * 700_000),
        patient(text={"status": "generated", "div": DIV + " \n" * 700_000 + "x</div>"}),
    ],
    ids=range(21),
)
def test_hostile_content_is_judged_in_little_time(hostile: dict[str, Any]) -> None:
    started = time.process_time()
    validate(hostile)
    assert time.process_time() - started < 2


def test_ordinary_content_is_judged_in_less_time_than_it_is_read() -> None:
    """Relative to the parser on the same machine: the check of an Observation costs no more than a few readings of it."""
    resource = observation(
        category=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
        subject={"reference": "Patient/1"},
        encounter={"reference": "Encounter/1"},
        effectiveDateTime="2025-03-01T08:00:00+08:00",
        issued="2025-03-01T08:00:00.000+08:00",
        valueQuantity={"value": 5.4, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        referenceRange=[{"low": {"value": 3.9}, "high": {"value": 6.1}}],
    )
    raw = json_codec.dumps(resource)
    assert validate(resource) == []

    def cost(run: Any) -> float:
        best = 9.0
        for _ in range(5):
            started = time.process_time()
            for _ in range(200):
                run()
            best = min(best, time.process_time() - started)
        return best

    assert cost(lambda: validate(resource)) < 6 * cost(lambda: json_codec.loads(raw))
