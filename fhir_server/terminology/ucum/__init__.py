"""Units of measure: the case sensitive codes of UCUM 2.2 read, compared, converted and brought to base units.

`parse`, `convert`, `comparable`, `canonical` and `canonical_interval` are what other rooms use; all raise `UcumError` only.
Nothing is loaded before the first code is read. Specification: https://ucum.org/ucum
"""

from __future__ import annotations

from fhir_server.terminology.ucum.convert import canonical, canonical_interval, comparable, convert
from fhir_server.terminology.ucum.errors import UcumError
from fhir_server.terminology.ucum.unit import Dimension, Special, Unit, parse

__all__ = ["Dimension", "Special", "UcumError", "Unit", "canonical", "canonical_interval", "comparable", "convert", "parse"]
