"""Where a check stands: an element of the instance with its type and path, and how to step to the elements below it."""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import kind_of
from fhir_server.model.definitions import ElementDef, TypeDef
from fhir_server.validation.report import Path
from fhir_server.validation.values import listed


class Spot:
    """One element: `item` as FHIRPath sees it, `path` for messages, `code` the code of its type ('Quantity', 'BackboneElement')."""

    __slots__ = ("code", "item", "path")

    def __init__(self, item: Item, path: Path, code: str) -> None:
        self.item, self.path, self.code = item, path, code

    @property
    def value(self) -> Any:
        """Its JSON; None of a primitive that has only extensions."""
        return self.item.value

    @property
    def object(self) -> dict[str, Any] | None:
        """The JSON object that holds its children: of a primitive, the one beside it."""
        if self.item.value.__class__ is dict:
            return self.item.value  # type: ignore[no-any-return]
        return self.item.extra if self.item.extra.__class__ is dict else None


def of_resource(resource: dict[str, Any], path: Path | None = None, parent: Item | None = None) -> Spot:
    """The spot of a resource; at the top the path begins with its type."""
    name = resource.get("resourceType")
    kind = str(name) if isinstance(name, str) else "Resource"
    return Spot(Item(resource, kind_of(kind), None, parent), path or (None, kind, -1), kind)


def below(spot: Spot, definition: TypeDef, element: ElementDef) -> list[Spot]:
    """The occurrences of one element of an object, in order; nothing where the JSON has another form than is due."""
    holder = spot.object
    if holder is None:
        return []
    found: list[Spot] = []
    for json, code in element.json_names.items():
        value, beside = holder.get(json), holder.get("_" + json)
        if value is None and beside is None:
            continue
        kind = definition.by_json[json][1]
        if element.max == 1:
            found.append(_one(spot, (spot.path, element.name, -1), value, beside, kind, code))
            continue
        values = value if value.__class__ is list else []
        besides = beside if beside.__class__ is list else []
        for index in range(max(len(values), len(besides))):
            one = values[index] if index < len(values) else None
            extra = besides[index] if index < len(besides) else None
            if one is not None or extra is not None:
                found.append(_one(spot, (spot.path, element.name, index), one, extra, kind, code))
    return found


def entry_of(bundle: Spot, type: str, number: int) -> Spot | None:
    """The resource of the entry of a Bundle that is the `number`th of its type, counted from 0; None where there are fewer."""
    met = 0
    for index, entry in enumerate(listed(bundle.value, "entry")):
        resource = entry.get("resource")
        if isinstance(resource, dict) and resource.get("resourceType") == type:
            if met == number:
                path = ((bundle.path, "entry", index), "resource", -1)
                return of_resource(resource, path, Item(entry, kind_of("Bundle.entry"), None, bundle.item))
            met += 1
    return None


def _one(spot: Spot, path: Path, value: Any, extra: Any, kind: str, code: str) -> Spot:
    if kind in ("Resource", "DomainResource") and value.__class__ is dict:
        return of_resource(value, path, spot.item)
    return Spot(Item(value, kind_of(kind), extra if extra.__class__ is dict else None, spot.item), path, code)
