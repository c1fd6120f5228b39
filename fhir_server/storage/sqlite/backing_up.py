"""A consistent copy of a whole data folder while servers write in it, and its manifest.

The database goes through SQLite's online backup, page by page, from one snapshot: nobody who writes waits. All other files of the folder
take their places at once when they are written, so they are copied as they are.
Specification: https://www.sqlite.org/backup.html, https://www.sqlite.org/wal.html. Decision: docs/decisions/0098-backup-restore-purge.md
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fhir_server import __version__
from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite import files
from fhir_server.storage.sqlite.schema import FILE_NAME, OLDEST_VERSION, SCHEMA_VERSION

MANIFEST = "manifest.json"
FORMAT = 1
PAGES = 256
"""Pages of the database between two looks at the progress."""
CHUNK = 1 << 20
Progress = Callable[[str, int, int], None]
"""(what is done, units done, units in all)"""


class BackupError(Exception):
    """Why nothing was copied, or why a backup is not good; `zh` says it in Chinese."""

    def __init__(self, text: str, zh: str) -> None:
        super().__init__(text)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a backup: path below it, size, and checksum."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `rid`: the last sequence number; `moment`: when that was written, `taken`: when it was copied (milliseconds)."""

    server: str
    layout: int
    rid: int
    moment: int
    taken: int
    files: tuple[Item, ...]

    def text(self) -> bytes:
        """As it is written down, with a checksum of its own."""
        plain = {"format": FORMAT, **asdict(self)}
        return json.dumps({**plain, "sha256": _digest(plain)}, indent=1).encode()


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(place: Path) -> Manifest:
    """The manifest of a backup. Raises BackupError."""
    path = place / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        told = content.pop("sha256")
        whole = told == _digest(content)
        version = content.pop("format")
    except FileNotFoundError:
        raise BackupError(f"{path}: not there; {place} is no whole backup", f"{path} 不存在，{place} 不是完整的备份") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise BackupError(f"{path}: cannot be read ({fault})", f"{path} 无法读取") from fault
    if not whole:
        raise BackupError(f"{path}: damaged: its checksum is another", f"{path} 已损坏：校验和不符")
    if version != FORMAT:
        raise BackupError(f"{path}: written in format {version}; this version reads format {FORMAT}", f"{path} 的格式为 {version}，不支持")
    found = tuple(Item(**one) for one in content.pop("files"))
    manifest = Manifest(**content, files=found)
    if not OLDEST_VERSION <= manifest.layout <= SCHEMA_VERSION:
        what = f"{path}: a store of layout {manifest.layout}; this server reads layouts {OLDEST_VERSION} to {SCHEMA_VERSION}"
        raise BackupError(what, f"{path}：存储布局 {manifest.layout} 不受此版本支持")
    for item in found:
        at = PurePosixPath(item.name)
        if at.is_absolute() or ".." in at.parts:
            raise BackupError(f"{path}: names a file outside of the backup: {item.name}", f"{path} 指向备份之外的文件：{item.name}")
    return manifest


def verify(place: Path, progress: Progress) -> Manifest:
    """The manifest, when every file is as it tells. Raises BackupError naming the file at fault."""
    manifest = read_manifest(place)
    total, done = sum(item.bytes for item in manifest.files), 0
    for item in manifest.files:
        path = place / item.name
        try:
            size = path.stat().st_size
            if size != item.bytes:
                what, zh = f"{size} bytes, but the manifest tells {item.bytes}", f"{size} 字节，应为 {item.bytes} 字节"
                raise BackupError(f"{path}: damaged: {what}", f"{path} 已损坏：{zh}")
            digest = hashlib.sha256()
            for chunk in _chunks(path):
                digest.update(chunk)
                done += len(chunk)
                progress("check 校验", done, total)
        except OSError as fault:
            raise BackupError(f"{path}: cannot be read ({fault.strerror})", f"{path} 无法读取") from fault
        if digest.hexdigest() != item.sha256:
            raise BackupError(f"{path}: damaged: its checksum is not that of the manifest", f"{path} 已损坏：与清单中的校验和不符")
    return manifest


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


