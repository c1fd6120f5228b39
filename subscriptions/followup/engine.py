"""The care engine: a reader of the change feed that sees discharges, critical results and messages to send, and the jobs that follow.

The reader only decides that something may have to be done (cheaply, on every version); the job looks closely and writes, in one unit
with its done mark. What the engine writes itself comes back through the feed and starts nothing, except messages, which it sends.
Specification: followup.md sections 3, 6 and 9, Annex B.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from fhir_server.model import json_codec
from fhir_server.search.query import KeyMatch, Query
from fhir_server.storage.port import ClaimedJob, Effects, Facts, Job, Record, Stored, Unit, Write
from subscriptions.channel import Channel, Message
from subscriptions.followup import critical, enrol, facts
from subscriptions.followup.canonical import Canonical
from subscriptions.followup.derivation import create_once
from subscriptions.followup.pathway import Pathway
from subscriptions.followup.sending import SEND, content_of
from subscriptions.jobs.clock import DAY, local
from subscriptions.jobs.feed import FeedReader, Trigger
from subscriptions.jobs.kinds import Kind, Later, Services

Resource = dict[str, Any]
log = logging.getLogger("fhir_server.followup")

DISCHARGE = "followup.discharge"
CRITICAL = "followup.critical"

Number = Callable[[str, str], int]
"""(resource type, code) -> the number of that search parameter."""


class CareEngine:
    """Reader and handlers. `number` gives parameter numbers; `zone` is that of local dates; `inbox` is the channel of doctors' copies."""

    def __init__(
        self,
        canonical: Canonical,
        pathways: Sequence[Pathway],
        services: Services,
        number: Number,
        zone: dt.tzinfo,
        inbox: Channel | None = None,
    ) -> None:
        self._canonical, self._zone, self._number = canonical, zone, number
        self._services, self._inbox = services, inbox
        self._pathways = list(pathways)
        self._rules = [pathway for pathway in pathways if pathway.kind == "rule" and pathway.status == "active"]
        self._filters = {rule.id: critical.prefilter(rule) for rule in self._rules}
        self._classes = frozenset(code for pathway in pathways for code in pathway.classes)
        self._triggers = tuple(_triggers(pathways))
        looks = {"Observation": self._results, "Encounter": self._visits, "CommunicationRequest": self._messages}
        # A type that no trigger names is not looked at: what is shown of the engine is what it does.
        self._looks = {type: looks[type] for trigger in self._triggers for type in trigger.types}

    def reader(self) -> FeedReader:
        """The reader `followup`."""
        return FeedReader("followup", self.react, triggers=self._triggers)

    def kinds(self) -> list[Kind]:
        """The job kinds of the engine."""
        return [
            Kind(DISCHARGE, self.discharged),
            Kind(CRITICAL, self.alerted),
            Kind(enrol.MATERIALISE, self.materialise, timer=True),
        ]

    # --- the reader

    async def react(self, changes: list[Stored]) -> Effects:
        """Jobs for what may need care; keyed by patient, so that one person's events are handled in order."""
        jobs: list[Job] = []
        now = self._services.clock()
        for stored in changes:
            look = self._looks.get(stored.type)
            if look is not None and not stored.deleted:
                jobs += look(stored, now)
        return Effects(jobs=jobs)

    def _passed_over(self, resource: Resource, stored: Stored, happened: str | None, now: int) -> bool:
        """Whether the engine wrote this itself, or it belongs to an archive that is being loaded."""
        own = resource.get("meta", {}).get("source") == self._canonical.source
        return own or facts.is_history(resource, stored.version == 1, happened, local(now, self._zone))

    def _visits(self, stored: Stored, now: int) -> list[Job]:
        if b'"finished"' not in stored.body:
            return []
        encounter = json_codec.loads(stored.body)
        patient = facts.reference(encounter.get("subject"), "Patient")
        wanted = encounter.get("status") == "finished" and encounter.get("class", {}).get("code") in self._classes
        if not wanted or not patient or self._passed_over(encounter, stored, encounter.get("period", {}).get("end"), now):
            return []
        return [_job(DISCHARGE, patient, stored, now)]

    def _results(self, stored: Stored, now: int) -> list[Job]:
        rules = [rule for rule in self._rules if self._filters[rule.id].search(stored.body)]
        if not rules:
            return []
        observation = json_codec.loads(stored.body)
        patient = facts.reference(observation.get("subject"), "Patient")
        if not patient or self._passed_over(observation, stored, _happened(observation), now):
            return []
        return [_job(CRITICAL, patient, stored, now, rule=rule.id) for rule in rules if critical.judge(observation, rule)]

    def _messages(self, stored: Stored, now: int) -> list[Job]:
        if b'"active"' not in stored.body:
            return []
        request = json_codec.loads(stored.body)
        if request.get("status") != "active":
            return []
        key = facts.reference(request.get("subject"), "Patient") or f"CommunicationRequest/{stored.id}"
        return [Job(SEND, key, {"id": stored.id}, now)]

    # --- discharge

    async def discharged(self, job: ClaimedJob, services: Services) -> Unit | None:
        """Enrol a discharged patient, once for each visit's end."""
        version = await self._version(job, services)
        if version is None:
            return None
        _, encounter, previous = version
        if previous is not None and previous.get("status") == "finished":
            return None
        now = local(services.clock(), self._zone)
        if facts.is_history(encounter, previous is None, encounter.get("period", {}).get("end"), now):
            return None
        patient = await self._patient(encounter, services)
        if facts.is_dead(patient, encounter):
            return None
        candidates = await self._active(services)
        fitting = enrol.matching(candidates, encounter, await self._diagnoses(encounter, services))
        case = enrol.Case(self._canonical, patient, enrol.discharge_date(encounter, now), now, encounter)
        return self._units([enrol.enrolment(pathway, case) for pathway in fitting])

    def _units(self, enrolments: list[enrol.Enrolment]) -> Unit | None:
        """All enrolments of one event as one unit."""
        parts = [create_once(self._canonical, self._number("CarePlan", "identifier"), e.plan, e.others, e.timers) for e in enrolments]
        return _together(parts) if parts else None

    async def _active(self, services: Services) -> list[Pathway]:
        """The pathways whose PlanDefinition is active in the store: a site switches one off by retiring it."""
        found = []
        for pathway in self._pathways:
            plan = await self._read(f"PlanDefinition/{pathway.id}", services)
            found.append(replace(pathway, status=str(plan["status"]) if plan else "retired"))
        return found

    async def _diagnoses(self, encounter: Resource, services: Services) -> set[str]:
        """Codes of the visit's diagnoses and reasons."""
        codes = {code for concept in encounter.get("reasonCode", ()) for code in facts.codes(concept)}
        for diagnosis in encounter.get("diagnosis", ()):
            condition = await self._read(facts.reference(diagnosis.get("condition"), "Condition"), services)
            codes |= facts.codes((condition or {}).get("code"))
        return codes

    async def materialise(self, job: ClaimedJob, services: Services) -> Unit | None:
        """The timer of a later occurrence: its Task appears when the horizon reaches it, if the plan still runs."""
        payload = job.payload
        pathway = next((p for p in self._pathways if p.id == payload["pathway"]), None)
        action = pathway.action(payload["action"]) if pathway else None
        plan = await self._read(f"CarePlan/{payload['plan']}", services)
        if pathway is None or action is None or plan is None:
            return None
        if plan.get("status") == "on-hold":
            raise Later("the plan is paused", DAY)
        patient = await self._read(facts.reference(plan.get("subject"), "Patient"), services)
        if plan.get("status") != "active" or patient is None or facts.is_dead(patient):
            return None
        encounter = await self._read(f"Encounter/{payload['encounter']}", services) if payload.get("encounter") else None
        anchor = dt.date.fromisoformat(payload["anchor"])
        case = enrol.Case(self._canonical, patient, anchor, local(services.clock(), self._zone), encounter)
        key = enrol.occurrence_key(pathway, action, case, payload["key"])
        resource = enrol.occurrence(pathway, action, case, payload["plan"], key)
        return self._into_plan(payload["plan"], resource)

    def _into_plan(self, plan_id: str, resource: Resource) -> Unit:
        """Create the occurrence and list it in its plan."""
        inner = create_once(self._canonical, self._number(resource["resourceType"], "identifier"), resource)
        plan_target = ("CarePlan", plan_id)

        def decide(seen: Facts) -> Effects:
            effects = inner.decide(seen)
            current = seen.current.get(plan_target)
            if effects.writes and current is not None and not current.deleted:
                plan = content_of(current)
                reference = {"reference": f"{resource['resourceType']}/{resource['id']}"}
                plan["activity"] = [*plan.get("activity", ()), {"reference": reference}]
                effects.writes.append(Write("PUT", "CarePlan", plan_id, plan))
            return effects

        return Unit(decide, inner.criteria, (*inner.targets, plan_target))

    # --- critical results

    async def alerted(self, job: ClaimedJob, services: Services) -> Unit | None:
        """Flag, Task and messages for a critical result, once for each version in which it became so."""
        version = await self._version(job, services)
        if version is None:
            return None
        stored, observation, previous = version
        rule = next((rule for rule in await self._active(services) if rule.id == job.payload["rule"] and rule.status == "active"), None)
        finding = critical.fires(observation, previous, rule) if rule else None
        if rule is None or finding is None:
            return None
        now = local(services.clock(), self._zone)
        if facts.is_history(observation, previous is None, _happened(observation), now):
            return None
        patient = await self._patient(observation, services)
        if facts.is_dead(patient):
            return None
        encounter = await self._read(facts.reference(observation.get("encounter"), "Encounter"), services)
        visits = [encounter] if encounter else await self._visits_of(patient["id"], services)
        encounter = next((visit for visit in visits if visit is encounter or visit.get("status") == "in-progress"), None)
        case = enrol.Case(self._canonical, patient, now.date(), now, encounter)
        alert = critical.alert(rule, finding, observation, stored.version, case, _responsible([encounter, *visits], patient))
        return await self._alert_unit(alert, services)

    async def _visits_of(self, patient: str, services: Services) -> list[Resource]:
        """The patient's visits, the latest first."""
        where = KeyMatch(self._number("Encounter", "subject"), "Patient", patient)
        page = await services.gate.search(services.principal, Query(("Encounter",), where, limit=20))
        visits = [json_codec.loads(stored.body) for stored in page.items]
        return sorted(visits, key=lambda visit: str(visit.get("period", {}).get("start", "")), reverse=True)

    async def _alert_unit(self, alert: critical.Alert, services: Services) -> Unit:
        others = list(alert.others)
        records: list[Record] = []
        if alert.doctor is not None:
            note = alert.doctor
            others.append(note)
            message = Message(
                key=f"Communication/{note['id']}",
                to="",
                subject="危急值通知",
                text=note["payload"][0]["contentString"],
                at=services.clock(),
                priority="stat",
                recipient=facts.reference(note["recipient"][0]),
                patient=facts.reference(note["subject"], "Patient"),
                communication=f"Communication/{note['id']}",
            )
            if self._inbox is not None:
                records += (await self._inbox.send(message)).records
        return create_once(self._canonical, self._number("Flag", "identifier"), alert.flag, others, records=records)

    # --- reading

    async def _patient(self, event: Resource, services: Services) -> Resource:
        """The event's patient. Raises Later while there is none: feeds may send the visit before the person."""
        patient = await self._read(facts.reference(event.get("subject"), "Patient"), services)
        if patient is None:
            raise Later("the patient is not known yet")
        return patient

    async def _read(self, target: str, services: Services) -> Resource | None:
        type, _, id = target.partition("/")
        found = await services.gate.read(services.principal, type, id) if id else None
        return json_codec.loads(found.body) if found and not found.deleted else None

    async def _version(self, job: ClaimedJob, services: Services) -> tuple[Stored, Resource, Resource | None] | None:
        """The version that the job is about, its content, and the content before it."""
        payload = job.payload
        stored = await services.gate.read_version(services.principal, payload["type"], payload["id"], payload["version"])
        if stored is None or stored.deleted:
            return None
        before = await services.store.previous(stored)
        previous = json_codec.loads(before.body) if before is not None and not before.deleted else None
        return stored, json_codec.loads(stored.body), previous


