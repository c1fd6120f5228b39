"""`fhir-server load` as users run it: into a folder, beside a running server, through one, and after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.storage.sqlite.schema import FILE_NAME
from tests.conftest import ROOT, Server
from tests.interactions.bundles import SYSTEM, batch, bundle, entry, fresh, observation, patient, transaction

COMMAND = [sys.executable, "-m", "fhir_server.cli", "load", "--quiet"]


def load(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def lines(*resources: dict[str, Any]) -> str:
    return "".join(json.dumps(resource) + "\n" for resource in resources)


def report_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def versions(data: Path) -> int:
    """How many versions of resources the store holds."""
    with sqlite3.connect(f"file:{data / FILE_NAME}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT count(*) FROM version").fetchone()[0])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_resources_keep_their_ids_and_can_be_read(tmp_path: Path, data: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "in.ndjson").write_text(lines(patient("v1", id="a"), observation("Patient/a", id="o")))
    load(tmp_path / "in.ndjson", "--data-dir", data)
    with start(data_dir=data).client() as client:
        assert client.get("Patient/a").json()["identifier"][0]["value"] == "v1"
        assert client.get("Observation?subject=Patient/a&_total=accurate").json()["total"] == 1


def test_loading_again_changes_nothing(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ndjson").write_text(lines(*(patient(id=f"p{at}") for at in range(1200)), patient("no id")))
    (folder / "b.json").write_text(json.dumps(transaction(entry("POST", "Patient", patient("from transaction")))))
    (folder / "c.json").write_text(json.dumps(batch(entry("POST", "Patient", patient("from batch")))))
    (folder / "d.json").write_text(json.dumps(bundle("collection", {"fullUrl": "urn:uuid:1", "resource": patient("from collection")})))
    load(folder, "--data-dir", data)
    before = versions(data)
    assert before == 1204
    again = load(folder, "--data-dir", data, "--report", tmp_path / "report.json")
    assert versions(data) == before, again.stdout
    assert report_of(tmp_path)["counts"]["Patient"] == {"unchanged": 1202}
    assert report_of(tmp_path)["bundles_loaded_before"] == 2


def test_what_is_refused_is_reported_with_place_and_reason_and_the_rest_is_loaded(tmp_path: Path, data: Path) -> None:
    content = [
        json.dumps(patient(id="good")),
        json.dumps({"resourceType": "Patient", "id": "bad1", "gender": "maleX"}),
        json.dumps({"resourceType": "Patient", "id": "bad2", "gender": "maleY"}),
        json.dumps({"resourceType": "Patient", "id": "bad3", "birthDate": "2020-02-30"}),
        '{"resourceType": "Patient", "id": "cut',
        json.dumps({"resourceType": "Unknown", "id": "x"}),
        json.dumps({"resourceType": "Patient", "id": "not an id"}),
        json.dumps(patient(id="good2")),
    ]
    (tmp_path / "in.ndjson").write_text("\n".join(content))
    told = load(tmp_path / "in.ndjson", "--data-dir", data, "--report", tmp_path / "report.json", expect=1)
    report = report_of(tmp_path)
    assert report["counts"]["Patient"]["created"] == 2
    assert report["refused"] == 6
    refused = {item["line"]: item for item in report["refused_items"]}
    assert sorted(refused) == [2, 3, 4, 5, 6, 7]
    assert refused[2]["file"] == "in.ndjson"
    assert (refused[2]["type"], refused[2]["id"], refused[2]["elements"]) == ("Patient", "bad1", ["Patient.gender"])
    assert "maleX" in refused[2]["reasons"][0]
    (gender,) = [group for group in report["refused_groups"] if "gender" in group["reason"]]
    assert gender["count"] == 2
    assert "Refused: 6" in told.stdout


def test_transactions_are_atomic_and_resolve_what_was_loaded_before(tmp_path: Path, data: Path, start: Callable[..., Server]) -> None:
    value, trace = fresh(), fresh()
    (tmp_path / "0-first.json").write_text(
        json.dumps(batch(entry("POST", "Patient", patient(value), ifNoneExist=f"identifier={SYSTEM}|{value}")))
    )
    (tmp_path / "good.json").write_text(
        json.dumps(transaction(entry("POST", "Observation", observation(f"Patient?identifier={SYSTEM}|{value}"))))
    )
    bad = transaction(entry("POST", "Patient", patient(trace)), entry("POST", "Observation", observation("Patient?identifier=nobody")))
    (tmp_path / "worse.json").write_text(json.dumps(bad))
    load(tmp_path, "--data-dir", data, "--report", tmp_path / "report.json", expect=1)
    report = report_of(tmp_path)
    assert report["bundles"] == 2
    (refused,) = report["refused_items"]
    assert refused["file"] == "worse.json"
    assert "Bundle.entry[1]" in refused["reasons"][0]
    assert "Patient?identifier=nobody" in refused["reasons"][0]
    with start(data_dir=data).client() as client:
        assert client.get(f"Patient?identifier={trace}&_total=accurate").json()["total"] == 0
        assert client.get(f"Observation?subject.identifier={SYSTEM}|{value}&_total=accurate").json()["total"] == 1


def test_links_inside_a_collection_are_rewritten(tmp_path: Path, data: Path, start: Callable[..., Server]) -> None:
    me = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
    value = fresh()
    content = bundle("collection", {"fullUrl": me, "resource": patient(value)}, {"resource": observation(me, id="o")})
    (tmp_path / "c.json").write_text(json.dumps(content, indent=1))
    load(tmp_path / "c.json", "--data-dir", data)
    with start(data_dir=data).client() as client:
        person = client.get(f"Patient?identifier={value}").json()["entry"][0]["resource"]["id"]
        assert client.get("Observation/o").json()["subject"]["reference"] == f"Patient/{person}"


def test_a_load_beside_a_running_server_is_seen_by_it(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    (tmp_path / "in.ndjson").write_text(lines(*(patient(id=f"p{at}") for at in range(3000))))
    with server.client() as client:
        running = subprocess.Popen([*COMMAND, str(tmp_path / "in.ndjson"), "--data-dir", str(server.data_dir)], cwd=ROOT)
        made = 0
        while running.poll() is None:
            assert client.post("Patient", json=patient(), headers={"Content-Type": "application/fhir+json"}).status_code == 201
            made += 1
        assert running.returncode == 0
        assert client.get("Patient/p2999").status_code == 200
        assert client.get("Patient?_total=accurate&_count=0").json()["total"] == 3000 + made


def test_through_a_running_server(tmp_path: Path, start: Callable[..., Server]) -> None:
    server = start()
    value = fresh()
    bad = {"resourceType": "Patient", "id": "bad", "gender": "maleX"}
    (tmp_path / "in.ndjson").write_text(lines(*(patient(id=f"p{at}") for at in range(250)), bad))
    (tmp_path / "t.json").write_text(json.dumps(transaction(entry("POST", "Patient", patient(value)))))
    options = ["--url", server.base, "--journal", tmp_path / "journal", "--report", tmp_path / "report.json"]
    load(tmp_path / "in.ndjson", tmp_path / "t.json", *options, expect=1)
    report = report_of(tmp_path)
    assert report["counts"]["Patient"]["created"] == 251
    (refused,) = report["refused_items"]
    assert (refused["line"], refused["id"]) == (251, "bad")
    assert "maleX" in refused["reasons"][0]
    load(tmp_path / "in.ndjson", tmp_path / "t.json", *options, expect=1)
    assert report_of(tmp_path)["counts"]["Patient"] == {"updated or unchanged": 250, "refused": 1}
    with server.client() as client:
        assert client.get("Patient/p0").json()["meta"]["versionId"] == "1"
        assert client.get(f"Patient?identifier={value}&_total=accurate").json()["total"] == 1


def test_a_server_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.ndjson").write_text(lines(patient(id="a")))
    monkeypatch.setattr("fhir_server.loading.remote.TRIES", 1)
    from typer.testing import CliRunner

    from fhir_server.commands.load import app

    result = CliRunner().invoke(
        app, [str(tmp_path / "in.ndjson"), "--url", "http://127.0.0.1:9/fhir", "--journal", str(tmp_path / "j"), "--quiet"]
    )
    assert result.exit_code == 2
    assert "does not take the data" in result.output


def killed_and_resumed(folder: Path, data: Path, reached: int) -> bool:
    """Start a load, kill it as soon as `reached` versions are stored, then load to the end. False: it was over before it was killed."""
    running = subprocess.Popen(
        [*COMMAND, str(folder), "--data-dir", str(data)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while running.poll() is None:
            with contextlib.suppress(sqlite3.OperationalError):
                if versions(data) >= reached:
                    break
            time.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    if versions(data) == ALL:
        return False
    load(folder, "--data-dir", data, "--report", folder.parent / "report.json")
    return True


def big_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ndjson").write_text(lines(*(observation("Patient/p", id=f"o{at}") for at in range(4000))))
    for at in range(10):
        entries = [entry("POST", "Patient", patient(f"t{at}-{number}")) for number in range(100)]
        (folder / f"b{at}.json").write_text(json.dumps(transaction(*entries)))
        (folder / f"c{at}.json").write_text(json.dumps(batch(*(entry("POST", "Flag", flag(at, number)) for number in range(50)))))
    return folder


def flag(at: int, number: int) -> dict[str, Any]:
    return {"resourceType": "Flag", "status": "active", "code": {"text": f"{at}-{number}"}, "subject": {"reference": "Patient/p"}}


ALL = 4000 + 1000 + 500


@pytest.mark.parametrize("reached", [1, 2300, 4001, 4650, 5200])
def test_after_kill_9_the_load_goes_on_and_doubles_nothing(tmp_path: Path, data: Path, reached: int) -> None:
    folder = big_folder(tmp_path)
    assert killed_and_resumed(folder, data, reached), "the load was over before it was killed"
    assert versions(data) == ALL
    report = report_of(tmp_path)
    counts = {type: sum(counted.values()) for type, counted in report["counts"].items()}
    assert counts["Observation"] == 4000, "the report tells of what the interrupted run did, too"


@pytest.mark.soak
def test_many_kills_at_random_moments(tmp_path: Path) -> None:
    folder, kills = big_folder(tmp_path), 0
    for at in range(60):
        data = tmp_path / f"data{at}"
        # The eye that watches is slower than the end of a load, at times.
        kills += killed_and_resumed(folder, data, random.randrange(1, ALL - 100))
        assert versions(data) == ALL
        if kills == 40:
            return
    raise AssertionError(f"only {kills} of 60 loads were killed in time")
