"""Small resources for tests over the wire, after the official examples."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_numbers = itertools.count(1)


def unique(prefix: str = "t") -> str:
    """A value that no other test uses."""
    return f"{prefix}-{next(_numbers)}"


def patient(**more: Any) -> dict[str, Any]:
    """A Patient with a name."""
    return {"resourceType": "Patient", "name": [{"family": "Chalmers", "given": ["Peter", "James"]}], "gender": "male", **more}


def identified(value: str, **more: Any) -> dict[str, Any]:
    """A Patient with a record number of the system urn:mrn."""
    return patient(identifier=[{"system": "urn:mrn", "value": value}], **more)


def observation(subject: str, **more: Any) -> dict[str, Any]:
    """A heart rate of a patient."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": subject},
        "effectiveDateTime": "2025-03-01T08:00:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        **more,
    }


def outcome(answer: Any, status: int, code: str | None = None) -> str:
    """Check that an answer is an OperationOutcome of this status (and issue code); all its diagnostics as one text."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    content = answer.json()
    assert content["resourceType"] == "OperationOutcome"
    assert content["issue"]
    for issue in content["issue"]:
        assert issue["severity"] in ("fatal", "error", "warning", "information")
        assert issue["code"]
        assert "Traceback" not in issue.get("diagnostics", "")
    if code is not None:
        assert code in [issue["code"] for issue in content["issue"]], content
    return " ".join(issue.get("diagnostics", "") for issue in content["issue"])


def official_examples(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of the specification's example instances in JSON."""
    with tarfile.open(corpus / "r4" / "examples-json.tar.gz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".json"):
                opened = archive.extractfile(member)
                assert opened is not None
                yield Path(member.name).name, opened.read()
