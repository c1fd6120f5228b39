"""Backup while others write, and what a backup becomes: whole, a prefix of what was acknowledged, or not there at all.

https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fhir_server.search import query as q
from fhir_server.storage.port import Job, Record, Unit
from fhir_server.storage.sqlite import backing_up, restoring
from fhir_server.storage.sqlite.backing_up import MANIFEST, BackupError, back_up, read_manifest
from tests.contract import support as s
from tests.storage.sqlite.invariants import faults
from tests.storage.sqlite.test_kill import ROOT, acknowledged, start


def silent(part: str, done: int, total: int) -> None:
    pass


def restore(place: Path, folder: Path) -> None:
    with restoring.restored(place, folder, silent):
        pass


async def filled(folder: Path, number: int = 20) -> None:
    store = s.sqlite_store(folder)
    await store.open()
    for n in range(number):
        await store.transact(
            Unit.of(s.put(s.patient(f"p{n}", f"F{n % 3}")), jobs=[Job("k", "a", {"n": n})], records=[Record("c", str(n), {})])
        )
    await store.secret("cursor")
    await store.secret("other")
    await store.close()


def units_of(path: Path) -> dict[str, int]:
    """Unit -> how many Observations of it are there, and its record tells."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    told = {key: json.loads(data)["size"] for key, data in db.execute("SELECT key, data FROM record WHERE collection = 'unit'")}
    rows = db.execute("SELECT v.id FROM version v JOIN type t ON t.number = v.type WHERE t.name = 'Observation' AND v.version = 1")
    found: dict[str, int] = {}
    for (id,) in rows:
        unit = id.rpartition("-")[0]
        found[unit] = found.get(unit, 0) + 1
    db.close()
    assert found == told
    return told


async def test_a_copy_under_load_is_a_prefix_of_what_was_acknowledged_and_writers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backing_up, "PAGES", 16)
    folder, place, output = tmp_path / "store", tmp_path / "copy", tmp_path / "out"
    writer = start(folder, "w", output)
    try:
        deadline = time.monotonic() + 20
        while len(acknowledged(output)) < 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        before = acknowledged(output)
        during: list[int] = []

        def tell(part: str, done: int, total: int) -> None:
            if part.startswith("copy"):
                time.sleep(0.01)
                during.append(len(acknowledged(output)))

        manifest = back_up(folder, place, 1, tell)
        after = acknowledged(output)
    finally:
        writer.kill()
        writer.wait(10)
    assert len(before) >= 200 and during[-1] > during[0], "writers were held up"
    assert faults(place / "fhir.db") == []
    told = units_of(place / "fhir.db")
    assert {unit for unit, _ in before} <= set(told) and len(told) < len(after)
    # A prefix of the commits: nothing up to the sequence number is missing, and nothing after it is there.
    copy, live = (sqlite3.connect(f"file:{path / 'fhir.db'}?mode=ro", uri=True) for path in (place, folder))
    versions = "SELECT rid, type, id, version, updated, body FROM version WHERE rid <= ? ORDER BY rid"
    assert copy.execute(versions, (1 << 60,)).fetchall() == live.execute(versions, (manifest.rid,)).fetchall()
    copy.close()
    live.close()


