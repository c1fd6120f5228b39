"""FHIR vread interaction: one version of a resource. https://hl7.org/fhir/R4/http.html#vread"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import answer, gone
from fhir_server.storage.port import Stored


def unknown_version(type: str, id: str, version: str) -> FhirError:
    """404 for a version that is not there."""
    return FhirError.of(404, "not-found", f"{type}/{id} has no version '{version}'", zh=f"{type}/{id} 没有版本“{version}”")


async def vread(context: Context, request: Request, type: str, id: str, version: str) -> Response:
    """That version, also after a deletion. Raises FhirError 404 (no such version), 410 (that version is a deletion)."""
    stored: Stored | None = None
    if version.isascii() and version.isdigit() and len(version) <= 18:
        stored = await context.gate.read_version(request.principal, type, id, int(version))
    if stored is None:
        raise unknown_version(type, id, version)
    if stored.deleted:
        raise gone(stored)
    return answer(context, request, stored)
