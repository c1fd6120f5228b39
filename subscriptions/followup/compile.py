"""Pathway files as FHIR: one PlanDefinition, and one ActivityDefinition for each of its actions.

Specification: followup.md section 6.1; https://hl7.org/fhir/R4/plandefinition.html, https://hl7.org/fhir/R4/activitydefinition.html
"""

from __future__ import annotations

from typing import Any

from subscriptions.followup.canonical import Canonical
from subscriptions.followup.pathway import Action, Pathway

Resource = dict[str, Any]

_KINDS = {"task": "Task", "message": "CommunicationRequest", "notify": "CommunicationRequest"}
_PLAN_TYPES = {"pathway": ("clinical-protocol", "Clinical Protocol"), "rule": ("eca-rule", "ECA Rule")}


def plan_url(canonical: Canonical, pathway: Pathway) -> str:
    """The canonical of a pathway's PlanDefinition, without version."""
    return canonical.url("PlanDefinition", pathway.id)


def activity_url(canonical: Canonical, pathway: Pathway, action: Action) -> str:
    """The canonical of an action's ActivityDefinition."""
    return canonical.url("ActivityDefinition", f"{pathway.id}-{action.id}")


def activity_definitions(canonical: Canonical, pathway: Pathway) -> list[Resource]:
    """What each action makes. A Flag is no request of R4 and has none: its action stands in the PlanDefinition alone."""
    found = []
    for action in pathway.actions:
        if action.do not in _KINDS:
            continue
        definition: Resource = {
            "resourceType": "ActivityDefinition",
            "id": f"{pathway.id}-{action.id}",
            "url": activity_url(canonical, pathway, action),
            "version": pathway.version,
            "name": "".join(part.capitalize() for part in f"{pathway.id}-{action.id}".split("-")),
            "title": action.title,
            "status": pathway.status,
            "kind": _KINDS[action.do],
            "intent": "order",
            "priority": action.priority,
        }
        if action.code:
            definition["code"] = canonical.concept("task", action.code)
        if action.text:
            expression = {"language": "text/x-template", "expression": action.text}
            definition["dynamicValue"] = [{"path": "payload.content", "expression": expression}]
        found.append(definition)
    return found


def _action(canonical: Canonical, pathway: Pathway, action: Action) -> Resource:
    node: Resource = {"id": action.id}
    if pathway.kind == "pathway":
        edges = [{"url": "before", "valueDuration": action.before.duration()}, {"url": "after", "valueDuration": action.after.duration()}]
        node["extension"] = [
            canonical.extension("anchor", valueCode=pathway.anchor),
            {"url": canonical.url("StructureDefinition", "window"), "extension": edges},
        ]
    node["title"] = action.title
    node["priority"] = action.priority
    if action.code:
        node["code"] = [canonical.concept("flag" if action.do == "flag" else "task", action.code)]
    if pathway.kind == "rule":
        node["trigger"] = [{"type": kind, "data": [{"type": "Observation"}]} for kind in ("data-added", "data-modified")]
    else:
        node["timingDuration"] = action.at.duration()
    if action.do in _KINDS:
        node["definitionCanonical"] = f"{activity_url(canonical, pathway, action)}|{pathway.version}"
    return node


def plan_definition(canonical: Canonical, pathway: Pathway) -> Resource:
    """The PlanDefinition of a pathway or rule."""
    code, display = _PLAN_TYPES[pathway.kind]
    plan: Resource = {
        "resourceType": "PlanDefinition",
        "id": pathway.id,
        "meta": {"source": canonical.source},
        "url": plan_url(canonical, pathway),
        "version": pathway.version,
        "name": "".join(part.capitalize() for part in pathway.id.split("-")),
        "title": pathway.title,
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/plan-definition-type", "code": code, "display": display}]},
        "status": pathway.status,
    }
    contexts = [("focus", code) for code in pathway.icd10] + [("venue", name) for name in pathway.departments]
    if contexts:
        usage = "http://terminology.hl7.org/CodeSystem/usage-context-type"
        plan["useContext"] = [{"code": {"system": usage, "code": code}, "valueCodeableConcept": {"text": text}} for code, text in contexts]
    citations = [{"type": "citation", "citation": str(item["cite"])} for item in pathway.evidence if item.get("cite")]
    if pathway.limits:
        citations += [{"type": "citation", "label": limit.name, "citation": limit.source} for limit in pathway.limits]
    if citations:
        plan["relatedArtifact"] = citations
    plan["action"] = [_action(canonical, pathway, action) for action in pathway.actions]
    return plan
