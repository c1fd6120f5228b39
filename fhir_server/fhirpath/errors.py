"""What can be wrong with a FHIRPath expression, before and while it is evaluated."""

from __future__ import annotations


class FhirPathError(Exception):
    """An expression that cannot be evaluated on this input; the message names function and value."""


class FhirPathSyntaxError(FhirPathError):
    """A text that is no FHIRPath; `position` counts characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position
