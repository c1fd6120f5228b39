"""$purge: every version of a resource vanishes for good, of a Patient all of its compartment; the record of it is an AuditEvent.

What is left of each resource is a deletion without content: its address answers 410. Audit records stay, and so does what belongs to
another patient too. The operation is FHIR R6's, which R4 does not define.
Specification: https://hl7.org/fhir/6.0.0-ballot3/patient-operation-purge.html. Decision: docs/decisions/0098-backup-restore-purge.md
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import unknown
from fhir_server.interactions.registration import Operation
from fhir_server.model.references import binaries_in, parse_reference
from fhir_server.operations.everything_scope import member_types, scope
from fhir_server.operations.inputs import inputs, known
from fhir_server.search.query import Query
from fhir_server.storage.port import Purge, Purged, Write

AUDIT = "AuditEvent"
_NAMED = 20
"""Most resources that the answer names."""
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def audit_event(context: Context, request: Request, type: str, id: str, resources: Mapping[str, int]) -> dict[str, Any]:
    """Who erased what and when; nothing of what it held."""
    principal = request.principal
    who: dict[str, Any] = {"altId": principal.name, "requestor": True}
    if principal.fhir_user:
        who["who"] = {"reference": principal.fhir_user}
    person = type == "Patient"
    entity: dict[str, Any] = {
        "what": {"reference": f"{type}/{id}"},
        "type": {
            "system": f"{_TERMINOLOGY}/audit-entity-type",
            "code": "1" if person else "2",
            "display": "Person" if person else "System Object",
        },
        "role": {
            "system": f"{_TERMINOLOGY}/object-role",
            "code": "1" if person else "4",
            "display": "Patient" if person else "Domain Resource",
        },
        "lifecycle": {
            "system": f"{_TERMINOLOGY}/dicom-audit-lifecycle",
            "code": "14",
            "display": "Permanent erasure / Physical destruction",
        },
        "detail": [{"type": name, "valueString": str(number)} for name, number in sorted(resources.items())],
    }
    return {
        "resourceType": AUDIT,
        "type": {"system": f"{_TERMINOLOGY}/audit-event-type", "code": "rest", "display": "RESTful Operation"},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "operation", "display": "operation"}],
        "action": "D",
        "recorded": instant(context.clock()),
        "outcome": "0",
        "outcomeDesc": f"$purge {type}",
        "agent": [who],
        "source": {"observer": {"display": "fhir-server"}},
        "entity": [entity],
    }


def _patients(context: Context) -> Callable[[dict[str, Any]], set[str]]:
    """Resource -> ids of the patients in whose compartments it is."""
    numbers: dict[str, set[int]] = {}
    for type, codes in context.definitions.compartments["Patient"].items():
        parameters = [parameter for code in codes if (parameter := context.search.get(type, code)) is not None]
        numbers[type] = {source.number for one in parameters for source in one.sources if source.target in (None, "Patient")}
    index = context.parts["indexer"].index

    def of(resource: dict[str, Any]) -> set[str]:
        wanted = numbers.get(resource["resourceType"], set())
        return {key.value for key in index(resource).keys if key.space == "Patient" and key.parameter in wanted}

    return of


def _attached(body: bytes) -> list[tuple[str, str]]:
    """The Binaries of a body's attachments that lie here."""
    found = [parse_reference(text) for text in binaries_in(body)]
    return [("Binary", one.id) for one in found if one.type == "Binary"]


def _asked(context: Context, request: Request, type: str, id: str) -> Purge:
    def audit(resources: Mapping[str, int]) -> Write:
        return Write("POST", AUDIT, audit_id, audit_event(context, request, type, id, resources))

    audit_id = secrets.token_hex(16)
    if type != "Patient":
        return Purge([(type, id)], audit)
    patients = _patients(context)
    kept: Mapping[str, tuple[str, ...]] = context.parts.get("records of patients", {})
    types = tuple(member for member in member_types(context, type) if member not in (type, AUDIT))
    return Purge(
        [(type, id)],
        audit,
        Query(types, scope(context, request, type, id, types, None, None)),
        belongs=lambda resource: id in patients(resource),
        spared=lambda resource: bool(patients(resource) - {id}),
        beside=_attached,
        records=[(collection, name, f"Patient/{id}") for collection, names in kept.items() for name in names],
        clue=id.encode(),
    )


def _answer(type: str, id: str, purged: Purged, *, chinese: bool) -> dict[str, Any]:
    number, audit = sum(purged.resources.values()), purged.commit.outcomes[0].stored
    assert audit is not None
    said = f"{type}/{id}: {number} resources with {purged.versions} versions were erased; {AUDIT}/{audit.id} says so"
    zh = f"{type}/{id}：已清除 {number} 个资源（共 {purged.versions} 个版本），记录见 {AUDIT}/{audit.id}"
    issues = [Issue("informational", said, severity="information", zh=zh)]
    if purged.spared:
        places = ", ".join("/".join(place) for place in purged.spared[:_NAMED])
        more = "" if len(purged.spared) <= _NAMED else " ..."
        said = f"{len(purged.spared)} resources are in the compartment of another patient too and stay: {places}{more}"
        issues.append(
            Issue("business-rule", said, severity="warning", zh=f"{len(purged.spared)} 个资源同时属于其他患者，已保留：{places}{more}")
        )
    if not purged.wiped:
        said = "Somebody still reads an earlier state (a backup, a long search): the store's log holds it until that ends"
        issues.append(
            Issue("incomplete", said, severity="warning", zh="仍有读取者（如备份或长时间检索）使用旧状态，其结束后日志中的内容才会清除")
        )
    return operation_outcome(issues, chinese=chinese)


async def purge(context: Context, request: Request, type: str, id: str) -> Response:
    """200 with an OperationOutcome. Raises FhirError 400, 404, 405 (audit records), 422 (too many resources), 503."""
    known("purge", inputs(request), ())
    if type == AUDIT:
        what = "Audit records are not erased: they are the trace of what was"
        raise FhirError.of(405, "not-supported", what, zh="审计记录不能清除", headers=[("Allow", "GET")])
    if await context.gate.read(request.principal, type, id) is None:
        raise unknown(type, id)
    purged = await context.gate.purge(request.principal, _asked(context, request, type, id))
    body = _answer(type, id, purged, chinese=wants_chinese(request.headers))
    return Response(200, orjson.dumps(body))


OPERATION = Operation(
    name="purge",
    handler=purge,
    policy="purge",
    levels=frozenset({"instance"}),
    types=("*",),
    methods=("POST",),
    definition="urn:fhir-server:OperationDefinition:purge",
    title="Erase every version for good",
    affects_state=True,
)
