"""A custom operation: GET [base]/Patient/{id}/$initials, the first letters of a patient's name; of a Chinese one those of its pinyin."""

from __future__ import annotations

from typing import Any

import orjson
from pypinyin import lazy_pinyin

from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.plugins import FhirError, Operation


def initials_of(patient: dict[str, Any]) -> str:
    """'Sun Wukong' → 'SW', '孙悟空' → 'SWK'; '' without a name."""
    name = next(iter(patient.get("name", ())), {})
    text = name.get("text") or " ".join([*name.get("given", ()), *([name["family"]] if "family" in name else ())])
    return "".join(word[0].upper() for part in text.split() for word in lazy_pinyin(part) if word[:1].isalpha())


async def initials(context: Context, request: Request, type: str, id: str) -> Response:
    """Parameters with `return`. The patient is read through the gate: who may not see him is told that he is not known."""
    stored = await context.gate.read(request.principal, "Patient", id)
    if stored is None or stored.deleted:
        raise FhirError.of(404, "not-found", f"Patient/{id} is not known", zh=f"没有 Patient/{id}")
    found = initials_of(orjson.loads(stored.body))
    rows = [{"name": "return", "valueString": found}] if found else []
    return Response(200, orjson.dumps({"resourceType": "Parameters", **({"parameter": rows} if rows else {})}))


INITIALS = Operation(
    "initials",
    initials,
    policy="patient-initials",
    levels=frozenset({"instance"}),
    types=("Patient",),
    methods=("GET",),
    title="The initials of a patient's name",
)
