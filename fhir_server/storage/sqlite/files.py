"""Making and opening `fhir.db`: a damaged, cut-off or foreign file is told before anything is touched.

File format: https://www.sqlite.org/fileformat2.html, https://www.sqlite.org/walformat.html
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import struct
import threading
from pathlib import Path

from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite.schema import APPLICATION_ID, FILE_NAME, MIGRATIONS, OLDEST_VERSION, SCHEMA_VERSION, TABLES

CHECK_SECONDS = 0.4
"""Longest time that the structural check may take at start; a large store is then checked in part."""
PAGE_SIZE = 4096
LOG_PAGES = 4000
"""Pages in the write-ahead log from which on a commit copies them into the database."""
HEADER = 100


def prepare(folder: Path) -> Path:
    """The path of a store that can be opened; made if the folder has none. Raises UnusableStore naming the file at fault."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableStore(f"{folder}: the data folder cannot be made or is not a folder ({error.strerror})") from error
    path = folder / FILE_NAME
    if not os.path.lexists(path):
        stray = [
            name for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-journal") if (folder / name).exists() and (folder / name).stat().st_size
        ]
        if stray:
            raise UnusableStore(f"{folder / stray[0]}: a write-ahead log without its database {FILE_NAME}; put the database back")
        _create(path)
    check(path)
    return path


def _create(path: Path) -> None:
    """Make the file under another name first, so that a crash or a second process never leaves a half-made store."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.executescript(
                f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA journal_mode = WAL; BEGIN; {TABLES}"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
            db.execute("INSERT INTO secret VALUES ('hash', ?)", (secrets.token_bytes(32),))
        finally:
            db.close()
        with open(draft, "rb") as made:
            os.fsync(made.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise UnusableStore(f"{path}: the store cannot be made ({error})") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{draft}{suffix}")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check(path: Path) -> None:
    """Raise UnusableStore unless the file is a whole store of this version. Reads only."""
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UnusableStore(f"{path}: cannot be read ({error.strerror})") from error
    if len(header) < HEADER:
        raise UnusableStore(f"{path}: cut off: {size} bytes are less than a database header")
    if not header.startswith(b"SQLite format 3\0"):
        raise UnusableStore(f"{path}: not a FHIR store: the file does not begin as an SQLite database")
    page_size = struct.unpack_from(">H", header, 16)[0]
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        raise UnusableStore(f"{path}: damaged: page size {page_size} in the header")
    pages, user_version, application = (struct.unpack_from(">I", header, at)[0] for at in (28, 60, 68))
    if application != APPLICATION_ID:
        raise UnusableStore(f"{path}: not a FHIR store: an SQLite database of another program (application id {application:#x})")
    if not OLDEST_VERSION <= user_version <= SCHEMA_VERSION:
        raise UnusableStore(
            f"{path}: written by a version of this server with storage layout {user_version}; "
            f"this one reads layouts {OLDEST_VERSION} to {SCHEMA_VERSION}"
        )
    wal = path.with_name(path.name + "-wal")
    frames = _wal_pages(wal, page_size)
    missing = [page for page in range(size // page_size + 1, pages + 1) if page not in frames] if size < pages * page_size else []
    if missing:
        raise UnusableStore(f"{path}: cut off: {size} bytes, but the header tells {pages} pages of {page_size} bytes")
    _check_structure(path, wal)


def _wal_pages(wal: Path, page_size: int) -> set[int]:
    """Numbers of the pages that the write-ahead log holds."""
    try:
        with open(wal, "rb") as file:
            head = file.read(32)
            if len(head) < 32 or not any(head):
                return set()
            if head[:3] != b"\x37\x7f\x06" or struct.unpack_from(">I", head, 8)[0] != page_size:
                raise UnusableStore(f"{wal}: damaged: not the write-ahead log of {FILE_NAME}")
            salts = head[16:24]
            pages: set[int] = set()
            step = page_size + 24
            at = 32
            while len(frame := os.pread(file.fileno(), 24, at)) == 24 and frame[8:16] == salts:
                pages.add(struct.unpack_from(">I", frame)[0])
                at += step
            return pages
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UnusableStore(f"{wal}: cannot be read ({error.strerror})") from error


def _check_structure(path: Path, wal: Path) -> None:
    """SQLite's own check, as far as `CHECK_SECONDS` reach.

    A file that nobody has open is read as immutable, so that nothing is made beside it.
    """
    fault = None if wal.exists() else _quick_check(path, "immutable=1")
    if wal.exists():
        # Others may be writing (or may have begun while it was looked at): only a reader that takes part may judge.
        fault = _quick_check(path, "mode=ro")
    if fault:
        raise UnusableStore(f"{path}: damaged: {fault}")


def _quick_check(path: Path, how: str) -> str | None:
    try:
        db = sqlite3.connect(f"file:{quoted(path)}?{how}", uri=True, isolation_level=None, timeout=5)
    except sqlite3.Error as error:
        return str(error)
    try:
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_schema")}
        wanted = {"version", "resource", "posting", "term", "text", "range", "job", "record", "state"}
        if not wanted <= names:
            return f"tables are missing: {', '.join(sorted(wanted - names))}"
        # A progress handler is not asked while the pages themselves are walked: minutes, where they come from a disk.
        timer = threading.Timer(CHECK_SECONDS, db.interrupt)
        timer.start()
        try:
            first = db.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            timer.cancel()
            timer.join()
        return None if first is None or first[0] == "ok" else first[0].replace("\n", " ")
    except sqlite3.OperationalError as error:
        return None if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT else str(error)
    except sqlite3.Error as error:
        return str(error)
    finally:
        db.close()


def quoted(path: Path) -> str:
    """A path as it stands in the address of a database."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def migrate(db: sqlite3.Connection) -> bool:
    """Bring a store to the present layout, in one transaction; False where another process holds the lock: try again."""
    if db.execute("PRAGMA user_version").fetchone()[0] >= SCHEMA_VERSION:
        return True
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for layout in range(version, SCHEMA_VERSION):
            for statement in MIGRATIONS[layout]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.commit()
    except BaseException:
        db.rollback()
        raise
    return True


def connect(path: Path, durability: str, *, cache_kib: int, mmap_bytes: int = 0) -> sqlite3.Connection:
    """A connection for use from any one thread at a time; statements commit by themselves unless a transaction is begun."""
    db = sqlite3.connect(
        f"file:{quoted(path)}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=400
    )
    db.execute(f"PRAGMA synchronous = {durability}")
    db.execute(f"PRAGMA cache_size = -{cache_kib}")
    db.execute(f"PRAGMA mmap_size = {mmap_bytes}")
    # The committer carries the log over in time (see `disk.Log`); SQLite itself does only where that failed.
    db.execute(f"PRAGMA wal_autocheckpoint = {4 * LOG_PAGES}")
    db.execute("PRAGMA temp_store = MEMORY")
    # What is deleted is overwritten (SQLite is often built so): an erased body must not lie in free pages.
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA journal_size_limit = 67108864")
    return db
