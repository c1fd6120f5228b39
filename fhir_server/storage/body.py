"""Bodies as they are kept: canonical JSON with its final `meta`, compressed with a shared dictionary.

Specification: https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

import zstandard

PLAIN = 0
"""First byte of a blob that was compressed without a dictionary."""
CURRENT_DICTIONARY = 1
"""Number (and file name, `profiles/zstd/<n>.zdict`) of the dictionary for new bodies; older ones stay readable."""
LARGE = 64 * 1024
"""From this size on a dictionary no longer pays."""
LEVEL = 1
"""On small bodies with a dictionary level 3 saves nothing more and costs 20 % more time; on large ones twice the time."""
MAX_BODY = 1 << 30
_IDENTITY = ("resourceType", "id", "meta")


@lru_cache(maxsize=8)
def _dictionary(number: int) -> zstandard.ZstdCompressionDict | None:
    """The shipped dictionary `number`, or None where there is none."""
    path = files("profiles") / "zstd" / f"{number}.zdict"
    if not path.is_file():
        return None
    dictionary = zstandard.ZstdCompressionDict(path.read_bytes())
    # Once and before any other thread can use it: computing it again would free what they hold.
    dictionary.precompute_compress(level=LEVEL)
    return dictionary


class BodyCodec:
    """Compresses and expands bodies; each thread needs one of its own (zstd contexts are not shareable)."""

    def __init__(self) -> None:
        dictionary = _dictionary(CURRENT_DICTIONARY)
        self._number = bytes([CURRENT_DICTIONARY if dictionary else PLAIN])
        self._small = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_checksum=True, write_dict_id=False).compress
        self._large = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress
        self._readers: dict[int, Callable[..., bytes]] = {}

    def pack(self, body: bytes) -> bytes:
        """The blob for `body`; empty stays empty (deletions)."""
        if not body:
            return b""
        if len(body) < LARGE:
            return self._number + self._small(body)
        return b"\0" + self._large(body)

    def unpack(self, blob: bytes) -> bytes:
        """The body of a blob. Raises ValueError when the blob is damaged or names a dictionary that is not shipped."""
        if not blob:
            return b""
        reader = self._readers.get(blob[0]) or self._reader(blob[0])
        try:
            return reader(memoryview(blob)[1:], max_output_size=MAX_BODY) if blob[0] == PLAIN else reader(memoryview(blob)[1:])
        except zstandard.ZstdError as error:
            raise ValueError(f"a stored body is damaged: {error}") from error

    def _reader(self, number: int) -> Callable[..., bytes]:
        dictionary = _dictionary(number) if number != PLAIN else None
        if number != PLAIN and dictionary is None:
            raise ValueError(f"a stored body needs compression dictionary {number}, which this version does not ship")
        reader = zstandard.ZstdDecompressor(dict_data=dictionary).decompress
        self._readers[number] = reader
        return reader


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def instant(milliseconds: int) -> str:
    """A FHIR instant in UTC, such as 2026-03-01T08:00:00.000Z."""
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


def with_meta(resource: Mapping[str, Any], type: str, id: str, version: int, updated: int) -> dict[str, Any]:
    """The canonical form: resourceType, id and meta first; `meta.versionId` and `meta.lastUpdated` set by the store."""
    meta: dict[str, Any] = {"versionId": str(version), "lastUpdated": instant(updated)}
    given = resource.get("meta")
    if given:
        meta.update((name, value) for name, value in given.items() if name not in ("versionId", "lastUpdated"))
    canonical: dict[str, Any] = {"resourceType": type, "id": id, "meta": meta}
    for name, value in resource.items():
        if name not in canonical:
            canonical[name] = value
    return canonical


def same_content(old: Any, new: Any) -> bool:
    """Whether two JSON values are equal up to the order of members; decimals compare by their digits (1.0 is not 1.00)."""
    if isinstance(old, dict):
        return isinstance(new, dict) and old.keys() == new.keys() and all(same_content(value, new[name]) for name, value in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(same_content, old, new))
    if isinstance(old, (bool, str)) or old is None:
        return type(old) is type(new) and old == new
    return not isinstance(new, (bool, str, list, dict)) and new is not None and str(old) == str(new)


def changed_members(old: Mapping[str, Any], new: Mapping[str, Any]) -> frozenset[str]:
    """The members of a resource that differ between two versions; what the store itself sets is not looked at."""
    changed = {name for name, value in old.items() if name not in _IDENTITY and (name not in new or new[name] != value)}
    changed.update(name for name in new if name not in old and name not in _IDENTITY)
    if _given(old.get("meta")) != _given(new.get("meta")):
        changed.add("meta")
    return frozenset(changed)


def _given(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (meta or {}).items() if name not in ("versionId", "lastUpdated")}
