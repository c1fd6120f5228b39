"""Files, folders and archives become items; what is damaged is named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from fhir_server.loading.chunks import CHUNK_BYTES, CHUNK_ITEMS, chunked
from fhir_server.loading.sources import Item, LoadError, find_sources, open_items

LINES = b'{"resourceType":"Patient","id":"a"}\n\n{"resourceType":"Patient","id":"b"}\r\n'
PRETTY = json.dumps({"resourceType": "Patient", "id": "c"}, indent=2).encode()


def items(path: Path) -> list[Item]:
    sources, _ = find_sources([path])
    return [item for source in sources for item in open_items(source)[0]]


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("name", ["p.ndjson", "p.jsonl", "p.json", "p.ndjson.gz", "p"])
def test_lines_are_items_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(gzip.compress(LINES) if name.endswith(".gz") else b"\xef\xbb\xbf" + LINES)
    found = items(file)
    assert [(item.line, json.loads(item.body)["id"]) for item in found] == [(1, "a"), (3, "b")]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_document_over_several_lines_is_one_item(tmp_path: Path, compressed: bool) -> None:
    file = tmp_path / ("c.json.gz" if compressed else "c.json")
    file.write_bytes(gzip.compress(PRETTY) if compressed else PRETTY)
    (found,) = items(file)
    assert found.line == 0
    assert json.loads(found.body)["id"] == "c"


def test_archives_are_read_in_their_order_and_other_files_in_them_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    archive(file, {"README.md": b"hello", "z.ndjson": LINES, "in/c.json": PRETTY, "d.ndjson.gz": gzip.compress(LINES)})
    found = items(file)
    assert [item.source for item in found] == ["x.tar.gz!z.ndjson"] * 2 + ["x.tar.gz!in/c.json"] + ["x.tar.gz!d.ndjson.gz"] * 2


def test_folders_are_walked_in_order_with_what_others_lean_on_first(tmp_path: Path) -> None:
    for name in ("b.ndjson", "a/c.json", "zz/0-hospitals.json", "hospitalInformation1.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINES)
    sources, ignored = find_sources([tmp_path])
    assert [source.name for source in sources] == ["hospitalInformation1.json", "zz/0-hospitals.json", "a/c.json", "b.ndjson"]
    assert [Path(name).name for name in ignored] == ["notes.txt"]


def test_what_does_not_exist_or_holds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such file"):
        find_sources([tmp_path / "none"])
    with pytest.raises(LoadError, match="holds no"):
        find_sources([tmp_path])


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.ndjson.gz"
    file.write_bytes(gzip.compress(LINES * 1000)[:-20])
    with pytest.raises(LoadError, match=r"cut\.ndjson\.gz: the file is damaged or cut off"):
        items(file)
    tar = tmp_path / "cut.tar.gz"
    archive(tar, {"z.ndjson": LINES * 5000})
    tar.write_bytes(tar.read_bytes()[:-30])
    with pytest.raises(LoadError, match=r"cut\.tar\.gz"):
        items(tar)


def test_chunks_end_at_the_same_places_every_time() -> None:
    small = [Item("s", at, b"x") for at in range(CHUNK_ITEMS * 2 + 1)]
    assert [(chunk.number, len(chunk.items)) for chunk in chunked(small)] == [(0, CHUNK_ITEMS), (1, CHUNK_ITEMS), (2, 1)]
    large = [Item("s", at, b"x" * CHUNK_BYTES) for at in range(3)]
    assert [len(chunk.items) for chunk in chunked(large)] == [1, 1, 1]
    assert list(chunked([])) == []
