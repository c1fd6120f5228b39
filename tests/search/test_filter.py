"""`_filter`: expressions over the same parameters as any search.

Specification: https://hl7.org/fhir/R4/search_filter.html (the examples of its introduction are among the rules)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.search.stocked import stocked

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"


def patient(id: str, family: str, *given: str, birth: str | None = None, gender: str | None = None) -> dict[str, Any]:
    more = {name: value for name, value in (("birthDate", birth), ("gender", gender)) if value}
    return {"resourceType": "Patient", "id": id, "name": [{"family": family, "given": list(given)}], **more}


def observation(id: str, subject: str, code: str, value: float | None = None, **more: Any) -> dict[str, Any]:
    quantity = {"valueQuantity": {"value": value, "system": UCUM, "code": "mmol/L"}} if value is not None else {}
    about = {"subject": {"reference": f"Patient/{subject}"}, "code": {"coding": [{"system": LOINC, "code": code}]}}
    return {"resourceType": "Observation", "id": id, "status": "final", **about, **quantity, **more}


RESOURCES = [
    patient("peter", "Peters", "Peter", birth="2014-10-11", gender="male"),
    patient("old", "Smith", "Peter", "James", birth="1950-01-02", gender="male"),
    patient("petra", "Carpet", "Petra", birth="2015", gender="female"),
    patient("none", "O'Neil (Jr)", "Ann"),
    {
        "resourceType": "ValueSet", "id": "vs", "url": "http://example.org/vs", "status": "active",
        "compose": {"include": [{"system": LOINC, "concept": [{"code": "12907-2"}]}]},
    },
    observation("sodium", "peter", "12907-2", 151), observation("low", "peter", "12907-2", 140),
    observation("other", "old", "1234-5", 200, effectivePeriod={"start": "2026-03-01", "end": "2026-03-10"}),
    observation("whole", "petra", "1234-5", hasMember=[{"reference": "Observation/sodium"}], effectiveDateTime="2026-03-05"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with stocked(tmp_path_factory.mktemp("filter"), RESOURCES, env={"FHIR_SERVER_TIME_ZONE": "UTC"}) as client:
        yield client


RULES = [
    # the specification's examples
    ("Patient", 'name co "pet"', "peter old petra"),
    ("Patient", 'given eq "peter" and birthdate ge 2014-10-10', "peter"),
    ("Observation", f"code eq {LOINC}|1234-5", "other whole"),
    ("Observation", 'subject.name co "pet"', "sodium low other whole"),
    ("Observation", "has-member re Observation/sodium", "whole"),
    ("Observation", f"subject.id eq peter and code-value-quantity eq {LOINC}|12907-2$gt150|{UCUM}|mmol/L", "sodium"),
    # strings: whole, beginning, end; never by case
    ("Patient", "family eq PETERS", "peter"), ("Patient", "family eq peter", ""), ("Patient", "family sw pet", "peter"),
    ("Patient", "family ew pet", "petra"), ("Patient", 'family eq "o\'neil (jr)"', "none"), ("Patient", "given ne Ann", "peter old petra"),
    # tokens
    ("Patient", "gender eq male", "peter old"), ("Patient", "gender ne male", "petra"), ("Patient", "gender pr false", "none"),
    ("Patient", "gender pr true", "peter old petra"),
    ("Observation", "code in http://example.org/vs", "sodium low"), ("Observation", "code ni http://example.org/vs", "other whole"),
    # dates, quantities
    ("Patient", "birthdate lt 1960", "old"), ("Patient", "birthdate eq 2015", "petra"),
    ("Patient", "birthdate gt 2014-10-10", "peter petra"),
    ("Observation", "date po 2026-03-10", "other"), ("Observation", "date po 2026-03", "other whole"),
    ("Observation", "date sa 2026-03-04", "whole"),
    ("Observation", f"value-quantity gt 150|{UCUM}|mmol/L", "sodium other"), ("Observation", "value-quantity le 140", "low"),
    # and binds closer than or; brackets; not
    ("Patient", "gender eq female or gender eq male and birthdate lt 1960", "petra old"),
    ("Patient", "(gender eq female or gender eq male) and birthdate lt 1960", "old"),
    ("Patient", "not (gender eq male)", "petra none"),
    ("Patient", "not(gender eq male) AND NOT (gender eq female)", "none"),
    # chains, with a test on what lies between; _has
    ("Observation", "subject:Patient.gender eq female", "whole"),
    ("Observation", 'subject:Patient[gender eq male and birthdate gt 2000].name co "pet"', "sodium low"),
    ("Observation", "has-member:Observation.subject:Patient.family eq peters", "whole"),
    ("Patient", f"_has:Observation:patient:code eq {LOINC}|12907-2", "peter"),
    ("Patient", "_id eq old", "old"), ("Patient", "_id ne old", "peter petra none"),
    ("Observation", "subject eq Patient/old", "other"), ("Observation", "subject re Patient/old", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "expression", "wanted"), RULES)
def test_what_is_found(ward: httpx.Client, type: str, expression: str, wanted: str) -> None:
    answer = ward.get(type, params={"_filter": expression})
    assert answer.status_code == 200, answer.text
    assert {entry["resource"]["id"] for entry in answer.json().get("entry", [])} == set(wanted.split())


def test_together_with_other_parameters_and_in_pages(ward: httpx.Client) -> None:
    answer = ward.get("Patient", params={"_filter": "gender pr true", "birthdate": "gt2000", "_sort": "birthdate", "_count": 1}).json()
    assert [entry["resource"]["id"] for entry in answer["entry"]] == ["peter"]
    following = next(link["url"] for link in answer["link"] if link["relation"] == "next")
    assert [entry["resource"]["id"] for entry in ward.get(following).json()["entry"]] == ["petra"]


WRONG = [
    ("nam eq x", "'name'"), ("name", "operator"), ("name eq", "value"), ("name equals x", "equals"), ("name gt x", "gt"),
    ("gender co male", "co"), ('name eq "x', "quote"), ("(name eq x", "')'"), ("name eq x)", "')'"), ("name eq x gender eq y", "gender"),
    ("birthdate eq soon", "soon"), ("gender pr maybe", "maybe"), ("and", "operator"), ("name.given eq x", "name"),
    ("(" * 200 + "name eq x" + ")" * 200, "brackets"), (" or ".join(["name eq x"] * 500), "tests"),
    ("general-practitioner[active eq true] eq x", "square"), ("link.link.link.link.link.link.link.link eq x", "names"),
    ("gender in http://example.org/nowhere", "nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "named"), WRONG)
def test_wrong_expressions_are_refused(ward: httpx.Client, expression: str, named: str) -> None:
    answer = ward.get("Patient", params={"_filter": expression})
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["issue"][0]["diagnostics"]
