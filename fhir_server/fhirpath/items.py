"""The items of collections: FHIR elements with their types; System values are plain Python values.

A collection is a list. In it, a FHIR element is an `Item`; bool, int, Decimal, str, Temporal and Quantity are System values.
Specification: http://hl7.org/fhirpath/N1/#types-and-reflection, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TypeAlias

from fhir_server.fhirpath.kinds import UNKNOWN, Field, Kind, kind_of
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal

Collection: TypeAlias = list[Any]


class Long(int):
    """An integer of 64 bits (`1L`)."""

    __slots__ = ()


class Item:
    """A FHIR element: raw JSON value, kind, the JSON object beside a primitive (its id and extensions), and its parent.

    As the engine's answers, System values are Items too; their kind is one of `SYSTEM`.
    """

    __slots__ = ("extra", "kind", "parent", "value")

    def __init__(self, value: Any, kind: Kind, extra: dict[str, Any] | None = None, parent: Item | None = None) -> None:
        self.value = value
        self.kind = kind
        self.extra = extra
        self.parent = parent

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type!r})"

    @property
    def type(self) -> str:
        """'Patient', 'HumanName', 'Patient.contact', 'code', 'System.Integer' ..."""
        return self.kind.name

    @property
    def is_system(self) -> bool:
        """Whether this is a System value, not an element of a resource."""
        return self.kind.name.startswith("System.")


SYSTEM = {
    name: Kind("System." + name) for name in ("Boolean", "String", "Integer", "Long", "Decimal", "Date", "DateTime", "Time", "Quantity")
}
TYPE_INFO = {name: Kind("System." + name) for name in ("SimpleTypeInfo", "ClassInfo")}


def system_type(value: Any) -> str:
    """The name of a System value's type, without 'System.'."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, str):
        return "String"
    if isinstance(value, int):
        return "Long" if isinstance(value, Long) else "Integer"
    if isinstance(value, Decimal):
        return "Decimal"
    return value.kind if isinstance(value, Temporal) else "Quantity"


def wrapped(value: Any) -> Item:
    """An item as it leaves the engine: a System value becomes an Item that holds its JSON form."""
    if isinstance(value, Item):
        return value
    kind = SYSTEM[system_type(value)]
    if isinstance(value, Temporal):
        return Item(value.text, kind)
    return Item(value.as_fhir() if isinstance(value, Quantity) else value, kind)


def unwrapped(value: Any) -> Any:
    """The other way: what came from outside as an item of a collection (see `collection_of`)."""
    if isinstance(value, Item):
        if not value.is_system:
            return value
        from fhir_server.fhirpath.quantity import of_fhir
        from fhir_server.fhirpath.temporal import parse_temporal

        name = value.type[7:]
        if name in ("Date", "DateTime", "Time"):
            return parse_temporal(value.value, name)
        return of_fhir(value.value) if name == "Quantity" else value.value
    if isinstance(value, dict):
        return of_object(value)
    return Decimal(repr(value)) if isinstance(value, float) else value


