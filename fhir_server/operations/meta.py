"""$meta: the profiles, tags and security labels of a resource, of one of its versions, of a type, or of all resources.

Specification: https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import etag, http_date
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.route import route
from fhir_server.interactions.vread import unknown_version
from fhir_server.model import json_codec
from fhir_server.operations.inputs import inputs, known
from fhir_server.operations.meta_sets import SETS, identity
from fhir_server.search.query import Criterion, Or, Position, Present, Query
from fhir_server.storage.port import Stored

MOST = 100_000
"""Most labelled resources that a summary looks through; beyond that it would be a scan of the store."""
_PAGE = 1000


def meta_answer(meta: dict[str, Any], stored: Stored | None = None) -> Response:
    """A Parameters resource with `return`."""
    body = json_codec.dumps({"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": meta}]})
    if stored is None:
        return Response(200, body)
    return Response(200, body, [("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated))], stored=stored)


async def current(context: Context, request: Request, type: str, id: str) -> Stored:
    """The version that the address names. Raises FhirError 404, 410."""
    version = route(request.method, request.path, context.types).version
    if not version:
        stored = await context.gate.read(request.principal, type, id)
        if stored is None:
            raise unknown(type, id)
    else:
        plain = version.isascii() and version.isdigit() and len(version) <= 18
        stored = await context.gate.read_version(request.principal, type, id, int(version)) if plain else None
        if stored is None:
            raise unknown_version(type, id, version)
    if stored.deleted:
        raise gone(stored)
    return stored


async def _summary(context: Context, request: Request, types: tuple[str, ...]) -> dict[str, Any]:
    """Each label in use once, in the order of its identity. Raises FhirError 422 where too much is labelled."""
    found: dict[str, dict[Any, Any]] = {name: {} for name in SETS}
    looked = 0
    for type in types:
        shared = [context.search.get(type, code) for code in ("_profile", "_security", "_tag")]
        labelled: list[Criterion] = [Present(source.number) for one in shared if one is not None for source in one.sources]
        after: Position | None = None
        while True:
            page = await context.gate.search(request.principal, Query((type,), Or(tuple(labelled)), limit=_PAGE), after)
            looked += len(page.items)
            for stored in page.items:
                meta = orjson.loads(stored.body).get("meta") or {}
                for name in SETS:
                    for value in meta.get(name) or ():
                        found[name].setdefault(identity(value), value)
            after = page.next
            if after is None:
                break
            if looked >= MOST:
                raise FhirError.of(
                    422,
                    "too-costly",
                    f"More than {MOST} resources have labels; ask $meta for one type, or search by _tag",
                    zh=f"带有标签的资源超过 {MOST} 个；请对某一种类型使用 $meta，或用 _tag 检索",
                )
    return {name: [values[key] for key in sorted(values)] for name, values in found.items() if values}


async def meta(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """Parameters with the Meta as `return`. Raises FhirError 400, 404, 410, 422 (a summary of too many resources)."""
    known("meta", inputs(request), ())
    if type and id:
        stored = await current(context, request, type, id)
        return meta_answer(json_codec.loads(stored.body)["meta"], stored)
    return meta_answer(await _summary(context, request, (type,) if type else context.definitions.resource_types))


OPERATION = Operation(
    name="meta",
    handler=meta,
    policy="meta",
    levels=frozenset({"system", "type", "instance", "version"}),
    types=("*",),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-meta",
    title="Profiles, tags and security labels",
)
