"""A small ward whose every search answer can be told by reading it."""

from __future__ import annotations

from typing import Any

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def patient(id: str, **content: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": id, **content}


def observation(id: str, subject: str | None = None, code: str = "8480-6", **content: Any) -> dict[str, Any]:
    made = {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [{"system": LOINC, "code": code}]}, **content}
    if subject:
        made["subject"] = {"reference": f"Patient/{subject}"}
    return made


def quantity(value: float, unit: str = "mg", **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit, **more}


PATIENTS = [
    patient(
        "p1",
        meta={
            "profile": ["http://example.org/StructureDefinition/one"],
            "tag": [{"system": "urn:tags", "code": "vip"}],
            "security": [{"system": "urn:labels", "code": "R"}],
            "source": "urn:feed:lis",
        },
        name=[{"use": "official", "family": "Chalmers", "given": ["Peter", "James"]}],
        gender="male",
        birthDate="1974-12-25",
        active=True,
        identifier=[{"system": "urn:mrn", "value": "001"}, {"system": "urn:ssn", "value": "9"}],
        telecom=[{"system": "phone", "value": "555-1"}, {"system": "email", "value": "p@example.org"}],
        address=[{"line": ["534 Erewhon St"], "city": "PleasantVille", "postalCode": "3999", "country": "AU"}],
        managingOrganization={"reference": "Organization/org1"},
        generalPractitioner=[{"reference": "Practitioner/dr1"}],
    ),
    patient(
        "p2",
        meta={"tag": [{"system": "urn:tags", "code": "new"}]},
        name=[{"family": "Núñez", "given": ["José"]}],
        gender="female",
        birthDate="1974",
        active=False,
        identifier=[{"system": "urn:mrn", "value": "002"}],
        managingOrganization={"identifier": {"system": "urn:org", "value": "X1"}},
    ),
    patient(
        "p3",
        name=[{"family": "chalmers-Smith", "given": ["Ann"]}],
        birthDate="1975-01",
        identifier=[{"value": "001"}],
        managingOrganization={"reference": "http://elsewhere.example/fhir/Organization/org1"},
    ),
    patient(
        "p4",
        name=[{"text": "张伟", "family": "张", "given": ["伟"]}],
        birthDate="1974-12-26",
        gender="unknown",
        identifier=[{"system": "urn:mrn", "value": "a,b|c$d\\e"}],
        managingOrganization={"reference": "Organization/org2"},
    ),
    patient("p5", deceasedDateTime="2024-01-01"),
]
OTHERS = [
    {"resourceType": "Organization", "id": "org1", "name": "Good Health", "identifier": [{"system": "urn:org", "value": "G1"}]},
    {
        "resourceType": "Organization",
        "id": "org2",
        "name": "Best Care",
        "partOf": {"reference": "Organization/org1"},
        "alias": ["BC"],
    },
    {"resourceType": "Practitioner", "id": "dr1", "name": [{"family": "Careful", "given": ["Adam"]}]},
    {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2024-03-01T08:00:00Z", "end": "2024-03-20T12:00:00Z"},
    },
    {
        "resourceType": "Encounter",
        "id": "e2",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": "Patient/p2"},
        "period": {"start": "2024-03-25T08:00:00Z"},
    },
    {
        "resourceType": "Condition",
        "id": "c1",
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"code": "local"}], "text": "only a local code"},
        "onsetDateTime": "2020-05",
    },
    {
        "resourceType": "Condition",
        "id": "c2",
        "subject": {"reference": "Patient/p2"},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}, {"code": "local"}]},
        "onsetAge": {"value": 40, "unit": "years", "system": UCUM, "code": "a"},
    },
    {"resourceType": "ValueSet", "id": "v1", "status": "draft", "url": "http://acme.example/fhir/ValueSet/1", "version": "1"},
    {"resourceType": "ValueSet", "id": "v2", "status": "active", "url": "http://acme.example/fhir/ValueSet/1/deep", "version": "2"},
    *(
        {
            "resourceType": "RiskAssessment",
            "id": f"r{number}",
            "status": "final",
            "subject": {"reference": "Patient/p1"},
            "prediction": [{"probabilityDecimal": probability}],
        }
        for number, probability in ((1, 0.8), (2, 0.84), (3, 0.85), (4, 0.75), (5, 0.9))
    ),
]
OBSERVATIONS = [
    observation("o1", "p1", effectiveDateTime="2024-03-15T10:00:00Z", valueQuantity=quantity(120, "mm[Hg]")),
    observation("o2", "p1", "29463-7", effectivePeriod={"start": "2024-03-01", "end": "2024-03-31"}, valueQuantity=quantity(5.4)),
    observation("o3", "p1", "29463-7", effectiveDateTime="2024-03", valueQuantity=quantity(5.35)),
    observation("o4", "p2", "29463-7", effectivePeriod={"start": "2024-03-10T00:00:00Z"}, valueQuantity=quantity(5.45)),
    observation("o5", "p2", "29463-7", effectiveInstant="2024-03-15T10:00:00.500Z", valueQuantity=quantity(5, comparator="<")),
    observation("o6", "p2", "8867-4", valueString="Needs Follow-up"),
    observation("o7", None, "8867-4", effectiveDateTime="2023", valueQuantity={"value": 5.4, "unit": "mg"}, status="amended"),
    observation(
        "o8",
        "p1",
        "85354-9",
        effectiveDateTime="2024-06-01T00:00:00Z",
        component=[
            {"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}, "valueQuantity": quantity(107, "mm[Hg]")},
            {"code": {"coding": [{"system": LOINC, "code": "8462-4"}]}, "valueQuantity": quantity(60, "mm[Hg]")},
        ],
        hasMember=[{"reference": "Observation/o1"}],
    ),
]
WARD = [*OTHERS, *PATIENTS, *OBSERVATIONS]
