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


def coded(code: str, system: str | None = "http://loinc.org") -> dict[str, Any]:
    """A CodeableConcept; without system where it is None."""
    return {"coding": [{"code": code, **({"system": system} if system else {})}]}


def seen(id: str, code: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An Observation with this id and code."""
    return {"resourceType": "Observation", "id": id, "status": "final", "code": code, **more}


def link(bundle: dict[str, Any], relation: str) -> str:
    """The address of a link of a Bundle, or ''."""
    return next((one["url"] for one in bundle["link"] if one["relation"] == relation), "")


def matches(client: Any, place: str) -> list[str]:
    """The ids of the matches on the first page of a search, in their order."""
    answer = client.get(place)
    assert answer.status_code == 200, answer.text
    return [one["resource"]["id"] for one in answer.json().get("entry", []) if one["search"]["mode"] == "match"]


def included(client: Any, place: str) -> set[str]:
    """Type/id of what a search includes beside its matches."""
    answer = client.get(place)
    assert answer.status_code == 200, answer.text
    found = [one for one in answer.json().get("entry", []) if one["search"]["mode"] == "include"]
    places = [f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in found]
    assert len(places) == len(set(places)), "each is included once"
    return set(places)


def pages(client: Any, place: str) -> Iterator[list[str]]:
    """The ids of the matches of each page of a search."""
    while place:
        answer = client.get(place)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        yield [one["resource"]["id"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]
        place = link(bundle, "next")
