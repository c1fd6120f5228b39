"""What FHIR R4 says of types, search parameters and compartments, read from tables compiled from the official definitions.

Types are built when first asked for, so that a start costs little. Source: package hl7.fhir.r4.core 4.0.1.
Specification: https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "r4"


@dataclass(frozen=True, slots=True)
class Binding:
    """`strength` is required, extensible, preferred or example; `value_set` the canonical as the definition states it."""

    strength: str
    value_set: str


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A permitted type of an element; `targets`: resource types that a Reference or canonical may point to ('Resource': any)."""

    code: str
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """An invariant: key such as 'pat-1', severity error or warning, text, FHIRPath expression."""

    key: str
    severity: str
    human: str
    expression: str


@dataclass(frozen=True, slots=True)
class ElementDef:
    """One element of a type. `name` is 'value' for `value[x]`; `max` None is '*'; `content` the type whose content it reuses.

    `json_names` maps each JSON name to the code of its type ({'valueQuantity': 'Quantity', ...} or {'status': 'code'}).
    """

    name: str
    path: str
    types: tuple[TypeRef, ...]
    choice: bool
    min: int
    max: int | None
    binding: Binding | None
    content: str | None
    summary: bool
    modifier: bool
    constraints: tuple[Constraint, ...]
    json_names: dict[str, str]
    max_value_set: str | None = None
    """Canonical of the set that no code may leave although the binding is not required (`elementdefinition-maxValueSet`)."""


@dataclass(frozen=True, slots=True)
class TypeDef:
    """A type: 'Patient', 'HumanName', 'string', or a backbone such as 'Patient.contact'. `elements` include inherited ones.

    `by_json`: JSON name -> (element, name of the TypeDef of its value). `regex`: lexical form of a primitive, if any.
    """

    name: str
    kind: str
    base: str | None
    abstract: bool
    elements: dict[str, ElementDef]
    by_json: dict[str, tuple[ElementDef, str]]
    constraints: tuple[Constraint, ...] = ()
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class SearchParameterDef:
    """An official search parameter; `components`: (canonical of the part's definition, expression) of a composite."""

    url: str
    code: str
    type: str
    base: tuple[str, ...]
    expression: str
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()
    comparators: tuple[str, ...] = ()
    modifiers: tuple[str, ...] = ()


class _Types(Mapping[str, TypeDef]):
    """Types by name, built on first use."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        self._built: dict[str, TypeDef] = {}

    def __getitem__(self, name: str) -> TypeDef:
        built = self._built.get(name)
        if built is None:
            built = self._built[name] = self._build(name, self._tables[name])
        return built

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def kind(self, name: str) -> str:
        """The kind of a type without building it."""
        return self._tables[name]["kind"]

    def base(self, name: str) -> str | None:
        return self._tables[name]["base"] if name in self._tables else None

    def raw(self, name: str) -> dict[str, Any]:
        return self._tables[name]

    def _build(self, name: str, table: dict[str, Any]) -> TypeDef:
        elements: dict[str, ElementDef] = {}
        by_json: dict[str, tuple[ElementDef, str]] = {}
        for row in table["e"]:
            element = _element(name, row)
            elements[element.name] = element
            for json_name, code in element.json_names.items():
                path = f"{name}.{json_name}"
                by_json[json_name] = (element, element.content or (path if path in self._tables else code))
        return TypeDef(
            name, table["kind"], table["base"], table["abstract"], elements, by_json, _constraints(table.get("c", ())), table.get("regex")
        )


def _constraints(rows: Any) -> tuple[Constraint, ...]:
    return tuple(Constraint(*row) for row in rows)


def _element(type_name: str, row: dict[str, Any]) -> ElementDef:
    name, choice = row["n"], bool(row.get("x"))
    types = tuple(TypeRef(code, tuple(targets)) for code, targets in row.get("t", ()))
    if choice:
        json_names = {name + ref.code[0].upper() + ref.code[1:]: ref.code for ref in types}
    else:
        json_names = {name: types[0].code if types else "BackboneElement"}
    binding = Binding(*row["b"]) if "b" in row else None
    content = row.get("ref")
    return ElementDef(
        name, f"{type_name}.{name}", types, choice, row["min"], row["max"], binding, content, bool(row.get("s")), bool(row.get("m")),
        _constraints(row.get("c", ())), json_names, row.get("mb"),
    )  # fmt: skip


@dataclass(slots=True)
class _Archive:
    """All official resources, trimmed; decompressed on first use and kept as text lines by canonical."""

    path: Path
    lines: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, list[str]] = field(default_factory=dict)

    def load(self) -> None:
        if self.lines:
            return
        for line in lzma.decompress(self.path.read_bytes()).splitlines():
            head = orjson.loads(line)
            key = head.get("url") or f"{head['resourceType']}/{head['id']}"
            self.lines[key] = line
            self.types.setdefault(head["resourceType"], []).append(key)


class Definitions:
    """The definitions of FHIR R4 4.0.1."""

    def __init__(self, folder: Path = FOLDER) -> None:
        tables = orjson.loads(lzma.decompress((folder / "tables.json.xz").read_bytes()))
        self.types = _Types(tables["types"])
        self.resource_types: tuple[str, ...] = tuple(
            sorted(name for name, table in tables["types"].items() if table["kind"] == "resource" and not table["abstract"])
        )
        self.compartments: dict[str, dict[str, tuple[str, ...]]] = {
            name: {kind: tuple(codes) for kind, codes in members.items()} for name, members in tables["compartments"].items()
        }
        self._search = tables["search"]
        self._codes: dict[str, dict[str, list[str]] | None] = tables["codes"]
        self._archive = _Archive(folder / "definitions.ndjson.xz")

    @cached_property
    def search_parameters(self) -> list[SearchParameterDef]:
        """All official search parameters."""
        return [
            SearchParameterDef(
                row["url"], row["code"], row["type"], tuple(row.get("base", ())), row.get("expression", ""), tuple(row.get("target", ())),
                tuple((definition, expression) for definition, expression in row.get("component", ())),
                tuple(row.get("comparator", ())), tuple(row.get("modifier", ())),
            )
            for row in self._search
        ]  # fmt: skip

    def codings(self, value_set: str) -> frozenset[tuple[str, str]] | None:
        """(system, code) of a required binding's value set; None where it cannot be enumerated."""
        groups = self._codes.get(value_set)
        return None if groups is None else frozenset((system, code) for system, codes in groups.items() for code in codes)

    def codes(self, value_set: str) -> frozenset[str] | None:
        """The codes of a required binding's value set, of all its systems; None where it cannot be enumerated."""
        groups = self._codes.get(value_set)
        return None if groups is None else frozenset(code for codes in groups.values() for code in codes)

    def is_subtype(self, name: str, base: str) -> bool:
        """Whether `name` is `base` or derived from it."""
        current: str | None = name
        while current:
            if current == base:
                return True
            current = self.types.base(current)
        return False

    def resource(self, url: str) -> dict[str, Any] | None:
        """An official conformance resource by canonical (a version after | is ignored: there is one), trimmed; or None."""
        self._archive.load()
        line = self._archive.lines.get(url.split("|", maxsplit=1)[0])
        return None if line is None else orjson.loads(line)

    def resources(self, type: str) -> Iterator[dict[str, Any]]:
        """All official conformance resources of one type, trimmed."""
        self._archive.load()
        for key in self._archive.types.get(type, ()):
            yield orjson.loads(self._archive.lines[key])


@lru_cache(maxsize=1)
def definitions() -> Definitions:
    """The process's definitions, loaded once."""
    return Definitions()
