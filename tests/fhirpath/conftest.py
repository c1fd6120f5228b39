"""The official example instances that a strict parser takes, as the codec reads them."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model import json_codec


@pytest.fixture(scope="session")
def examples(corpus: Path) -> dict[str, dict[str, Any]]:
    """File name → resource."""
    folder = corpus / "r4"
    with (folder / "examples-index.tsv").open() as table:
        valid = {row["file"] for row in csv.DictReader(table, delimiter="\t") if row["parses_strictly"] == "yes"}
    found = {}
    with tarfile.open(folder / "examples-json.tar.gz") as tar:
        for member in tar:
            name = Path(member.name).name
            if member.isfile() and name in valid:
                found[name] = json_codec.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
    assert len(found) > 250
    return found
