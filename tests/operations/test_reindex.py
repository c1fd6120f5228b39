"""$reindex over HTTP and `fhir-server reindex`: durable work whose state is told, and never "completed" with nothing indexed.

Specification: https://hl7.org/fhir/R4/async.html; rest-search.md section 4, failure 21.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, Server
from tests.storage.sqlite.invariants import faults

Start = Callable[..., Server]
MANY = 900


def fill(server: Server, many: int = MANY) -> int:
    """Resources to index; the number of all that the store holds then, with what the product brings along."""
    with server.client() as client:
        for begin in range(0, many, 300):
            made = [
                {"resourceType": "Patient", "id": f"p{n}", "name": [{"family": f"F{n}"}], "gender": ("male", "female")[n % 2]}
                for n in range(begin, min(begin + 300, many))
            ]
            entries = [{"request": {"method": "PUT", "url": f"Patient/{one['id']}"}, "resource": one} for one in made]
            assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code == 200
        assert client.put("Organization/o1", json={"resourceType": "Organization", "id": "o1", "name": "House"}).status_code == 201
        return int(client.get("", params={"_lastUpdated": "ge2000", "_summary": "count"}).json()["total"])


def begun(client: httpx.Client, path: str = "$reindex", **parameters: str) -> str:
    rows = [{"name": name, "valueCode" if name != "url" else "valueUri": value} for name, value in parameters.items()]
    content: dict[str, Any] = {"resourceType": "Parameters", **({"parameter": rows} if rows else {})}
    answer = client.post(path, json=content)
    assert answer.status_code == 202, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    return answer.headers["Content-Location"]


def finished(client: httpx.Client, place: str) -> dict[str, Any]:
    """The report of work, after which it is complete; before, each look tells how far it is."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = client.get(place)
        assert answer.status_code in (200, 202), answer.text
        found = {one["name"]: one.get("valueInteger", one.get("valueCode", one.get("resource"))) for one in answer.json()["parameter"]}
        if answer.status_code == 200:
            assert found["state"] == "completed"
            return found
        assert found["state"] == "running"
        assert re.fullmatch(r"\d+ of \d+ resources indexed \(\d+ %\)", answer.headers["X-Progress"])
        assert int(answer.headers["Retry-After"]) > 0
        time.sleep(0.02)
    raise AssertionError("it did not come to an end")


def gender(client: httpx.Client) -> httpx.Response:
    return client.get("Patient", params={"gender": "male", "_summary": "count"})


@pytest.fixture(scope="module")
def filled(server: Server) -> Server:
    fill(server)
    return server


def test_the_whole_index_is_made_anew_while_reads_and_writes_go_on(filled: Server) -> None:
    with filled.client() as client:
        total = client.get("", params={"_lastUpdated": "ge2000", "_summary": "count"}).json()["total"]
        place = begun(client)
        assert place.startswith(filled.base)
        refused = 0
        for n in range(10):
            assert client.get("Patient/p7").status_code == 200
            assert client.get("Patient/p7/_history").status_code == 200
            assert client.put(f"Patient/p{n}", json={"resourceType": "Patient", "id": f"p{n}", "gender": "male"}).status_code == 200
            answer = gender(client)
            if answer.status_code == 503:
                refused += 1
                assert re.search(r"\d+ of \d+ resources indexed", answer.json()["issue"][0]["diagnostics"])
                assert int(answer.headers["Retry-After"]) > 0
            else:
                assert answer.json()["total"] == 450 + (n + 1) // 2
        report = finished(client, place)
        assert refused
        # Resources that were replaced before their turn came are indexed by their own write.
        assert total - 10 <= report["indexed"] == report["total"] <= total and report["errors"] == 0
        assert f"{report['indexed']} resources indexed" in report["outcome"]["issue"][0]["diagnostics"]
        assert gender(client).json()["total"] == 455


