"""What a load came to: counts by type, and what was refused and why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_server.errors import FhirError, Issue

MAX_LISTED = 100_000
"""Most refusals that are kept one by one; beyond, they are only counted."""
MAX_ISSUES = 5
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_INDEX = re.compile(r"\[\d+\]")
_NUMBER = re.compile(r"\b\d[\d.:T+-]*\b")


class Refusal(NamedTuple):
    """One resource, entry or file that was not loaded. `line` 0 = the whole file; `entry` -1 = not in a Bundle."""

    source: str
    line: int
    entry: int
    type: str
    id: str
    status: int
    reasons: tuple[str, ...]
    where: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        place: dict[str, Any] = {"file": self.source}
        if self.line:
            place["line"] = self.line
        if self.entry >= 0:
            place["entry"] = self.entry
        return {
            **place,
            "type": self.type,
            "id": self.id,
            "status": self.status,
            "reasons": list(self.reasons),
            "elements": list(self.where),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Refusal:
        return cls(
            data["file"],
            data.get("line", 0),
            data.get("entry", -1),
            data["type"],
            data["id"],
            data["status"],
            tuple(data["reasons"]),
            tuple(data["elements"]),
        )

    @property
    def place(self) -> str:
        line = f":{self.line}" if self.line else ""
        entry = f" entry {self.entry}" if self.entry >= 0 else ""
        return f"{self.source}{line}{entry}"


def refusal(source: str, line: int, resource: Any, error: FhirError, entry: int = -1) -> Refusal:
    """A refusal out of the error that a resource met."""
    known = resource if isinstance(resource, dict) else {}
    issues: list[Issue] = [issue for issue in error.issues if issue.severity in ("error", "fatal")] or list(error.issues)
    reasons = [issue.diagnostics for issue in issues[:MAX_ISSUES]]
    if len(issues) > MAX_ISSUES:
        reasons.append(f"and {len(issues) - MAX_ISSUES} more")
    where = tuple(expression for issue in issues[:MAX_ISSUES] for expression in issue.expression)
    return Refusal(
        source, line, entry, str(known.get("resourceType", ""))[:64], str(known.get("id", ""))[:64], error.status, tuple(reasons), where
    )


@dataclass(slots=True)
class Report:
    """Counts by type and result (created, updated, unchanged, deleted, refused), and the refusals."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    refused: int = 0
    groups: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    bundles: int = 0
    skipped_bundles: int = 0
    resumed: int = 0
    """Items of files that an earlier run, interrupted since, had done already."""

    def count(self, type: str, result: str, number: int = 1) -> None:
        self.counts.setdefault(type or "(unreadable)", Counter())[result] += number

    def refuse(self, refused: Refusal) -> None:
        self.refused += 1
        self.count(refused.type, "refused")
        key = (refused.type or "(unreadable)", _generic(refused))
        self.groups[key] += 1
        self.examples.setdefault(key, refused)
        if len(self.refusals) < MAX_LISTED:
            self.refusals.append(refused)

    def total(self, result: str) -> int:
        return sum(counted[result] for counted in self.counts.values())

    @property
    def items(self) -> int:
        return sum(sum(counted.values()) for counted in self.counts.values())

    def add(self, other: dict[str, Any]) -> None:
        """Add what `delta` gave: of another process, or of the journal."""
        for type, counted in other["counts"].items():
            for result, number in counted.items():
                if result != "refused":
                    self.count(type, result, number)
        for data in other["refused"]:
            self.refuse(Refusal.from_json(data))
        self.bundles += other["bundles"]
        self.skipped_bundles += other["skipped_bundles"]

    def delta(self) -> dict[str, Any]:
        """The report as JSON data, for the journal and for other processes."""
        return {
            "counts": {type: dict(counted) for type, counted in self.counts.items()},
            "refused": [refused.as_json() for refused in self.refusals],
            "bundles": self.bundles,
            "skipped_bundles": self.skipped_bundles,
        }

    def as_json(self, seconds: float, ignored: list[str]) -> dict[str, Any]:
        """The content of the report file."""
        grouped = [
            {"type": type, "reason": reason, "count": number, "example": self.examples[type, reason].as_json()}
            for (type, reason), number in self.groups.most_common()
        ]
        return {
            "seconds": round(seconds, 3),
            "counts": {type: dict(counted) for type, counted in sorted(self.counts.items())},
            "bundles": self.bundles,
            "bundles_loaded_before": self.skipped_bundles,
            "items_done_by_an_interrupted_run": self.resumed,
            "refused": self.refused,
            "refused_groups": grouped,
            "refused_items": [refused.as_json() for refused in self.refusals],
            "refused_items_not_listed": self.refused - len(self.refusals),
            "ignored_files": ignored,
        }


def _generic(refused: Refusal) -> str:
    """The reason without the particular value, so that like refusals form one group."""
    reason = refused.reasons[0] if refused.reasons else "no reason given"
    return _NUMBER.sub("…", _QUOTED.sub("'…'", _INDEX.sub("[…]", reason)))[:300]
