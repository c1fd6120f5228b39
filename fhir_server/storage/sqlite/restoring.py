"""A backup becomes a data folder again: verified first, made whole beside its place, and there at once.

Decision: docs/decisions/0098-backup-restore-purge.md
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite import files
from fhir_server.storage.sqlite.backing_up import BackupError, Manifest, Progress, draft_of, facts_of, make_durable, sync, verify
from fhir_server.storage.sqlite.schema import FILE_NAME

PASSING = ("DELETE FROM lease", "UPDATE job SET lease = NULL, lease_until = 0", "DELETE FROM secret WHERE name = 'cursor'")
"""What only meant something to the processes that worked on the store; paging links of theirs are not to be followed here."""

EMPTY = ("lost+found",)
"""What lies in a new file system."""
_INSIDE = "restored"


def _is_left(path: Path) -> bool:
    """What a killed process left within a mount point; the draft clears it away."""
    return path.name.startswith(f".{_INSIDE}.") and path.suffix == ".part"


@contextlib.contextmanager
def restored(place: Path, folder: Path, progress: Progress) -> Iterator[tuple[Path, Manifest]]:
    """A folder with what the backup holds, to be changed within the block; at its end it is at its place.

    Raises BackupError (damaged, or the place is taken), UnusableStore, OSError: then nothing is left behind.
    """
    if folder.exists() and not folder.is_dir():
        raise BackupError(f"{folder} is no folder", f"{folder} 不是目录")
    # Nothing can take the place of a mount point: its own folder is filled then, the database last.
    mounted = folder.exists() and os.path.ismount(folder)
    if folder.exists() and not all(mounted and (path.name in EMPTY or _is_left(path)) for path in folder.iterdir()):
        what = f"{folder} is not empty; name a new folder, or move what is in this one elsewhere (with the server stopped)"
        raise BackupError(what, f"{folder} 不为空，请指定新的目录，或先停止服务并移走其中的文件")
    if folder.absolute().resolve().is_relative_to(place.resolve()):
        raise BackupError(f"{folder} lies within the backup {place}", f"{folder} 位于备份 {place} 之内")
    manifest = verify(place, progress)
    target = folder / _INSIDE if mounted else folder
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(target) as draft:
        for item in manifest.files:
            path = draft / item.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / item.name, path)
        yield draft, manifest
        _settle(draft / FILE_NAME)
        facts_of(draft / FILE_NAME)
        make_durable(draft)
        if mounted:
            for path in sorted(draft.iterdir(), key=lambda path: path.name == FILE_NAME):
                os.rename(path, folder / path.name)
        else:
            os.rename(draft, folder)
    sync(folder)
    sync(folder.parent)


def _settle(path: Path) -> None:
    """Take away what is passing, and leave everything in the one file."""
    db = files.connect(path, "FULL", cache_kib=2_000)
    try:
        for statement in PASSING:
            db.execute(statement)
        (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as fault:
        raise UnusableStore(f"{path}: cannot be written ({fault})") from fault
    finally:
        db.close()
    if busy:
        raise UnusableStore(f"{path}: somebody else has opened it while it was restored")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
