"""The Prefer header.

Specification: https://hl7.org/fhir/R4/http.html#return, https://hl7.org/fhir/R4/search.html#errors, https://www.rfc-editor.org/rfc/rfc7240
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fhir_server.interactions.http import Request


class Preferences(NamedTuple):
    """`representation`: minimal, representation (the default) or OperationOutcome; `strict`: unknown parameters are errors.

    `respond_async`: the client does not want to wait; searches, histories and Bundles are then carried out later.
    """

    representation: str = "representation"
    strict: bool = True
    respond_async: bool = False


_DEFAULT = Preferences()
_ASYNC = frozenset({"respond-async", "wait"})
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
    """What the client prefers; what is not known or not served is no error (RFC 7240 section 2)."""
    text = request.headers.get("prefer")
    return _parse(text) if text else _DEFAULT


def without_respond_async(text: str) -> str:
    """The header without the wish for an asynchronous answer, and without `wait`, which belongs to it."""
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    return ", ".join(part for part in parts if part and part.partition("=")[0].strip().lower() not in _ASYNC)
