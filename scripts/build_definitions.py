"""Rebuilds `profiles/r4` from the official package hl7.fhir.r4.core 4.0.1, byte for byte.

    python scripts/build_definitions.py PACKAGE.tgz [--out FOLDER]

`definitions.ndjson.xz`: all conformance resources without narrative, mappings, differentials and element comments, one a line.
`tables.json.xz`: what the server loads at start: types, search parameters, compartments, codes of required bindings.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import tarfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

from definitions_expansion import Expander  # noqa: E402
from definitions_tables import compile_tables  # noqa: E402

Resource = dict[str, Any]
PACKAGE = ("hl7.fhir.r4.core", "4.0.1")
KINDS = {
    "StructureDefinition", "SearchParameter", "ValueSet", "CodeSystem", "ConceptMap", "OperationDefinition", "CapabilityStatement",
    "CompartmentDefinition", "NamingSystem", "StructureMap",
}  # fmt: skip
_DROPPED = ("text", "differential", "mapping")
_DROPPED_IN_ELEMENTS = ("mapping", "comment", "requirements", "definition", "alias", "example", "meaningWhenMissing", "isModifierReason")


def trimmed(resource: Resource) -> Resource:
    """The resource without what only readers of the specification's pages need."""
    out = {name: value for name, value in resource.items() if name not in _DROPPED}
    if out["resourceType"] == "StructureDefinition" and "snapshot" in out:
        elements = [{k: v for k, v in element.items() if k not in _DROPPED_IN_ELEMENTS} for element in out["snapshot"]["element"]]
        out["snapshot"] = {"element": elements}
    return out


def read_package(path: Path) -> list[Resource]:
    """All conformance resources of the package, trimmed, sorted by type and id. Raises ValueError for another package."""
    found = []
    with tarfile.open(path) as package:
        for member in package:
            name = Path(member.name)
            if member.name == "package/package.json":
                _check_package(json.loads(_content(package, member)))
            if name.parent != Path("package") or name.suffix != ".json" or name.name.split("-")[0] not in KINDS:
                continue
            resource = json.loads(_content(package, member))
            if resource.get("resourceType") in KINDS:
                found.append(trimmed(resource))
    return sorted(found, key=lambda resource: (resource["resourceType"], resource["id"]))


def _content(package: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = package.extractfile(member)
    return content.read() if content else b""


def _check_package(manifest: Resource) -> None:
    have = (manifest.get("name"), manifest.get("version"))
    if have != PACKAGE:
        raise ValueError(f"this is {have[0]} {have[1]}, not {PACKAGE[0]} {PACKAGE[1]}")


def packed(text: str) -> bytes:
    """xz with fixed settings, so that the same text gives the same bytes."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 24}]
    return lzma.compress(text.encode(), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _say(what: str) -> None:
    """Progress, for whoever watches."""
    if sys.stderr.isatty():
        print(what, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "profiles" / "r4")
    options = parser.parse_args()
    _say("reading the package ...")
    try:
        resources = read_package(options.package)
    except (OSError, tarfile.TarError, ValueError) as fault:
        parser.error(f"{options.package}: {fault}")
    if not resources:
        parser.error(f"{options.package}: no conformance resources in it")
    _say(f"compressing {len(resources)} resources (some seconds) ...")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "definitions.ndjson.xz").write_bytes(packed("".join(compact(resource) + "\n" for resource in resources)))
    _say("compiling the tables ...")
    tables = compile_tables(resources, Expander(resources))
    (options.out / "tables.json.xz").write_bytes(packed(compact(tables)))
    print(f"{len(resources)} resources, {len(tables['types'])} types, {len(tables['search'])} search parameters")


if __name__ == "__main__":
    main()
