"""$meta-delete: takes profiles, tags and security labels off a resource; what is not there has no effect.

Specification: https://hl7.org/fhir/R4/resource-operation-meta-delete.html
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.meta import meta_answer
from fhir_server.operations.meta_sets import change, without


async def meta_delete(context: Context, request: Request, type: str, id: str) -> Response:
    """Parameters with the resulting Meta as `return`. Raises FhirError 400, 404, 410, 412, 422, 428."""
    stored = await change("meta-delete", without, context, request, type, id)
    return meta_answer(json_codec.loads(stored.body)["meta"], stored)


OPERATION = Operation(
    name="meta-delete",
    handler=meta_delete,
    policy="meta-delete",
    levels=frozenset({"instance"}),
    types=("*",),
    methods=("POST",),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-meta-delete",
    title="Delete profiles, tags and security labels",
    affects_state=True,
)
