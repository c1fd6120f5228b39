"""Binary: raw content with a type of its own, or wrapped as a resource.

Specification: https://hl7.org/fhir/R4/binary.html#rest
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.content import checked, resource_of
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import etag, http_date
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.query_string import pairs
from fhir_server.model import json_codec
from fhir_server.model.xml_reading import root_of
from fhir_server.model.xml_writing import FHIR
from fhir_server.storage.port import Stored

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$&^.+-]+=(?:[\w!#$&^.+-]+|\"[^\"\r\n]*\"))*", re.ASCII)
_FHIR = frozenset({"application/fhir+json", "application/fhir+xml", "application/xml+fhir", "application/json+fhir"})
_WRAPPED = frozenset({"application/fhir+json", "application/json", "text/json", "json", "xml"})
_HARMLESS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain", "audio/mpeg", "video/mp4"})
_SANDBOX = "default-src 'none'; sandbox"


def _kind(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _is_wrapped(request: Request) -> bool:
    """Whether the content is a Binary resource rather than raw content."""
    kind = _kind(request.headers.get("content-type", ""))
    if kind in ("application/json", "text/json"):
        try:
            content = json_codec.loads(request.body)
        except FhirError:
            return False
        return isinstance(content, dict) and content.get("resourceType") == "Binary"
    if kind in ("application/xml", "text/xml"):
        try:
            return root_of(request.body) == (FHIR, "Binary")
        except FhirError:
            return False
    return not kind or kind in _FHIR


def resource_from(context: Context, request: Request, type: str, id: str | None = None) -> dict[str, Any]:
    """The resource that a create or update carries; raw content sent to Binary becomes a Binary. Raises like `resource_of`."""
    if type != "Binary" or request.resource is not None or _is_wrapped(request):
        return resource_of(context, request, type, id)
    media_type = request.headers["content-type"].strip()
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise FhirError.of(
            415,
            "value",
            f"Content-Type '{media_type[:120]}' is not a media type",
            "Binary.contentType",
            zh=f"Content-Type “{media_type[:120]}”不是合法的媒体类型",
        )
    resource: dict[str, Any] = {"resourceType": "Binary"}
    if id is not None:
        resource["id"] = id
    resource["contentType"] = media_type
    if security := request.headers.get("x-security-context"):
        resource["securityContext"] = {"reference": security}
    if request.body:
        resource["data"] = base64.b64encode(request.body).decode()
    return checked(context, resource)


def wants_raw(request: Request) -> bool:
    """Whether a read of a Binary asks for the content itself: no FHIR format is named."""
    for name, value in pairs(request.query) if request.query else ():
        if name == "_format":
            return _kind(value.replace(" ", "+")) not in _FHIR | _WRAPPED
    accept = request.headers.get("accept", "")
    return not any(_kind(offer) in _FHIR | _WRAPPED for offer in accept.split(","))


def raw(stored: Stored) -> Response:
    """The content with its own type; active content (HTML, SVG, script ...) only as a download without rights."""
    resource = json_codec.loads(stored.body)
    media_type = str(resource.get("contentType", "application/octet-stream"))
    try:
        content = base64.b64decode("".join(str(resource.get("data", "")).split()), validate=True)
    except binascii.Error as fault:
        raise FhirError.of(
            500,
            "exception",
            f"Binary/{stored.id}.data is not base64: {fault}",
            "Binary.data",
            zh=f"Binary/{stored.id}.data 不是 base64：{fault}",
        ) from None
    headers = [
        ("ETag", etag(stored.version)),
        ("Last-Modified", http_date(stored.updated)),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", _SANDBOX),
    ]
    if _kind(media_type) not in _HARMLESS:
        headers.append(("Content-Disposition", f'attachment; filename="{stored.id}"'))
    security = resource.get("securityContext") or {}
    if isinstance(security.get("reference"), str) and security["reference"].isascii() and security["reference"].isprintable():
        headers.append(("X-Security-Context", security["reference"]))
    return Response(200, content, headers, media_type, stored=stored)
