"""Failures of search known from other servers, each asked over the wire of a real process. https://hl7.org/fhir/R4/search.html

Those that show with many resources, under writes or over a restart are in test_known_failures_at_work.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import start_server
from tests.wire.resources import coded, included, link, matches, outcome, pages, seen, unique

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"


def weighed(id: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    return seen(id, coded("w"), valueQuantity={"value": value, "system": UCUM, "code": unit}, **more)


def dated(id: str, **when: Any) -> dict[str, Any]:
    return seen(id, coded("dated"), **when)


def patient(id: str, family: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, "name": [{"family": family}], **more}


def refers(place: str) -> dict[str, str]:
    return {"reference": place}


CONTENT: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "ward", "name": "Ward", "partOf": refers("Organization/house")},
    {"resourceType": "Organization", "id": "house", "name": "House", "partOf": refers("Organization/ward")},
    patient("a", "Alpha", birthDate="1980-01-01", managingOrganization=refers("Organization/ward")),
    patient("b", "Beta", birthDate="1990-01-01", managingOrganization=refers("Organization/house"),
            identifier=[{"value": "bare"}, {"system": "urn:s", "value": "full"}]),
    patient("c", "Beta", identifier=[{"system": "urn:s", "value": "bare"}]),
    {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "identifier": [{"system": "urn:s", "value": "bare"}]},
    {"resourceType": "Condition", "id": "k", "subject": refers("Patient/a")},
    {"resourceType": "Encounter", "id": "e", "status": "planned", "class": {"code": "AMB"}, "subject": refers("Patient/b")},
    seen("panel", coded("85354-9"), subject=refers("Patient/a"),
         component=[{"code": coded("8480-6"), "valueQuantity": {"value": 120}}]),
    seen("of-b", coded("x", "urn:s"), subject=refers("Patient/b"), encounter=refers("Encounter/e")),
    seen("bare", coded("x", None), subject=refers("Patient/a")),
    seen("of-g", coded("y", "urn:s"), subject=refers("Group/g")),
    weighed("mg5.35", 5.35, "mg"), weighed("mg5.4", 5.4, "mg"), weighed("mg5.44", 5.44, "mg"), weighed("mg5.45", 5.45, "mg"),
    weighed("g0.0054", 0.0054, "g"), weighed("kg5.4", 5.4, "kg"),
    dated("day", effectiveDateTime="2026-03-10"),
    dated("month", effectiveDateTime="2026-03"),
    dated("over", effectivePeriod={"start": "2026-02-20", "end": "2026-03-05"}),
    dated("since", effectivePeriod={"start": "2026-03-20"}),
    dated("until", effectivePeriod={"end": "2026-03-01"}),
    dated("zoned", effectiveDateTime="2026-05-01T23:30:00Z"),
    dated("local", effectiveDateTime="2026-05-01"),
]  # fmt: skip


@pytest.fixture(scope="module")
def asks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The site is in Shanghai, the machine in New York."""
    server = start_server(
        tmp_path_factory.mktemp("known") / "data", env={"FHIR_SERVER_TIME_ZONE": "Asia/Shanghai", "TZ": "America/New_York"}
    )
    try:
        with server.client() as client:
            entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in CONTENT]
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
            assert answer.status_code == 200, answer.text
            yield client
    finally:
        server.kill()


# --- 1


@pytest.mark.parametrize(
    ("place", "wrong", "right"),
    [
        ("Patient?famly=x", "famly", "family"),
        ("Observation?subject:Patient.famly=x", "famly", "family"),
        ("Patient?_has:Observation:patient:cod=x", "cod", "code"),
        ("Patient/a/Observation?cod=x", "cod", "code"),
    ],
)
def test_failure_1_a_misspelt_parameter_is_named_with_a_suggestion(asks, place, wrong, right):
    """1. Misspelt parameter returns everything."""
    told = outcome(asks.get(place), 400)
    assert f"'{wrong}'" in told
    assert f"'{right}'" in told
    path, _, query = place.partition("?")
    posted = asks.post(f"{path}/_search", content=query, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert outcome(posted, 400) == told


def test_failure_1_a_misspelt_condition_writes_nothing(asks):
    """1. Misspelt parameter returns everything: as a condition it would change anything, lenient or not."""
    before = sorted(matches(asks, "Patient?_count=1000"))
    one = {"resourceType": "Patient", "name": [{"family": "Never"}]}
    for prefer in ("handling=strict", "handling=lenient"):
        asked = {"Prefer": prefer}
        assert "famly" in outcome(asks.post("Patient", json=one, headers={**asked, "If-None-Exist": "famly=Never"}), 400)
        assert "famly" in outcome(asks.put("Patient?famly=Never", json=one, headers=asked), 400)
        assert "famly" in outcome(asks.delete("Patient?famly=Alpha", headers=asked), 400)
    entry = {"request": {"method": "GET", "url": "Patient?famly=x"}}
    answer = asks.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]}).json()["entry"][0]["response"]
    assert answer["status"].startswith("400")
    assert "famly" in str(answer["outcome"])
    assert sorted(matches(asks, "Patient?_count=1000")) == before


