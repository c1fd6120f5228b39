"""ORM^O01 and OML^O21: a ServiceRequest for each order.

Specification: v2-to-FHIR guide, messages ORM_O01 and OML_O21; segments ORC and OBR
"""

from __future__ import annotations

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import concept, present
from integrations.hl7v2.errors import REQUIRED, Refusal
from integrations.hl7v2.mapping import Mapping
from integrations.hl7v2.maps.persons import patient, practitioner
from integrations.hl7v2.maps.results import number, order_id
from integrations.hl7v2.message import Segment
from integrations.hl7v2.times import fhir_time


def _pairs(mapping: Mapping) -> list[tuple[Segment | None, Segment]]:
    found: list[tuple[Segment | None, Segment]] = []
    order: Segment | None = None
    for segment in mapping.message:
        if segment.name == "ORC":
            order = segment
        elif segment.name == "OBR":
            found.append((order, segment))
    if not found:
        raise Refusal("AE", REQUIRED, f"{mapping.message.type}^{mapping.message.event} needs an OBR segment", "OBR")
    return found


def orders(mapping: Mapping) -> None:
    """All orders of the message; the patient only if nobody has told of him before."""
    if not mapping.known("Patient", mapping.patient_id):
        mapping.put(patient(mapping))
    for order, request in _pairs(mapping):
        _order(order, request, mapping)


def _order(order: Segment | None, request: Segment, mapping: Mapping) -> None:
    zone = mapping.source.zone
    placer = number([request.field(2)] + ([order.field(2)] if order else []), mapping, "PLAC")
    filler = number([request.field(3)] + ([order.field(3)] if order else []), mapping, "FILL")
    main = placer or filler
    if main is None:
        raise Refusal("AE", REQUIRED, "An order needs a placer number (ORC-2 or OBR-2)", "ORC-2")
    code = concept(request.field(4), mapping.source, "order")
    if code is None:
        raise Refusal("AE", REQUIRED, "OBR-4 is missing: what is ordered", "OBR-4")
    control, state = (order.value(1).upper(), order.value(5).upper()) if order else ("NW", "")
    requesters = [
        one for row in (order, request) if row for item in row.fields(12 if row is order else 16) if (one := practitioner(item, mapping))
    ]
    authored = fhir_time(order.value(9), zone) if order and order.value(9) else None
    group = number([order.field(4)], mapping, "PGN") if order else None
    reason = [one for item in request.fields(31) if (one := concept(item, mapping.source, "reason"))]
    mapping.put(
        present(
            resourceType="ServiceRequest",
            id=order_id(main, mapping),
            identifier=[one[2] for one in (placer, filler) if one],
            requisition=group[2] if group else None,
            status=codes.code("order_status", state) or codes.code("order_control", control) or "active",
            intent="order",
            priority=codes.code("priority", request.value(5).upper()),
            code=code,
            subject=mapping.subject,
            occurrenceDateTime=fhir_time(request.value(6), zone) if request.value(6) else None,
            authoredOn=authored,
            requester=requesters[0] if requesters else None,
            reasonCode=reason,
        )
    )
