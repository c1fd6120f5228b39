"""Before a write: a Patient needs a telephone. HL7 v2: the segment ZPI brings one (ZPI-1) that PID-13 has not."""

from __future__ import annotations

from typing import Any

from fhir_server.plugins import FhirError
from integrations.hl7v2.mapping import Mapping


def require_telephone(patient: dict[str, Any]) -> None:
    """Raise FhirError 422 for a Patient without a telephone."""
    if not any(point.get("system") in ("phone", "sms") and point.get("value") for point in patient.get("telecom", ())):
        raise FhirError.of(
            422,
            "business-rule",
            "Patient.telecom has no telephone (system 'phone' or 'sms' with a value); this site wants to reach every patient",
            "Patient.telecom",
            zh="Patient.telecom 中没有电话（system 为 phone 或 sms 且有 value）；本机构要求能够联系到每位患者",
        )


def zpi(mapping: Mapping) -> None:
    """ZPI-1, a mobile number, as a telephone of the message's patient."""
    patient = mapping.current("Patient", mapping.patient_id)
    for segment in mapping.message.all("ZPI"):
        number = segment.value(1).strip()
        known = [] if patient is None else patient.get("telecom", [])
        if patient is not None and number and not any(point.get("value") == number for point in known):
            patient = {**patient, "telecom": [*known, {"system": "phone", "value": number, "use": "mobile"}]}
            mapping.put(patient)
