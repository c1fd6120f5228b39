"""Types by name: which exist, and whether an item is of one.

Specification: http://hl7.org/fhirpath/N1/#types, https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.fhirpath.errors import FhirPathSemanticError
from fhir_server.fhirpath.items import TYPE_INFO, Item, system_type
from fhir_server.model.definitions import definitions

SYSTEM_TYPES = frozenset(("Boolean", "String", "Integer", "Long", "Decimal", "Date", "DateTime", "Time", "Quantity", "Any", *TYPE_INFO))


def known_type(name: str) -> str | None:
    """The full form of a type's name ('System.String', 'FHIR.Patient'), or None. A bare name is FHIR's if FHIR has it.

    Any name after 'System.' is known, for `is(System.Patient)` has an answer: no.
    """
    if name.startswith("System."):
        return name
    bare = name.removeprefix("FHIR.")
    if bare in definitions().types:
        return f"FHIR.{bare}"
    return f"System.{name}" if name in SYSTEM_TYPES else None


def type_test(name: str, position: int, *, exact: bool = False, lenient: bool = False) -> Callable[[Any], bool]:
    """A predicate on items: of this type or derived from it. Raises FhirPathSemanticError for a name that is no type.

    A bare name that both models have (Quantity) means FHIR's for FHIR elements and the System's for System values.
    `exact`, as ofType() and `as` choose: a primitive only by its own name (a `code` is no `string` there).
    `lenient`: the bare name of a System type (String) means FHIR's primitive (string), too, as many invariants of profiles have it.
    """
    full = known_type(name)
    if full is None:
        raise FhirPathSemanticError(f"'{name}' is no type", position, f"“{name}”不是类型")
    namespace, _, bare = full.partition(".")
    system = bare if namespace == "System" or (bare in SYSTEM_TYPES and name == bare) else ""
    fhir = bare if namespace == "FHIR" else ""
    alike = bare[:1].lower() + bare[1:] if lenient and system and name == bare else fhir

    def test(item: Any) -> bool:
        if item.__class__ is not Item:
            return system == "Any" or system_type(item) == system
        kind = item.kind
        if exact and kind.primitive:
            return kind.name in (fhir, alike)
        return fhir in kind.bases or (system == "Any" and namespace == "System") or (bool(system) and kind.name == "System." + system)

    return test
