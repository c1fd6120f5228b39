"""Search parameters that a site defines: taken up while the server runs, answered wholly or not at all.

Specification: https://hl7.org/fhir/R4/searchparameter.html; rest-search.md section 2 ("custom SearchParameter at run time").
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fhir_server.model.definitions import definitions
from fhir_server.search.custom import definitions_of
from fhir_server.search.parameters import Registry
from tests.conftest import ROOT, Server, start_server
from tests.storage.sqlite.invariants import faults

UCUM = "http://unitsofmeasure.org"
EYES, NEXT, BORN, MOOD, HOME = (f"http://site.example/{name}" for name in ("eyes", "next-visit", "born-at", "mood", "home"))


def parameter(code: str, kind: str, expression: str, *base: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "id": f"site-{code}",
        "url": f"http://site.example/SearchParameter/{code}",
        "name": code,
        "status": "active",
        "description": code,
        "code": code,
        "base": list(base or ("Patient",)),
        "type": kind,
        "expression": expression,
        **more,
    }


def patient(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "name": [{"family": f"F{number}"}],
        "extension": [
            {"url": EYES, "valueCoding": {"system": "urn:eyes", "code": ("blue", "brown")[number % 2]}},
            {"url": NEXT, "valueDate": f"2026-{number % 12 + 1:02}-15"},
            {"url": BORN, "valueReference": {"reference": f"Organization/o{number % 3}"}},
            {"url": MOOD, "valueString": f"Glad {number}"},
            *([{"url": HOME, "valueQuantity": {"value": number, "unit": "km", "system": UCUM, "code": "km"}}] * (number % 4 > 0)),
        ],
    }  # fmt: skip


MANY = 60
PARAMETERS = [
    parameter("eyes", "token", f"Patient.extension.where(url='{EYES}').value"),
    parameter("next-visit", "date", f"Patient.extension('{NEXT}').value.as(date)"),
    parameter("born-at", "reference", f"Patient.extension('{BORN}').value.as(Reference)", target=["Organization"]),
    parameter("mood", "string", f"Patient.extension('{MOOD}').value.as(string)"),
    parameter("home", "quantity", f"Patient.extension('{HOME}').value.as(Quantity)"),
    parameter("homes", "number", f"Patient.extension('{HOME}').value.as(Quantity).value"),
    parameter("how", "uri", "Patient.extension.url"),
    # As US Core 6.1.0 writes it (us-core-condition-asserted-date); FHIRPath itself says value.as(string).
    parameter("spelt", "string", f"Patient.extension.where(url = '{MOOD}').valueString"),
    parameter("label", "token", "Resource.meta.tag", "Resource"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("custom") / "data")
    with running.client() as client:
        load(client)
        for one in PARAMETERS:
            answer = client.put(f"SearchParameter/{one['id']}", json=one)
            assert answer.status_code == 201, answer.text
        for one in PARAMETERS:
            wait_ready(client, "Patient", one["code"])
    yield running
    running.kill()


def load(client: httpx.Client) -> None:
    made = [{"resourceType": "Organization", "id": f"o{n}", "name": f"House {n}"} for n in range(3)] + [patient(n) for n in range(MANY)]
    entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in made]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


def wait_ready(client: httpx.Client, type: str, code: str, seconds: float = 30) -> list[str]:
    """Until the parameter answers: 503 that names it, and nothing else, before. Gives what was said meanwhile."""
    said = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = client.get(type, params={f"{code}:missing": "false", "_summary": "count"})
        if answer.status_code == 200:
            return said
        issue = answer.json()["issue"][0]
        assert answer.status_code == 503 and f"'{code}'" in issue["diagnostics"] and "resources indexed" in issue["diagnostics"], (
            answer.text
        )
        assert int(answer.headers["Retry-After"]) > 0
        said.append(issue["diagnostics"])
        time.sleep(0.02)
    raise AssertionError(f"{code} did not become ready: {said[-1:]}")


def ids(client: httpx.Client, query: str, mode: str = "match") -> list[str]:
    answer = client.get(query)
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", []) if entry["search"]["mode"] == mode]


def numbered(*numbers: int) -> set[str]:
    return {f"p{number}" for number in numbers}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("eyes=urn:eyes|blue", [n for n in range(MANY) if n % 2 == 0]),
        ("eyes:not=blue", [n for n in range(MANY) if n % 2]),
        ("next-visit=2026-03", [n for n in range(MANY) if n % 12 == 2]),
        ("next-visit=ge2026-11-01&eyes=brown", [n for n in range(MANY) if n % 12 in (10, 11) and n % 2]),
        ("born-at=Organization/o1", [n for n in range(MANY) if n % 3 == 1]),
        ("born-at:Organization.name=House 2", [n for n in range(MANY) if n % 3 == 2]),
        ("born-at.name=house", list(range(MANY))),
        ("mood=glad 7", [7]),
        ("mood:contains=LAD 5", [5, *range(50, 60)]),
        ("mood:exact=Glad 12", [12]),
        ("spelt:exact=Glad 12", [12]),
        ("home=7|http://unitsofmeasure.org|km", [7]),
        ("home=lt3000|http://unitsofmeasure.org|m", [1, 2]),
        ("home:missing=true", [n for n in range(MANY) if n % 4 == 0]),
        ("homes=gt57", [58, 59]),
        (f"how={EYES}", list(range(MANY))),
        ("label:missing=true", list(range(MANY))),
    ],
)  # fmt: skip
def test_every_kind_answers_like_an_official_one(server: Server, query: str, wanted: list[int]) -> None:
    with server.client() as client:
        assert set(ids(client, f"Patient?{query}&_count=1000")) == numbered(*wanted)
        counted = client.get(f"Patient?{query}&_summary=count").json()["total"]
        assert counted == len(wanted)


def test_joins_includes_and_orders_know_it(server: Server) -> None:
    with server.client() as client:
        assert set(ids(client, "Organization?_has:Patient:born-at:eyes=urn:eyes|brown")) == {"o0", "o1", "o2"}
        assert set(ids(client, "Organization?_has:Patient:born-at:mood=glad 7")) == {"o1"}
        assert ids(client, "Patient?mood=glad 7&_include=Patient:born-at", "include") == ["o1"]
        assert len(ids(client, "Organization?_id=o1&_revinclude=Patient:born-at", "include")) == 20
        assert ids(client, "Patient?_sort=-homes&_count=2") == ["p59", "p58"]
        assert ids(client, "Patient?_sort=mood&_count=2") == ["p0", "p1"]
        assert ids(client, "Patient?_sort=next-visit,-mood&_count=1") == ["p48"]


def test_what_is_written_afterwards_is_found_at_once(server: Server) -> None:
    with server.client() as client:
        client.put("Patient/late", json={**patient(101), "id": "late"})
        assert ids(client, "Patient?mood=glad 101") == ["late"]
        client.put("Patient/late", json={**patient(103), "id": "late"})
        assert ids(client, "Patient?mood=glad 101") == [] and ids(client, "Patient?mood=glad 103") == ["late"]
        one = {"resourceType": "Patient", "gender": "other"}
        assert client.post("Patient", json=one, headers={"If-None-Exist": "mood=glad 103"}).status_code == 200
        assert client.delete("Patient?mood=glad 103").status_code in (200, 204)
        assert client.get("Patient/late").status_code == 410
        assert client.get("Patient?mood=glad 1&_total=accurate").json()["total"] == len([n for n in range(MANY) if str(n)[0] == "1"])


def test_the_capability_statement_lists_what_is_ready(server: Server) -> None:
    with server.client() as client:
        resources = {one["type"]: one for one in client.get("metadata").json()["rest"][0]["resource"]}
        listed = {one["name"]: one for one in resources["Patient"]["searchParam"]}
        assert listed["eyes"]["definition"] == "http://site.example/SearchParameter/eyes" and listed["eyes"]["type"] == "token"
        assert "label" in {one["name"] for one in resources["Observation"]["searchParam"]}
        assert "Patient:born-at" in resources["Patient"]["searchInclude"]


@pytest.mark.parametrize(
    ("change", "element", "words"),
    [
        ({"expression": "Patient.name.where("}, "expression", "no FHIRPath"),
        ({"expression": "Patient.nome"}, "expression", "no such element"),
        ({"expression": "Patient.name", "type": "token"}, "expression", "HumanName"),
        ({"expression": None}, "expression", "needs the FHIRPath"),
        ({"base": ["Patient", "Pation"]}, "base[1]", "Pation"),
        ({"code": "a:b"}, "code", "a:b"),
        ({"code": "a.b"}, "code", "a.b"),
        ({"code": "a b&c"}, "code", "a b&c"),
        ({"type": "composite"}, "type", "composite"),
        ({"type": None}, "type", ""),
        ({"target": ["Pation"], "type": "reference", "expression": "Patient.generalPractitioner"}, "target[0]", "Pation"),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(server: Server, change: dict[str, Any], element: str, words: str) -> None:
    wrong = {**parameter("wrong", "string", "Patient.name.text"), **change}
    wrong = {name: value for name, value in wrong.items() if value is not None}
    with server.client() as client:
        answer = client.put("SearchParameter/site-wrong", json=wrong)
        assert answer.status_code in (400, 422), answer.text
        assert any(
            f"SearchParameter.{element}" in issue["expression"] and words in issue["diagnostics"] for issue in answer.json()["issue"]
        ), answer.text
        assert client.get("SearchParameter/site-wrong").status_code == 404
        entry = {"request": {"method": "PUT", "url": "SearchParameter/site-wrong"}, "resource": wrong}
        assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code in (400, 422)
        assert client.get("Patient?wrong=x").status_code == 400


@pytest.mark.parametrize("status", ["draft", "retired", "unknown"])
def test_one_that_is_not_active_is_stored_and_not_served(server: Server, status: str) -> None:
    with server.client() as client:
        one = parameter(f"idle-{status}", "string", "nonsense((", status=status)
        assert client.put(f"SearchParameter/{one['id']}", json=one).status_code == 201
        answer = client.get(f"Patient?idle-{status}=x")
        assert answer.status_code == 400 and "not known" in answer.text


def test_the_official_one_of_the_same_name_stays(server: Server) -> None:
    with server.client() as client:
        one = parameter("gender", "string", "Patient.name.text")
        assert client.put("SearchParameter/site-gender", json=one).status_code == 201
        assert client.get("Patient?gender=female&_summary=count").status_code == 200
        again = parameter("gender", "token", "Group.active", "Group", id="site-group")
        assert client.put("SearchParameter/site-group", json=again).status_code == 201
        wait_ready(client, "Group", "gender")


def test_the_official_ones_ask_for_nothing_when_they_are_stored() -> None:
    """A package may bring all of them, as active as it likes."""
    registry = Registry(definitions())
    checked = 0
    for one in definitions().search_parameters:
        # Some drafts of the official package have no expression, and one is an example that is wrong in itself.
        if not one.expression or one.url.endswith("/example-extension"):
            continue
        stored = parameter(one.code, one.type, one.expression, *one.base, url=one.url)
        assert definitions_of(stored, registry) == ([], []), one.url
        checked += 1
    assert checked > 1_000


def test_two_of_the_same_name_are_refused(server: Server) -> None:
    with server.client() as client:
        answer = client.put("SearchParameter/other-eyes", json={**parameter("eyes", "string", "Patient.name.text"), "id": "other-eyes"})
        assert answer.status_code == 422 and "SearchParameter/site-eyes" in answer.text
        assert client.get("SearchParameter/other-eyes").status_code == 404


def test_a_changed_expression_is_indexed_anew_and_a_deleted_one_is_unknown(server: Server) -> None:
    with server.client() as client:
        one = parameter("title", "string", f"Patient.extension('{MOOD}').value.as(string)")
        assert client.put("SearchParameter/site-title", json=one).status_code == 201
        wait_ready(client, "Patient", "title")
        assert ids(client, "Patient?title=glad 7") == ["p7"]
        assert client.put("SearchParameter/site-title", json={**one, "expression": "Patient.name.family"}).status_code == 200
        wait_ready(client, "Patient", "title")
        assert ids(client, "Patient?title=glad 7") == [] and ids(client, "Patient?title=f7") == ["p7"]
        assert client.put("SearchParameter/site-title", json={**one, "status": "retired"}).status_code == 200
        assert client.get("Patient?title=f7").status_code == 400
        assert client.put("SearchParameter/site-title", json=one).status_code == 200
        wait_ready(client, "Patient", "title")
        assert client.delete("SearchParameter/site-title").status_code == 204
        assert client.get("Patient?title=f7").status_code == 400


def test_an_expression_that_fails_on_a_resource_spares_the_resource(server: Server) -> None:
    with server.client() as client:
        one = parameter("only", "string", "Patient.name.given.single()")
        assert client.put("SearchParameter/site-only", json=one).status_code == 201
        wait_ready(client, "Patient", "only")
        several = {"resourceType": "Patient", "id": "several", "name": [{"given": ["Ann", "Bo"]}]}
        assert client.put("Patient/several", json=several).status_code == 201
        assert client.put("Patient/single", json={**several, "id": "single", "name": [{"given": ["Ann"]}]}).status_code == 201
        assert ids(client, "Patient?only=ann") == ["single"]
        for id in ("several", "single"):
            client.delete(f"Patient/{id}")


def test_the_log_is_told_once_of_an_expression_that_fails(server: Server) -> None:
    """Indexing in the background compiles the expression again and again; the log must not grow with the store."""
    people = [{"resourceType": "Patient", "id": f"pair{n}", "name": [{"given": ["Ann", "Bo"]}]} for n in range(400)]
    entries = [{"request": {"method": "PUT", "url": f"Patient/{one['id']}"}, "resource": one} for one in people]
    gone = [{"request": {"method": "DELETE", "url": f"Patient/{one['id']}"}} for one in people]
    with server.client() as client:
        assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
        assert client.put("SearchParameter/site-lone", json=parameter("lone", "string", "Patient.name.given.single()")).status_code == 201
        wait_ready(client, "Patient", "lone")
        assert client.put("Patient/pair0", json={**people[0], "gender": "male"}).status_code == 200
        assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": gone}).status_code == 200
    assert len([line for line in server.log if "the expression of Patient?lone fails" in line]) == 1


Start = Callable[..., Server]


def test_all_workers_index_and_none_answers_in_part(start: Start) -> None:
    running = start("--workers", "2")
    total = 400
    with running.client() as client:
        for begin in range(0, total, 100):
            entries = [
                {"request": {"method": "PUT", "url": f"Patient/p{n}"}, "resource": patient(n)} for n in range(begin, begin + 100)
            ]  # fmt: skip
            assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
        assert client.post("SearchParameter", json=parameter("mood", "string", f"Patient.extension('{MOOD}').value.as(string)")).is_success
        answers: set[int] = set()
        for turn in range(60):
            # Each request on a connection of its own reaches now this worker, now the other.
            httpx.put(f"{running.base}/Patient/x{turn}", json={**patient(turn), "id": f"x{turn}"}, timeout=30)
            found = httpx.get(f"{running.base}/Patient?mood=glad&_summary=count", timeout=30)
            answers.add(found.status_code)
            assert found.status_code == 503 or (found.status_code == 200 and found.json()["total"] == total + turn + 1), found.text
        assert answers <= {200, 503} and 200 in answers


def test_work_goes_on_after_kill_minus_9(start: Start) -> None:
    total, batch = 3000, 500
    running = start()
    with running.client() as client:
        for begin in range(0, total, batch):
            entries = [{"request": {"method": "PUT", "url": f"Patient/p{n}"}, "resource": patient(n)} for n in range(begin, begin + batch)]
            assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
        one = parameter("eyes", "token", f"Patient.extension('{EYES}').value.as(Coding)")
        assert client.put("SearchParameter/site-eyes", json=one).status_code == 201
        # A quick machine may be done by now: then the answers are whole.
        answer = client.get("Patient?eyes=blue&_summary=count", headers={"Prefer": "handling=lenient"})
        assert answer.status_code == 503 or answer.json()["total"] == total // 2, "lenient must not leave out what will be there soon"
        assert client.post("Patient", json=patient(1), headers={"If-None-Exist": "eyes=blue"}).status_code in (503, 412)
        assert client.get("Patient?_sort=eyes").status_code in (503, 200)
        assert running_state(running) <= {"eyes"}
    running.kill()
    again = start(data_dir=running.data_dir)
    with again.client() as client:
        said = wait_ready(client, "Patient", "eyes")
        assert all(f"of {total} resources indexed" in text for text in said)
        assert client.get("Patient?eyes=blue&_summary=count").json()["total"] == total // 2
    assert again.stop() == 0
    assert faults(running.data_dir / "fhir.db") == []


def running_state(server: Server) -> set[str]:
    store = httpx.get(f"{server.root}/health/ready").json()["store"]
    return {one["code"] for one in store["parameters_not_ready"]}


def test_a_load_takes_parameters_up_and_refuses_wrong_ones(start: Start, tmp_path: Any) -> None:
    lines = [patient(n) for n in range(40)]
    lines.insert(20, parameter("eyes", "token", f"Patient.extension('{EYES}').value.as(Coding)"))
    lines.insert(30, parameter("wrong", "token", "Patient.nome"))
    file = tmp_path / "all.ndjson"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = tmp_path / "store"
    command = [sys.executable, "-m", "fhir_server.cli", "load", str(file), "--data-dir", str(data), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "300"})
    assert done.returncode == 1 and "no such element" in done.stdout, done.stdout + done.stderr
    running = start(data_dir=data)
    with running.client() as client:
        wait_ready(client, "Patient", "eyes")
        assert client.get("Patient?eyes=brown&_summary=count").json()["total"] == 20
        assert client.get("SearchParameter/site-wrong").status_code == 404
        assert client.get("Patient?wrong=x").status_code == 400


def test_a_transaction_may_define_and_write_in_one(start: Start) -> None:
    running = start()
    made = [patient(1), parameter("eyes", "token", f"Patient.extension('{EYES}').value.as(Coding)"), patient(3)]
    entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in made]
    with running.client() as client:
        assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
        wait_ready(client, "Patient", "eyes")
        assert sorted(ids(client, "Patient?eyes=brown")) == ["p1", "p3"]
        twice = [parameter("a", "string", "Patient.name.text"), {**parameter("a", "string", "Patient.name.family"), "id": "other-a"}]
        entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in twice]
        answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
        assert answer.status_code == 422 and "site-a" in answer.text
        assert client.get("SearchParameter/site-a").status_code == 404 and client.get("Patient?a=x").status_code == 400
