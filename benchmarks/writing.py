"""W1 (CRUD mix of nine types) and W5 (transactions of two entries): what they write never touches what searches count."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import orjson

from benchmarks.drive import Operation, Worker, expect
from benchmarks.population import TERMINOLOGY, Population

_LATE = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


def _concept(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://example.org/bench/code", "code": code}]}


def nine_types(population: Population, p: int) -> list[dict[str, Any]]:
    """One resource of each of the nine types of W1, about patient `p`."""
    subject = {"reference": f"Patient/{population.patient_id(p)}"}
    patient = population.patient(p)
    patient["name"] = [{"family": "Zzwritten", "given": ["Bench"]}]
    patient["identifier"] = [{"system": "http://example.org/bench/written", "value": secrets.token_hex(6)}]
    patient.pop("id")
    return [
        patient,
        population.observation(p, 0, when=_LATE),
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": TERMINOLOGY + "v3-ActCode", "code": "AMB"},
            "subject": subject,
            "period": {"start": "2026-02-01T08:00:00+08:00", "end": "2026-02-01T08:30:00+08:00"},
        },
        {"resourceType": "Condition", "code": _concept("written"), "subject": subject, "recordedDate": "2026-02-01"},
        {
            "resourceType": "Procedure",
            "status": "completed",
            "code": _concept("written"),
            "subject": subject,
            "performedDateTime": "2026-02-01",
        },
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": _concept("drug"),
            "subject": subject,
            "authoredOn": "2026-02-01",
        },
        {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": _concept("written"),
            "subject": subject,
            "effectiveDateTime": "2026-02-01",
        },
        {"resourceType": "Task", "status": "requested", "intent": "order", "for": subject, "authoredOn": "2026-02-01T08:00:00+08:00"},
        {"resourceType": "Communication", "status": "completed", "subject": subject, "sent": "2026-02-01T08:00:00+08:00"},
    ]


def crud(population: Population) -> Operation:
    """Create, read, update, delete, and read what is gone; the nine types in turn."""

    async def operation(worker: Worker) -> None:
        resource = nine_types(population, worker.draw.randrange(population.patients))[worker.count % 9]
        kind = resource["resourceType"]
        created = await worker.connection.request("POST", kind, orjson.dumps(resource))
        expect(created.status == 201 and "location" in created.headers, f"create {kind}: {created.status} {created.body[:200]!r}")
        id = created.headers["location"].split(f"/{kind}/")[1].split("/")[0]
        read = await worker.connection.request("GET", f"{kind}/{id}")
        expect(read.status == 200 and read.json()["id"] == id, f"read {kind}: {read.status}")
        updated = await worker.connection.request("PUT", f"{kind}/{id}", orjson.dumps({**resource, "id": id, "language": "en"}))
        expect(
            updated.status == 200 and updated.headers.get("etag") == 'W/"2"',
            f"update {kind}: {updated.status} {updated.headers.get('etag')}",
        )
        deleted = await worker.connection.request("DELETE", f"{kind}/{id}")
        expect(deleted.status in (200, 204), f"delete {kind}: {deleted.status}")
        gone = await worker.connection.request("GET", f"{kind}/{id}")
        expect(gone.status == 410, f"read after delete {kind}: {gone.status}")

    return operation


def two_entries(population: Population) -> Operation:
    """W5: a new Encounter and an Observation in it, linked by urn:uuid, in one transaction."""

    async def operation(worker: Worker) -> None:
        p = worker.draw.randrange(population.patients)
        uuid = f"urn:uuid:{secrets.token_hex(4)}-0000-4000-8000-{secrets.token_hex(6)}"
        encounter = nine_types(population, p)[2]
        observation = {**population.observation(p, 0, when=_LATE), "encounter": {"reference": uuid}}
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"fullUrl": uuid, "resource": encounter, "request": {"method": "POST", "url": "Encounter"}},
                {"resource": observation, "request": {"method": "POST", "url": "Observation"}},
            ],
        }
        answer = await worker.connection.request("POST", "", orjson.dumps(bundle))
        expect(answer.status == 200, f"transaction: {answer.status} {answer.body[:200]!r}")
        statuses = [entry["response"]["status"][:3] for entry in answer.json()["entry"]]
        expect(statuses == ["201", "201"], f"transaction entries: {statuses}")

    return operation
