"""Children and descendants, and an item's type.

Specification: http://hl7.org/fhirpath/N1/#tree-navigation, http://hl7.org/fhirpath/N1/#reflection
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.code import Code
from fhir_server.fhirpath.evaluation import Env
from fhir_server.fhirpath.functions.declare import Function, Site, on_collection
from fhir_server.fhirpath.items import TYPE_INFO, Collection, Item, children, system_type
from fhir_server.model.definitions import definitions


def _children(site: Site) -> Code:
    source = site.input

    def evaluate(focus: Collection, env: Env) -> Collection:
        found = [child for item in source(focus, env) for child in children(item)]
        env.spend(len(found))
        return found

    return Code(evaluate)


def _descendants(site: Site) -> Code:
    """All children of children, each before its own."""
    source = site.input

    def evaluate(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        waiting: Collection = [child for item in source(focus, env) for child in children(item)][::-1]
        while waiting:
            item = waiting.pop()
            found.append(item)
            below = list(children(item))
            if below:
                below.reverse()
                waiting += below
            if len(found) & 0xFFF == 0:
                env.spend(0x1000)
        return found

    return Code(evaluate)


def _type_of(item: Any) -> Item:
    if item.__class__ is not Item:
        return Item({"namespace": "System", "name": system_type(item), "baseType": "System.Any"}, TYPE_INFO["SimpleTypeInfo"])
    if item.is_system:
        return Item({"namespace": "System", "name": item.type[7:], "baseType": "System.Any"}, TYPE_INFO["ClassInfo"])
    base = definitions().types.base(item.type)
    info = {"namespace": "FHIR", "name": item.type, **({"baseType": f"FHIR.{base}"} if base else {})}
    return Item(info, TYPE_INFO["ClassInfo"])


FUNCTIONS = {
    "children": Function(_children),
    "descendants": Function(_descendants),
    "type": on_collection(lambda items: [_type_of(item) for item in items]),
}
