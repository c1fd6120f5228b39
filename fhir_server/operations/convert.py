"""`$convert`: a resource in the other form, JSON as XML or XML as JSON.

The content's form is that of `Content-Type`, the answer's that of `Accept` or `_format`; nothing is stored.
Specification: https://hl7.org/fhir/R4/resource-operation-convert.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.content import parsed
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.inputs import known, of_address
from fhir_server.validation import structure


async def convert(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with the resource. Raises FhirError 400, 406, 415, 422."""
    known("convert", of_address(request), ())
    content: Any = parsed(request)
    if not isinstance(content, dict) or not isinstance(content.get("resourceType"), str):
        raise FhirError.of(400, "invalid", "$convert is sent a resource", "resourceType", zh="$convert 需要一个资源")
    structure.check(content)
    return Response(200, json_codec.dumps(content))


OPERATION = Operation(
    "convert",
    convert,
    "convert",
    frozenset({"system"}),
    methods=("POST",),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-convert",
    title="A resource in another form: JSON or XML",
)