def test_failure_1_lenient_handling_says_what_it_left_out(asks):
    """1. Misspelt parameter returns everything: ignoring it needs to be asked for, and is said."""
    bundle = asks.get("Patient?famly=x&family=Alpha", headers={"Prefer": "handling=lenient"}).json()
    assert [one["resource"]["id"] for one in bundle["entry"] if one["search"]["mode"] == "match"] == ["a"]
    assert "famly" in str([one for one in bundle["entry"] if one["search"]["mode"] == "outcome"])
    assert "famly" not in link(bundle, "self")
    assert "family=Alpha" in link(bundle, "self")


# --- 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03", "day month"),
        ("2026-03-10", "day"),
        ("ne2026-03", "over since until"),
        ("gt2026-03", "since"),
        ("lt2026-03", "over until"),
        ("ge2026-03", "day month since"),
        ("le2026-03", "day month over until"),
        ("sa2026-03-15", "since"),
        ("eb2026-03-06", "over until"),
    ],
)
def test_failure_2_dates_by_prefix_with_open_periods(asks, value, expected):
    """2. Date `eq` as overlap. R4 3.1.1.4.7: eq is containment; gt and lt ask for the range above and below; an open side has no bound."""
    assert sorted(matches(asks, f"Observation?code=dated&date={value}&_id=day,month,over,since,until")) == sorted(expected.split())


# --- 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [("|x", "bare"), ("x", "bare of-b"), ("urn:s|x", "of-b"), ("urn:s|", "of-b of-g"), ("|x,urn:s|y", "bare of-g"), ("|y", "")],
)
def test_failure_3_a_bar_before_a_code_means_no_system(asks, value, expected):
    """3. `|code` treated as `code`."""
    assert sorted(matches(asks, f"Observation?code={value}")) == expected.split()


def test_failure_3_for_identifiers_too(asks):
    """3. `|code` treated as `code`."""
    assert matches(asks, "Patient?identifier=|bare") == ["b"]
    assert sorted(matches(asks, "Patient?identifier=bare")) == ["b", "c"]
    assert matches(asks, "Patient?identifier=|full") == []
    assert sorted(matches(asks, "Patient?_id=b,c&identifier:not=|bare")) == ["c"]


# --- 4


@pytest.mark.parametrize(("parameter", "expected"), [("code", []), ("component-code", ["panel"]), ("combo-code", ["panel"])])
def test_failure_4_code_does_not_look_into_components(asks, parameter, expected):
    """4. `code=8480-6` finds a blood-pressure panel that only has it in a component (must be 0; `combo-code` finds it)."""
    assert matches(asks, f"Observation?{parameter}=8480-6") == expected
    assert matches(asks, f"Observation?{parameter}={LOINC}|8480-6") == expected


# --- 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"5.4|{UCUM}|mg", "g0.0054 mg5.35 mg5.4 mg5.44"),
        (f"5.40|{UCUM}|mg", "g0.0054 mg5.4"),
        (f"0.0054|{UCUM}|g", "g0.0054 mg5.35 mg5.4 mg5.44"),
        (f"ne5.4|{UCUM}|mg", "kg5.4 mg5.45"),
        (f"gt5.44|{UCUM}|mg", "kg5.4 mg5.45"),
        (f"lt5.4|{UCUM}|mg", "mg5.35"),
        (f"ge5.45|{UCUM}|mg", "kg5.4 mg5.45"),
        ("5.40", "kg5.4 mg5.4"),
        ("5.4||mg", "mg5.35 mg5.4 mg5.44"),
    ],
)
def test_failure_5_quantities_with_units_and_implicit_ranges(asks, value, expected):
    """5. Quantity with unit → 400, or no implicit range (R4 3.1.1.4.11: 5.4 is [5.35, 5.45), 5.40 is [5.395, 5.405))."""
    assert sorted(matches(asks, f"Observation?code=w&value-quantity={value}")) == expected.split()


