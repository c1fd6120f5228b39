"""A damaged, cut-off or foreign file is told at open, with its name, and nothing is touched.

Rule: design "Fixed interfaces", operations; file format https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fhir_server.storage.port import Unit, UnusableStore
from fhir_server.storage.sqlite import files
from tests.contract import support as s


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A store at rest with a few hundred pages."""
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    for part in range(10):
        await s.save(store, *(s.observation(f"o{part}-{n}", f"p{n}", f"c{n % 9}", n, note=os.urandom(200).hex()) for n in range(150)))
    await store.close()
    return tmp_path / "store"


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


async def refused(folder: Path, name: str = "fhir.db") -> str:
    before = state(folder)
    store = s.sqlite_store(folder)
    with pytest.raises(UnusableStore) as error:
        await store.open()
    assert str(folder / name) in str(error.value)
    assert state(folder) == before
    return str(error.value)


async def test_a_closed_store_is_one_file(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["fhir.db"]


async def test_a_copy_of_the_closed_folder_is_the_same_store(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    store = s.sqlite_store(tmp_path / "copy")
    await store.open()
    assert (await store.read("Observation", "o9-149")) is not None and await store.last_rid() == 1500
    await store.close()


@pytest.mark.parametrize("keep", [0, 1, 50, 99, 100, 4096, 0.3, 0.5, 0.99, -1, -4096])
async def test_a_cut_off_file_is_refused(folder: Path, keep: float) -> None:
    path = folder / "fhir.db"
    size = path.stat().st_size
    length = int(size * keep) if 0 < keep < 1 and isinstance(keep, float) else size + int(keep) if keep < 0 else int(keep)
    os.truncate(path, length)
    assert "cut off" in await refused(folder)


def overwrite(at: Callable[[int], int], length: int, fill: bytes = b"") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at(path.stat().st_size))
            file.write((fill * length)[:length] if fill else os.urandom(length))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        overwrite(lambda size: 0, 16),
        overwrite(lambda size: 16, 2, b"\x03"),
        overwrite(lambda size: 100, 300),
        overwrite(lambda size: size // 2 // 4096 * 4096, 4096),
        overwrite(lambda size: size // 2 // 4096 * 4096, 4096, b"\0"),
        overwrite(lambda size: size // 3 // 4096 * 4096, 200_000),
    ],
    ids=["magic", "page size", "schema", "random page", "zero page", "50 pages"],
)
async def test_a_damaged_file_is_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / "fhir.db")
    message = await refused(folder)
    assert "damaged" in message or "not a FHIR store" in message


async def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    db = sqlite3.connect(folder / "fhir.db")
    db.execute("CREATE TABLE version (a)")
    db.commit()
    db.close()
    assert "another program" in await refused(folder)


@pytest.mark.parametrize("content", [b"hello, this is a text\n" * 50, b"\x7fELF" + bytes(5000), b"PK\x03\x04" * 100])
async def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "fhir.db").write_bytes(content)
    assert "not a FHIR store" in await refused(folder)


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_another_layout_is_refused(folder: Path, version: int) -> None:
    db = sqlite3.connect(folder / "fhir.db")
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    assert f"layout {version}" in await refused(folder)


async def test_a_log_without_its_database_is_refused(folder: Path) -> None:
    (folder / "fhir.db").rename(folder / "fhir.db-wal")
    await refused(folder, "fhir.db-wal")


async def test_a_log_of_another_kind_is_refused(folder: Path) -> None:
    (folder / "fhir.db-wal").write_bytes(b"not a log" * 1000)
    await refused(folder, "fhir.db-wal")


async def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    store = s.sqlite_store(tmp_path / "store")
    with pytest.raises(UnusableStore, match="store"):
        await store.open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_without_rights_is_refused(folder: Path) -> None:
    (folder / "fhir.db").chmod(0)
    try:
        with pytest.raises(UnusableStore, match=r"fhir\.db"):
            await s.sqlite_store(folder).open()
    finally:
        (folder / "fhir.db").chmod(stat.S_IRUSR | stat.S_IWUSR)


async def test_a_log_left_by_a_crash_is_read(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    await s.save(store, *(s.patient(f"p{n}") for n in range(500)))
    # As after kill -9: the files as they are while the store is open.
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    (tmp_path / "crashed" / "fhir.db-shm").unlink()
    await store.close()
    assert (tmp_path / "crashed" / "fhir.db-wal").stat().st_size
    again = s.sqlite_store(tmp_path / "crashed")
    await again.open()
    assert await again.last_rid() == 500 and (await again.transact(Unit.of(s.put(s.patient("x"))))).rid == 501
    await again.close()


async def test_a_cut_off_database_beside_a_log_is_refused(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    await s.save(store, *(s.patient(f"p{n}", note=os.urandom(500).hex()) for n in range(2000)))
    await store.close()
    await store.open()
    await s.save(store, s.patient("one more"))
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    await store.close()
    path = tmp_path / "crashed" / "fhir.db"
    os.truncate(path, path.stat().st_size // 2)
    (tmp_path / "crashed" / "fhir.db-shm").unlink()
    with pytest.raises(UnusableStore, match=r"fhir\.db: cut off"):
        await s.sqlite_store(tmp_path / "crashed").open()


async def test_nothing_is_left_of_a_store_that_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TABLES", "CREATE TABLE broken (;")
    with pytest.raises(UnusableStore, match=r"fhir\.db"):
        await s.sqlite_store(tmp_path / "store").open()
    assert list((tmp_path / "store").iterdir()) == []


async def test_the_check_at_start_is_bounded_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHECK_SECONDS", 0.0)
    started = time.monotonic()
    files.check(folder / "fhir.db")
    assert time.monotonic() - started < 0.5


def test_the_walk_over_the_pages_of_a_large_file_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite asks no progress handler while it walks pages, and those of a machine that has just started come from the disk."""
    path = tmp_path / "large.db"
    db = sqlite3.connect(path)
    for name in ("version", "resource", "posting", "term", "text", "range", "job", "record", "state"):
        db.execute(f"CREATE TABLE {name}(a INTEGER PRIMARY KEY, b BLOB)")
    db.executemany("INSERT INTO version VALUES (?, zeroblob(900))", ((number,) for number in range(200_000)))
    db.commit()
    db.close()

    def seconds(most: float) -> float:
        monkeypatch.setattr(files, "CHECK_SECONDS", most)
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.monotonic()
        assert files._quick_check(path, "mode=ro") is None
        return time.monotonic() - started

    whole = seconds(300.0)
    assert seconds(whole / 20) < whole / 2


async def test_a_store_that_another_process_holds_for_a_moment_is_waited_for(folder: Path) -> None:
    """After a kill -9 the first of several workers carries the log over alone."""
    held = sqlite3.connect(folder / "fhir.db", isolation_level=None, check_same_thread=False)
    held.execute("PRAGMA locking_mode = EXCLUSIVE")
    held.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.4, held.close).start()
    store = s.sqlite_store(folder)
    await store.open()
    assert await store.read("Observation", "o0-0") is not None
    await store.close()
