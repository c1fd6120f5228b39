"""Parameters about the form of an answer: none has a modifier, none stands twice with different values, each value is one that exists.

Specification: https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements, https://hl7.org/fhir/R4/http.html#parameters
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.model.definitions import Definitions
from fhir_server.search.errors import invalid, unknown

ONCE = ("_summary", "_count", "_total", "_contained", "_containedType", "_explain", "_format", "_pretty", "_cursor")
"""Parameters that have one value."""
NAMES = ("_include", "_revinclude", "_has", "_filter", "_text", "_content", "_sort", "_elements", "_type", *ONCE)
"""Parameters of searches that are no search parameters of a type: for suggestions."""
_PLAIN = frozenset({"_sort", "_elements", "_type", *ONCE})


def check(name: str, value: str, seen: dict[str, str]) -> None:
    """Refuse a modifier, and a second value where one would have to be ignored. `seen`: the values so far. Raises FhirError 400."""
    base, colon, modifier = name.partition(":")
    if base not in _PLAIN:
        return
    if colon:
        raise unknown("modifier", modifier, base, ())
    if base in ONCE and seen.setdefault(base, value) != value:
        raise invalid(name, value, f"may stand only once; it says {seen[base][:40]} already", f"只能出现一次；前面已是 {seen[base][:40]}")
    if base == "_pretty" and value not in ("true", "false"):
        raise invalid(name, value, "must be one of true, false", "应为 true 或 false")


def elements(definitions: Definitions, types: Iterable[str], value: str) -> tuple[str, ...]:
    """The names of `_elements`, each an element of one of the types at least. Raises FhirError 400."""
    wanted = [part for part in (one.strip() for one in value.split(",")) if part]
    if not wanted:
        raise invalid("_elements", value, "names no element", "没有指明任何元素")
    chosen = list(types)
    known = [definitions.types[type] for type in chosen]
    for one in wanted:
        path = one.split(".")
        head = (path[1] if path[0] in definitions.resource_types and len(path) > 1 else path[0]).removesuffix("[x]")
        if head != "resourceType" and not any(head in type.elements or head in type.by_json for type in known):
            near = {name for type in known[:5] for name in type.elements}
            raise unknown("element", one, f"{', '.join(chosen[:3])} in _elements", near)
    return tuple(wanted)