# --- 6


def test_failure_6_includes_of_everything(asks):
    """6. `_revinclude=*` → 500."""
    assert included(asks, "Patient?_id=a&_revinclude=*") == {"Observation/panel", "Observation/bare", "Condition/k"}
    assert included(asks, "Observation?_id=panel&_include=*") == {"Patient/a"}
    assert included(asks, "Patient?_id=c&_revinclude=*&_include=*") == set()


def test_failure_6_includes_iterate_and_come_to_an_end(asks):
    """6. `_revinclude=*` → 500: nor with :iterate over two organizations that are part of each other, nor does it change the count."""
    both = {"Organization/ward", "Organization/house"}
    once = "Observation?_id=panel&_include=*&_include:iterate=Patient:organization"
    assert included(asks, once) == {"Patient/a", "Organization/ward"}
    assert included(asks, once + "&_include:iterate=Organization:partof") == {"Patient/a", *both}
    assert included(asks, "Observation?_id=panel&_include:iterate=*") == {"Patient/a", *both}
    assert included(asks, "Organization?_id=ward&_revinclude:iterate=Organization:partof") == {"Organization/house"}
    back = "Organization?_id=house&_revinclude=Patient:organization&_revinclude:iterate=Observation:patient"
    assert included(asks, back) == {"Patient/b", "Observation/of-b"}
    assert "Observation/panel" in included(asks, "Organization?_id=ward&_revinclude:iterate=*")
    for place in (once, back):
        assert asks.get(f"{place}&_total=accurate").json()["total"] == 1


# --- 14


def test_failure_14_a_compartment_holds_its_own_only(asks):
    """14. Compartment search returns other types unfiltered."""
    assert sorted(matches(asks, "Patient/a/Observation")) == ["bare", "panel"]
    assert matches(asks, "Patient/b/Observation") == ["of-b"]
    assert matches(asks, "Encounter/e/Observation") == ["of-b"]
    assert sorted(matches(asks, "Patient/a/*")) == ["a", "bare", "k", "panel"]
    assert sorted(matches(asks, "Patient/b/*")) == ["b", "e", "of-b"]
    assert matches(asks, "Patient/nobody/Observation") == []
    assert asks.get("Patient/a/Observation?_summary=count").json()["total"] == 2
    posted = asks.post("Patient/a/Observation/_search", data={"code": "|x"})
    assert [one["resource"]["id"] for one in posted.json()["entry"]] == ["bare"]


@pytest.mark.parametrize("place", ["Patient/a/Organization", "Patient/a/Medication", "Encounter/e/Patient", "Organization/ward/Patient"])
def test_failure_14_a_type_outside_of_it_is_refused(asks, place):
    """14. Compartment search returns other types unfiltered."""
    told = outcome(asks.get(place), 400)
    assert "compartment" in told


# --- 16


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?patient.family=Alpha", "bare panel"),  # only a Patient is possible
        ("Observation?encounter.patient.family=beta", "of-b"),
        ("Observation?patient.organization.partof.name=house", "bare panel"),
        ("Observation?patient.organization.partof.partof.partof.name=house", "bare panel"),
        ("Observation?subject:Patient.identifier=urn:s|bare", ""),
        ("Observation?subject:Group.identifier=urn:s|bare", "of-g"),
        ("Observation?subject.identifier=bare", "of-b of-g"),  # of whatever type the subject is
        ("Observation?subject:Group.identifier=bare&subject:Patient.identifier=bare", ""),
        ("Patient?_has:Observation:patient:code=urn:s|x", "b"),
        ("Organization?_has:Patient:organization:_has:Observation:patient:code=urn:s|x", "house"),
        ("Organization?_has:Patient:organization:_has:Condition:subject:_id=k", "ward"),
        ("Observation?patient._has:Condition:subject:_id=k", "bare panel"),
        ("Organization?_has:Patient:organization:family=Alpha,Beta&name=House", "house"),
    ],
)
def test_failure_16_a_chain_needs_no_type_where_one_is_possible(asks, query, expected):
    """16. A chain needs a type where only one is possible."""
    assert sorted(matches(asks, query)) == expected.split()


