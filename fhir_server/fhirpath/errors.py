"""What can be wrong with a FHIRPath expression, before and while it is evaluated.

Specification: http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections, http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations


class FhirPathError(Exception):
    """An expression that cannot be evaluated on this input; the message names function and value."""


class FhirPathSyntaxError(FhirPathError):
    """A text that is no FHIRPath; `position` counts characters from 0, `reason` is the message without it."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} (at character {position + 1})")
        self.reason = reason
        self.position = position


class FhirPathSemanticError(FhirPathSyntaxError):
    """A well-formed expression that makes no sense: an unknown function, element, type or variable."""