def _triggers(pathways: Sequence[Pathway]) -> Iterator[Trigger]:
    """What the engine reacts to, with these pathways and rules."""
    for pathway in pathways:
        if pathway.classes:
            classes = ", ".join(sorted(pathway.classes))
            yield Trigger(
                pathway.id, ("Encounter",), (DISCHARGE, enrol.MATERIALISE),
                f"A visit ({classes}) is finished: enrolment into the pathway {pathway.id}, with its tasks and messages",
                f"就诊（{classes}）结束：纳入路径“{pathway.title}”，生成随访任务与消息",
            )  # fmt: skip
        if pathway.kind == "rule" and pathway.status == "active":
            values = "、".join(limit.name for limit in pathway.limits)
            marks = ", ".join(sorted(pathway.flags))
            yield Trigger(
                pathway.id, ("Observation",), (CRITICAL,),
                f"A result is marked {marks} or lies beyond a limit of the rule {pathway.id}: flag, urgent task, messages",
                f"检验结果标记为 {marks}，或超出“{pathway.title}”的限值（{values}）：警示标记、紧急任务与通知",
            )  # fmt: skip
    yield Trigger(
        "message", ("CommunicationRequest",), (SEND,),
        "A request for a message becomes active: it is sent by the channels in their order",
        "消息请求生效：按渠道顺序发送",
    )  # fmt: skip