# --- 17


@pytest.fixture(scope="module")
def sortable(asks: httpx.Client) -> str:
    """A code that six Observations share: n is their place, and what is missing differs."""
    code = unique("sort")
    rows: list[dict[str, Any]] = [
        {"effectiveDateTime": "2026-01-02", "valueQuantity": {"value": 10}, "subject": refers("Patient/b")},
        {"effectiveDateTime": "2026-01-01T08:00:00Z", "valueQuantity": {"value": 9}, "subject": refers("Patient/a")},
        {"effectiveDateTime": "2026-01-02", "valueQuantity": {"value": 100}},
        {"valueQuantity": {"value": -1}},
        {"effectiveDateTime": "2025"},
        {},
    ]
    for number, row in enumerate(rows):
        one = seen(f"s{number}", coded(code), status="amended" if number % 2 else "final", **row)
        assert asks.put(f"Observation/s{number}", json=one).status_code == 201
    return code


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("date,_id", "s4 s1 s0 s2 s3 s5"),
        ("-date,_id", "s0 s2 s1 s4 s3 s5"),
        ("-date,-value-quantity,-_id", "s2 s0 s1 s4 s3 s5"),
        ("value-quantity,_id", "s3 s1 s0 s2 s4 s5"),  # numbers, not texts: 9 comes before 10
        ("-value-quantity,-_id", "s2 s0 s1 s3 s5 s4"),
        ("status,-_id", "s5 s3 s1 s4 s2 s0"),
        ("status,-date,_id", "s1 s3 s5 s0 s2 s4"),
        ("patient,-_id", "s1 s0 s5 s4 s3 s2"),
        ("-_id", "s5 s4 s3 s2 s1 s0"),
        ("_lastUpdated", "s0 s1 s2 s3 s4 s5"),
        ("-_lastUpdated", "s5 s4 s3 s2 s1 s0"),
    ],
)
def test_failure_17_sort_by_several_keys_missing_last(asks, sortable, sort, expected):
    """17. Sort only by id."""
    place = f"Observation?code={sortable}&_sort={sort}"
    assert matches(asks, place) == expected.split()
    paged = [id for page in pages(asks, f"{place}&_count=2") for id in page]
    assert paged == expected.split()


def test_failure_17_sort_by_names(asks):
    """17. Sort only by id."""
    assert matches(asks, "Patient?_id=a,b,c&_sort=-family,birthdate") == ["b", "c", "a"]
    assert matches(asks, "Patient?_id=a,b,c&_sort=-birthdate") == ["b", "a", "c"]


# --- 24


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-05-01", "local"),
        ("2026-05-02", "zoned"),  # 23:30 UTC is 07:30 of the next day in Shanghai
        ("2026-05-01T23:30:00Z", "zoned"),
        ("2026-05-02T07:30:00", "zoned"),
        ("2026-05-02T07:30:00+08:00", "zoned"),
        ("lt2026-05-01T16:00:00Z", "local"),  # the day ends at 16:00 UTC
        ("sa2026-05-01T15:59:58Z", "zoned"),
        ("ge2026-04-30T16:00:00Z", "local zoned"),  # and begins at 16:00 UTC of the day before
    ],
)
def test_failure_24_dates_without_a_zone_are_in_that_of_the_site(asks, value, expected):
    """24. Zone-less date off by the server's zone."""
    assert sorted(matches(asks, f"Observation?_id=local,zoned&date={quote(value)}")) == expected.split()


def test_failure_24_a_birth_date_is_the_day_that_was_sent(asks):
    """24. Zone-less date off by the server's zone."""
    assert matches(asks, "Patient?_id=a,b,c&birthdate=1980-01-01") == ["a"]
    for value in ("1979-12-31", "1980-01-02", "lt1980-01-01", "1979", "sa1980-01-01&birthdate=lt1990"):
        assert matches(asks, f"Patient?_id=a,b,c&birthdate={value}") == []
