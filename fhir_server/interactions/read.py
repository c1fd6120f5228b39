"""FHIR read interaction. https://hl7.org/fhir/R4/http.html#read"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.answers import shown
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import etag, http_date
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.preconditions import not_modified
from fhir_server.interactions.present import present_one
from fhir_server.storage.port import Stored


def unknown(type: str, id: str) -> FhirError:
    """404 for an id that is not there (or that the principal may not know of: the same words)."""
    return FhirError.of(404, "not-found", f"{type}/{id} is not known", zh=f"没有 {type}/{id}")


def gone(stored: Stored) -> FhirError:
    """410 for a deleted resource, with the deletion's version."""
    headers = [("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated))]
    what, zh = (
        f"{stored.type}/{stored.id} was deleted (version {stored.version})",
        f"{stored.type}/{stored.id} 已删除（版本 {stored.version}）",
    )
    return FhirError.of(410, "deleted", what, zh=zh, headers=headers)


def answer(context: Context, request: Request, stored: Stored) -> Response:
    """The version as the request wants it: 304 where the client has it, else its bytes, perhaps shortened."""
    headers = request.headers
    if ("if-none-match" in headers or "if-modified-since" in headers) and not_modified(request, stored):
        return Response(304, b"", [("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated))], stored=stored)
    response = shown(stored)
    if request.query:
        present_one(context, request, response)
    return response


async def read(context: Context, request: Request, type: str, id: str) -> Response:
    """The current version. Raises FhirError 404, 410."""
    stored = await context.gate.read(request.principal, type, id)
    if stored is None:
        raise unknown(type, id)
    if stored.deleted:
        raise gone(stored)
    return answer(context, request, stored)
