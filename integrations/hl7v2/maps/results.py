"""ORU^R01: a DiagnosticReport for each OBR with its own ORC, an Observation for each OBX; corrections are new versions of the same ones.

Specification: v2-to-FHIR guide, message ORU_R01; segments OBR, OBX, NTE, ORC
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import Element, authority_system, concept, present
from integrations.hl7v2.errors import REQUIRED, SEQUENCE, TABLE_VALUE, Refusal
from integrations.hl7v2.mapping import Mapping, stable_id
from integrations.hl7v2.maps.admission import visit_id
from integrations.hl7v2.maps.persons import patient, practitioner
from integrations.hl7v2.message import Field, Segment
from integrations.hl7v2.results import absent, attachment, interpretations, reference_ranges, value
from integrations.hl7v2.times import fhir_instant, fhir_time

_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


@dataclass(slots=True)
class Group:
    """One OBR with its ORC, its OBX and the notes behind each."""

    request: Segment
    order: Segment | None
    notes: list[Segment] = field(default_factory=list)
    results: list[tuple[Segment, list[Segment]]] = field(default_factory=list)


@dataclass(slots=True)
class Panel:
    """What the Observations of a report have in common; `seen` counts the ids of the whole message."""

    key: tuple[str, ...]
    effective: str | None
    issued: str | None
    encounter: Element | None
    seen: Counter[str]


def groups(mapping: Mapping) -> list[Group]:
    """The message's OBR groups; raises Refusal AE 100 for an OBX before any OBR."""
    found: list[Group] = []
    order: Segment | None = None
    for segment in mapping.message:
        if segment.name == "ORC":
            order = segment
        elif segment.name == "OBR":
            found.append(Group(segment, order))
            order = None
        elif segment.name == "OBX":
            if not found:
                raise Refusal("AE", SEQUENCE, "An OBX stands before the first OBR", "OBX")
            found[-1].results.append((segment, []))
        elif segment.name == "NTE" and found:
            last = found[-1]
            (last.results[-1][1] if last.results else last.notes).append(segment)
    if not found:
        raise Refusal("AE", REQUIRED, "ORU^R01 needs an OBR segment", "OBR")
    return found


def results(mapping: Mapping) -> None:
    """All reports of the message; the patient only if nobody has told of him before."""
    if not mapping.known("Patient", mapping.patient_id):
        mapping.put(patient(mapping))
    encounter = _encounter(mapping)
    seen: Counter[str] = Counter()
    for group in groups(mapping):
        _report(group, mapping, encounter, seen)


def _encounter(mapping: Mapping) -> Element | None:
    """The visit that PV1 names, if it is known."""
    segment = mapping.message.first("PV1")
    id = visit_id(segment, mapping) if segment is not None else None
    return {"reference": f"Encounter/{id}"} if id is not None and mapping.known("Encounter", id) else None


def number(candidates: list[Field], mapping: Mapping, kind: str) -> tuple[str, str, Element] | None:
    """(system, value, Identifier) of a placer or filler number (EI) in the first field that has one."""
    for one in candidates:
        text = one.part(1)
        if text:
            system = authority_system(one.part(2), one.part(3), one.part(4), mapping.source)
            return system, text, {"type": {"coding": [{"system": _TYPES, "code": kind}]}, "system": system, "value": text}
    return None


def order_id(number: tuple[str, str, Element], mapping: Mapping) -> str:
    """The id of the ServiceRequest with a placer or filler number; one without an authority is the patient's own."""
    system, value, _ = number
    own = system == authority_system("", "", "", mapping.source)
    return stable_id("ServiceRequest", *((mapping.patient_id, value) if own else (system, value)))


def _numbers(group: Group, mapping: Mapping) -> tuple[Any, Any]:
    order = group.order
    placers = [group.request.field(2)] + ([order.field(2)] if order else [])
    fillers = [group.request.field(3)] + ([order.field(3)] if order else [])
    return number(placers, mapping, "PLAC"), number(fillers, mapping, "FILL")


def _report(group: Group, mapping: Mapping, encounter: Element | None, seen: Counter[str]) -> None:
    request, zone = group.request, mapping.source.zone
    placer, filler = _numbers(group, mapping)
    main = filler or placer
    key = main[:2] if main else (mapping.message.sender[1], f"{request.value(4)}|{request.value(7)}")
    code = concept(request.field(4), mapping.source, "lis") or {"text": "?"}
    report_id = stable_id("DiagnosticReport", mapping.patient_id, *key, request.value(4) or request.value(4, 2))
    before = mapping.current("DiagnosticReport", report_id) or {}
    effective = fhir_time(request.value(7), zone) if request.value(7) else None
    issued = fhir_instant(request.value(22), zone) if request.value(22) else None
    panel = Panel(("Observation", mapping.patient_id, *key), effective, issued, encounter, seen)
    observed = [one for row, notes in group.results if (one := _observation(row, notes, mapping, panel))]
    status = _report_status(request, mapping)
    performers = [one for number in (32, 34) for item in request.fields(number) if (one := practitioner(item, mapping))]
    section = request.value(24)
    mapping.put(
        present(
            resourceType="DiagnosticReport",
            id=report_id,
            identifier=[one[2] for one in (filler, placer) if one],
            basedOn=[_order(group, mapping, placer, code, status, encounter)] if placer else None,
            status=status,
            category=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": section}]}] if section else None,
            code=code,
            subject=mapping.subject,
            encounter=encounter,
            effectiveDateTime=effective,
            issued=issued,
            resultsInterpreter=performers,
            result=_together(before.get("result", []), observed),
            presentedForm=[one for row, _ in group.results if (one := attachment(row, mapping.warnings))],
            conclusion="\n".join(text for note in group.notes if (text := _note(note))),
        )
    )


