"""The items of FHIRPath collections: values with their types, and how to walk from one to its children.

Specification: http://hl7.org/fhirpath/N1/#types-and-reflection, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal, parse_temporal
from fhir_server.model.definitions import definitions

_STRINGS = {"string", "code", "id", "uri", "url", "canonical", "markdown", "oid", "uuid", "base64Binary", "xhtml"}
_INTEGERS = {"integer", "positiveInt", "unsignedInt"}
_TEMPORALS = {"date": "Date", "dateTime": "DateTime", "instant": "DateTime", "time": "Time"}
SYSTEM_OF = {
    **dict.fromkeys(_STRINGS, "System.String"),
    **dict.fromkeys(_INTEGERS, "System.Integer"),
    **{name: f"System.{kind}" for name, kind in _TEMPORALS.items()},
    "boolean": "System.Boolean",
    "decimal": "System.Decimal",
    "Quantity": "System.Quantity",
}
QUANTITIES = {"Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity"}


class Item:
    """One item: raw JSON value (or a System value), the name of its type ('Patient.contact', 'code', 'System.Integer'), and, for a
    primitive, the JSON object beside it that holds its id and extensions."""

    __slots__ = ("extra", "parent", "type", "value")

    def __init__(self, value: Any, type: str, extra: dict[str, Any] | None = None, parent: Item | None = None) -> None:
        self.value = value
        self.type = type
        self.extra = extra
        self.parent = parent

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type!r})"

    @property
    def is_system(self) -> bool:
        return self.type.startswith("System.")


def of_system(value: Any) -> Item:
    """An item of a Python value: bool, int, Decimal, str, Temporal or Quantity."""
    if isinstance(value, bool):
        return Item(value, "System.Boolean")
    if isinstance(value, str):
        return Item(value, "System.String")
    if isinstance(value, int):
        return Item(value, "System.Integer")
    if isinstance(value, Decimal):
        return Item(value, "System.Decimal")
    if isinstance(value, Temporal):
        return Item(value, f"System.{value.kind}")
    return Item(value, "System.Quantity")


def of_resource(resource: dict[str, Any]) -> Item:
    """The item of a resource (or of any object, whose type is unknown then)."""
    return Item(resource, str(resource.get("resourceType", "Element")))


def system_value(item: Item) -> Any:
    """The System value of an item for operators and functions; the item's raw value where it is no primitive."""
    value, kind = item.value, item.type
    if item.is_system or value is None:
        return value
    if kind in _STRINGS:
        return value
    if kind in _INTEGERS:
        return int(value) if not isinstance(value, str) else value
    if kind == "decimal":
        return value if isinstance(value, Decimal) else Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if kind in _TEMPORALS and isinstance(value, str):
        return parse_temporal(value, _TEMPORALS[kind]) or value
    if kind in QUANTITIES and isinstance(value, dict):
        return Quantity.of_fhir(value) or value
    return value


def child(item: Item, name: str) -> list[Item]:
    """The children of one name ('value' finds valueQuantity and the like)."""
    value = item.value
    if not isinstance(value, dict):
        if item.extra is not None and name in ("extension", "id"):
            return _children_of(item.extra, "Element", name, item)
        return []
    if item.type == "System.Quantity":
        return []
    if value.get("resourceType") and item.type not in definitions().types:
        return []
    return _children_of(value, item.type, name, item)


def _children_of(value: dict[str, Any], type_name: str, name: str, parent: Item) -> list[Item]:
    types = definitions().types
    if type_name in types:
        found = types[type_name].elements.get(name)
        if found is None:
            return []
        for json_name in found.json_names:
            if json_name in value or "_" + json_name in value:
                return _items(value.get(json_name), value.get("_" + json_name), types[type_name].by_json[json_name][1], parent)
        return []
    return _items(value.get(name), value.get("_" + name), "Element", parent)


def _items(value: Any, extra: Any, type_name: str, parent: Item) -> list[Item]:
    if isinstance(value, list) or isinstance(extra, list):
        values = value if isinstance(value, list) else []
        extras = extra if isinstance(extra, list) else []
        pairs = [
            (values[k] if k < len(values) else None, extras[k] if k < len(extras) else None) for k in range(max(len(values), len(extras)))
        ]
        return [_item(one, beside, type_name, parent) for one, beside in pairs if one is not None or beside is not None]
    if value is None and extra is None:
        return []
    return [_item(value, extra, type_name, parent)]


def _item(value: Any, extra: Any, type_name: str, parent: Item) -> Item:
    if isinstance(value, dict) and isinstance(value.get("resourceType"), str) and type_name in ("Resource", "DomainResource", "Element"):
        type_name = value["resourceType"]
    return Item(value, type_name, extra if isinstance(extra, dict) else None, parent)


def children(item: Item) -> Iterator[Item]:
    """All children in the order of the definition."""
    value = item.value
    if not isinstance(value, dict):
        if item.extra is not None:
            yield from _children_of(item.extra, "Element", "id", item)
            yield from _children_of(item.extra, "Element", "extension", item)
        return
    types = definitions().types
    if item.type in types:
        for name in types[item.type].elements:
            yield from _children_of(value, item.type, name, item)
    else:
        for name in value:
            if not name.startswith("_") and name != "resourceType":
                yield from _children_of(value, item.type, name, item)


def type_family(name: str) -> Iterator[str]:
    """A type and its bases, nearest first."""
    types = definitions().types
    current: str | None = name
    while current:
        yield current
        current = types.base(current)
