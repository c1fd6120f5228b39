"""ADT: admissions, transfers, discharges and changes; one Encounter through all of them.

Specification: v2-to-FHIR guide, messages ADT_A01 … A13; segments PV1, DG1, AL1
"""

from __future__ import annotations

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import Element, authority_system, concept, present
from integrations.hl7v2.mapping import Handler, Mapping, Resource, stable_id
from integrations.hl7v2.maps.persons import patient, practitioner
from integrations.hl7v2.message import Segment
from integrations.hl7v2.times import fhir_time

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_PARTICIPANTS = ((7, "ATND", "attender"), (8, "REF", "referrer"), (9, "CON", "consultant"), (17, "ADM", "admitter"))


def patient_update(mapping: Mapping) -> None:
    """A28, A31: the person alone."""
    mapping.put(patient(mapping))
    _allergies(mapping)


def visit(status: str | None, *, reopened: bool = False) -> Handler:
    """A message about a visit that gives it this status (None: as it is)."""

    def handle(mapping: Mapping) -> None:
        mapping.put(patient(mapping))
        _allergies(mapping)
        segment = mapping.message.first("PV1")
        if segment is None:
            return
        found = encounter(segment, mapping, status, reopened=reopened)
        diagnoses = _diagnoses(mapping, found)
        if found is not None:
            _diagnose(found, diagnoses)
            mapping.put(found)

    return handle


def visit_id(segment: Segment, mapping: Mapping) -> str | None:
    """The id of the Encounter that PV1 tells of: by the patient and PV1-19, else by class and day of admission; None without either.

    The number's authority is not part of it: laboratories often leave it out where the HIS names it.
    """
    number, admitted = segment.value(19).strip(), segment.value(44)[:8]
    if number:
        return stable_id("Encounter", mapping.patient_id, number)
    if admitted:
        return stable_id("Encounter", mapping.patient_id, segment.value(2), admitted)
    return None


def encounter(segment: Segment, mapping: Mapping, status: str | None, *, reopened: bool) -> Resource | None:
    """The Encounter of PV1, joined with what is there; None where the visit cannot be told apart."""
    id = visit_id(segment, mapping)
    if id is None:
        mapping.warnings.append("PV1-19: no visit number and no day of admission; no Encounter is made")
        return None
    before = mapping.current("Encounter", id) or {}
    late = mapping.late("Encounter", id) and status not in ("finished", "cancelled") and not reopened
    resource: Resource = {**before, "resourceType": "Encounter", "id": id}
    _identify(segment, mapping, resource)
    resource["status"] = status or before.get("status") or ("finished" if segment.value(45) else "in-progress")
    coding = codes.coding("encounter_class", segment.value(2).upper())
    if coding is None and segment.value(2):
        mapping.warnings.append(f"PV1-2: the patient class '{segment.value(2)}' is not known")
    resource["class"] = coding or before.get("class") or {"system": f"{_TERMINOLOGY}v3-NullFlavor", "code": "UNK"}
    resource["subject"] = mapping.subject
    _period(segment, mapping, resource, reopened=reopened)
    _people(segment, mapping, resource)
    _place(segment, mapping, resource)
    _stay(segment, mapping, resource, reopened=reopened)
    if late:
        period = {**resource.get("period", {}), **before.get("period", {})}
        return {**resource, **before, **({"period": period} if period else {})}
    return resource


def _identify(segment: Segment, mapping: Mapping, resource: Resource) -> None:
    """PV1-19 as the visit number; one that was told with its authority is kept."""
    number = segment.value(19).strip()
    if not number:
        return
    namespace, universal, form = segment.field(19).subparts(4)
    known = any(one.get("value") == number for one in resource.get("identifier", []))
    if not known or namespace or universal:
        kind = {"coding": [{"system": f"{_TERMINOLOGY}v2-0203", "code": "VN"}]}
        system = authority_system(namespace, universal, form, mapping.source) + ":visit"
        resource["identifier"] = [{"type": kind, "system": system, "value": number}]


def _period(segment: Segment, mapping: Mapping, resource: Resource, *, reopened: bool) -> None:
    period = dict(resource.get("period", {}))
    for number, side in ((44, "start"), (45, "end")):
        text = segment.value(number)
        found = fhir_time(text, mapping.source.zone) if text else None
        if found:
            period[side] = found
        elif text:
            mapping.warnings.append(f"PV1-{number}: '{text}' is no date; it is left out")
    if reopened:
        period.pop("end", None)
    elif resource["status"] == "finished" and "end" not in period:
        when = fhir_time(mapping.message.header.value(7), mapping.source.zone)
        if when:
            period["end"] = when
    if period:
        resource["period"] = period


def _people(segment: Segment, mapping: Mapping, resource: Resource) -> None:
    found = []
    for number, code, display in _PARTICIPANTS:
        for field in segment.fields(number):
            reference = practitioner(field, mapping)
            if reference:
                kind = {"coding": [{"system": f"{_TERMINOLOGY}v3-ParticipationType", "code": code, "display": display}]}
                found.append({"type": [kind], "individual": reference})
    if found:
        resource["participant"] = found


