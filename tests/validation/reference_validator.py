"""The cases of the reference validator's own suite for R4, with its verdicts: does it find an error in a file, or none?

Source: HL7 fhir-test-cases, validator/manifest.json with outcomes/java (Apache-2.0, read from the corpora).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fhir_server.errors import FhirError, Issue
from fhir_server.model.json_codec import loads
from fhir_server.model.library import Library
from fhir_server.model.xml_reading import from_xml
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.profiles.refusals import EXAMPLES, MARKUP
from fhir_server.validation.structure import validate as structure

ASIDE = frozenset({"tx", "tx-advanced"})
"""Modules that need a full terminology server."""
ALLOWED = ("http://example.org", "http://acme.", "http://hl7.org/fhir/", "http://nema.org")
"""Where extensions without a definition pass in this suite, beside what a case names."""


class Verdict(NamedTuple):
    """One run: of the file alone ('base'), or against the case's profile ('profile'). `error`: the reference found one."""

    name: str
    run: str
    error: bool
    case: dict[str, Any]


class Suite:
    """The archive, read once."""

    def __init__(self, archive: Path) -> None:
        self._files: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.isfile() else None
                if opened:
                    self._files[member.name.removeprefix("./")] = opened.read()
        self._manifest = json.loads(self._files["manifest.json"])

    def verdicts(self) -> Iterator[Verdict]:
        """The runs that need neither packages nor a terminology server."""
        for case in self._manifest["test-cases"]:
            if case["module"] in ASIDE or case.get("packages") or case.get("use-test") is False:
                continue
            yield Verdict(case["name"], "base", self._found(case["java"]), case)
            profile = case.get("profile", {})
            if profile.get("java") and not profile.get("packages"):
                yield Verdict(case["name"], "profile", self._found(case["profile"]["java"]), case)

    def _found(self, outcome: Any) -> bool:
        if isinstance(outcome, dict):
            if "errorCount" in outcome:
                return bool(outcome["errorCount"])
            held = outcome.get("outcome", outcome)
        else:
            held = json.loads(self._files[f"outcomes/{outcome}"])
        return any(issue["severity"] in ("error", "fatal") for issue in held.get("issue", ()))

    def errors(self, verdict: Verdict) -> list[Issue]:
        """The errors that this project finds."""
        case = verdict.case
        library, others, named = self._library(case)
        try:
            resource = self._read(case["file"])
            issues = structure(resource)
            by_type: dict[str, list[str]] = {}
            for guide in library:
                for row in guide.get("global", ()) if guide["resourceType"] == "ImplementationGuide" else ():
                    by_type.setdefault(row["type"], []).append(row["profile"])
            domain = case.get("allowed-extension-domain")
            refuses = frozenset(([MARKUP] if case.get("security-checks") else []) + ([EXAMPLES] if case.get("examples") is False else []))
            rule = case.get("bundle-param")
            entry, _, number = rule["rule"].partition(":") if rule else ("", "", "")
            room = ProfileRoom(
                library.find, refuses_unknown=True, allowed=(*ALLOWED, *([domain] if domain else [])), by_type=by_type, refuses=refuses
            )
            check = case.get("validateReference")
            issues += room.validate(
                resource,
                [named] if verdict.run == "profile" and named else [],
                resolve=others.get if check else None,
                must_resolve=check == "CHECK_VALID",
                entries=[(entry, int(number), rule["profile"])] if rule else [],
            )
        except FhirError as fault:
            issues = fault.issues
        return [issue for issue in issues if issue.severity in ("error", "fatal")]

    def _library(self, case: dict[str, Any]) -> tuple[Library, _Others, str]:
        profile = case.get("profile", {})
        library, named = Library(), ""
        for name in [*case.get("supporting", ()), *case.get("profiles", ()), *profile.get("supporting", ())]:
            for resource in self._resources(name):
                library.add(resource)
        source = profile.get("source", "")
        if source.startswith("http"):
            named = source
        for resource in self._resources(source) if source and not named else ():
            library.add(resource)
            named = named or resource.get("url", "")
        return library, _Others(self), named

    def _read(self, name: str) -> dict[str, Any]:
        raw = self._files[name].removeprefix(b"\xef\xbb\xbf")
        return from_xml(raw) if raw.lstrip()[:1] == b"<" else loads(raw)

    def _resources(self, name: str) -> list[dict[str, Any]]:
        if name not in self._files:
            return []
        try:
            resource = self._read(name)
        except FhirError:
            try:
                resource = json.loads(self._files[name])
            except ValueError:
                return []
        if resource.get("resourceType") == "Bundle":
            return [entry["resource"] for entry in resource.get("entry", ()) if "resource" in entry]
        return [resource]

    def file_of(self, reference: str) -> dict[str, Any] | None:
        """The file that is named as the id of a reference."""
        type_name, _, id = reference.rpartition("/")
        for name in (f"{id}.json", f"{id}.xml"):
            if name in self._files and type_name:
                found = self._resources(name)
                if len(found) == 1 and found[0].get("resourceType") == type_name.rpartition("/")[2]:
                    return found[0]
        return None


class _Others:
    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def get(self, reference: str) -> dict[str, Any] | None:
        return self._suite.file_of(reference)
