"""The Prefer header.

Specification: https://hl7.org/fhir/R4/http.html#return, https://hl7.org/fhir/R4/search.html#errors, https://www.rfc-editor.org/rfc/rfc7240
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.http import Request


class Preferences(NamedTuple):
    """`representation`: minimal, representation (the default) or OperationOutcome; `strict`: unknown parameters are errors."""

    representation: str = "representation"
    strict: bool = True
    respond_async: bool = False


_DEFAULT = Preferences()
_RETURNS = {"minimal": "minimal", "representation": "representation", "operationoutcome": "OperationOutcome"}


@lru_cache(maxsize=256)
def _parse(text: str) -> Preferences:
    representation, strict, respond_async = "representation", True, False
    for part in text.replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "return":
            representation = _RETURNS.get(value.lower(), representation)
        elif name == "handling":
            strict = value.lower() != "lenient"
        elif name == "respond-async":
            respond_async = True
    return Preferences(representation, strict, respond_async)


def preferences(request: Request) -> Preferences:
    """What the client prefers. Raises FhirError 501 for `respond-async`, which no interaction serves yet."""
    text = request.headers.get("prefer")
    if not text:
        return _DEFAULT
    found = _parse(text)
    if found.respond_async:
        raise FhirError.of(501, "not-supported", "Prefer: respond-async is not supported by this interaction; send it without")
    return found
