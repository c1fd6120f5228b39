"""FHIR create interaction, also conditional. https://hl7.org/fhir/R4/http.html#create, https://hl7.org/fhir/R4/http.html#ccreate"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions import integrity
from fhir_server.interactions.answers import written
from fhir_server.interactions.binary import resource_from
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import conditional_query, without_presentation
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.ids import new_id
from fhir_server.interactions.plan import PlannedWrite, Seen, perform
from fhir_server.interactions.prefer import preferences
from fhir_server.storage.port import Outcome, Write


def several(type: str, query: str) -> FhirError:
    """412 for criteria that more than one resource meets."""
    what, zh = f"More than one {type} meets the criteria '{query[:200]}'", f"符合条件“{query[:200]}”的 {type} 不止一个"
    return FhirError.of(412, "multiple-matches", what, zh=zh)


def with_id(resource: dict[str, Any], id: str) -> dict[str, Any]:
    """The resource under this id (a sent one is ignored), in the customary order of members."""
    return {
        "resourceType": resource["resourceType"],
        "id": id,
        **{k: v for k, v in resource.items() if k not in ("resourceType", "id", "_id")},
    }


def _condition(request: Request) -> str:
    """If-None-Exist. In a header of HTTP, characters that are not percent-encoded come byte by byte. Raises FhirError 400."""
    sent = request.headers.get("if-none-exist", "")
    if sent.isascii() or request.resource is not None:
        return sent
    try:
        return sent.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise FhirError.of(400, "value", "If-None-Exist is not UTF-8", zh="If-None-Exist 不是 UTF-8") from None


async def plan_create(context: Context, request: Request, type: str) -> PlannedWrite:
    """A create under a new id; conditional by If-None-Exist, or by a query in the address (a habit of some clients)."""
    prefer = preferences(request)
    resource = with_id(resource_from(context, request, type), new_id())
    id = resource["id"]
    asked = _condition(request) or (request.query if without_presentation(request.query) else "")
    query = conditional_query(context, request, type, asked) if asked else None

    def decide(seen: Seen) -> list[Write]:
        if query is not None:
            matches = seen.matches[0]
            if len(matches) > 1:
                raise several(type, asked)
            if matches:
                return []
        writes = [Write("POST", type, id, resource)]
        if context.settings.referential_integrity and not request.entry:
            integrity.check(context, writes, seen.current)
        return writes

    def answer(seen: Seen, outcomes: Sequence[Outcome]) -> Response:
        if outcomes:
            stored = outcomes[0].stored
            assert stored is not None
            return written(request, prefer, "created", stored)
        existing = seen.current[seen.matches[0][0]]
        assert existing is not None
        return written(request, prefer, "exists", existing)

    targets = integrity.targets(context, resource) if context.settings.referential_integrity else ()
    return PlannedWrite("create", type, id, resource, decide, answer, (query,) if query is not None else (), targets)


async def create(context: Context, request: Request, type: str) -> Response:
    """201 with the new resource, or 200 with the one that meets the criteria. Raises FhirError 400, 412, 413, 415, 422."""
    return await perform(context, request, await plan_create(context, request, type))
