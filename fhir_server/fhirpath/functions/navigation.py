"""Children and descendants, and an item's type.

Specification: http://hl7.org/fhirpath/N1/#tree-navigation, http://hl7.org/fhirpath/N1/#reflection
"""

from __future__ import annotations

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection
from fhir_server.fhirpath.functions.declare import on_collection
from fhir_server.fhirpath.items import Item, children
from fhir_server.model.definitions import definitions

_LIMIT = 200_000


def _children(focus: Collection) -> Collection:
    return [found for item in focus for found in children(item)]


def descendants(focus: Collection) -> Collection:
    """All children of children, in document order by level."""
    found: Collection = []
    level = focus
    while level:
        level = _children(level)
        found += level
        if len(found) > _LIMIT:
            raise FhirPathError(f"descendants() gives more than {_LIMIT} items")
    return found


def _type(focus: Collection) -> Collection:
    found = []
    for item in focus:
        namespace, name = ("System", item.type[7:]) if item.is_system else ("FHIR", item.type)
        kind = "SimpleTypeInfo" if item.is_system or definitions().types.base(name) is not None else "ClassInfo"
        found.append(Item({"namespace": namespace, "name": name}, f"System.{kind}"))
    return found


FUNCTIONS = {"children": on_collection(_children), "descendants": on_collection(descendants), "type": on_collection(_type)}
