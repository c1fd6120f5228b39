"""How the rulebook asks the validator: what it finds, where, and which status that means."""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.model import json_codec
from fhir_server.validation.structure import status_of, validate


def issues_of(resource: dict[str, Any] | str) -> list[Issue]:
    """All issues of a resource, given as a dict or (where digits or the form matter) as JSON text."""
    if isinstance(resource, str):
        resource = json_codec.loads(resource.encode())
    return validate(resource)


def errors_of(resource: dict[str, Any] | str) -> list[Issue]:
    """The issues that refuse a resource."""
    return [issue for issue in issues_of(resource) if issue.severity in ("error", "fatal")]


def verdict(resource: dict[str, Any] | str) -> tuple[int, list[tuple[str, str]]]:
    """HTTP status (200: taken) and (issue code, expression) of every error, in document order."""
    found = errors_of(resource)
    return (status_of(found) if found else 200), [(issue.code, issue.expression[0]) for issue in found]


def the_error(resource: dict[str, Any] | str) -> Issue:
    """The only error of a resource."""
    found = errors_of(resource)
    assert len(found) == 1, [issue.diagnostics for issue in found]
    return found[0]


def read_error(text: str) -> FhirError:
    """The refusal by the codec of what cannot be read."""
    try:
        json_codec.loads(text.encode())
    except FhirError as fault:
        return fault
    raise AssertionError(f"{text} was read")


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **more}


def observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}
