"""CodeSystem `$lookup`: what a code system says of a code.

Specification: https://hl7.org/fhir/R4/codesystem-operation-lookup.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked, missing, of_another, parameters, system_asked, terminology
from fhir_server.terminology.code_systems import CodeSystem, Concept
from fhir_server.terminology.displays import designation, display

NAMES = ("code", "system", "version", "coding", "date", "displayLanguage", "property")
ALWAYS = frozenset({"name", "version", "display"})
TEXTS = {"code": "valueCode", "dateTime": "valueDateTime"}


async def lookup(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with Parameters. Raises FhirError 400, 404 (the system or the code is not here)."""
    asked = Asked("lookup", request, NAMES, ("property",))
    room = await terminology(context)
    (system, version, code, _), *_rest = asked.codings()
    version = version or asked.text("version") or ""
    held = await system_asked(context, request, room, id, system, version)
    if held is None and not system:
        raise FhirError.of(400, "required", "$lookup needs the system of the code", "system", zh="$lookup 需要参数 system")
    if held is None or not (held.concepts or held.whole):
        raise missing("CodeSystem", f"{system}|{version}" if version else system)
    if system and system != held.url:
        raise of_another("the code is", system, held)
    concept = held.find(code)
    if concept is None:
        raise FhirError.of(404, "not-found", f"'{code[:80]}' is no code of {held.url}", "code", zh=f"“{code[:80]}”不是 {held.url} 的编码")
    wished = set(asked.texts("property"))
    answer = parameters(
        {"name": "name", "valueString": held.name or held.url},
        {"name": "version", "valueString": held.version} if held.version else None,
        {"name": "display", "valueString": display(concept, asked.languages(), held.language) or code},
        *(_designations(concept) if not wished or "designation" in wished else ()),
        *_properties(held, concept, wished),
    )
    return Response(200, json_codec.dumps(answer))


def _designations(concept: Concept) -> list[dict[str, Any]]:
    types = {"language": "valueCode", "use": "valueCoding", "value": "valueString"}
    return [
        {"name": "designation", "part": [{"name": name, types[name]: value} for name, value in designation(one).items()]}
        for one in concept.designations
    ]


def _properties(system: CodeSystem, concept: Concept, wished: set[str]) -> list[dict[str, Any]]:
    """The properties that are asked for (all where none is): those of the concept, its parents and children, and its definition."""
    rows: list[dict[str, Any]] = []

    def add(code: str, key: str, value: Any) -> None:
        if (not wished or code in wished) and code not in ALWAYS:
            rows.append({"name": "property", "part": [{"name": "code", "valueCode": code}, {"name": "value", key: value}]})

    if concept.definition:
        add("definition", "valueString", concept.definition)
    add("inactive", "valueBoolean", concept.inactive)
    for name, others in (("parent", system.parents), ("child", system.children)):
        for other in others.get(concept.code, ()):
            add(name, "valueCode", other)
    for code, value in concept.properties:
        if code in ("parent", "child", "inactive"):
            continue
        add(code, _key(system, code, value), value)
    return rows


def _key(system: CodeSystem, code: str, value: Any) -> str:
    """In which value[x] a property is told: as its JSON is, and of texts as the system says."""
    if isinstance(value, bool):
        return "valueBoolean"
    if isinstance(value, dict):
        return "valueCoding"
    said = system.properties.get(code, "")
    if not isinstance(value, str):
        return "valueInteger" if isinstance(value, int) and said != "decimal" else "valueDecimal"
    return TEXTS.get(said, "valueString")


OPERATION = Operation(
    "lookup",
    lookup,
    "lookup",
    frozenset({"type", "instance"}),
    types=("CodeSystem",),
    definition="http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup",
    title="What a code system says of a code",
)