@pytest.mark.parametrize(
    ("path", "parameters", "indexed"),
    [
        ("Patient/$reindex", {}, MANY),
        ("$reindex", {"type": "Organization"}, 1),
        ("$reindex", {"url": "http://hl7.org/fhir/SearchParameter/Patient-active"}, MANY),
        ("$reindex", {"type": "Organization", "code": "partof"}, 1),
        ("Observation/$reindex", {}, 0),
    ],
)
def test_types_are_indexed_in_place_and_searches_go_on(filled: Server, path: str, parameters: dict[str, str], indexed: int) -> None:
    with filled.client() as client:
        place = begun(client, path, **parameters)
        for _ in range(5):
            assert gender(client).status_code == 200
        report = finished(client, place)
        assert (report["indexed"], report["total"], report["errors"]) == (indexed, indexed, 0)
        listed = client.get("$reindex").json()["parameter"]
        assert place.endswith(f"={listed[0]['part'][0]['valueInteger']}")


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("$reindex", [{"name": "type", "valueCode": "Pation"}], 400, "Pation"),
        ("$reindex", [{"name": "typ", "valueCode": "Patient"}], 400, "typ"),
        ("Patient/$reindex", [{"name": "type", "valueCode": "Observation"}], 400, "Patient"),
        ("$reindex", [{"name": "url", "valueUri": "http://nowhere.example"}], 400, "nowhere"),
        ("Patient/p1/$reindex", [], 400, "instance"),
    ],
)
def test_what_cannot_be_indexed_is_named(filled: Server, path: str, content: list[dict[str, Any]], status: int, words: str) -> None:
    with filled.client() as client:
        body: dict[str, Any] = {"resourceType": "Parameters", **({"parameter": content} if content else {})}
        answer = client.post(path, json=body)
        assert answer.status_code == status and words in answer.text
        assert client.get("$reindex?job=4711").status_code == 404
        assert client.get("$reindex?job=x").status_code == 400


def test_work_goes_on_after_kill_minus_9(start: Start) -> None:
    server = start()
    total = fill(server, 3000)
    with server.client() as client:
        place = begun(client).removeprefix(server.base)
        again = begun(client).removeprefix(server.base)
        assert again == place  # it joins
        while int(client.get(server.base + place).headers.get("X-Progress", "0").split()[0]) < 300:
            time.sleep(0.01)
    server.kill()
    again = start(data_dir=server.data_dir)
    with again.client() as client:
        report = finished(client, again.base + place)
        assert report["indexed"] == report["total"] == total and report["errors"] == 0
        assert gender(client).json()["total"] == 1500
    assert again.stop() == 0
    assert faults(server.data_dir / "fhir.db") == []


def test_an_upgrade_of_the_rules_does_not_hold_up_the_start(start: Start) -> None:
    server = start("--workers", "2", env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    total = fill(server, 3000)
    server.stop()
    again = start("--workers", "2", data_dir=server.data_dir, env={"FHIR_SERVER_TIME_ZONE": "Asia/Shanghai"})
    with again.client() as client:
        # Searches are refused or right; how many are refused depends on how long the workers took to start.
        for _ in range(2000):
            assert httpx.get(f"{again.base}/Patient/p7").status_code == 200
            answer = gender(client)
            if answer.status_code == 200:
                break
            assert answer.status_code == 503 and "being made anew" in answer.text
            assert client.get("metadata").status_code == 200, "what the server can do is told all the same"
        assert answer.status_code == 200 and answer.json()["total"] == 1500
        (work,) = client.get("$reindex").json()["parameter"]
        found = {one["name"]: one.get("valueInteger", one.get("valueCode")) for one in work["part"]}
        assert (found["state"], found["indexed"], found["total"]) == ("completed", total, total)
        state = httpx.get(f"{again.root}/health/ready").json()["store"]
        assert state["indexing"] == []


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fhir_server.cli", "reindex", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_indexes_a_folder_or_asks_a_server(start: Start, tmp_path: Path) -> None:
    server = start()
    total = fill(server)
    done = run("--url", server.base)
    assert done.returncode == 0 and f"{total} resources indexed" in done.stdout, done.stderr
    done = run("--data-dir", str(server.data_dir), "--type", "Patient")
    assert done.returncode == 0 and f"{MANY} resources indexed" in done.stdout, done.stderr
    done = run("--url", server.base, "--type", "Pation")
    assert done.returncode == 2 and "Pation" in done.stderr
    server.stop()
    db = sqlite3.connect(server.data_dir / "fhir.db")
    db.execute("DELETE FROM posting")
    db.commit()
    db.close()
    assert faults(server.data_dir / "fhir.db") != []
    done = run("--data-dir", str(server.data_dir), "--quiet")
    assert done.returncode == 0 and f"{total} resources indexed" in done.stdout, done.stderr
    assert faults(server.data_dir / "fhir.db") == []
    assert run("--url", "http://127.0.0.1:9/fhir").returncode == 2
    done = run("--data-dir", str(tmp_path / "nothing"))
    assert done.returncode == 2 and "holds no store" in done.stderr and not (tmp_path / "nothing").exists()
