"""The official FHIRPath test suite for R4: each case with its expression, its input and what must come out.

http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fhir_server.fhirpath import Expression, FhirPathError, FhirPathSyntaxError, Item
from tests.conftest import ROOT
from tests.fhirpath.official import Case, Suite, shown

_ARCHIVE = Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data")) / "tests" / "fhirpath-r4.tar.gz"
_SUITE = Suite(_ARCHIVE) if _ARCHIVE.is_file() else None
_CASES = _SUITE.cases if _SUITE else []

KNOWN_MISSES: dict[str, str] = {}
"""Cases that do not pass, by name, each with its reason. A case that begins to pass must be taken out of here."""


def evaluated(case: Case) -> list[Item]:
    """What a case gives, checked strictly first, as the suite's strict cases want it; the others must stand that, too."""
    assert _SUITE
    resource = _SUITE.input(case.input) if case.input else None
    expression = Expression(case.expression, strict=True)
    expression.check(resource["resourceType"] if resource else None, check_order=True)
    return expression.evaluate(resource)


def outcome(case: Case) -> str:
    """Why a case fails, or ''."""
    try:
        found = evaluated(case)
    except FhirPathSyntaxError as fault:
        return "" if case.invalid in ("syntax", "semantic", "execution") else f"refused: {fault}"
    except FhirPathError as fault:
        return "" if case.invalid in ("semantic", "execution") else f"failed: {fault}"
    if case.invalid:
        return f"must be refused ({case.invalid}), but gave {found}"
    wanted = [text for _, text in case.outputs]
    given = [shown(item) for item in found]
    if not case.ordered:
        wanted, given = sorted(wanted), sorted(given)
    if wanted != given:
        return f"{given} instead of {wanted}"
    types = [kind for kind, _ in case.outputs]
    return "" if all(fits(item, kind) for item, kind in zip(found, types, strict=True) if kind and case.ordered) else f"types of {found}"


def fits(item: Item, kind: str) -> bool:
    """Whether an item has the type that the suite names: FHIR's name, also for System values."""
    return item.type == kind or item.type.removeprefix("System.").lower() == kind.lower()


@pytest.mark.skipif(not _CASES, reason=f"the official suite is not at {_ARCHIVE} (FHIR_TEST_DATA)")
@pytest.mark.parametrize("case", _CASES, ids=lambda case: f"{case.group}-{case.name}")
def test_official_case(case: Case) -> None:
    fault = outcome(case)
    if case.name in KNOWN_MISSES:
        assert fault, f"{case.name} passes now: take it out of KNOWN_MISSES"
        pytest.xfail(KNOWN_MISSES[case.name])
    assert not fault, fault


@pytest.mark.skipif(not _CASES, reason=f"the official suite is not at {_ARCHIVE} (FHIR_TEST_DATA)")
def test_the_suite_is_whole_and_the_misses_are_of_it() -> None:
    assert len(_CASES) == 598
    assert KNOWN_MISSES.keys() <= {case.name for case in _CASES}
