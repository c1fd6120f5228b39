"""Structural validation: is this content a resource of R4, and which rules of structure does it break?

All faults are found in one walk through checks that were compiled from the official definitions (`compiler`).
Specification: https://hl7.org/fhir/R4/validation.html (structure, cardinality, value domains, bindings), https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.model.definitions import definitions
from fhir_server.validation.compiler import Validator
from fhir_server.validation.report import MAX_ISSUES, Enough, Report

__all__ = ["MAX_ISSUES", "check", "status_of", "validate"]


def validate(resource: Any, *, bundle_entry: bool = False, pieces: bool = False) -> list[Issue]:
    """All structural issues of a resource (at most MAX_ISSUES errors and a note that there are more); errors refuse it, warnings do not.

    `bundle_entry`: the resource comes from a transaction or batch, where conditional references (`Patient?identifier=…`) may stand.
    `pieces`: it is a patch, whose values may refer (`#id`) to what the patched resource contains; its result is checked again.
    """
    report = Report(bundle_entry, pieces)
    try:
        _validator().resource(resource, None, report)
    except Enough:
        more = f"There are {MAX_ISSUES} errors or more; the others are not listed"
        report.issues.append(Issue("too-costly", more, severity="information", zh=f"错误达到 {MAX_ISSUES} 个，其余未列出"))
    return report.issues


def check(resource: Any, *, bundle_entry: bool = False, pieces: bool = False) -> None:
    """Raise FhirError with all issues if one is an error: 400 if some content cannot be read as R4, else 422."""
    issues = validate(resource, bundle_entry=bundle_entry, pieces=pieces)
    if issues and any(issue.severity in ("error", "fatal") for issue in issues):
        raise FhirError(status_of(issues), issues)


def status_of(issues: list[Issue]) -> int:
    """The HTTP status that refused content gets."""
    return 400 if any(issue.syntax for issue in issues) else 422


@lru_cache(maxsize=1)
def _validator() -> Validator:
    return Validator(definitions())
