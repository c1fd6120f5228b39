"""ISO 3166 as far as R4 brings it: the two-letter codes of countries with their English names.

Specification: https://hl7.org/fhir/R4/valueset-iso3166-1-2.html
"""

from __future__ import annotations

from functools import lru_cache

from fhir_server.model.definitions import definitions
from fhir_server.terminology.code_systems import CodeSystem

ISO_3166 = "urn:iso:std:iso:3166"
_LISTED = "http://hl7.org/fhir/ValueSet/iso3166-1-2"


@lru_cache(maxsize=1)
def countries() -> CodeSystem:
    """A fragment: the codes of three letters or digits, and those of subdivisions, are not among them."""
    listed = definitions().resource(_LISTED) or {}
    rows = [row for part in listed["compose"]["include"] if part.get("system") == ISO_3166 for row in part.get("concept", ())]
    return CodeSystem.of({"url": ISO_3166, "name": "ISO3166", "content": "fragment", "concept": rows})