# --- taking one
def back_up(folder: Path, place: Path, now: int, progress: Progress) -> Manifest:
    """Copy the data folder to `place`, which must not be there yet: it is whole when it appears. `now`: milliseconds since 1970.

    Raises BackupError, UnusableStore, OSError.
    """
    if not (folder / FILE_NAME).is_file():
        raise BackupError(f"{folder.absolute()} holds no store ({FILE_NAME})", f"{folder.absolute()} 中没有数据库（{FILE_NAME}）")
    if os.path.lexists(place):
        what = f"{place} is there already; name a place that is not (a date in its name, perhaps)"
        raise BackupError(what, f"{place} 已存在，请指定一个尚不存在的位置")
    if place.absolute().resolve().is_relative_to(folder.resolve()):
        raise BackupError(f"{place} lies within the data folder {folder}", f"{place} 位于数据目录 {folder} 之内")
    place.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(place) as draft:
        rid, moment, layout = _copy_database(folder / FILE_NAME, draft / FILE_NAME, progress)
        others = sorted(_others(folder))
        for path in others:
            target = draft / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            # One that was taken away meanwhile is no longer part of the folder.
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path, target)
        items = tuple(_items(draft, progress))
        manifest = Manifest(__version__, layout, rid, moment, now, items)
        (draft / MANIFEST).write_bytes(manifest.text())
        make_durable(draft)
        os.rename(draft, place)
    sync(place.parent)
    return manifest


def _others(folder: Path) -> Iterator[Path]:
    """All files but the database and what is only half written."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        passing = any(part.startswith(".") for part in parts) or path.suffix == ".new" or path.name.startswith(FILE_NAME)
        if not passing and path.is_file():
            yield path


def _copy_database(path: Path, target: Path, progress: Progress) -> tuple[int, int, int]:
    """Last sequence number, its time, and the layout of the copy."""
    files.check(path)
    try:
        source = files.connect(path, "FULL", cache_kib=2_000)
        copy = sqlite3.connect(target, isolation_level=None)
    except sqlite3.Error as fault:
        raise UnusableStore(f"{path}: cannot be opened ({fault})") from fault
    try:
        source.execute("PRAGMA busy_timeout = 10000")
        source.execute("PRAGMA query_only = 1")
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        # The snapshot is held: without it each commit of others would begin the copy anew, and with steady writes it would not end.
        source.execute("BEGIN")
        source.execute("SELECT floor FROM state").fetchone()
        source.backup(copy, pages=PAGES, progress=lambda _, left, total: progress("copy 复制", total - left, total))
        source.execute("COMMIT")
    except sqlite3.Error as fault:
        raise UnusableStore(f"{path}: cannot be copied ({fault})") from fault
    finally:
        copy.close()
        source.close()
    return facts_of(target)


def facts_of(path: Path) -> tuple[int, int, int]:
    """Last sequence number, its time, and the layout of a database that nobody else has open. Raises UnusableStore where it is damaged."""
    db = sqlite3.connect(f"file:{files.quoted(path)}?immutable=1", uri=True)
    try:
        (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise UnusableStore(f"{path}: damaged: {said}")
        (layout,) = db.execute("PRAGMA user_version").fetchone()
        last, updated, floor = db.execute(
            "SELECT (SELECT max(rid) FROM version), (SELECT updated FROM version ORDER BY rid DESC LIMIT 1), floor FROM state"
        ).fetchone()
        return max(last or 0, floor), updated or 0, layout
    except sqlite3.Error as fault:
        raise UnusableStore(f"{path}: damaged: {fault}") from fault
    finally:
        db.close()


def _items(draft: Path, progress: Progress) -> Iterator[Item]:
    found = sorted(path for path in draft.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in found), 0
    for path in found:
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(path):
            digest.update(chunk)
            size += len(chunk)
            progress("checksums 校验和", done + size, total)
        done += size
        yield Item(path.relative_to(draft).as_posix(), size, digest.hexdigest())


# --- folders that appear whole
@contextlib.contextmanager
def draft_of(place: Path) -> Iterator[Path]:
    """A folder beside `place` to be filled and renamed to it; gone afterwards unless it was. What killed processes left is cleared away.

    Only its owner may read it: there are records of persons and keys in it.
    """
    for left in place.parent.glob(f".{place.name}.*.part"):
        with _claimed(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)
    draft = place.parent / f".{place.name}.{secrets.token_hex(4)}.part"
    draft.mkdir(mode=0o700)
    with _claimed(draft):
        try:
            yield draft
        finally:
            if draft.exists():
                shutil.rmtree(draft, ignore_errors=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which ends with the process; False where another process has it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:
            free = False
        yield free
    finally:
        os.close(handle)


def make_durable(folder: Path) -> None:
    """Every file and folder below, on the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o600)
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """What is at a path, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