def _job(kind: str, patient: str, stored: Stored, now: int, **more: Any) -> Job:
    return Job(kind, patient, {"type": stored.type, "id": stored.id, "version": stored.version, **more}, now)


def _responsible(visits: Sequence[Resource | None], patient: Resource) -> Resource | None:
    """Who must act: of the visit, else of the latest one, else the patient's own doctor or organization."""
    of_visits = (facts.owner(visit) for visit in visits)
    own = [*patient.get("generalPractitioner", ()), patient.get("managingOrganization")]
    return next((reference for reference in (*of_visits, *own) if reference), None)


def _happened(observation: Resource) -> str | None:
    return observation.get("effectiveDateTime") or observation.get("effectiveInstant") or observation.get("effectivePeriod", {}).get("end")


def _together(parts: list[Unit]) -> Unit:
    """Several units as one; each part sees its own answers."""
    if len(parts) == 1:
        return parts[0]

    def decide(seen: Facts) -> Effects:
        whole, start = Effects(), 0
        for part in parts:
            own = Facts(seen.matches[start : start + len(part.criteria)], seen.current)
            start += len(part.criteria)
            effects = part.decide(own)
            whole.writes += effects.writes
            whole.jobs += effects.jobs
            whole.records += effects.records
        return whole

    return Unit(decide, [query for part in parts for query in part.criteria], [target for part in parts for target in part.targets])
