"""FHIR resources of the demonstration clinic: people with conditions, medication, visits, vital signs and laboratory results."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

from fhir_server.demo.people import ILLNESSES, Person, person

Resource = dict[str, Any]

_ICD10 = "http://hl7.org/fhir/sid/icd-10"
_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_DRUGS = {
    "hypertension": ("C08CA01", "苯磺酸氨氯地平片 5mg"),
    "diabetes": ("A10BA02", "盐酸二甲双胍片 0.5g"),
    "copd": ("R03BB04", "噻托溴铵粉吸入剂"),
    "stroke": ("B01AC06", "阿司匹林肠溶片 100mg"),
}
_LABORATORY = (
    ("2823-3", "血钾", "mmol/L", 3.5, 5.3, 1),
    ("4548-4", "糖化血红蛋白", "%", 4.0, 6.0, 1),
    ("1558-6", "空腹血糖", "mmol/L", 3.9, 6.1, 1),
    ("2093-3", "总胆固醇", "mmol/L", 2.8, 5.2, 2),
    ("2160-0", "肌酐", "umol/L", 57, 111, 0),
    ("718-7", "血红蛋白", "g/L", 115, 175, 0),
)


def _concept(system: str, code: str, text: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": text}], "text": text}


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": _UCUM, "code": code}


def _coded(system: str, code: str) -> Resource:
    return {"coding": [{"system": _TERMINOLOGY + system, "code": code}]}


class _Record:
    """The resources of one person, numbered by type."""

    def __init__(self, who: Person) -> None:
        self.who = who
        self.resources: list[Resource] = []
        self._numbers: dict[str, int] = {}
        self.subject = {"reference": f"Patient/{who.id}", "display": who.name}
        self.doctor = {"reference": f"Practitioner/demo-dr{who.seed}-{who.number % 6}"}

    def add(self, type: str, **elements: Any) -> Resource:
        """Append a resource; gives a reference to it."""
        self._numbers[type] = self._numbers.get(type, 0) + 1
        id = self.who.id if type == "Patient" else f"{self.who.id}-{type[:4].lower()}{self._numbers[type]}"
        self.resources.append({"resourceType": type, "id": id, **elements})
        return {"reference": f"{type}/{id}"}

    def observe(self, code: str, text: str, when: str, category: str, encounter: Resource, **elements: Any) -> Resource:
        return self.add(
            "Observation",
            status="final",
            category=[_coded("observation-category", category)],
            code=_concept(_LOINC, code, text),
            subject=self.subject,
            encounter=encounter,
            effectiveDateTime=when,
            issued=when,
            performer=[self.doctor],
            **elements,
        )


def _patient(record: _Record) -> None:
    who = record.who
    record.add(
        "Patient",
        identifier=[
            {"use": "official", "type": _coded("v2-0203", "NI"), "system": "urn:oid:2.16.156.10011.1.3", "value": who.resident_id},
            {"use": "usual", "type": _coded("v2-0203", "MR"), "system": "urn:id:HIS", "value": who.record_number},
        ],
        active=True,
        name=[{"use": "official", "text": who.name, "family": who.family, "given": [who.given]}],
        telecom=[{"system": "phone", "use": "mobile", "value": who.mobile}],
        gender="male" if who.male else "female",
        birthDate=who.birth.isoformat(),
        address=[{"use": "home", "text": who.address, "country": "CN"}],
        generalPractitioner=[record.doctor],
        managingOrganization={"reference": f"Organization/demo-org{who.seed}"},
    )


def _illnesses(record: _Record, draw: random.Random, end: dt.date) -> None:
    for name in record.who.illnesses:
        record.add(
            "Condition",
            clinicalStatus=_coded("condition-clinical", "active"),
            verificationStatus=_coded("condition-ver-status", "confirmed"),
            code=_concept(_ICD10, *ILLNESSES[name]),
            subject=record.subject,
            onsetDateTime=(end - dt.timedelta(days=draw.randrange(365, 4000))).isoformat(),
        )
        code, text = _DRUGS[name]
        record.add(
            "MedicationRequest",
            status="active",
            intent="order",
            medicationCodeableConcept=_concept("http://www.whocc.no/atc", code, text),
            subject=record.subject,
            requester=record.doctor,
            authoredOn=(end - dt.timedelta(days=draw.randrange(10, 300))).isoformat(),
            dosageInstruction=[{"text": "每日一次，口服", "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}}],
        )


def _visit(record: _Record, draw: random.Random, day: dt.date) -> None:
    hour, minute = draw.randrange(8, 17), draw.randrange(50)
    start, stop = (f"{day.isoformat()}T{hour:02d}:{m:02d}:00+08:00" for m in (minute, minute + 9))
    encounter = record.add(
        "Encounter",
        status="finished",
        **{"class": {"system": _TERMINOLOGY + "v3-ActCode", "code": "AMB", "display": "门诊"}},
        subject=record.subject,
        participant=[{"individual": record.doctor}],
        period={"start": start, "end": stop},
        reasonCode=[{"text": "慢病随访" if record.who.illnesses else "健康体检"}],
    )
    strain = 18 * ("hypertension" in record.who.illnesses)
    systolic, diastolic = round(draw.gauss(118 + strain, 9)), round(draw.gauss(75 + strain / 2, 6))
    record.observe(
        "85354-9",
        "血压",
        start,
        "vital-signs",
        encounter,
        component=[
            {"code": _concept(_LOINC, "8480-6", "收缩压"), "valueQuantity": _quantity(systolic, "mmHg", "mm[Hg]")},
            {"code": _concept(_LOINC, "8462-4", "舒张压"), "valueQuantity": _quantity(diastolic, "mmHg", "mm[Hg]")},
        ],
    )
    record.observe(
        "8867-4", "心率", start, "vital-signs", encounter, valueQuantity=_quantity(max(45, round(draw.gauss(76, 9))), "次/分", "/min")
    )
    if draw.random() < 0.4:
        _panel(record, draw, start, encounter)


def _panel(record: _Record, draw: random.Random, when: str, encounter: Resource) -> None:
    results = []
    for code, text, unit, low, high, digits in _LABORATORY:
        middle, width = (low + high) / 2, high - low
        value: float = round(min(max(draw.gauss(middle, width / 4), low - width / 4), high + width / 4), digits)
        value = int(value) if digits == 0 else value
        flag = "H" if value > high else "L" if value < low else "N"
        results.append(
            record.observe(
                code,
                text,
                when,
                "laboratory",
                encounter,
                valueQuantity=_quantity(value, unit, unit),
                referenceRange=[{"low": _quantity(low, unit, unit), "high": _quantity(high, unit, unit)}],
                interpretation=[_coded("v3-ObservationInterpretation", flag)],
            )
        )
    record.add(
        "DiagnosticReport",
        status="final",
        category=[_coded("v2-0074", "LAB")],
        code={"text": "生化与血常规组合"},
        subject=record.subject,
        encounter=encounter,
        effectiveDateTime=when,
        issued=when,
        result=results,
    )


def resources_of(who: Person, end: dt.date, years: int = 1) -> list[Resource]:
    """All resources of one person up to the day `end`, the Patient first."""
    draw = random.Random(f"record/{who.seed}/{who.number}")
    record = _Record(who)
    _patient(record)
    _illnesses(record, draw, end)
    day = end - dt.timedelta(days=365 * years) + dt.timedelta(days=draw.randrange(60))
    while day < end:
        _visit(record, draw, day)
        day += dt.timedelta(days=draw.choice((30, 60, 90)) if who.illnesses else 180)
    return record.resources


def staff(seed: int) -> Iterator[Resource]:
    """The clinic's organization and doctors."""
    yield {"resourceType": "Organization", "id": f"demo-org{seed}", "active": True, "name": "示例市第一医院"}
    for number in range(6):
        draw = random.Random(f"{seed}/doctor/{number}")
        family = draw.choice("王李张刘陈杨赵黄周吴")
        given = draw.choice("敏超静磊洋勇艳杰")
        yield {
            "resourceType": "Practitioner",
            "id": f"demo-dr{seed}-{number}",
            "active": True,
            "name": [{"text": family + given, "family": family, "given": [given]}],
        }


def population(patients: int, *, seed: int = 1, end: dt.date = dt.date(2026, 1, 1), years: int = 1) -> Iterator[list[Resource]]:
    """Groups of resources in an order in which references point backwards: the staff first, then one person each."""
    yield list(staff(seed))
    for number in range(patients):
        yield resources_of(person(number, seed), end, years)
