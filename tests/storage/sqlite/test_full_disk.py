"""No room, no right to write: writes answer 507 or 503, reads go on, and writes work again without restart.

Rule: design "Fixed interfaces", operations; https://www.sqlite.org/rescode.html#full
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.errors import FhirError
from fhir_server.search import query as q
from fhir_server.storage.port import Store
from tests.contract import support as s
from tests.storage.sqlite.invariants import faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where mounting is permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def fill(store: Store, prefix: str, size: int = 5) -> tuple[int, FhirError]:
    """Write until refused; how many units were acknowledged, and the refusal."""
    for number in range(10_000):
        try:
            await s.save(store, *(s.patient(f"{prefix}{number}-{k}", "Li", note=os.urandom(400).hex()) for k in range(size)))
        except FhirError as error:
            return number, error
    raise AssertionError("never full")


async def test_a_full_disk_refuses_writes_and_recovers(small_disk: Path) -> None:
    store = s.sqlite_store(small_disk / "store")
    await store.open()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    written, error = await fill(store, "a")
    assert error.status == 507 and "no room" in error.issues[0].diagnostics and written > 5
    for number in range(written):
        assert await store.read("Patient", f"a{number}-4") is not None
    assert await store.read("Patient", f"a{written}-0") is None
    assert await store.count(q.Query(("Patient",), q.TextMatch(s.PAT_FAMILY, "li"))) == written * 5
    # What is left may hold a smaller unit: to the brim.
    single, _ = await fill(store, "b", 1)
    results = await asyncio.gather(
        *(s.save(store, s.patient(f"x{n}", note=os.urandom(9000).hex())) for n in range(8)), return_exceptions=True
    )
    assert all(isinstance(result, FhirError) and result.status == 507 for result in results)
    ballast.unlink()
    await s.save(store, s.patient("after"))
    assert (await store.check())["free_bytes"] > 0
    await store.close()
    assert faults(small_disk / "store" / "fhir.db") == []
    again = s.sqlite_store(small_disk / "store")
    await again.open()
    assert await again.count(q.Query(("Patient",))) == written * 5 + single + 1
    await again.close()


async def test_a_limit_on_the_file_size_refuses_writes_and_recovers(tmp_path: Path) -> None:
    """As a quota does: the system refuses to make the file larger (EFBIG)."""
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
        written, error = await fill(store, "a")
        assert error.status == 507 and written > 5
        assert await store.count(q.Query(("Patient",))) == written * 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    await s.save(store, s.patient("after"))
    assert await store.count(q.Query(("Patient",))) == written * 5 + 1
    await store.close()
    assert faults(tmp_path / "store" / "fhir.db") == []


async def test_a_database_at_its_largest_refuses_writes_and_recovers(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    await s.save(store, s.patient("first"))
    (pages,) = store._writing.execute("PRAGMA page_count").fetchone()  # type: ignore[attr-defined]
    store._writing.execute(f"PRAGMA max_page_count = {pages + 20}")  # type: ignore[attr-defined]
    written, error = await fill(store, "a")
    assert error.status == 507
    store._writing.execute("PRAGMA max_page_count = 1000000")  # type: ignore[attr-defined]
    await s.save(store, s.patient("after"))
    assert await store.count(q.Query(("Patient",))) == written * 5 + 2
    await store.close()
    assert faults(tmp_path / "store" / "fhir.db") == []


async def test_a_read_only_database_refuses_writes_with_503_and_reads_go_on(tmp_path: Path) -> None:
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    await s.save(store, s.patient("a"))
    store._writing.execute("PRAGMA query_only = 1")  # type: ignore[attr-defined]
    with pytest.raises(FhirError) as error:
        await s.save(store, s.patient("b"))
    assert error.value.status == 503 and "read-only" in error.value.issues[0].diagnostics
    with pytest.raises(FhirError) as unready:
        await store.check()
    assert unready.value.status == 503
    assert await store.read("Patient", "a") is not None
    store._writing.execute("PRAGMA query_only = 0")  # type: ignore[attr-defined]
    await s.save(store, s.patient("b"))
    await store.close()


async def test_a_lock_that_is_never_given_up_is_503_with_retry_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from fhir_server.storage.sqlite import committer

    monkeypatch.setattr(committer, "LOCK_SECONDS", 0.2)
    store = s.sqlite_store(tmp_path / "store")
    await store.open()
    await s.save(store, s.patient("a"))
    other = sqlite3.connect(tmp_path / "store" / "fhir.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(FhirError) as error:
        await s.save(store, s.patient("b"))
    assert error.value.status == 503 and ("Retry-After", "1") in error.value.headers
    assert await store.read("Patient", "a") is not None
    other.rollback()
    other.close()
    await s.save(store, s.patient("b"))
    await store.close()
