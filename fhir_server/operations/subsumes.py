"""CodeSystem `$subsumes`: is one code a kind of the other?

Specification: https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked, missing, of_another, parameters, system_asked, terminology

NAMES = ("codeA", "codeB", "system", "version", "codingA", "codingB")


async def subsumes(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `outcome`: equivalent, subsumes, subsumed-by or not-subsumed. Raises FhirError 400, 404."""
    asked = Asked("subsumes", request, NAMES)
    room = await terminology(context)
    first, second = (_code(asked, letter) for letter in "AB")
    systems = {system for system, _ in (first, second) if system} | ({asked.text("system")} if "system" in asked else set())
    if id is None and len(systems) != 1:
        raise FhirError.of(
            400, "required", "$subsumes needs one system, that of both codes", "system", zh="$subsumes 需要两个编码共同的 system"
        )
    system = str(next(iter(systems))) if systems else ""
    codings = [asked.object(f"coding{letter}") or {} for letter in "AB"]
    version = asked.text("version") or next((str(one["version"]) for one in codings if one.get("version")), "")
    held = await system_asked(context, request, room, id, system, version)
    if held is None or not held.concepts:
        raise missing("CodeSystem", system)
    if systems - {held.url}:
        raise of_another("the codes are", ", ".join(sorted(map(str, systems - {held.url}))), held)
    outcome = held.subsumes(first[1], second[1])
    if outcome is None:
        unknown = first[1] if held.find(first[1]) is None else second[1]
        raise FhirError.of(404, "not-found", f"'{unknown[:80]}' is no code of {held.url}", zh=f"“{unknown[:80]}”不是 {held.url} 的编码")
    return Response(200, json_codec.dumps(parameters({"name": "outcome", "valueCode": outcome})))


def _code(asked: Asked, letter: str) -> tuple[str, str]:
    """(system, code) of one of both."""
    code, coding = asked.text(f"code{letter}"), asked.object(f"coding{letter}")
    if code is None and (coding is None or not coding.get("code")):
        what = f"$subsumes needs code{letter} or coding{letter}"
        raise FhirError.of(400, "required", what, f"code{letter}", zh=f"$subsumes 需要 code{letter} 或 coding{letter}")
    return ("", code) if code is not None else (str((coding or {}).get("system", "")), str((coding or {}).get("code")))


OPERATION = Operation(
    "subsumes",
    subsumes,
    "subsumes",
    frozenset({"type", "instance"}),
    types=("CodeSystem",),
    definition="http://hl7.org/fhir/OperationDefinition/CodeSystem-subsumes",
    title="Is one code a kind of the other?",
)