def _place(segment: Segment, mapping: Mapping, resource: Resource) -> None:
    parts = [segment.value(3, k) for k in (1, 2, 3, 4)]
    if any(parts):
        text = " ".join(part for part in parts[:3] if part) or parts[3]
        id = stable_id("Location", mapping.source.name, *parts)
        identifier = {"system": mapping.source.local_system("location"), "value": "^".join(parts).rstrip("^")}
        reference = mapping.once({"resourceType": "Location", "id": id, "identifier": [identifier], "status": "active", "name": text})
        resource["location"] = [{"location": {**reference, "display": text}, "status": _location_status(resource["status"])}]
    department = segment.value(10) or parts[0]
    if department:
        id = stable_id("Organization", mapping.source.name, department)
        identifier = {"system": mapping.source.local_system("department"), "value": department}
        reference = mapping.once({"resourceType": "Organization", "id": id, "identifier": [identifier], "active": True, "name": department})
        resource["serviceProvider"] = {**reference, "display": department}


def _location_status(status: str) -> str:
    return {"finished": "completed", "planned": "planned"}.get(status, "active")


def _stay(segment: Segment, mapping: Mapping, resource: Resource, *, reopened: bool) -> None:
    stay = dict(resource.get("hospitalization", {}))
    source, disposition = segment.value(14), segment.value(36)
    if source:
        stay["admitSource"] = {"coding": [{"system": mapping.source.local_system("admit-source"), "code": source}]}
    if disposition:
        stay["dischargeDisposition"] = {"coding": [{"system": f"{_TERMINOLOGY}v2-0112", "code": disposition}]}
    if reopened:
        stay.pop("dischargeDisposition", None)
    if stay:
        resource["hospitalization"] = stay
    else:
        resource.pop("hospitalization", None)


def _diagnoses(mapping: Mapping, found: Resource | None) -> list[tuple[Element, Element | None]]:
    """A Condition for each DG1; (reference, use of the diagnosis)."""
    out = []
    for segment in mapping.message.all("DG1"):
        code = concept(segment.field(3), mapping.source, "diagnosis") or ({"text": segment.value(4)} if segment.value(4) else None)
        if code is None:
            continue
        key = code["coding"][0]["code"] if code.get("coding") else code.get("text", "")
        id = stable_id("Condition", mapping.patient_id, found["id"] if found else "", key)
        if segment.value(4) and "text" not in code:
            code["text"] = segment.value(4)
        when = fhir_time(segment.value(5), mapping.source.zone) if segment.value(5) else None
        final = segment.value(6).upper() == "F"
        condition = present(
            resourceType="Condition",
            id=id,
            clinicalStatus={"coding": [{"system": f"{_TERMINOLOGY}condition-clinical", "code": "active"}]},
            verificationStatus={
                "coding": [{"system": f"{_TERMINOLOGY}condition-ver-status", "code": "confirmed" if final else "provisional"}]
            },
            category=[{"coding": [{"system": f"{_TERMINOLOGY}condition-category", "code": "encounter-diagnosis"}]}],
            code=code,
            subject=mapping.subject,
            encounter={"reference": f"Encounter/{found['id']}"} if found else None,
            recordedDate=when,
        )
        use = codes.coding("diagnosis_use", segment.value(6).upper())
        out.append((mapping.put(condition), {"coding": [use]} if use else None))
    return out


def _diagnose(resource: Resource, diagnoses: list[tuple[Element, Element | None]]) -> None:
    known = {one["condition"].get("reference"): one for one in resource.get("diagnosis", [])}
    for reference, use in diagnoses:
        known[reference["reference"]] = present(condition=reference, use=use)
    if known:
        resource["diagnosis"] = list(known.values())


def _allergies(mapping: Mapping) -> None:
    for segment in mapping.message.all("AL1"):
        code = concept(segment.field(3), mapping.source, "allergy")
        if code is None:
            continue
        key = code["coding"][0]["code"] if code.get("coding") else code.get("text", "")
        criticality, severity = codes.code("allergy_severity", segment.value(4)) or [None, None]
        category = codes.code("allergy_category", segment.value(2))
        shown = [{"text": field.text} for field in segment.fields(5)]
        when = fhir_time(segment.value(6), mapping.source.zone) if segment.value(6) else None
        mapping.put(
            present(
                resourceType="AllergyIntolerance",
                id=stable_id("AllergyIntolerance", mapping.patient_id, key),
                clinicalStatus={"coding": [{"system": f"{_TERMINOLOGY}allergyintolerance-clinical", "code": "active"}]},
                type="allergy",
                category=[category] if category else None,
                criticality=criticality,
                code=code,
                patient=mapping.subject,
                onsetDateTime=when,
                reaction=[present(manifestation=shown, severity=severity)] if shown else None,
            )
        )
