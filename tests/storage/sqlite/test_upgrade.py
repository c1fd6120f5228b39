"""A data folder of an earlier layout is upgraded while it is served: nothing waits but searches, nothing is passed over in silence.

Decision: docs/decisions/0047-index-fingerprint.md
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from fhir_server.storage.sqlite import schema
from tests.storage.sqlite.invariants import faults
from tests.wire.resources import outcome, patient

MANY = 4000


def made_older(folder: Path) -> None:
    """The file as layout 1 had it: without parameters of the site and their state; its index was made by that version's rules."""
    db = sqlite3.connect(folder / schema.FILE_NAME)
    for column in ("generation", "building", "origin"):
        db.execute(f"ALTER TABLE state DROP COLUMN {column}")
    db.execute("DROP TABLE parameter")
    db.execute("DROP TABLE reindexing")
    db.execute("UPDATE secret SET value = x'00' WHERE name = 'index'")
    db.execute("DELETE FROM posting WHERE rid % 2 = 0")  # what answered from it would be wrong
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


@pytest.fixture
def older(tmp_path, start) -> Path:
    folder: Path = tmp_path / "data"
    server = start(data_dir=folder)
    with server.client() as client:
        for at in range(0, MANY, 500):
            people = [patient(id=f"p{n}", gender="female" if n % 2 else "male") for n in range(at, at + 500)]
            entries = [{"resource": one, "request": {"method": "PUT", "url": f"Patient/{one['id']}"}} for one in people]
            answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
            assert answer.status_code == 200, answer.text
        assert client.get("Patient?gender=female&_summary=count").json()["total"] == MANY // 2
    assert server.stop() == 0
    made_older(folder)
    return folder


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reads_and_writes_go_on_and_searches_say_how_far_it_is_until_they_are_right(older, start, workers) -> None:
    """22. Upgrade of a large store blocks or silently skips."""
    server = start("--workers", workers, data_dir=older)
    waited: list[str] = []
    ended = threading.Event()
    written: list[str] = []

    def write() -> None:
        with server.client() as client:
            while not ended.is_set():
                answer = client.put(f"Patient/new{len(written)}", json=patient(id=f"new{len(written)}", gender="other"))
                assert answer.status_code == 201, answer.text
                assert client.get(f"Patient/p{len(written)}").status_code == 200
                written.append(answer.json()["id"])

    other = threading.Thread(target=write)
    with server.client() as client:
        assert client.get("Patient/p7/_history").json()["total"] == 1
        other.start()
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                answer = client.get("Patient?gender=female&_summary=count")
                if answer.status_code == 200:
                    break
                assert answer.headers["retry-after"]
                said = outcome(answer, 503)
                assert re.search(r"\d+ of \d{4,}", said), said
                waited.append(said)
                time.sleep(0.01)
        finally:
            ended.set()
            other.join(30)
        assert answer.json()["total"] == MANY // 2, json.dumps(answer.json())
        assert client.get("Patient?gender=other&_summary=count").json()["total"] == len(written) > 0
    assert waited, "the index was made before the first search: nothing was shown here"
    assert server.stop() == 0
    db = sqlite3.connect(older / schema.FILE_NAME)
    assert db.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    db.close()
    assert faults(older / schema.FILE_NAME) == []


def test_a_server_that_is_killed_in_the_upgrade_goes_on_with_it(older, start) -> None:
    for _ in range(2):
        server = start(data_dir=older)
        with server.client() as client:
            assert client.get("Patient/p1").status_code == 200
        server.kill()
    server = start(data_dir=older)
    with server.client() as client:
        deadline = time.monotonic() + 60
        while (answer := client.get("Patient?gender=female&_summary=count")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.json()["total"] == MANY // 2
    server.stop()
    assert faults(older / schema.FILE_NAME) == []
