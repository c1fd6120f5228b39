"""A discharge becomes a plan: CarePlan, dated Tasks and the first message, as plain resources.

Specification: followup.md sections 6.1 to 6.4; https://hl7.org/fhir/R4/careplan.html, https://hl7.org/fhir/R4/task.html
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from fhir_server.storage.port import Job
from subscriptions.followup import facts
from subscriptions.followup.calendar import date_of, midnight, spoken, window
from subscriptions.followup.canonical import Canonical
from subscriptions.followup.compile import activity_url, plan_url
from subscriptions.followup.derivation import derivation_key, derived, enrolment_key, id_of
from subscriptions.followup.pathway import Action, Pathway
from subscriptions.followup.wording import MissingVariable, full_name, greeting, render

Resource = dict[str, Any]

HORIZON = dt.timedelta(days=14)
"""Occurrences due later than this from today are not made yet (followup.md section 6.3)."""
MATERIALISE = "followup.materialise"
"""Job kind of the timer that makes a later occurrence."""
TICK = 10
"""Minutes past local midnight at which plans move on (`plan-tick`, 00:10)."""


@dataclass(frozen=True, slots=True)
class Case:
    """Whom a pathway is applied to, and when. `anchor` is the local date that offsets count from; `now` is local."""

    canonical: Canonical
    patient: Resource
    anchor: dt.date
    now: dt.datetime
    encounter: Resource | None = None

    @property
    def subject(self) -> Resource:
        name = full_name(self.patient)
        return {"reference": f"Patient/{self.patient['id']}", **({"display": name} if name else {})}

    @property
    def visit(self) -> Resource:
        return {"encounter": {"reference": f"Encounter/{self.encounter['id']}"}} if self.encounter else {}


@dataclass(slots=True)
class Enrolment:
    """What an enrolment writes: the plan, the rest, and timers for later occurrences."""

    plan: Resource
    others: list[Resource] = field(default_factory=list)
    timers: list[Job] = field(default_factory=list)


def matching(pathways: list[Pathway], encounter: Resource, diagnoses: set[str]) -> list[Pathway]:
    """The active discharge pathways for a visit; of those that share an exclusive group the one of highest priority."""
    kind = encounter.get("class", {}).get("code", "")
    fitting = [
        pathway
        for pathway in pathways
        if pathway.kind == "pathway"
        and pathway.status == "active"
        and pathway.anchor == "discharge"
        and kind in pathway.classes
        and (not pathway.icd10 or any(code.startswith(pathway.icd10) for code in diagnoses))
    ]
    best: dict[str, Pathway] = {}
    for pathway in sorted(fitting, key=lambda pathway: (pathway.priority, pathway.id)):
        best[pathway.exclusive_group or pathway.id] = pathway
    return sorted(best.values(), key=lambda pathway: pathway.id)


def discharge_date(encounter: Resource, now: dt.datetime) -> dt.date:
    """The local date on which the visit ended; today where it is not recorded."""
    return date_of(encounter.get("period", {}).get("end"), now.tzinfo or dt.UTC) or now.date()


def variables(pathway: Pathway, case: Case) -> dict[str, str]:
    """What texts of a pathway may name."""
    known = {"greeting": greeting(case.patient, case.now.date()), "name": full_name(case.patient), "discharge": spoken(case.anchor)}
    for action in pathway.actions:
        due = action.at.after(case.anchor)
        known[f"{action.id}.start"], known[f"{action.id}.end"] = spoken(action.before.before(due)), spoken(action.after.after(due))
    return known


def task_of(pathway: Pathway, action: Action, case: Case, plan_id: str, key: str) -> Resource:
    """The Task of one occurrence, with its window as `restriction.period`."""
    due = action.at.after(case.anchor)
    task: Resource = {
        "resourceType": "Task",
        "extension": [case.canonical.extension("action-id", valueString=action.id)],
        "instantiatesCanonical": f"{activity_url(case.canonical, pathway, action)}|{pathway.version}",
        "basedOn": [{"reference": f"CarePlan/{plan_id}"}],
        "status": "requested",
        "intent": "order",
        "priority": action.priority,
        "code": case.canonical.concept("task", action.code, action.title),
        "description": action.title,
        "for": case.subject,
        **case.visit,
        "authoredOn": case.now.isoformat(timespec="seconds"),
        "lastModified": case.now.isoformat(timespec="seconds"),
    }
    if answers := facts.owner(case.encounter):
        task["owner"] = answers
    task["restriction"] = {"period": window(due, action.before, action.after, case.now.tzinfo or dt.UTC)}
    return derived(case.canonical, key, task)


def message_of(action: Action, case: Case, text: str, key: str, based_on: str = "") -> Resource:
    """The CommunicationRequest that says `text` to the patient."""
    request: Resource = {
        "resourceType": "CommunicationRequest",
        **({"basedOn": [{"reference": based_on}]} if based_on else {}),
        "status": "active",
        "category": [case.canonical.concept("message-category", action.category)],
        "priority": action.priority,
        "subject": case.subject,
        **case.visit,
        "payload": [{"contentString": text}],
        "authoredOn": case.now.isoformat(timespec="seconds"),
        "recipient": [case.subject],
    }
    return derived(case.canonical, key, request)


def fix_template(action: Action, case: Case, fault: str, key: str) -> Resource:
    """The Task that takes the place of a message whose text cannot be made."""
    task = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": "routine",
        "code": case.canonical.concept("task", "fix-template", "修正消息模板"),
        "description": f"消息“{action.title}”未发送：{fault}",
        "for": case.subject,
        "authoredOn": case.now.isoformat(timespec="seconds"),
        "lastModified": case.now.isoformat(timespec="seconds"),
    }
    return derived(case.canonical, key, task)


def occurrence_key(pathway: Pathway, action: Action, case: Case, plan_key: str) -> str:
    """The derivation key of one occurrence of one plan."""
    return derivation_key(f"{pathway.id}/{action.id}", pathway.version, f"Patient/{case.patient['id']}", f"{plan_key}|{case.anchor}")


def enrolment(pathway: Pathway, case: Case) -> Enrolment:
    """All resources of an enrolment; Tasks due beyond the horizon become timers."""
    subject = f"Patient/{case.patient['id']}"
    key = enrolment_key(plan_url(case.canonical, pathway), subject, pathway.anchor, case.anchor.isoformat())
    result = Enrolment({})
    for action in pathway.actions:
        own = occurrence_key(pathway, action, case, key)
        due = action.at.after(case.anchor)
        if due > case.now.date() + HORIZON:
            result.timers.append(_timer(pathway, action, case, key, due))
        else:
            result.others.append(occurrence(pathway, action, case, id_of(key), own))
    result.plan = _plan(pathway, case, key, result.others)
    return result


def occurrence(pathway: Pathway, action: Action, case: Case, plan_id: str, key: str) -> Resource:
    """What one node makes at its time: a Task, a message, or the Task to mend a message whose text cannot be made."""
    if action.do == "task":
        return task_of(pathway, action, case, plan_id, key)
    try:
        return message_of(action, case, render(action.text, variables(pathway, case)), key, f"CarePlan/{plan_id}")
    except MissingVariable as fault:
        return fix_template(action, case, str(fault), key)


def _timer(pathway: Pathway, action: Action, case: Case, key: str, due: dt.date) -> Job:
    payload = {"plan": id_of(key), "key": key, "pathway": pathway.id, "action": action.id, "anchor": case.anchor.isoformat()}
    if case.encounter:
        payload["encounter"] = case.encounter["id"]
    when = midnight(due - HORIZON, case.now.tzinfo or dt.UTC, TICK)
    return Job(MATERIALISE, f"Patient/{case.patient['id']}", payload, when, f"{key}|{action.id}|{due.isoformat()}")


def _plan(pathway: Pathway, case: Case, key: str, made: list[Resource]) -> Resource:
    last = pathway.span
    zone = case.now.tzinfo or dt.UTC
    end = window(last.at.after(case.anchor), last.before, last.after, zone)["end"]
    plan: Resource = {
        "resourceType": "CarePlan",
        "instantiatesCanonical": [f"{plan_url(case.canonical, pathway)}|{pathway.version}"],
        "status": "active",
        "intent": "plan",
        "title": pathway.title,
        "subject": case.subject,
        **case.visit,
        "period": {"start": case.anchor.isoformat(), "end": end[:10]},
        "created": case.now.isoformat(timespec="seconds"),
    }
    doctor = facts.attending(case.encounter) if case.encounter else None
    if doctor:
        plan["author"] = doctor
    addresses = [d["condition"] for d in (case.encounter or {}).get("diagnosis", ()) if facts.reference(d.get("condition"), "Condition")]
    if addresses:
        plan["addresses"] = addresses
    plan["activity"] = [{"reference": {"reference": f"{item['resourceType']}/{item['id']}"}} for item in made]
    return derived(case.canonical, key, plan)
