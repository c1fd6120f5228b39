"""Structural validation: every fault of a resource at once, each with its FHIRPath expression.

Checked are element names, JSON types, cardinality, primitives' forms, choices, required bindings, reference targets, narrative, and the
rules on contained resources, extensions and Bundles. Profiles and the other invariants are not.
Specification: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.validation import rules
from fhir_server.validation.checkers import resource as check_resource
from fhir_server.validation.faults import MAX, Fault, Faults, issue


def _faults(resource: dict[str, Any]) -> Faults:
    try:
        faults = check_resource(resource) or []
        return faults + rules.of_resource(resource)
    except RecursionError:
        return [Fault("", "too-costly", "is nested too deeply", None, "嵌套过深", True)]


def validate(resource: dict[str, Any]) -> list[Issue]:
    """The issues of a resource, errors and warnings, at most MAX; none for a valid one. Never raises."""
    faults = _faults(resource)
    if not faults:
        return []
    root = str(resource.get("resourceType", "Resource"))
    issues = list(dict.fromkeys(issue(root, fault) for fault in faults))
    if len(issues) > MAX:
        more = len(issues) - MAX
        issues = [*issues[:MAX], Issue("informational", f"{more} further issues are left out", severity="information")]
    return issues


def check(resource: dict[str, Any]) -> None:
    """Raise FhirError with all issues: 400 when some part cannot be read as R4, 422 when it can but breaks rules."""
    issues = validate(resource)
    errors = [one for one in issues if one.severity in ("error", "fatal")]
    if errors:
        raise FhirError(400 if any(one.syntax for one in errors) else 422, issues)
