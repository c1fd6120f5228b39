"""Commits wait for the disk where that disturbs least, and the write-ahead log stays short.

Decision: docs/decisions/0042-group-commit.md
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite import disk as d
from fhir_server.storage.sqlite.disk import Disk, Log
from tests.contract import support as s


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_quick_disk_is_waited_for_on_the_loop() -> None:
    disk = Disk(Time())
    for _ in range(1000):
        assert disk.is_quick(300)
        disk.took(0.0007)


def test_large_commits_go_to_the_thread_whatever_the_disk_is_like() -> None:
    assert not Disk(Time()).is_quick(d.FEW_ROWS + 1)


def test_one_hiccup_among_quick_commits_costs_a_short_pause_at_most() -> None:
    time = Time()
    disk = Disk(time)
    for _ in range(20):
        for _ in range(d.STEADY):
            disk.took(0.0007)
        disk.took(0.05)
        assert not disk.is_quick(1)
        time.now += d.FIRST_PAUSE
        assert disk.is_quick(1), "the hiccups lie far apart, so the pause did not grow"


def test_a_slow_disk_holds_up_the_loop_less_and_less_often() -> None:
    time = Time()
    disk = Disk(time)
    blocked = 0
    for _ in range(6000):
        if disk.is_quick(1):
            disk.took(0.02)
            blocked += 1
        time.now += 0.1
    assert blocked < 40, "of ten minutes, with a commit of 20 ms each tenth of a second"


def test_a_disk_that_became_quick_is_trusted_again() -> None:
    time = Time()
    disk = Disk(time)
    for _ in range(50):
        disk.took(0.02)
    time.now += d.LONGEST_PAUSE
    for _ in range(d.STEADY):
        assert disk.is_quick(1)
        disk.took(0.0005)
    disk.took(0.05)
    time.now += d.FIRST_PAUSE
    assert disk.is_quick(1)


def database(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "x.db", isolation_level=None)
    db.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a, b)")
    return db


def fill(db: sqlite3.Connection, rows: int) -> None:
    """Each row takes a page of its own."""
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, zeroblob(3900))", ((at,) for at in range(rows)))
    db.execute("COMMIT")


@pytest.mark.parametrize("rows_per_commit", [1, 10, 90])
def test_the_log_is_carried_over_when_it_is_long_and_starts_anew(tmp_path: Path, rows_per_commit: int) -> None:
    db, log, longest = database(tmp_path), Log(pages=100), 0
    for _ in range(2000 // rows_per_commit):
        fill(db, rows_per_commit)
        log.grew(rows_per_commit)
        longest = max(longest, (tmp_path / "x.db-wal").stat().st_size // 4120)
        if log.is_long:
            log.carry_over(db)
    assert 50 <= longest <= 400
    db.close()


def test_a_reader_that_stays_delays_it_and_no_more(tmp_path: Path) -> None:
    db, log = database(tmp_path), Log(pages=50)
    fill(db, 60)
    reader = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (60,)
    for _ in range(10):
        fill(db, 60)
        log.grew(60)
        assert log.is_long
        log.carry_over(db)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (60,)
    reader.execute("COMMIT")
    before = (tmp_path / "x.db-wal").stat().st_size
    for _ in range(8):
        fill(db, 60)
        log.grew(60)
        log.carry_over(db)
    assert (tmp_path / "x.db-wal").stat().st_size <= before + 61 * 4120 * 2
    reader.close()
    db.close()


async def test_the_stores_log_stays_short_under_steady_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fhir_server.storage.sqlite import committer

    monkeypatch.setattr(committer, "LOG_PAGES", 200)
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    longest = 0
    for at in range(600):
        await store.transact(Unit.of(Write("PUT", "Patient", f"p{at}", resource={"resourceType": "Patient", "note": f"{at}" * 300})))
        longest = max(longest, (tmp_path / "store" / "fhir.db-wal").stat().st_size // 4120)
    await store.close()
    assert 100 < longest < 1000
