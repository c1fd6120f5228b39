"""Validation against profiles: what StructureDefinitions demand beyond the structure of their type.

Specification: https://hl7.org/fhir/R4/profiling.html
"""

from fhir_server.validation.profiles.room import ProfileRoom

__all__ = ["ProfileRoom"]
