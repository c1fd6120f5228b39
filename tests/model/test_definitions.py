"""The definitions as the server reads them, compared with the official package they were made of.

https://hl7.org/fhir/R4/downloads.html, package hl7.fhir.r4.core 4.0.1
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.definitions import FOLDER, definitions
from tests.conftest import ROOT

PACKAGE = "r4/definitions/hl7.fhir.r4.core-4.0.1.tgz"
CORE = "http://hl7.org/fhir/StructureDefinition/"


@pytest.fixture(scope="module")
def package(corpus: Path) -> dict[str, dict[str, Any]]:
    """URL -> resource of every StructureDefinition, SearchParameter and CompartmentDefinition of the official package."""
    found = {}
    with tarfile.open(corpus / PACKAGE) as archive:
        for member in archive:
            name = Path(member.name).name
            if name.startswith(("StructureDefinition-", "SearchParameter-", "CompartmentDefinition-")):
                opened = archive.extractfile(member)
                assert opened
                resource = json.load(opened)
                found[resource["url"]] = resource
    return found


def test_the_numbers_are_those_of_the_package() -> None:
    """As counted in the package's own index (data/README.md)."""
    counted = {
        kind: sum(1 for _ in definitions().resources(kind))
        for kind in (
            "StructureDefinition",
            "SearchParameter",
            "ValueSet",
            "CodeSystem",
            "ConceptMap",
            "OperationDefinition",
            "CompartmentDefinition",
        )
    }
    assert counted["StructureDefinition"] == 655
    assert counted["SearchParameter"] == 1400
    assert counted["OperationDefinition"] == 47
    assert counted["ValueSet"] == 1316
    assert counted["CodeSystem"] == 1062
    assert counted["ConceptMap"] == 80
    assert counted["CompartmentDefinition"] == 6
    assert len(definitions().search_parameters) == 1400
    assert len(definitions().resource_types) == 146


def test_every_element_is_as_the_package_has_it(package: dict[str, dict[str, Any]]) -> None:
    """Cardinality, types, choice, targets, binding, summary and modifier of all elements of all types."""
    types = definitions().types
    checked = Counter[str]()
    for url, resource in package.items():
        if resource["resourceType"] != "StructureDefinition" or resource.get("derivation") == "constraint" or resource["kind"] == "logical":
            continue
        root = resource["type"]
        assert url == CORE + root and types[root].abstract == resource["abstract"]
        for official in resource["snapshot"]["element"][1:]:
            parent, _, name = official["path"].rpartition(".")
            element = types[parent].elements[name.removesuffix("[x]")]
            assert element.choice == name.endswith("[x]")
            assert element.min == official["min"], official["path"]
            assert element.max == (None if official["max"] == "*" else int(official["max"])), official["path"]
            assert element.summary == official.get("isSummary", False)
            assert element.modifier == official.get("isModifier", False)
            assert (element.content or "") == official.get("contentReference", "").removeprefix("#")
            binding = official.get("binding")
            have = (element.binding.strength, element.binding.value_set) if element.binding else None
            assert have == ((binding["strength"], binding["valueSet"]) if binding and "valueSet" in binding else None), official["path"]
            codes = [one["code"] for one in official.get("type", ()) if "fhirpath" not in one["code"]]
            if codes:
                assert [ref.code for ref in element.types] == codes, official["path"]
                targets = [[url.removeprefix(CORE) for url in one.get("targetProfile", ())] for one in official["type"]]
                assert [list(ref.targets) for ref in element.types] == targets, official["path"]
            checked[types[root].kind] += 1
    assert checked["resource"] > 5_000 and checked["complex"] > 400 and checked["primitive"] > 50


def test_every_search_parameter_is_as_the_package_has_it(package: dict[str, dict[str, Any]]) -> None:
    for parameter in definitions().search_parameters:
        official = package[parameter.url]
        assert (parameter.code, parameter.type, list(parameter.base)) == (official["code"], official["type"], official.get("base", []))
        assert parameter.expression == official.get("expression", "")
        assert list(parameter.targets) == official.get("target", [])
        assert [definition for definition, _ in parameter.components] == [one["definition"] for one in official.get("component", ())]


def test_compartments_are_as_the_package_has_them(package: dict[str, dict[str, Any]]) -> None:
    assert set(definitions().compartments) == {"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"}
    by_code = {one["code"]: one for one in package.values() if one["resourceType"] == "CompartmentDefinition" and one["id"] != "example"}
    assert len(by_code) == 5
    for name, members in definitions().compartments.items():
        official = by_code[name]
        wanted = {one["code"]: tuple(one["param"]) for one in official["resource"] if one.get("param")}
        assert members == wanted


