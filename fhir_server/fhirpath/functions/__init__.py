"""All functions by name; one file per family.

Specification: http://hl7.org/fhirpath/N1/#functions, https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from fhir_server.fhirpath.functions import collections, conversion, existence, fhir, math, navigation, precision, strings, utility
from fhir_server.fhirpath.functions.declare import Function

FUNCTIONS: dict[str, Function] = {
    **collections.FUNCTIONS,
    **conversion.FUNCTIONS,
    **existence.FUNCTIONS,
    **fhir.FUNCTIONS,
    **math.FUNCTIONS,
    **navigation.FUNCTIONS,
    **precision.FUNCTIONS,
    **strings.FUNCTIONS,
    **utility.FUNCTIONS,
}
