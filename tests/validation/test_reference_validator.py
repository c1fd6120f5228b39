"""Verdicts are those of the reference validator: a file in which it finds errors is refused, one in which it finds none is taken.

Where they are not, `deviations.tsv` beside this file says why. Source: HL7 fhir-test-cases, validator/manifest.json
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.validation.reference_validator import Suite

CORPORA = Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data"))
ARCHIVE = CORPORA / "tests" / "validator-r4.tar.gz"
with (Path(__file__).parent / "deviations.tsv").open(encoding="utf-8") as table:
    DEVIATIONS = {(row["case"], row["run"]): row["reason"] for row in csv.DictReader(table, delimiter="\t")}

SUITE = Suite(ARCHIVE) if ARCHIVE.exists() else None
VERDICTS = list(SUITE.verdicts()) if SUITE else []

pytestmark = pytest.mark.skipif(SUITE is None, reason=f"the suite is not at {ARCHIVE} (FHIR_TEST_DATA)")


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda one: f"{one.name}-{one.run}")
def test_verdict_is_that_of_the_reference_validator(verdict) -> None:
    assert SUITE
    errors = SUITE.errors(verdict)
    same = bool(errors) == verdict.error
    reason = DEVIATIONS.get((verdict.name, verdict.run))
    if reason:
        assert not same, f"it agrees now: take it out of deviations.tsv ({reason})"
    else:
        assert same, [issue.diagnostics for issue in errors[:5]] or "an error was not found"


def test_at_least_19_of_20_verdicts_agree() -> None:
    assert len(DEVIATIONS) <= len(VERDICTS) // 20
