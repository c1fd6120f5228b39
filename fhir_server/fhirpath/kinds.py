"""What the engine must know of a FHIR type while it walks: its bases, its children by name, and its System value.

Specification: https://hl7.org/fhir/R4/fhirpath.html#types, http://hl7.org/fhirpath/N1/#models
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.quantity import of_fhir
from fhir_server.fhirpath.temporal import parse_temporal
from fhir_server.model.definitions import definitions

_STRINGS = frozenset(["string", "code", "id", "uri", "url", "canonical", "markdown", "oid", "uuid", "base64Binary", "xhtml"])
_INTEGERS = frozenset(("integer", "positiveInt", "unsignedInt"))
_TEMPORALS = {"date": "Date", "dateTime": "DateTime", "instant": "DateTime", "time": "Time"}
_QUANTITIES = frozenset(("Quantity", "Age", "Count", "Distance", "Duration"))
SYSTEM_OF = {
    **dict.fromkeys(_STRINGS, "String"),
    **dict.fromkeys(_INTEGERS, "Integer"),
    **_TEMPORALS,
    **dict.fromkeys(_QUANTITIES, "Quantity"),
    "boolean": "Boolean",
    "decimal": "Decimal",
}
"""The System type that a FHIR type stands for in operators and functions."""


class Field:
    """One child of a type: its JSON name, the name beside it (for a primitive, else ''), its kind (None: said by `resourceType`).

    A choice element has `choices` instead: JSON name -> Field.
    """

    __slots__ = ("beside", "choices", "json", "kind", "many")

    def __init__(self, json: str, kind: Kind | None, many: bool, choices: dict[str, Field] | None = None) -> None:
        self.json, self.kind, self.many, self.choices = json, kind, many, choices
        self.beside = "_" + json if kind is not None and kind.primitive else ""


class Kind:
    """A type by name ('Patient', 'Patient.contact', 'code'); `fields` are filled on first use, None of a type that FHIR does not know.

    `convert` turns a raw JSON value into its System value; None where the raw value is that value, or where there is none.
    """

    __slots__ = ("bases", "convert", "fields", "name", "primitive", "resource", "system")

    def __init__(self, name: str) -> None:
        self.name = name
        types = definitions().types
        known = name in types
        bases = []
        current: str | None = name
        while current:
            bases.append(current)
            current = types.base(current) if known else None
        self.bases = frozenset(bases)
        self.primitive = known and types.kind(name) == "primitive"
        self.resource = known and types.kind(name) == "resource"
        self.system = SYSTEM_OF.get(name, "")
        self.convert = _converter(name)
        self.fields: dict[str, Field] | None = None

    def __repr__(self) -> str:
        return f"Kind({self.name!r})"

    def load(self) -> dict[str, Field]:
        """The children by FHIR name, in the order of the definition; empty for a type that FHIR does not know."""
        found: dict[str, Field] = {}
        types = definitions().types
        if self.name in types:
            table = types[self.name]
            for name, element in table.elements.items():
                if self.primitive and name == "value":
                    continue
                fields = {json: Field(json, _child_kind(table.by_json[json][1]), element.max != 1) for json in element.json_names}
                found[name] = Field(name, None, element.max != 1, fields) if element.choice else next(iter(fields.values()))
        self.fields = found
        return found


def _child_kind(name: str) -> Kind | None:
    """The kind of a child; None where only the resource itself can say it."""
    return None if name in ("Resource", "DomainResource") else kind_of(name)


def _decimal(value: Any) -> Any:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _integer(value: Any) -> Any:
    # A number of resources may be far beyond every integer; such a one stays a decimal.
    return int(value) if isinstance(value, Decimal) and value.adjusted() < 19 and value == value.to_integral_value() else value


def _temporal(kind: str) -> Callable[[Any], Any]:
    # What is no date is left as text, so that comparing with it says so.
    return lambda value: (parse_temporal(value, kind) or value) if isinstance(value, str) else value


def _converter(name: str) -> Callable[[Any], Any] | None:
    if name in _TEMPORALS:
        return _temporal(_TEMPORALS[name])
    if name == "decimal":
        return _decimal
    if name in _INTEGERS:
        return _integer
    if name in _QUANTITIES:
        return lambda value: of_fhir(value) or value
    return None


_KINDS: dict[str, Kind] = {}


def kind_of(name: str) -> Kind:
    """The kind of a type name; one object per name."""
    found = _KINDS.get(name)
    if found is None:
        # Names that FHIR does not know come from data: they are not kept, or a client could fill the memory.
        found = Kind(name)
        if name in definitions().types:
            _KINDS[name] = found
    return found


UNKNOWN = Kind("Element?")
"""The kind of an object that says no type."""
