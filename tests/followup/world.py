"""A real store with the care engine on a virtual clock, and resources to feed it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.auth.gate import Gate
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.search.query import Query
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from integrations.channels.inbox import Inbox
from subscriptions.channel import Channel
from subscriptions.followup import loader, pathway
from subscriptions.followup.canonical import Canonical
from subscriptions.followup.engine import CareEngine
from subscriptions.followup.sending import Sender
from subscriptions.jobs.clock import VirtualClock, at
from subscriptions.jobs.kinds import Kinds, Services
from subscriptions.jobs.runner import Jobs

ZONE = ZoneInfo("Asia/Shanghai")
NOW = at("2026-03-02T08:00:00+08:00")
C = Canonical()
Resource = dict[str, Any]


@dataclass
class World:
    """`services`, `clock`, the runner `jobs`; `put` writes as REST does, `settle` lets everything due happen."""

    services: Services
    clock: VirtualClock
    engine: CareEngine
    sender: Sender
    jobs: Jobs

    async def put(self, *resources: Resource) -> None:
        writes = [Write("PUT", r["resourceType"], r["id"], r) for r in resources]
        await self.services.store.transact(Unit.of(*writes))

    async def all(self, type: str) -> list[Resource]:
        """All resources of a type, oldest first."""
        page = await self.services.store.search(Query((type,), limit=1000))
        return [json_codec.loads(stored.body) for stored in sorted(page.items, key=lambda stored: stored.rid)]

    async def one(self, type: str) -> Resource:
        (found,) = await self.all(type)
        return found

    async def counts(self) -> dict[str, int]:
        """What the engine has made."""
        types = ("CarePlan", "Task", "CommunicationRequest", "Communication", "Flag")
        return {type: len(await self.all(type)) for type in types}

    def runner(self) -> Jobs:
        """Another runner over the same store."""
        return Jobs(self.services, Kinds([*self.engine.kinds(), self.sender.kind()]), [self.engine.reader()], manual_timers=True)


@asynccontextmanager
async def world(folder: Path, channels: Sequence[Channel] = (Inbox(),), now: int = NOW):
    """The engine with the shipped pathways installed; the clock stands at 2026-03-02 08:00 in China."""
    registry = Registry(definitions())
    store = SqliteStore(folder, index=Indexer(registry, ZONE).index, type_names=definitions().resource_types)
    await store.open()
    clock = VirtualClock(now)
    services = Services(Gate(store), store, clock)

    def number(type: str, code: str) -> int:
        parameter = registry.get(type, code)
        assert parameter is not None
        return parameter.number

    pathways = pathway.load()
    await loader.install(C, pathways, services)
    engine = CareEngine(C, pathways, services, number, ZONE, Inbox())
    made = World(services, clock, engine, Sender(C, channels, ZONE), None)  # type: ignore[arg-type]
    made.jobs = made.runner()
    try:
        yield made
    finally:
        await store.close()


def patient(id: str = "p2", **more: Any) -> Resource:
    """李强, a man of 35 years."""
    return {
        "resourceType": "Patient",
        "id": id,
        "name": [{"text": "李强", "family": "李", "given": ["强"]}],
        "gender": "male",
        "birthDate": "1990-03-07",
        **more,
    }


def encounter(status: str = "finished", id: str = "e1", kind: str = "IMP", who: str = "p2", **more: Any) -> Resource:
    """A hospital stay that ends on 2 March 2026; attending doctor d1."""
    period = {"start": "2026-02-26T09:00:00+08:00", **({"end": "2026-03-02T07:30:00+08:00"} if status == "finished" else {})}
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "ATND"}]}
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
        "subject": {"reference": f"Patient/{who}"},
        "participant": [{"type": [role], "individual": {"reference": "Practitioner/d1", "display": "王敏"}}],
        "period": period,
        **more,
    }


def potassium(value: Any = 6.9, id: str = "k1", flag: str | None = "HH", who: str = "p2", **more: Any) -> Resource:
    """A potassium result."""
    marks = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3", "display": "Potassium"}], "text": "血钾"},
        "subject": {"reference": f"Patient/{who}"},
        "effectiveDateTime": "2026-03-02T07:00:00+08:00",
        "valueQuantity": {"value": value, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        **({"interpretation": [{"coding": [{"system": marks, "code": flag}]}]} if flag else {}),
        **more,
    }


def local_date(text: str) -> dt.date:
    """The date of a FHIR dateTime as it stands."""
    return dt.date.fromisoformat(text[:10])