def collection_of(value: Any) -> Collection:
    """A Python value from outside (variable, context) as a collection; None is empty."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [item for one in value for item in collection_of(one)]
    return [unwrapped(value)]


def of_object(value: Any, parent: Item | None = None) -> Item:
    """The item of a resource, or of an object of unknown type."""
    name = value.get("resourceType") if value.__class__ is dict else None
    return Item(value, kind_of(name) if isinstance(name, str) else UNKNOWN, None, parent)


def system_value(item: Any) -> Any:
    """The System value of an item for operators and functions; None of a primitive without value, the dict of a complex element."""
    if item.__class__ is not Item:
        return item
    convert = item.kind.convert
    value = item.value
    if value is None or convert is None:
        return Decimal(repr(value)) if value.__class__ is float else value
    return convert(value)


def add_member(item: Any, name: str, found: Collection) -> None:
    """Append the children of one name to `found` ('value' finds valueQuantity and the like)."""
    if item.__class__ is not Item:
        if item.__class__ is Quantity:
            _add_quantity_part(item, name, found)
        return
    kind: Kind = item.kind
    value = item.value
    if value.__class__ is not dict:
        if item.extra is None or not kind.primitive:
            return
        value = item.extra
    fields = kind.fields
    if fields is None:
        fields = kind.load()
    field = fields.get(name)
    if field is None:
        if not fields:
            _add_untyped(item, value, name, found)
        return
    if field.choices is not None:
        _add_choice(item, value, field.choices, found)
        return
    add_field(item, value, field, found)


def add_field(item: Item, value: dict[str, Any], field: Field, found: Collection) -> None:
    """Append the values of one field of `value` (the JSON object of `item`)."""
    inner = value.get(field.json)
    kind = field.kind
    if field.beside and field.beside in value:
        _add_with_beside(item, inner, value[field.beside], kind, found)
    elif inner is None:
        return
    elif inner.__class__ is list:
        for one in inner:
            if one is not None:
                found.append(Item(one, kind, None, item) if kind is not None else of_object(one, item))
    else:
        found.append(Item(inner, kind, None, item) if kind is not None else of_object(inner, item))


def _add_choice(item: Item, value: dict[str, Any], choices: dict[str, Field], found: Collection) -> None:
    for key in value:
        field = choices.get(key)
        if field is None and key[:1] == "_" and key[1:] not in value:
            field = choices.get(key[1:])
        if field is not None:
            add_field(item, value, field, found)
            return


def _add_with_beside(item: Item, inner: Any, beside: Any, kind: Kind | None, found: Collection) -> None:
    """A primitive with ids or extensions; lists are padded with nulls on either side."""
    assert kind is not None
    if inner.__class__ is list or beside.__class__ is list:
        values = inner if inner.__class__ is list else []
        besides = beside if beside.__class__ is list else []
        for k in range(max(len(values), len(besides))):
            one = values[k] if k < len(values) else None
            extra = besides[k] if k < len(besides) else None
            if one is not None or extra is not None:
                found.append(Item(one, kind, extra if extra.__class__ is dict else None, item))
    elif inner is not None or beside is not None:
        found.append(Item(inner, kind, beside if beside.__class__ is dict else None, item))


def _add_quantity_part(quantity: Quantity, name: str, found: Collection) -> None:
    part = quantity.as_fhir().get(name)
    if part is not None:
        found.append(part)


_UNTYPED = ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "decimal"), (Decimal, "decimal"))


def _guessed(value: Any) -> Kind:
    """The kind of a value of an object that FHIR does not define."""
    return kind_of(next((name for type_, name in _UNTYPED if isinstance(value, type_)), "string"))


def _add_untyped(item: Item, value: dict[str, Any], name: str, found: Collection) -> None:
    """Children of an object that FHIR does not define, by their JSON names."""
    inner = value.get(name)
    for one in inner if isinstance(inner, list) else (inner,):
        if isinstance(one, dict):
            found.append(of_object(one, item))
        elif one is not None:
            found.append(Item(one, _guessed(one), None, item))


def children(item: Any) -> Iterator[Any]:
    """All children, in the order of the definition."""
    if item.__class__ is not Item:
        return
    kind, value = item.kind, item.value
    if value.__class__ is not dict:
        value = item.extra if kind.primitive else None
        if value is None:
            return
    fields = kind.fields
    if fields is None:
        fields = kind.load()
    found: Collection = []
    if fields:
        for field in fields.values():
            if field.choices is not None:
                _add_choice(item, value, field.choices, found)
            else:
                add_field(item, value, field, found)
    else:
        for name in value:
            if name != "resourceType":
                _add_untyped(item, value, name, found)
    yield from found


def nearest_resource(item: Item | None) -> Item | None:
    """The resource that an element stands in (a contained one is its own)."""
    while item is not None and not (item.value.__class__ is dict and "resourceType" in item.value):
        item = item.parent
    return item
