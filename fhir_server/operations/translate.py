"""ConceptMap `$translate`: from a code of one system to codes of another.

Specification: https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.validating import Validating
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.operations.asked import Asked, missing, of_instance, parameters, terminology
from fhir_server.terminology.concept_maps import NO_MATCH, Codings, Match, fitting, translated
from fhir_server.terminology.room import Terminology

NAMES = (
    "url", "conceptMap", "conceptMapVersion", "code", "system", "version", "source", "coding", "codeableConcept", "target", "targetsystem",
    "dependency", "reverse",
)  # fmt: skip
_DEEP = 5
"""Maps that may follow each other by `unmapped`."""


async def translate(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `result` and the matches. Raises FhirError 400, 404."""
    asked = Asked("translate", request, NAMES, ("dependency",))
    room = await terminology(context)
    maps = await _maps(context, request, room, asked, id)
    target, reverse = asked.text("targetsystem") or "", asked.flag("reverse")
    dependencies = _dependencies(asked)
    found: list[Match] = []
    for system, _, code, _ in asked.codings():
        for one in maps:
            found += _followed(
                room,
                translated(one, system, code, target=target, reverse=reverse, dependencies=dependencies),
                system,
                code,
                target,
                dependencies,
            )
    found = list(dict.fromkeys(found))
    good = [match for match in found if match.equivalence not in NO_MATCH]
    answer = parameters(
        {"name": "result", "valueBoolean": bool(good)},
        None
        if found
        else {"name": "message", "valueString": asked.says("no map that is here has a target for it", "现有的映射中没有它的目标编码")},
        *(_row(match) for match in found),
    )
    return Response(200, json_codec.dumps(answer))


async def _maps(context: Context, request: Request, room: Terminology, asked: Asked, id: str | None) -> list[Mapping[str, Any]]:
    if id is not None:
        return [await of_instance(context, request, "ConceptMap", id)]
    given, url = asked.resource("conceptMap", "ConceptMap"), asked.text("url")
    if given is not None:
        return [given]
    if url:
        version = asked.text("conceptMapVersion")
        found = room.find(f"{url}|{version}" if version else url)
        if found is None or found.get("resourceType") != "ConceptMap":
            raise missing("ConceptMap", url)
        return [found]
    source, target = asked.text("source") or "", asked.text("target") or ""
    if not source and not target and "targetsystem" not in asked:
        what = "$translate needs a map (url, conceptMap), or the value sets source and target, or targetsystem"
        raise FhirError.of(400, "required", what, zh="$translate 需要 url、conceptMap，或 source 与 target，或 targetsystem")
    validating: Validating = context.parts["validating"]
    stored = (validating.library.find(one) for one in validating.library.urls("ConceptMap"))
    everything = [*(one for one in stored if one), *definitions().resources("ConceptMap")]
    return list(fitting(everything, source, target))


def _followed(
    room: Terminology, matches: Iterable[Match], system: str, code: str, target: str, dependencies: Mapping[str, Codings]
) -> list[Match]:
    """The matches; where another map is to answer, what that says."""
    found: list[Match] = []
    pending, depth = list(matches), 0
    while pending and depth < _DEEP:
        depth += 1
        following: list[Match] = []
        for match in pending:
            other = room.find(match.source) if not match.code and match.equivalence == "relatedto" else None
            if other is not None and other.get("resourceType") == "ConceptMap" and match.source:
                following += translated(other, system, code, target=target, dependencies=dependencies)
            elif match.code or match.equivalence in NO_MATCH:
                found.append(match)
        pending = following
    return found


def _dependencies(asked: Asked) -> dict[str, Codings]:
    """Element -> codings that are known of it. Raises FhirError 400 for what is no element with its concept."""
    found: dict[str, Codings] = {}
    for parts in asked.parts("dependency"):
        rows = {str(part.get("name")): next((value for key, value in part.items() if key.startswith("value")), None) for part in parts}
        element, concept = rows.get("element"), rows.get("concept")
        if not isinstance(element, str) or not isinstance(concept, dict):
            what = "dependency needs the parts element (valueUri) and concept (valueCodeableConcept)"
            raise FhirError.of(
                400, "required", what, "dependency", zh="参数 dependency 需要 element（valueUri）与 concept（valueCodeableConcept）"
            )
        told = concept.get("coding") or ()
        codings = frozenset((str(row.get("system", "")), str(row["code"])) for row in told if isinstance(row, dict) and row.get("code"))
        found[element] = found.get(element, frozenset()) | codings
    return found


def _row(match: Match) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    if match.code:
        coding = {"system": match.system, "version": match.version, "code": match.code, "display": match.display}
        parts.append({"name": "concept", "valueCoding": {key: value for key, value in coding.items() if value}})
    for product in match.products:
        concept = {"system": product.get("system"), "code": product.get("value"), "display": product.get("display")}
        shown = {key: value for key, value in concept.items() if value}
        parts.append(
            {
                "name": "product",
                "part": [{"name": "element", "valueUri": product.get("property")}, {"name": "concept", "valueCoding": shown}],
            }
        )
    if match.source:
        parts.append({"name": "source", "valueUri": match.source})
    return {"name": "match", "part": parts}


OPERATION = Operation(
    "translate",
    translate,
    "translate",
    frozenset({"type", "instance"}),
    types=("ConceptMap",),
    definition="http://hl7.org/fhir/OperationDefinition/ConceptMap-translate",
    title="From a code of one system to codes of another",
)
