"""`$fhirpath` over the wire. Specification: https://github.com/brianpos/fhirpath-lab/blob/develop/server-api.md"""

from __future__ import annotations

from typing import Any

import pytest

PATIENT = {"resourceType": "Patient", "name": [{"family": "A", "given": ["B"]}]}
EXPRESSION = {"name": "expression", "valueString": "name.given"}
RESOURCE = {"name": "resource", "resource": PATIENT}


def asked(client, parameter: Any, **headers: str):
    return client.post("$fhirpath", json={"resourceType": "Parameters", "parameter": parameter}, headers=headers)


def refused(answer) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text[:400]
    (issue,) = answer.json()["issue"]
    assert issue["severity"] == "error"
    return issue


def parts(client, expression: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    answer = asked(client, [{"name": "expression", "valueString": expression}, RESOURCE, *more])
    assert answer.status_code == 200, answer.text[:400]
    return [part for row in answer.json()["parameter"] if row["name"] == "result" for part in row.get("part", ())]


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        (5, "parameter"),
        ({"name": "expression"}, "parameter"),
        ([EXPRESSION, "x"], "parameter"),
        ([EXPRESSION, RESOURCE, {"name": "variables", "part": ["x"]}], "part"),
        ([EXPRESSION, RESOURCE, {"name": "variables", "part": 5}], "part"),
        ([EXPRESSION, RESOURCE, {"name": "variables", "part": [{"name": "a", "extension": ["x"]}]}], "extension"),
        ([EXPRESSION, {"name": "resource", "extension": 5}], "extension"),
        ([EXPRESSION, {"name": "resource", "extension": {"url": "x"}}], "extension"),
    ],
)
def test_parameters_of_another_form_are_refused(client, parameter, name) -> None:
    issue = refused(asked(client, parameter, **{"Accept-Language": "zh"}))
    assert f"'{name}' must be an array of JSON objects" in issue["diagnostics"] and name in issue["details"]["text"]


@pytest.mark.parametrize("expression", ["9" * 5000, "name.given.skip(" + "9" * 5000 + ")", "1.5L", "2147483648"])
def test_numbers_out_of_range_are_no_fhirpath(client, expression) -> None:
    assert "no valid FHIRPath" in refused(asked(client, [{"name": "expression", "valueString": expression}, RESOURCE]))["diagnostics"]


def test_a_trace_shows_its_projection_of_the_input(client) -> None:
    found = parts(client, "name.trace('f', family).given")
    assert [(part["name"], part.get("valueString")) for part in found] == [("string", "B"), ("trace", "f")]
    assert found[1]["part"] == [{"name": "string", "valueString": "A"}]


def test_values_of_another_form_are_evaluated_as_they_are(client) -> None:
    odd = {
        "name": "variables",
        "part": [{"name": "v", "valueString": "x", "_valueString": 5}, {"name": "w", "valueQuantity": {"value": [1]}}],
    }
    assert parts(client, "%v.extension", odd) == [] and parts(client, "%v", odd) == [{"name": "string", "valueString": "x"}]
    answer = asked(client, [{"name": "expression", "valueString": "%w > 5 'mg'"}, RESOURCE, odd])
    assert answer.status_code == 422 and "no order for an element with parts" in answer.text


def test_the_boundary_of_a_number_beyond_28_digits_is_empty(client) -> None:
    assert parts(client, f"{'1' * 29}.5.lowBoundary()") == []
