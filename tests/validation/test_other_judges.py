"""What others say of the same content: HL7's reference validator, and generated instances of nearly every type.

Source: HL7 fhir-test-cases 1.7.69 (validator, R4), com.ibm.fhir:fhir-examples 4.11.1 (synthetic instances)
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.validation.structure import validate

NOT_JSON = {"json-comments-1-yes": "JSON5 with comments, which the case allows on purpose"}
FLAWED_SYNTHETIC = {
    "complete-mock/Questionnaire-8.json": "item-type 'question' is abstract: it groups the others and is no code for data",
    "complete-mock/EvidenceVariable-5.json": "a Reference to ActivityDefinition, where only a canonical may name one",
}


def files_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name.removeprefix("./"): tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def errors_of(raw: bytes) -> list[str]:
    try:
        issues = validate(json_codec.loads(raw))
    except FhirError as fault:
        issues = fault.issues
    return [issue.diagnostics for issue in issues if issue.severity == "error"]


@pytest.fixture(scope="module")
def verdicts(corpus: Path) -> list[tuple[str, bytes, bool]]:
    """(name, content, whether the reference validator found an error) of the R4 cases in JSON that need no further package."""
    files = files_of(corpus / "tests" / "validator-r4.tar.gz")
    by_name = {Path(name).name: raw for name, raw in files.items() if "/java/" in f"/{name}"}
    manifest = json.loads(files["manifest.json"])
    found = []
    for case in manifest["test-cases"]:
        outcome: Any = by_name.get(Path(str(case.get("java"))).name)
        if case["file"].endswith(".json") and case.get("version") == "4.0" and "packages" not in case and case["file"] in files and outcome:
            severities = {issue["severity"] for issue in json.loads(outcome).get("issue", ())}
            found.append((case["name"], files[case["file"]], bool(severities & {"error", "fatal"})))
    return found


def test_what_the_reference_validator_takes_is_taken(verdicts: list[tuple[str, bytes, bool]]) -> None:
    taken = [(name, raw) for name, raw, wrong in verdicts if not wrong and name not in NOT_JSON]
    assert len(taken) > 80
    assert {name: errors for name, raw in taken if (errors := errors_of(raw))} == {}


def test_what_is_no_structure_is_refused_by_both(verdicts: list[tuple[str, bytes, bool]]) -> None:
    """The reference validator also knows profiles, terminology and invariants; what is refused here, it refuses as well."""
    refused = {name for name, raw, _ in verdicts if errors_of(raw)} - NOT_JSON.keys()
    assert len(refused) > 20
    assert refused <= {name for name, _, wrong in verdicts if wrong}


def test_generated_instances_of_nearly_every_type_are_taken(corpus: Path) -> None:
    """Save their empty narratives (txt-2), and random texts for codes of a given form."""
    types, flawed = set(), set()
    for name, raw in files_of(corpus / "r4" / "synthetic-instances.tar.gz").items():
        if not name.startswith("json/"):
            continue
        resource = json_codec.loads(raw)
        types.add(resource["resourceType"])
        excused = ("(txt-2)", "(BCP 13)", "(ISO 4217)", "(BCP 47)")
        if any(issue.severity == "error" and not issue.diagnostics.endswith(excused) for issue in validate(resource)):
            flawed.add(name.removeprefix("json/"))
    assert len(types) == 140
    assert flawed == FLAWED_SYNTHETIC.keys()
