"""PID, NK1 and XCN: patients, their contacts, practitioners.

Specification: v2-to-FHIR guide, segments PID and NK1, data type XCN
"""

from __future__ import annotations

from typing import Any

from integrations.hl7v2 import codes
from integrations.hl7v2.datatypes import (
    Element,
    Source,
    address,
    authority_system,
    concept,
    identifier,
    name,
    present,
    resident_id,
    telecom,
)
from integrations.hl7v2.errors import REQUIRED, Refusal
from integrations.hl7v2.mapping import Mapping, Resource, stable_id
from integrations.hl7v2.message import Field, Message, Segment
from integrations.hl7v2.times import fhir_date, fhir_time

_NATIONAL = "urn:oid:2.16.156.10011.1.3"


def pid_of(message: Message) -> Segment:
    """The PID segment; raises Refusal AE 101 where it or its identifiers are missing."""
    segment = message.first("PID")
    if segment is None:
        raise Refusal("AE", REQUIRED, f"{message.type}^{message.event} needs a PID segment", "PID")
    return segment


def identifiers(segment: Segment, source: Source, warnings: list[str]) -> list[Element]:
    """PID-3 with its repetitions, PID-2 and PID-4 of old senders, and the resident identity number in PID-19."""
    found = [one for field in segment.fields(3) if (one := identifier(field, source, warnings))]
    if not found:
        found = [one for number in (2, 4) for field in segment.fields(number) if (one := identifier(field, source, warnings, "MR"))]
    number = segment.value(19).strip()
    if number and not segment.deletes(19):
        good = resident_id(number)
        concept_ = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "NI"}]}
        if good is None:
            warnings.append("PID-19: the resident identity number has a wrong check character or date; it is kept without a system")
            found.append({"type": concept_, "value": number})
        elif not any(one.get("system") == _NATIONAL for one in found):
            found.append({"use": "official", "type": concept_, "system": _NATIONAL, "value": good})
    return found


def keys_of(message: Message, source: Source) -> list[tuple[str, str]]:
    """(system, value) of the identifiers by which the message's patient is found, the sender's own first; raises Refusal AE 101."""
    segment = pid_of(message)
    found = [(one["system"], one["value"]) for one in identifiers(segment, source, []) if one.get("system")]
    if not found:
        raise Refusal("AE", REQUIRED, "PID-3 holds no identifier of the patient", "PID-3")
    return found


def _from_resident_id(given: list[Element], patient: Resource, warnings: list[str]) -> None:
    """Birth date and sex of the identity number where the message has none; a warning where they differ."""
    number = next((one["value"] for one in given if one.get("system") == _NATIONAL), None)
    if number is None:
        return
    birth, sex = fhir_date(number[6:14]), "male" if int(number[16]) % 2 else "female"
    if birth and patient.setdefault("birthDate", birth) != birth:
        warnings.append("PID-7: the birth date differs from that of the resident identity number")
    if patient.setdefault("gender", sex) != sex:
        warnings.append("PID-8: the sex differs from that of the resident identity number")


def patient(mapping: Mapping) -> Resource:
    """The patient as the message tells: what is empty leaves what is there, \"\" deletes it."""
    segment = pid_of(mapping.message)
    before = mapping.current("Patient", mapping.patient_id) or {}
    given = identifiers(segment, mapping.source, mapping.warnings)
    resource: Resource = {**before, "resourceType": "Patient", "id": mapping.patient_id}
    resource["identifier"] = _joined(before.get("identifier", []), given)
    resource.setdefault("active", True)
    _demographics(segment, resource, mapping)
    _from_resident_id(given, resource, mapping.warnings)
    contacts = [one for row in mapping.message.all("NK1") if (one := _contact(row, mapping.source))]
    if contacts:
        resource["contact"] = contacts
    if mapping.message.type == "ADT" and mapping.late("Patient", mapping.patient_id):
        return {**resource, **before, "identifier": resource["identifier"]}
    return resource


def _joined(before: list[Element], given: list[Element]) -> list[Element]:
    known = {(one.get("system"), one.get("value")) for one in given}
    return [*given, *(one for one in before if (one.get("system"), one.get("value")) not in known)]


def _demographics(segment: Segment, resource: Resource, mapping: Mapping) -> None:
    _set(resource, "name", [one for number in (5, 9) for field in segment.fields(number) if (one := name(field))], segment.deletes(5))
    phones = [one for field in segment.fields(13) if (one := telecom(field, "home"))]
    phones += [one for field in segment.fields(14) if (one := telecom(field, "work"))]
    _set(resource, "telecom", phones, segment.deletes(13))
    _set(resource, "address", [one for field in segment.fields(11) if (one := address(field))], segment.deletes(11))
    birth = segment.value(7)
    if birth and (found := fhir_date(birth)):
        resource["birthDate"] = found
    elif birth:
        mapping.warnings.append("PID-7: the birth date is no date; it is left out")
    sex = segment.value(8).strip()
    if sex:
        gender = codes.code("gender", sex) or codes.code("gender", sex.upper())
        if gender is None:
            mapping.warnings.append(f"PID-8: the sex '{sex}' is not known; it is left out")
        else:
            resource["gender"] = gender
    marital = codes.coding("marital", segment.value(16).strip())
    if marital:
        resource["maritalStatus"] = {"coding": [marital]}
    died, dead = segment.value(29), segment.value(30).upper()
    if died and (when := fhir_time(died, mapping.source.zone)):
        resource["deceasedDateTime"] = when
        resource.pop("deceasedBoolean", None)
    elif dead in ("Y", "N") and "deceasedDateTime" not in resource and (dead == "Y" or "deceasedBoolean" in resource):
        resource["deceasedBoolean"] = dead == "Y"


def _set(resource: Resource, element: str, values: list[Any], deleted: bool) -> None:
    if deleted:
        resource.pop(element, None)
    elif values:
        resource[element] = values


def _contact(segment: Segment, source: Source) -> Element | None:
    relation = concept(segment.field(3), source, "nk1")
    mapped = codes.coding("contact_relation", segment.value(3).strip())
    if relation is not None and mapped:
        relation["coding"] = [mapped, *relation.get("coding", [])]
    phones = [one for number in (5, 6) for field in segment.fields(number) if (one := telecom(field))]
    who = name(segment.field(2))
    where = address(segment.field(4))
    if not (who or phones or where):
        return None
    return present(relationship=[relation] if relation else None, name=who, telecom=phones, address=where)


def practitioner(field: Field, mapping: Mapping) -> Element | None:
    """XCN → a Practitioner that is made once, found again by number and authority; gives a reference with the name."""
    number = field.part(1)
    who = name(_shifted(field, mapping))
    if not number and who is None:
        return None
    system = authority_system(*field.subparts(9), mapping.source)
    id = stable_id("Practitioner", system, number or (who or {}).get("text", ""))
    resource = present(
        resourceType="Practitioner",
        id=id,
        identifier=[{"system": system, "value": number}] if number else None,
        active=True,
        name=[who] if who else None,
    )
    reference = mapping.once(resource)
    if who:
        reference["display"] = who["text"]
    return reference


def _shifted(field: Field, mapping: Mapping) -> Field:
    """The name inside an XCN (from its second component) as an XPN."""
    sign = mapping.message.marks.component
    return Field(sign.join(field.raw.split(sign)[1:6]), mapping.message.marks)