def _together(before: list[Element], observed: list[Element]) -> list[Element]:
    """The results of a report in their first order; a later message that leaves some out (a correction) does not take them away."""
    known = {one.get("reference") for one in before}
    return [*before, *(one for one in observed if one["reference"] not in known)]


def _report_status(request: Segment, mapping: Mapping) -> str:
    sent = request.value(25).upper()
    status = codes.code("report_status", sent)
    if sent in ("Y", "Z"):
        raise Refusal("AE", TABLE_VALUE, f"OBR-25: '{sent}' is for queries, not for results", request.place(25))
    if status is None:
        if sent:
            mapping.warnings.append(f"OBR-25: the status '{sent}' is not known")
        return "unknown"
    return status


def _order(group: Group, mapping: Mapping, placer: Any, code: Element, status: str, encounter: Element | None) -> Element:
    """The ServiceRequest that the report answers: made when it is not known."""
    return mapping.once(
        present(
            resourceType="ServiceRequest",
            id=order_id(placer, mapping),
            identifier=[placer[2]],
            status="completed" if status in ("final", "corrected") else "active",
            intent="order",
            code=code,
            subject=mapping.subject,
            encounter=encounter,
            requester=next((one for item in group.request.fields(16) if (one := practitioner(item, mapping))), None),
        )
    )


def _note(segment: Segment) -> str:
    return "\n".join(item.text for item in segment.fields(3))


def _continued(row: Segment, notes: list[Segment], mapping: Mapping, id: str) -> bool:
    """Append an OBX of text to the one before it with the same OBX-3 and OBX-4: narratives come with a line in each OBX."""
    before = mapping.resources.get(("Observation", id), {})
    if row.value(2).upper() not in ("ST", "TX", "FT") or "valueString" not in before:
        return False
    lines = [before["valueString"], *(item.text for item in row.fields(5))] if row.fields(5) else [before["valueString"], ""]
    before["valueString"] = "\n".join(lines)
    if texts := [{"text": text} for note in notes if (text := _note(note))]:
        before["note"] = [*before.get("note", []), *texts]
    return True


def _observation(row: Segment, notes: list[Segment], mapping: Mapping, panel: Panel) -> Element | None:
    """The Observation of an OBX; None where it is a further line of a text that began before."""
    source, zone = mapping.source, mapping.source.zone
    code = concept(row.field(3), source, "lis")
    if code is None:
        raise Refusal("AE", REQUIRED, "OBX-3 is missing: what was observed", row.place(3))
    first = code["coding"][0] if code.get("coding") else {"code": code.get("text", "")}
    keys = [*panel.key, first.get("system", ""), first["code"], row.value(4)]
    id = stable_id(*keys)
    panel.seen[id] += 1
    if panel.seen[id] > 1:
        if _continued(row, notes, mapping, id):
            return None
        # The same test again without a sub-id: a result of its own, told apart by its place.
        id = stable_id(*keys, str(panel.seen[id]))
    when = fhir_time(row.value(14), zone) if row.value(14) else None
    sent = row.value(11).upper()
    status = codes.code("result_status", sent)
    if status is None:
        status = "unknown"
        mapping.warnings.append(f"OBX-11: the status '{sent}' is not known" if sent else "OBX-11: the status is missing")
    content = value(row, source, mapping.warnings)
    before = mapping.current("Observation", id) if sent == "U" and not row.raw_field(5) else None
    if before is not None:
        # U changes the status alone; the result was sent before.
        return mapping.put({**before, "status": status})
    if sent == "N":
        content = absent("not-asked")
    elif sent == "X" and "dataAbsentReason" in content:
        content = absent("not-performed")
    method = concept(row.field(17), source, "method")
    performers = [one for item in row.fields(16) if (one := practitioner(item, mapping))]
    return mapping.put(
        present(
            resourceType="Observation",
            id=id,
            status=status,
            category=[{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
            code=code,
            subject=mapping.subject,
            encounter=panel.encounter,
            effectiveDateTime=when or panel.effective,
            issued=panel.issued,
            performer=performers,
            interpretation=interpretations(row, mapping.warnings),
            note=[{"text": text} for note in notes if (text := _note(note))],
            method=method,
            referenceRange=reference_ranges(row),
        )
        | content
    )
