"""Types by name: which exist, and whether an item is of one.

Specification: http://hl7.org/fhirpath/N1/#types, https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from fhir_server.fhirpath.items import SYSTEM_OF, Item, type_family
from fhir_server.model.definitions import definitions

SYSTEM_TYPES = ("Boolean", "String", "Integer", "Long", "Decimal", "Date", "DateTime", "Time", "Quantity", "Any")


def known_type(name: str) -> str | None:
    """The canonical form of a type's name ('System.String', 'FHIR.Patient'), or None. A bare name is FHIR's if FHIR has it."""
    if name.startswith("System."):
        return name if name[7:] in SYSTEM_TYPES else None
    bare = name.removeprefix("FHIR.")
    if bare in definitions().types:
        return f"FHIR.{bare}"
    return f"System.{name}" if name in SYSTEM_TYPES and name == bare else None


def is_of(item: Item, name: str, *, exact: bool = False) -> bool:
    """Whether the item is of a type or derived from it. A bare name that both models have is FHIR's for FHIR items.

    `exact`: as ofType() and `as` choose: a primitive only by its own name (a `code` is no `string` there).
    """
    wanted = known_type(name)
    if wanted is None:
        return False
    if wanted.startswith("System."):
        if item.is_system:
            return item.type == wanted or wanted == "System.Any"
        return False
    bare = wanted[5:]
    if item.is_system:
        # Quantity is the one name that both models use for what literals give.
        return item.type == f"System.{bare}" and not name.startswith("FHIR.")
    if exact and item.type in SYSTEM_OF:
        return item.type == bare
    return bare in type_family(item.type)
