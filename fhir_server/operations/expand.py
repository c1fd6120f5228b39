"""ValueSet `$expand`: the codes of a value set, filtered, paged, in the language that is asked for.

Specification: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked, terminology
from fhir_server.operations.validate_code import content_asked
from fhir_server.terminology.expansion import TooCostly, Wishes, expansion
from fhir_server.terminology.value_sets import NotEnumerable

NAMES = (
    "url", "valueSet", "valueSetVersion", "context", "contextDirection", "filter", "date", "offset", "count", "includeDesignations",
    "designation", "includeDefinition", "activeOnly", "excludeNested", "excludeNotForUI", "excludePostCoordinated", "displayLanguage",
)  # fmt: skip
SHOWN = {
    "filter": "valueString", "offset": "valueInteger", "count": "valueInteger", "activeOnly": "valueBoolean",
    "includeDesignations": "valueBoolean", "excludeNotForUI": "valueBoolean", "displayLanguage": "valueCode",
}  # fmt: skip
KEPT = ("resourceType", "id", "url", "version", "name", "title", "status", "experimental", "date", "publisher", "description", "immutable")


async def expand(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with a ValueSet that has an expansion. Raises FhirError 400, 404, 422 (the content cannot be told, or is too large at once)."""
    asked = Asked("expand", request, NAMES, ("designation",))
    room = await terminology(context)
    name, content, given = await content_asked(context, request, room, asked, id)
    resource = given or room.find(name) or {}
    wishes = Wishes(
        asked.text("filter") or "",
        asked.number("offset") or 0,
        asked.number("count"),
        tuple(asked.languages()),
        asked.flag("activeOnly") or (resource.get("compose") or {}).get("inactive") is False,
        asked.flag("includeDesignations"),
        asked.flag("excludeNotForUI"),
        tuple(_kind(text) for text in asked.texts("designation")),
    )
    try:
        made = expansion(room, content, wishes, _shown(asked), instant(context.clock()))
    except (NotEnumerable, TooCostly) as fault:
        code = "too-costly" if isinstance(fault, TooCostly) else "not-supported"
        raise FhirError.of(422, code, f"The value set {name} cannot be expanded: {fault}", zh=f"无法展开值集 {name}：{fault.zh}") from None
    kept = KEPT if not asked.flag("includeDefinition") else (*KEPT, "compose")
    answer = {"resourceType": "ValueSet", "status": "active", **{key: resource[key] for key in kept if key in resource}, "expansion": made}
    return Response(200, json_codec.dumps(answer))


def _kind(text: str) -> tuple[str, str]:
    """The use or language of designations: `system|code`. Raises FhirError 400."""
    system, bar, code = text.partition("|")
    if not bar or not code:
        what = f"designation={text[:80]} must be system|code, such as urn:ietf:bcp:47|zh-CN"
        raise FhirError.of(400, "value", what, "designation", zh=f"designation={text[:80]} 应为 system|code，例如 urn:ietf:bcp:47|zh-CN")
    return system, code


def _shown(asked: Asked) -> list[dict[str, Any]]:
    """How it was asked for, as the expansion tells it."""
    rows: list[dict[str, Any]] = []
    for name, key in SHOWN.items():
        said = asked.text(name)
        if said is not None:
            value: Any = said == "true" if key == "valueBoolean" else int(said) if key == "valueInteger" else said
            rows.append({"name": name, key: value})
    return rows


OPERATION = Operation(
    "expand",
    expand,
    "expand",
    frozenset({"type", "instance"}),
    types=("ValueSet",),
    definition="http://hl7.org/fhir/OperationDefinition/ValueSet-expand",
    title="The codes of a value set",
)