@pytest.mark.parametrize(
    ("value_set", "codes"),
    [  # as the specification's pages list them
        ("administrative-gender", {"male", "female", "other", "unknown"}),
        ("name-use", {"usual", "official", "temp", "nickname", "anonymous", "old", "maiden"}),
        ("observation-status", {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}),
        ("narrative-status", {"generated", "extensions", "additional", "empty"}),
        ("quantity-comparator", {"<", "<=", ">=", ">"}),
        ("days-of-week", {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}),
        ("care-plan-intent", {"proposal", "plan", "order", "option"}),
    ],
)  # fmt: skip
def test_codes_of_required_value_sets(value_set: str, codes: set[str]) -> None:
    assert definitions().codes(f"http://hl7.org/fhir/ValueSet/{value_set}|4.0.1") == codes


def test_value_sets_that_include_by_hierarchy() -> None:
    """request-intent is drawn by `is-a` into medicationrequest-intent and the like: whole systems, children included."""
    intents = definitions().codes("http://hl7.org/fhir/ValueSet/request-intent|4.0.1")
    assert intents == {
        "proposal",
        "plan",
        "directive",
        "order",
        "original-order",
        "reflex-order",
        "filler-order",
        "instance-order",
        "option",
    }


def test_what_is_not_enumerable_is_none() -> None:
    assert definitions().codes("http://hl7.org/fhir/ValueSet/mimetypes|4.0.1") is None
    assert definitions().codes("http://example.org/unknown") is None
    assert definitions().codings("http://example.org/unknown") is None


@pytest.mark.parametrize(
    ("name", "base", "derived"),
    [
        ("Patient", "DomainResource", True), ("Patient", "Resource", True), ("Bundle", "DomainResource", False), ("Age", "Quantity", True),
        ("code", "string", True), ("positiveInt", "integer", True), ("canonical", "uri", True),
        ("Patient.contact", "BackboneElement", True),
        ("Quantity", "Age", False), ("Patient", "Patient", True), ("nothing", "Element", False),
    ],
)  # fmt: skip
def test_types_derive_from_one_another(name: str, base: str, derived: bool) -> None:
    assert definitions().is_subtype(name, base) is derived


def test_resources_are_found_by_canonical_with_or_without_version() -> None:
    for url in ("http://hl7.org/fhir/StructureDefinition/Patient", "http://hl7.org/fhir/StructureDefinition/Patient|4.0.1"):
        found = definitions().resource(url)
        assert found and found["type"] == "Patient" and found["snapshot"]["element"][0]["path"] == "Patient"
    assert definitions().resource("http://hl7.org/fhir/StructureDefinition/Nothing") is None


def test_what_a_reader_changes_is_its_own_copy() -> None:
    first = definitions().resource("http://hl7.org/fhir/ValueSet/administrative-gender")
    assert first
    first["status"] = "changed"
    second = definitions().resource("http://hl7.org/fhir/ValueSet/administrative-gender")
    assert second and second["status"] != "changed"


def test_the_shipped_data_is_small() -> None:
    """What a wheel carries, so that no installation downloads anything."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


@pytest.mark.soak
def test_the_data_is_rebuilt_byte_for_byte(corpus: Path, tmp_path: Path) -> None:
    line = [sys.executable, "scripts/build_definitions.py", str(corpus / PACKAGE), "--out", str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=600)
    for name in ("definitions.ndjson.xz", "tables.json.xz"):
        assert digest(tmp_path / name) == digest(FOLDER / name), name


@pytest.mark.parametrize(
    "content", [None, b"no archive", {"name": "hl7.fhir.r4b.core", "version": "4.3.0"}], ids=["missing", "no archive", "other"]
)
def test_another_package_is_refused(tmp_path: Path, content: Any) -> None:
    package = tmp_path / "package.tgz"
    if isinstance(content, bytes):
        package.write_bytes(content)
    elif content:
        (tmp_path / "package.json").write_text(json.dumps(content), encoding="utf-8")
        with tarfile.open(package, "w:gz") as archive:
            archive.add(tmp_path / "package.json", "package/package.json")
    line = [sys.executable, "scripts/build_definitions.py", str(package), "--out", str(tmp_path / "out")]
    ended = subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert str(package) in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
