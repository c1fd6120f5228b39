"""Train the compression dictionary for stored bodies: `scripts/train_dictionary.py EXAMPLES_TAR_GZ NUMBER`.

Learns from the specification's own examples (CC0) and from everyday resources made up here, so the result may be shipped.
A new dictionary gets the next number; old ones stay, since stored bodies name theirs. See docs/decisions/0044-body-compression.md.
"""

from __future__ import annotations

import json
import random
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from fhir_server.storage.body import with_meta

SIZE = 64 * 1024
LARGEST_SAMPLE = 16 * 1024
ROOT = Path(__file__).resolve().parent.parent
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
LOINC, SNOMED, UCUM, RXNORM = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://unitsofmeasure.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
)
VITALS = [
    ("8867-4", "Heart rate", "/min", "beats/minute"),
    ("8310-5", "Body temperature", "Cel", "Cel"),
    ("29463-7", "Body Weight", "kg", "kg"),
    ("8302-2", "Body Height", "cm", "cm"),
    ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", "%"),
    ("9279-1", "Respiratory rate", "/min", "breaths/minute"),
    ("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", "kg/m2"),
    ("2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", "mg/dL"),
    ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", "%"),
    ("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", "mmol/L"),
    ("85354-9", "Blood pressure panel with all children optional", "", ""),
]
PROBLEMS = [("38341003", "Hypertension"), ("44054006", "Diabetes mellitus type 2"), ("195967001", "Asthma"), ("84114007", "Heart failure")]
FAMILIES = ["Wang", "Li", "Zhang", "Smith", "Johnson", "王", "李", "陈", "García"]
GIVEN = ["Wei", "Fang", "Anna", "John", "小明", "秀英", "Maria"]


def coded(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def everyday(rnd: random.Random) -> Iterator[dict[str, Any]]:
    """One patient's usual resources, with made-up values."""
    ids = iter(lambda: str(uuid.UUID(int=rnd.getrandbits(128), version=4)), None)
    patient, encounter = f"Patient/{next(ids)}", f"Encounter/{next(ids)}"
    day = f"20{rnd.randrange(10, 27)}-{rnd.randrange(1, 13):02d}-{rnd.randrange(1, 29):02d}"
    when = f"{day}T{rnd.randrange(24):02d}:{rnd.randrange(60):02d}:00+08:00"
    subject, context = {"reference": patient}, {"reference": encounter}
    family, given = rnd.choice(FAMILIES), rnd.choice(GIVEN)
    yield {
        "resourceType": "Patient",
        "identifier": [{"use": "usual", "system": "http://hospital.example.org/mrn", "value": str(rnd.randrange(10**8))}],
        "active": True,
        "name": [{"use": "official", "text": f"{family}{given}", "family": family, "given": [given]}],
        "telecom": [{"system": "phone", "value": f"138{rnd.randrange(10**8):08d}", "use": "mobile"}],
        "gender": rnd.choice(["male", "female"]),
        "birthDate": f"19{rnd.randrange(30, 99)}-{rnd.randrange(1, 13):02d}-{rnd.randrange(1, 29):02d}",
        "address": [
            {"use": "home", "line": [f"{rnd.randrange(999)} Renmin Road"], "city": "Shanghai", "postalCode": "200000", "country": "CN"}
        ],
        "maritalStatus": {"coding": [{"system": f"{TERMINOLOGY}/v3-MaritalStatus", "code": "M", "display": "Married"}]},
        "managingOrganization": {"reference": f"Organization/{next(ids)}"},
    }
    yield {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": rnd.choice(["AMB", "IMP", "EMER"]), "display": "ambulatory"},
        "type": [coded(SNOMED, "185349003", "Encounter for check up")],
        "subject": subject,
        "participant": [{"individual": {"reference": f"Practitioner/{next(ids)}"}}],
        "period": {"start": when, "end": when},
        "serviceProvider": {"reference": f"Organization/{next(ids)}"},
    }
    for _ in range(8):
        code, display, unit, shown = rnd.choice(VITALS)
        observation: dict[str, Any] = {
            "resourceType": "Observation",
            "status": "final",
            "category": [
                {"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "vital-signs", "display": "Vital Signs"}]}
                if rnd.random() < 0.7
                else {"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "laboratory", "display": "Laboratory"}]}
            ],
            "code": coded(LOINC, code, display),
            "subject": subject,
            "encounter": context,
            "effectiveDateTime": when,
            "issued": when,
        }
        if code == "85354-9":
            observation["component"] = [
                {
                    "code": {"coding": [{"system": LOINC, "code": part, "display": name}]},
                    "valueQuantity": {"value": rnd.randrange(60, 180), "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"},
                }
                for part, name in (("8480-6", "Systolic blood pressure"), ("8462-4", "Diastolic blood pressure"))
            ]
        else:
            observation["valueQuantity"] = {"value": round(rnd.uniform(1, 200), 1), "unit": shown, "system": UCUM, "code": unit}
        yield observation
    code, display = rnd.choice(PROBLEMS)
    yield {
        "resourceType": "Condition",
        "clinicalStatus": {"coding": [{"system": f"{TERMINOLOGY}/condition-clinical", "code": "active"}]},
        "verificationStatus": {"coding": [{"system": f"{TERMINOLOGY}/condition-ver-status", "code": "confirmed"}]},
        "category": [{"coding": [{"system": f"{TERMINOLOGY}/condition-category", "code": "encounter-diagnosis"}]}],
        "code": coded(SNOMED, code, display),
        "subject": subject,
        "encounter": context,
        "onsetDateTime": when,
        "recordedDate": when,
    }
    yield {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded(RXNORM, "860975", "Metformin hydrochloride 500 MG"),
        "subject": subject,
        "encounter": context,
        "authoredOn": when,
        "requester": {"reference": f"Practitioner/{next(ids)}"},
        "dosageInstruction": [
            {"sequence": 1, "text": "1 tablet twice a day", "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}}
        ],
    }
    yield {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "code": {"text": "随访"},
        "for": subject,
        "authoredOn": when,
        "restriction": {"period": {"start": when, "end": when}},
    }


def stored_form(resource: dict[str, Any], rnd: random.Random) -> bytes:
    """As the store keeps it."""
    identifier = str(uuid.UUID(int=rnd.getrandbits(128), version=4))
    whole = with_meta(
        resource, resource["resourceType"], identifier, rnd.randrange(1, 4), rnd.randrange(1_500_000_000_000, 1_900_000_000_000)
    )
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def examples(archive: Path) -> Iterator[dict[str, Any]]:
    """The specification's examples, narrative left out so that structure is learnt rather than prose."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda item: item.name):
            file = tar.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                resource = json.load(file)
                resource.pop("text", None)
                yield resource


def main() -> None:
    archive, number = Path(sys.argv[1]), int(sys.argv[2])
    rnd = random.Random(number)
    samples = [stored_form(resource, rnd) for resource in examples(archive)]
    for _ in range(250):
        samples += [stored_form(resource, rnd) for resource in everyday(rnd)]
    samples = [sample for sample in samples if len(sample) <= LARGEST_SAMPLE]
    rnd.shuffle(samples)
    dictionary = zstandard.train_dictionary(SIZE, samples, level=3)
    target = ROOT / "profiles" / "zstd" / f"{number}.zdict"
    target.write_bytes(dictionary.as_bytes())
    print(f"{target}: {len(dictionary)} bytes from {len(samples)} samples")


if __name__ == "__main__":
    main()
