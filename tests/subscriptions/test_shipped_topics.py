"""The topics that the product brings. design: followup.md, Annex B; interfaces.md"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_server.model.json_codec import loads
from fhir_server.storage.port import Stored
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate
from subscriptions.criteria import compile_criteria
from subscriptions.topics.definition import topic_of
from subscriptions.topics.matching import Change, compile_topic
from subscriptions.topics.shipped import shipped
from tests.subscriptions.test_topics import INDEX, PARSER, TYPES

Json = dict[str, Any]
BASE = "http://example.org/followup"
TOPICS = {one["id"].removeprefix("topic-"): one for one in shipped(BASE)}


def fires(name: str, before: Json | None, after: Json | None) -> bool:
    topic = compile_topic(topic_of(TOPICS[name]), lambda text: compile_criteria(text, PARSER, TYPES), TYPES)
    type = (after or before or {})["resourceType"]

    def version(content: Json | None, number: int) -> Stored:
        return Stored(
            number, type, "x", number, 0, "PUT" if content else "DELETE", json.dumps(content | {"id": "x"}).encode() if content else b""
        )

    return topic.fires(Change(version(after, 2), version(before, 1) if before else None, loads, INDEX))


def encounter(status: str, kind: str = "IMP") -> Json:
    return {
        "resourceType": "Encounter",
        "status": status,
        "class": {"code": kind, "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode"},
    }


def condition(code: str, status: str = "active") -> Json:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status}
    return {"resourceType": "Condition", "code": {"coding": [{"code": code}]}, "clinicalStatus": {"coding": [coding]}}


def report(status: str, type: str = "DiagnosticReport") -> Json:
    return {"resourceType": type, "status": status}


def response(status: str) -> Json:
    return {"resourceType": "QuestionnaireResponse", "status": status}


PATIENT = {"resourceType": "Patient"}
DEAD, ALIVE = PATIENT | {"deceasedDateTime": "2026-01-01"}, PATIENT | {"deceasedBoolean": False}
MERGED = PATIENT | {"link": [{"type": "replaced-by", "other": {"reference": "Patient/y"}}]}


@pytest.mark.parametrize(
    ("name", "before", "after", "due"),
    [
        ("encounter-finished", encounter("in-progress"), encounter("finished"), True),
        ("encounter-finished", None, encounter("finished"), True),
        ("encounter-finished", encounter("finished"), encounter("finished"), False),
        ("encounter-finished", encounter("in-progress", "AMB"), encounter("finished", "AMB"), False),
        ("encounter-finished", encounter("finished"), None, False),
        ("encounter-started", encounter("planned"), encounter("in-progress"), True),
        ("encounter-started", encounter("in-progress"), encounter("finished"), False),
        ("condition-recorded", None, condition("I10"), True),
        ("condition-recorded", condition("I10"), condition("I10"), False),
        ("condition-recorded", condition("I10"), condition("I11"), True),
        ("condition-recorded", condition("I10"), condition("I10", "resolved"), True),
        ("report-final", report("preliminary"), report("final"), True),
        ("report-final", report("preliminary", "Observation"), report("final", "Observation"), True),
        ("report-final", report("final"), report("final"), False),
        ("report-corrected", report("final"), report("corrected"), True),
        ("report-corrected", report("corrected"), report("final"), False),
        ("observation-recorded", None, report("final", "Observation"), True),
        ("observation-recorded", report("final", "Observation"), report("final", "Observation"), False),
        ("response-submitted", response("in-progress"), response("completed"), True),
        ("response-submitted", None, response("completed"), True),
        ("response-submitted", response("completed"), response("amended"), True),
        ("response-submitted", response("completed"), response("completed"), False),
        ("consent-changed", {"resourceType": "Consent", "status": "active"}, {"resourceType": "Consent", "status": "inactive"}, True),
        ("consent-changed", {"resourceType": "Consent", "status": "active"}, None, True),
        ("patient-deceased", ALIVE, DEAD, True), ("patient-deceased", None, DEAD, True), ("patient-deceased", DEAD, DEAD, False),
        ("patient-deceased", ALIVE, ALIVE, False), ("patient-deceased", PATIENT, PATIENT | {"deceasedBoolean": True}, True),
        ("patient-merged", PATIENT, MERGED, True), ("patient-merged", MERGED, MERGED, False), ("patient-merged", None, MERGED, True),
    ],
)  # fmt: skip
def test_what_fires(name: str, before: Json | None, after: Json | None, due: bool) -> None:
    assert fires(name, before, after) is due


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_they_are_right_resources_and_can_be_watched(name: str) -> None:
    resource = TOPICS[name]
    issues = [*validate(resource), *ProfileRoom().validate(resource)]
    assert [issue.diagnostics for issue in issues if issue.severity == "error"] == []
    topic = topic_of(resource)
    assert topic.url == f"{BASE}/SubscriptionTopic/{name}" and "title" not in topic.title
    for one in topic.filters:
        compile_criteria(f"{one.type}?{one.parameter}=x", PARSER, TYPES) if one.parameter not in ("date",) else None


def test_a_server_has_them_and_lists_them(client) -> None:
    found = client.get("Basic", params={"code": "http://hl7.org/fhir/fhir-types|SubscriptionTopic", "_count": 50}).json()
    assert set(TOPICS) <= {entry["resource"]["id"].removeprefix("topic-") for entry in found["entry"]}
    statement = client.get("metadata").json()
    (entry,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Subscription"]
    assert {f"{BASE}/SubscriptionTopic/{name}" for name in TOPICS} <= {one.get("valueCanonical") for one in entry["extension"]}