async def test_a_restored_store_is_the_one_that_was_copied(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    (tmp_path / "store" / "terminology").mkdir()
    (tmp_path / "store" / "terminology" / "a.db").write_bytes(b"code system")
    (tmp_path / "store" / "terminology" / "a.123.new").write_bytes(b"half")
    manifest = back_up(tmp_path / "store", tmp_path / "copy", 5, silent)
    assert [item.name for item in manifest.files] == ["fhir.db", "terminology/a.db"]
    assert (manifest.rid, manifest.taken) == (20, 5)
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    restore(tmp_path / "copy", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["fhir.db", "terminology"]
    first, second = s.sqlite_store(tmp_path / "store"), s.sqlite_store(tmp_path / "new")
    await first.open()
    await second.open()
    assert await second.changes(0) == await first.changes(0)
    assert await second.count(q.Query(("Patient",))) == 20
    assert await second.list_jobs() == await first.list_jobs() and await second.records("c") == await first.records("c")
    assert await second.secret("other") == await first.secret("other")
    assert await second.secret("cursor") != await first.secret("cursor")
    await s.save(second, s.patient("after"))
    await first.close()
    await second.close()
    assert faults(tmp_path / "new" / "fhir.db") == []


async def test_a_killed_backup_leaves_no_copy_and_the_next_one_clears_up(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    code = (
        "import sys, time; from pathlib import Path; from fhir_server.storage.sqlite.backing_up import back_up\n"
        "def tell(part, done, total):\n    print(part, flush=True); time.sleep(60)\n"
        f"back_up(Path({str(tmp_path / 'store')!r}), Path({str(tmp_path / 'copy')!r}), 1, tell)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline().startswith(b"copy")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert not (tmp_path / "copy").exists() and list(tmp_path.glob(".copy.*.part"))
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store"]


async def test_a_killed_restore_leaves_no_folder_and_the_next_one_clears_up(tmp_path: Path) -> None:
    await filled(tmp_path / "store")
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    code = (
        "import time; from pathlib import Path; from fhir_server.storage.sqlite.restoring import restored\n"
        f"with restored(Path({str(tmp_path / 'copy')!r}), Path({str(tmp_path / 'new')!r}), lambda *told: None):\n"
        "    print('there', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"there\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert not (tmp_path / "new").exists() and list(tmp_path.glob(".new.*.part"))
    restore(tmp_path / "copy", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "new", "store"]


async def test_a_backup_that_is_under_way_is_not_cleared_away_by_another(tmp_path: Path) -> None:
    with backing_up.draft_of(tmp_path / "copy") as first:
        with backing_up.draft_of(tmp_path / "copy") as second:
            assert first.exists() and second != first
        assert first.exists()
    assert list(tmp_path.iterdir()) == []


async def test_a_mount_point_is_filled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path / "store", 3)
    (tmp_path / "store" / "terminology").mkdir()
    (tmp_path / "store" / "terminology" / "a.db").write_bytes(b"code system")
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    (tmp_path / "new" / "lost+found").mkdir(parents=True)
    (tmp_path / "new" / ".restored.0123.part").mkdir()
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "copy", tmp_path / "new")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "new")
    before = (tmp_path / "new").stat().st_ino
    restore(tmp_path / "copy", tmp_path / "new")
    assert (tmp_path / "new").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["fhir.db", "lost+found", "terminology"]
    assert faults(tmp_path / "new" / "fhir.db") == []


@pytest.mark.parametrize("damage", ["byte", "cut", "gone", "manifest", "no manifest"])
async def test_a_damaged_backup_is_refused_by_the_name_of_the_file(tmp_path: Path, damage: str) -> None:
    await filled(tmp_path / "store", 3)
    (tmp_path / "store" / "terminology").mkdir()
    (tmp_path / "store" / "terminology" / "a.db").write_bytes(b"code system")
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    name = MANIFEST if "manifest" in damage else "terminology/a.db" if damage == "gone" else "fhir.db"
    path = tmp_path / "copy" / name
    content = path.read_bytes()
    if damage == "byte":
        path.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "manifest":
        path.write_bytes(content.replace(b'"rid": 3', b'"rid": 4'))
    else:
        path.unlink()
    with pytest.raises(BackupError) as refused:
        restore(tmp_path / "copy", tmp_path / "new")
    assert str(path) in str(refused.value) and str(path) in refused.value.zh
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy", "store"]


async def test_a_manifest_that_leads_out_of_the_backup_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path / "store", 1)
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    manifest = read_manifest(tmp_path / "copy")
    outside = backing_up.Item("../store/fhir.db", 1, "0")
    changed = backing_up.Manifest(manifest.server, manifest.layout, manifest.rid, 0, 0, (outside,))
    (tmp_path / "copy" / MANIFEST).write_bytes(changed.text())
    with pytest.raises(BackupError, match="outside"):
        restore(tmp_path / "copy", tmp_path / "new")


async def test_places_that_are_taken_are_left_alone(tmp_path: Path) -> None:
    await filled(tmp_path / "store", 1)
    (tmp_path / "taken").mkdir()
    for place, said in ((tmp_path / "taken", "already"), (tmp_path / "store" / "copy", "within")):
        with pytest.raises(BackupError, match=said):
            back_up(tmp_path / "store", place, 1, silent)
    with pytest.raises(BackupError, match="holds no store"):
        back_up(tmp_path / "taken", tmp_path / "copy", 1, silent)
    back_up(tmp_path / "store", tmp_path / "copy", 1, silent)
    (tmp_path / "taken" / "x").write_text("x")
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "copy", tmp_path / "taken")
    assert (tmp_path / "taken" / "x").read_text() == "x" and len(list((tmp_path / "taken").iterdir())) == 1
