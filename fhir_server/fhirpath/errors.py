"""What can be wrong with a FHIRPath expression, before and while it is evaluated.

Specification: http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections, http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations


class FhirPathError(Exception):
    """An expression that cannot be evaluated on this input; the message names function and value. `zh`: the message in Chinese."""

    def __init__(self, english: str, zh: str) -> None:
        super().__init__(english)
        self.zh = zh


class FhirPathSyntaxError(FhirPathError):
    """A text that is no FHIRPath; `position` counts characters from 0, `reason` (`reason_zh`) is the message without it."""

    def __init__(self, reason: str, position: int, zh: str) -> None:
        super().__init__(f"{reason} (at character {position + 1})", f"{zh}（第 {position + 1} 个字符）")
        self.reason, self.reason_zh = reason, zh
        self.position = position


class FhirPathSemanticError(FhirPathSyntaxError):
    """A well-formed expression that makes no sense: an unknown function, element, type or variable."""
