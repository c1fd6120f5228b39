"""SIU: an Appointment for each placer or filler number, with its patient and the people of AIP.

Specification: v2-to-FHIR guide, message SIU_S12; segments SCH and AIP
"""

from __future__ import annotations

from integrations.hl7v2.datatypes import concept, decimal, number, present
from integrations.hl7v2.errors import REQUIRED, Refusal
from integrations.hl7v2.mapping import Handler, Mapping, stable_id
from integrations.hl7v2.maps.persons import patient, practitioner
from integrations.hl7v2.maps.results import number as order_number
from integrations.hl7v2.times import fhir_instant


def appointment(status: str) -> Handler:
    """A message that gives an appointment this status."""

    def handle(mapping: Mapping) -> None:
        if not mapping.known("Patient", mapping.patient_id):
            mapping.put(patient(mapping))
        segment = mapping.message.first("SCH")
        if segment is None:
            raise Refusal("AE", REQUIRED, "SIU needs an SCH segment", "SCH")
        placer = order_number([segment.field(1)], mapping, "PLAC")
        filler = order_number([segment.field(2)], mapping, "FILL")
        main = placer or filler
        if main is None:
            raise Refusal("AE", REQUIRED, "An appointment needs a number (SCH-1 or SCH-2)", "SCH-1")
        id = stable_id("Appointment", *main[:2])
        before = mapping.current("Appointment", id) or {}
        zone = mapping.source.zone
        timing = segment.field(11)
        people = [one for row in mapping.message.all("AIP") for item in row.fields(3) if (one := practitioner(item, mapping))]
        participants = [{"actor": mapping.subject, "status": "accepted"}, *({"actor": one, "status": "accepted"} for one in people)]
        minutes = number(segment.value(9))
        fresh = present(
            resourceType="Appointment",
            id=id,
            identifier=[one[2] for one in (placer, filler) if one],
            status=status,
            appointmentType=concept(segment.field(8), mapping.source, "appointment"),
            reasonCode=[one for item in segment.fields(7) if (one := concept(item, mapping.source, "appointment"))],
            start=fhir_instant(timing.part(4), zone) if timing.part(4) else None,
            end=fhir_instant(timing.part(5), zone) if timing.part(5) else None,
            minutesDuration=int(decimal(minutes[1])) if minutes and float(minutes[1]) >= 1 else None,
            participant=participants,
        )
        if status == "booked" and ("start" in fresh) != ("end" in fresh):
            mapping.warnings.append("SCH-11: start and end are needed together; both are left out")
            fresh.pop("start", None)
            fresh.pop("end", None)
        mapping.put({**before, **fresh})

    return handle
