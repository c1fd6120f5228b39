"""FHIR packages: the conformance resources of an implementation guide as a gzipped archive, or as a folder.

Specification: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model.json_codec import dumps, loads

MAX_FILE = 64 * 1024 * 1024
"""Largest file of a package, in bytes."""
MAX_TOTAL = 1024 * 1024 * 1024
"""Most bytes of all files of a package together."""
_ASIDE = ("package.json", ".index.json")


class PackageError(Exception):
    """A file is no FHIR package; the message names it and says why."""


@dataclass(slots=True)
class Package:
    """`resources` define something; `examples` do not, or stand in the folder for examples."""

    name: str
    version: str
    canonical: str = ""
    title: str = ""
    fhir_versions: tuple[str, ...] = ()
    dependencies: dict[str, str] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """`name#version`"""
        return f"{self.name}#{self.version}"


def read_package(path: Path) -> Package:
    """The package of an archive (.tgz, .tar.gz) or folder. Raises PackageError, naming the file at fault."""
    files = _folder(path) if path.is_dir() else _archive(path)
    manifest: dict[str, Any] | None = None
    held: list[tuple[str, dict[str, Any]]] = []
    for name, raw in files:
        if name.rpartition("/")[2] in _ASIDE:
            if name.count("/") <= 1 and name.endswith("package.json"):
                manifest = _json(path, name, raw)
            continue
        if name.endswith(".json") and "/other/" not in name and "/openapi/" not in name:
            content = _json(path, name, raw)
            if isinstance(content.get("resourceType"), str):
                held.append((name, content))
    if manifest is None:
        raise PackageError(f"{path}: no package.json in it; a FHIR package has one in its folder 'package'")
    versions, needed = manifest.get("fhirVersions") or manifest.get("fhir-version-list") or [], manifest.get("dependencies") or {}
    if not isinstance(versions, list) or not isinstance(needed, dict):
        raise PackageError(f"{path}: package.json: fhirVersions must be an array and dependencies an object")
    made = Package(
        str(manifest.get("name", "")), str(manifest.get("version", "")), str(manifest.get("canonical", "")), str(manifest.get("title", "")),
        tuple(map(str, versions)), {str(name): str(version) for name, version in needed.items()},
    )  # fmt: skip
    if not made.name or not made.version:
        raise PackageError(f"{path}: package.json names no package and version")
    if made.fhir_versions and not any(version.startswith("4.0") for version in made.fhir_versions):
        raise PackageError(f"{path}: {made.id} is for FHIR {', '.join(made.fhir_versions)}, this server is for 4.0")
    for name, resource in held:
        is_example = "/example" in name or not _defines(resource)
        (made.examples if is_example else made.resources).append(resource)
    return made


def is_topic_basic(resource: Mapping[str, Any]) -> bool:
    """Whether a resource is a Basic that stands for a SubscriptionTopic, which R4 does not have."""
    code = resource.get("code") if resource.get("resourceType") == "Basic" else None
    codings = code.get("coding") if isinstance(code, dict) else None
    topic = {"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}
    return isinstance(codings, list) and any(isinstance(one, dict) and topic.items() <= one.items() for one in codings)


def _defines(resource: dict[str, Any]) -> bool:
    """Whether a resource is one of the definitions of a guide: by its canonical, or because its type has none."""
    if isinstance(resource.get("url"), str) or resource["resourceType"] == "NamingSystem":
        return True
    return is_topic_basic(resource)


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with gzip.open(path) as packed_file:  # read to its end, where the check sum stands
            plain = packed_file.read(MAX_TOTAL + 1)
        if len(plain) > MAX_TOTAL:
            raise PackageError(f"{path}: larger than {MAX_TOTAL} bytes, too large for a package")
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive:
                if not member.isfile() or not member.name.endswith(".json"):
                    continue
                if member.size > MAX_FILE:
                    raise PackageError(f"{path}: {member.name} is too large for a package")
                opened = archive.extractfile(member)
                yield member.name.removeprefix("./"), opened.read() if opened else b""
    except FileNotFoundError:
        raise PackageError(f"{path}: there is no such file") from None
    except (tarfile.TarError, zlib.error, EOFError, OSError) as fault:
        raise PackageError(f"{path}: not a gzipped archive: {fault}") from None


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    inner = path / "package" if (path / "package").is_dir() else path
    for file in sorted(inner.rglob("*.json")):
        yield f"package/{file.relative_to(inner).as_posix()}", file.read_bytes()


def _json(path: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        content = loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except FhirError as fault:
        raise PackageError(f"{path}: {name}: {fault.issues[0].diagnostics}") from None
    return content


def packed(package: Package) -> bytes:
    """The package as an archive, the same bytes each time."""
    manifest = {
        "name": package.name, "version": package.version, "canonical": package.canonical, "title": package.title,
        "fhirVersions": list(package.fhir_versions), "dependencies": package.dependencies, "type": "IG",
    }  # fmt: skip
    files = {"package/package.json": dumps(manifest)}
    files |= {f"package/{one['resourceType']}-{one['id']}.json": dumps(one) for one in package.resources}
    files |= {f"package/example/{one['resourceType']}-{one['id']}.json": dumps(one) for one in package.examples}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)
