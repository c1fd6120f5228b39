"""The official example instances with what their index says of them."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def index(corpus: Path) -> dict[str, str]:
    """File name -> whether a strict parser took it: yes, no, or ? (it was not tried)."""
    with (corpus / "r4" / "examples-index.tsv").open(encoding="utf-8") as table:
        return {row["file"]: row["parses_strictly"] for row in csv.DictReader(table, delimiter="\t")}


@pytest.fixture(scope="session")
def official(corpus: Path) -> dict[str, bytes]:
    """File name -> content of all example instances in JSON, the flawed ones included."""
    found = {}
    with tarfile.open(corpus / "r4" / "examples-json.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.name.endswith(".json") else None
            if opened is not None:
                found[Path(member.name).name] = opened.read()
    return found
