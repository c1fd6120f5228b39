"""One error type for everything that can be wrong with a request, rendered in one place as an OperationOutcome.

Specification: https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_CONTROLS = {one: 0x2400 + one for one in range(32) if chr(one) not in "\t\n\r"}
"""Characters that no FHIR string may hold, shown as ␀ and so on."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of an OperationOutcome.

    `code` is from http://hl7.org/fhir/issue-type; `expression` holds FHIRPath expressions of the elements at fault;
    `diagnostics` names the element, the value and the rule in English, `zh` (optional) the same in Chinese.
    `syntax` says that the content cannot be read as R4 at all (HTTP 400); other errors break a rule (HTTP 422).
    `rule` is the key of that rule ('pat-1', 'cardinality'), `profile` the canonical of the profile that states it.
    """

    code: str
    diagnostics: str
    expression: tuple[str, ...] = ()
    severity: str = "error"
    zh: str | None = None
    syntax: bool = False
    rule: str = ""
    profile: str = ""

    def as_json(self, *, chinese: bool = False) -> dict[str, Any]:
        """The issue as an element of `OperationOutcome.issue`."""
        issue: dict[str, Any] = {}
        if self.profile:
            issue["extension"] = [{"url": SOURCE, "valueString": self.profile}]
        issue |= {"severity": self.severity, "code": self.code}
        details: dict[str, Any] = {}
        if self.rule:
            details["coding"] = [{"system": RULES, "code": self.rule}]
        if chinese and self.zh:
            details["text"] = self.zh.translate(_CONTROLS)
        if details:
            issue["details"] = details
        issue["diagnostics"] = self.diagnostics.translate(_CONTROLS)
        if self.expression:
            if self.rule:
                issue["location"] = list(self.expression)
            issue["expression"] = list(self.expression)
        return issue


SOURCE = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-source"
"""Extension that names the profile whose rule an issue is about."""
RULES = "urn:fhir-server:validation-rules"
"""Code system of the keys of rules: those of invariants ('pat-1'), and the validator's own ('cardinality')."""


@dataclass(slots=True)
class FhirError(Exception):
    """A request that cannot be served: HTTP status, issues, and answer headers (name, value) that belong to it."""

    status: int
    issues: list[Issue]
    headers: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        status: int,
        code: str,
        diagnostics: str,
        *expression: str,
        zh: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> FhirError:
        """An error with a single issue."""
        return cls(status, [Issue(code, diagnostics, tuple(expression), zh=zh)], list(headers))

    def __str__(self) -> str:
        return f"{self.status}: " + "; ".join(issue.diagnostics for issue in self.issues)

    def outcome(self, *, chinese: bool = False) -> dict[str, Any]:
        """The OperationOutcome resource."""
        return operation_outcome(self.issues, chinese=chinese)


def operation_outcome(issues: Iterable[Issue], *, chinese: bool = False) -> dict[str, Any]:
    """An OperationOutcome of the given issues; with none, one `information` issue that says all is well."""
    rendered = [issue.as_json(chinese=chinese) for issue in issues]
    if not rendered:
        rendered = [Issue("informational", "No issues detected", severity="information", zh="未发现问题").as_json(chinese=chinese)]
    return {"resourceType": "OperationOutcome", "issue": rendered}
