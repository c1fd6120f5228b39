"""Files to load: folders, archives and compressed files become a flat list of documents and lines.

Formats: NDJSON (https://hl7.org/fhir/R4/nd-json.html), single JSON resources, Bundles; each plain, `.gz`, or in `.tar`, `.tar.gz`, `.tgz`.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_CONTENT = (".ndjson", ".jsonl", ".json")
_LINES = (".ndjson", ".jsonl")
_FIRST = ("0-", "hospitalInformation", "practitionerInformation")
"""Names of files that others lean on (as Synthea writes them): these come first."""
_BOM = b"\xef\xbb\xbf"
MAX_ITEM = 512 * 1024 * 1024
"""Longest line or document in bytes; a longer one is refused."""


class LoadError(Exception):
    """A path that cannot be loaded at all; the text is for the user."""


class Item(NamedTuple):
    """One resource or Bundle as bytes. `source` names file (and archive member), `line` counts from 1 (0: the whole file)."""

    source: str
    line: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """A file on disk: `identity` changes with the file's place, size or time, and names it in the progress journal."""

    path: Path
    name: str
    size: int

    @property
    def identity(self) -> str:
        status = self.path.stat()
        return f"{self.path.resolve()}|{status.st_size}|{status.st_mtime_ns}"


@dataclass(slots=True)
class Progress:
    """How far a source has been read: bytes of the file on disk (compressed size for compressed files)."""

    read: Callable[[], int]


def find_sources(paths: Sequence[Path]) -> tuple[list[Source], list[str]]:
    """The files under the given paths in a stable order, and the names of files in folders that are no FHIR content.

    Raises LoadError for a path that does not exist or holds nothing to load.
    """
    found: list[Source] = []
    ignored: list[str] = []
    for path in paths:
        if path.is_dir():
            files = sorted((p for p in path.rglob("*") if p.is_file()), key=lambda p: (not p.name.startswith(_FIRST), str(p)))
            wanted = [p for p in files if _is_content(p.name) or p.name.endswith(_ARCHIVES)]
            ignored += [str(p) for p in files if p not in set(wanted)]
            if not wanted:
                raise LoadError(f"{path}: the folder holds no .ndjson, .json, .gz or .tar file")
            found += [Source(p, str(p.relative_to(path)), p.stat().st_size) for p in wanted]
        elif path.is_file():
            found.append(Source(path, path.name, path.stat().st_size))
        else:
            raise LoadError(f"{path}: there is no such file or folder")
    return found, ignored


def _is_content(name: str) -> bool:
    return name.removesuffix(".gz").endswith(_CONTENT)


def open_items(source: Source) -> tuple[Iterator[Item], Progress]:
    """The items of a source in their order, and a view on the progress.

    The iterator raises LoadError naming the file where it is damaged or cut off.
    """
    raw = source.path.open("rb")
    return _guarded(source, raw), Progress(lambda: source.size if raw.closed else raw.tell())


def _guarded(source: Source, raw: IO[bytes]) -> Iterator[Item]:
    try:
        with raw:
            yield from _items(source, raw)
    except (EOFError, OSError, tarfile.TarError, zlib.error) as problem:
        raise LoadError(f"{source.path}: the file is damaged or cut off ({problem})") from problem


def _items(source: Source, raw: IO[bytes]) -> Iterator[Item]:
    if source.path.name.endswith(_ARCHIVES):
        with tarfile.open(fileobj=raw, mode="r|*") as archive:
            for member in archive:
                if member.isfile() and _is_content(member.name):
                    content = archive.extractfile(member)
                    if content is not None:
                        yield from _content(f"{source.name}!{member.name}", content)
        return
    yield from _content(source.name, raw)


def _content(name: str, stream: IO[bytes]) -> Iterator[Item]:
    """The lines of NDJSON, or one document. Compression and form are told by the content; the name only says `.ndjson` for sure."""
    buffered = io.BufferedReader(cast(Any, stream), 1 << 20)
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        buffered = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=buffered)), 1 << 20)
    if buffered.peek(3)[:3] == _BOM:
        buffered.read(3)
    first = _line(name, buffered, 1)
    if name.removesuffix(".gz").endswith(_LINES) or _is_whole(first):
        yield from _lines(name, first, buffered)
    else:
        rest = buffered.read(MAX_ITEM)
        if buffered.peek(1):
            raise LoadError(f"{name}: the document is longer than {MAX_ITEM >> 20} MB; write it as NDJSON")
        if (first + rest).strip():
            yield Item(name, 0, first + rest)


def _is_whole(line: bytes) -> bool:
    """Whether a first line looks like a complete JSON object, so that what follows are lines of their own."""
    text = line.strip()
    return text.startswith(b"{") and text.endswith(b"}") and text.count(b"{") == text.count(b"}")


def _lines(name: str, first: bytes, stream: IO[bytes]) -> Iterator[Item]:
    number, line = 1, first
    while line:
        text = line.strip()
        if text:
            yield Item(name, number, text)
        number += 1
        line = _line(name, stream, number)


def _line(name: str, stream: IO[bytes], number: int) -> bytes:
    line = stream.readline(MAX_ITEM + 1)
    if len(line) > MAX_ITEM:
        raise LoadError(f"{name}: line {number} is longer than {MAX_ITEM >> 20} MB")
    return line
