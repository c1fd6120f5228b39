"""The official cases of snapshot generation, compared by what snapshots say of elements (texts aside).

The expected snapshots are of R4B, whose differences from R4 are taken out. Source: HL7 fhir-test-cases, snapshot-generation (R4B)
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from fhir_server.model.definitions import definitions
from fhir_server.model.json_codec import loads
from fhir_server.model.library import Library
from fhir_server.model.xml_reading import from_xml
from fhir_server.validation.snapshot import Generator, SnapshotError

COMPARED = ("min", "max", "contentReference", "sliceName", "maxLength")
ONLY_R4B = frozenset({"CodeableReference", "RatioRange", "integer64"})
MORE_TARGETS = ("/Procedure", "/Organization", "/Practitioner", "/Medication", "/Substance")
"""Targets that R4B has in more places than R4."""


class Case(NamedTuple):
    """`fails`: no snapshot can be made. `expected` is None where the suite has none."""

    name: str
    profile: dict[str, Any]
    expected: dict[str, Any] | None
    fails: bool
    beside: tuple[dict[str, Any], ...]


def cases(archive: Path, packages: Path) -> Iterator[Case]:
    """The cases that the manifest asks to generate."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.isfile() else None
            if opened:
                files[member.name.removeprefix("./")] = opened.read()

    def read(stem: str) -> dict[str, Any] | None:
        for name in (f"{stem}.xml", f"{stem}.json"):
            if name in files:
                return from_xml(files[name]) if name.endswith("xml") else loads(files[name])
        return None

    tests = list(ElementTree.fromstring(files["manifest.xml"]).iter("test"))
    registered = [name for test in tests for name in test.attrib.get("register", "").split(",") if name]
    beside = tuple(found for name in registered if (found := read(name)))
    for test in tests:
        profile = read(f"{test.attrib['id']}-input")
        if test.attrib.get("gen") == "true" and profile is not None:
            yield Case(test.attrib["id"], profile, read(f"{test.attrib['id']}-expected"), test.attrib.get("fail") == "true", beside)


def packaged(packages: Path) -> list[dict[str, Any]]:
    """The profiles of US Core, upon which some cases build."""
    found = []
    with tarfile.open(packages / "hl7.fhir.us.core-6.1.0.tgz") as tar:
        for member in tar:
            opened = tar.extractfile(member) if member.name.endswith(".json") and "StructureDefinition-" in member.name else None
            if opened:
                found.append(json.loads(opened.read()))
    return found


def outcome(case: Case, others: list[dict[str, Any]]) -> str:
    """'' where the snapshot is as expected, else what is not."""
    own, packaged = Library([*case.beside, case.profile]), Library(others)

    def resolve(canonical: str) -> Mapping[str, Any] | None:
        return own.find(canonical) or packaged.find(canonical) or definitions().resource(canonical.partition("#")[0])

    try:
        made = Generator(resolve).generate(case.profile)
    except SnapshotError as fault:
        return "" if case.fails else str(fault)
    if case.fails:
        return "it must fail"
    wanted = (case.expected or {}).get("snapshot", {}).get("element")
    if wanted is None:
        return ""
    mine, theirs = [one["id"] for one in made], [one["id"] for one in wanted]
    if mine != theirs:
        return f"other elements: {[id for id in theirs if id not in mine][:4]} / {[id for id in mine if id not in theirs][:4]}"
    for one, other in zip(made, wanted, strict=True):
        left, right = said(one), said(other)
        if left != right:
            keys = [key for key in left.keys() | right.keys() if left.get(key) != right.get(key)]
            return f"{one['id']}: {', '.join(f'{key} {left.get(key)!s:.80} instead of {right.get(key)!s:.80}' for key in sorted(keys))}"
    return ""


def said(element: Mapping[str, Any]) -> dict[str, Any]:
    """What an element of a snapshot says, in a form in which R4 and R4B are equal."""
    found: dict[str, Any] = {key: element[key] for key in COMPARED if key in element}
    if "contentReference" in found:
        found["contentReference"] = found["contentReference"].rpartition("#")[2]
    found |= {key: value for key, value in element.items() if key.startswith(("fixed", "pattern", "minValue", "maxValue"))}
    found["flags"] = (bool(element.get("mustSupport")), bool(element.get("isModifier")))
    if "binding" in element:
        row = element["binding"]
        found["binding"] = (row.get("strength"), str(row.get("valueSet")).replace("|4.3.0", "|4.0.1"))
    if "slicing" in element:
        row = element["slicing"]
        found["slicing"] = (
            sorted((one["type"], one["path"]) for one in row.get("discriminator", ())), bool(row.get("ordered")), row.get("rules")
        )  # fmt: skip
    found["constraint"] = sorted({one["key"] for one in element.get("constraint", ())} - {"dom-r4b"})
    types = [row for row in element.get("type", ()) if row.get("code") not in ONLY_R4B]
    found["type"] = "open" if len(types) > 40 else sorted(map(_type, types))
    return found


def _type(row: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    targets = sorted(one for one in row.get("targetProfile", ()) if not one.endswith(MORE_TARGETS))
    return str(row.get("code")), list(row.get("profile", ())), targets
