"""Topics: their forms, and which changes are events. Source: https://hl7.org/fhir/R5/subscriptiontopic.html, the example of the guide."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.errors import FhirError
from fhir_server.model.definitions import definitions
from fhir_server.model.json_codec import dumps, loads
from fhir_server.search.indexer import Indexer
from fhir_server.search.parser import Parser
from fhir_server.search.values_of import Scope
from fhir_server.storage.port import Stored
from subscriptions.criteria import compile_criteria
from subscriptions.topics.definition import EventTrigger, FilterBy, Topic, is_topic, topic_of
from subscriptions.topics.matching import Change, CompiledTopic, compile_topic
from tests.subscriptions.world import REGISTRY

ZONE = ZoneInfo("Asia/Shanghai")
INDEX = Indexer(REGISTRY, ZONE).index
PARSER = Parser(REGISTRY, Scope(ZONE))
TYPES = tuple(definitions().resource_types)
Json = dict[str, Any]


def trigger(**more: Any) -> Json:
    return {"resource": "http://hl7.org/fhir/StructureDefinition/Encounter", **more}


def topic(*triggers: Json, **more: Any) -> Json:
    return {
        "resourceType": "SubscriptionTopic",
        "url": "http://example.org/t",
        "status": "active",
        "resourceTrigger": list(triggers),
        **more,
    }


def compiled(*triggers: Json) -> CompiledTopic:
    return compile_topic(topic_of(topic(*triggers)), lambda text: compile_criteria(text, PARSER, TYPES), TYPES)


def version(content: Json | None, number: int, type: str = "Encounter") -> Stored:
    body = dumps({"resourceType": type, "id": "e", **content}) if content is not None else b""
    return Stored(number, type, "e", number, 0, "DELETE" if content is None else "PUT", body)


def encounter(status: str) -> Json:
    return {"status": status, "class": {"code": "IMP"}}


def change(before: Json | None, after: Json | None) -> Change:
    return Change(version(after, 2), version(before, 1) if before is not None else None, loads, INDEX)


DONE, OPEN = encounter("finished"), encounter("in-progress")


# --- forms


def test_the_example_of_the_guide_is_read(corpus: Path) -> None:
    with tarfile.open(corpus / "igs" / "hl7.fhir.uv.subscriptions-backport.r4-1.2.0-ballot.tgz") as tar:
        opened = tar.extractfile("package/example/Basic-r4-encounter-complete.json")
        assert opened is not None
        basic = json.load(opened)
    assert is_topic(basic)
    found = topic_of(basic)
    assert found.url == "http://hl7.org/fhir/uv/subscriptions-backport/SubscriptionTopic/r4-encounter-complete"
    assert (found.version, found.status, found.types) == ("1.2.0", "draft", ("Encounter",))
    (one,) = found.triggers
    assert one.interactions == {"create", "update"} and one.both
    assert (one.previous, one.current) == ("status:not=finished", "status=finished")
    assert (one.for_create, one.for_delete) == ("test-passes", "test-fails")
    assert [row.parameter for row in found.filters] == ["subject", "_in"]
    shape = found.shape_of("Encounter")
    assert "Encounter:location" in shape.include and shape.reverse == ("Encounter:subject",)
    assert shape.related[0][1].endswith("$prescribed-medications")


def test_the_forms_of_r4_and_r5_mean_the_same() -> None:
    """The extensions of both prefixes: 4.3 and 5.0."""

    a03 = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0003", "code": "A03"}]}

    def extended(prefix: str) -> Json:
        base = f"http://hl7.org/fhir/{prefix}/StructureDefinition/extension-SubscriptionTopic."
        query = [{"url": "current", "valueString": "status=finished"}, {"url": "requireBoth", "valueBoolean": False}]
        filter = [
            {"url": "resource", "valueUri": "Encounter"},
            {"url": "filterParameter", "valueString": "patient"},
            {"url": "modifier", "valueCode": "in"},
        ]
        return {
            "resourceType": "Basic", "code": {"coding": [{"system": "http://hl7.org/fhir/fhir-types", "code": "SubscriptionTopic"}]},
            "modifierExtension": [{"url": base + "status", "valueCode": "active"}],
            "extension": [
                {"url": base + "url", "valueUri": "http://example.org/t"},
                {"url": base + "resourceTrigger", "extension": [
                    {"url": "resource", "valueUri": "Encounter"}, {"url": "supportedInteraction", "valueCode": "update"},
                    {"url": "queryCriteria", "extension": query},
                ]},
                {"url": base + "eventTrigger", "extension": [
                    {"url": "resource", "valueUri": "Encounter"},
                    {"url": "event", "valueCodeableConcept": a03},
                ]},
                {"url": base + "canFilterBy", "extension": filter},
            ],
        }  # fmt: skip

    native = topic(
        {
            "resource": "Encounter",
            "supportedInteraction": ["update"],
            "queryCriteria": {"current": "status=finished", "requireBoth": False},
        },
        eventTrigger=[{"resource": "Encounter", "event": a03}],
        canFilterBy=[{"resource": "Encounter", "filterParameter": "patient", "modifier": ["in"]}],
    )
    wanted = topic_of(native)
    assert wanted.events == (EventTrigger("Encounter", frozenset({("http://terminology.hl7.org/CodeSystem/v2-0003", "A03")})),)
    assert wanted.filters == (FilterBy("Encounter", "patient", frozenset(), frozenset({"in"})),)
    assert topic_of(extended("5.0")) == topic_of(extended("4.3")) == wanted


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"url": None}, "url"), ({"resourceTrigger": []}, "resourceTrigger"), ({"resourceTrigger": [{}]}, "resourceTrigger[0].resource"),
        ({"resourceTrigger": [trigger(supportedInteraction=["read"])]}, "resourceTrigger[0].supportedInteraction"),
        ({"resourceTrigger": [trigger(queryCriteria={"resultForCreate": "yes"})]}, "resourceTrigger[0].queryCriteria.resultForCreate"),
        ({"canFilterBy": [{"resource": "Encounter"}]}, "canFilterBy[0].filterParameter"),
        ({"eventTrigger": [{"resource": "Encounter"}]}, "eventTrigger[0].event"),
    ],
)  # fmt: skip
def test_what_is_no_topic_is_told_with_its_place(wrong: Json, place: str) -> None:
    with pytest.raises(FhirError) as told:
        topic_of(topic(trigger()) | wrong)
    assert told.value.issues[0].expression == (f"SubscriptionTopic.{place}",)
    assert place in (told.value.issues[0].zh or ""), "told in Chinese, too"


def test_other_basics_are_no_topics() -> None:
    assert not is_topic({"resourceType": "Basic", "code": {"coding": [{"code": "SubscriptionTopic"}]}})
    assert not is_topic({"resourceType": "Basic"}) and not is_topic({"resourceType": "Patient"})
    assert isinstance(topic_of(topic(trigger())), Topic)


# --- which changes are events


@pytest.mark.parametrize(
    ("interactions", "events"), [(None, "create update delete"), (["create"], "create"), (["update", "delete"], "update delete")]
)
def test_a_trigger_is_for_its_interactions(interactions: list[str] | None, events: str) -> None:
    made = compiled(trigger(**({"supportedInteraction": interactions} if interactions else {})))
    changes = {"create": change(None, OPEN), "update": change(OPEN, OPEN), "delete": change(OPEN, None)}
    assert [name for name, one in changes.items() if made.fires(one)] == events.split()
    assert [one.interaction for one in changes.values()] == list(changes)


def test_a_trigger_is_for_its_type() -> None:
    other = Change(version({"status": "final"}, 1, "Observation"), None, loads, INDEX)
    assert not compiled(trigger()).fires(other)


@pytest.mark.parametrize(
    ("criteria", "events"),
    [
        # c, C: created finished, open; u: open to finished; U: finished before and after; b: back to open; d, D: deleted finished, open
        ({"current": "status=finished"}, "cuU"),
        ({"previous": "status:not=finished"}, "uD"),
        ({"previous": "status:not=finished", "current": "status=finished"}, "cuUD"),
        ({"previous": "status:not=finished", "current": "status=finished", "requireBoth": True}, "u"),
        ({"previous": "status:not=finished", "current": "status=finished", "requireBoth": True, "resultForCreate": "test-passes"}, "cu"),
        ({"previous": "status:not=finished", "current": "status=finished", "requireBoth": False}, "cuUD"),
        ({"previous": "status=finished", "resultForDelete": "test-passes"}, "Ubd"),
        ({"current": "status=finished", "resultForDelete": "test-passes"}, "cuUdD"),
        ({"previous": "status=finished", "current": "status=finished", "requireBoth": False, "resultForCreate": "test-passes"}, "cCuUbd"),
        ({}, "cCuUbdD"),
    ],
)
def test_query_criteria_look_at_the_version_before_and_the_new_one(criteria: Json, events: str) -> None:
    made = compiled(trigger(queryCriteria=criteria))
    changes = {
        "c": (None, DONE), "C": (None, OPEN), "u": (OPEN, DONE), "U": (DONE, DONE), "b": (DONE, OPEN), "d": (DONE, None), "D": (OPEN, None),
    }  # fmt: skip
    assert "".join(name for name, (before, after) in changes.items() if made.fires(change(before, after))) == events


def test_fhirpath_criteria_see_both_versions() -> None:
    text = "(%previous.id.empty() or (%previous.status != 'finished')) and (%current.status = 'finished')"
    made = compiled(trigger(fhirPathCriteria=text))
    assert made.fires(change(None, DONE)) and made.fires(change(OPEN, DONE))
    assert not made.fires(change(DONE, DONE)) and not made.fires(change(OPEN, OPEN)) and not made.fires(change(DONE, None))
    gone = compiled(trigger(fhirPathCriteria="%current.empty() and %previous.status = 'finished'"))
    assert gone.fires(change(DONE, None)) and not gone.fires(change(OPEN, None))
    broken = compiled(trigger(fhirPathCriteria="%current.status + 1 = 2"))
    assert not broken.fires(change(None, DONE)), "what cannot be evaluated is not met"


def test_query_and_fhirpath_criteria_must_both_hold() -> None:
    made = compiled(trigger(queryCriteria={"current": "status=finished"}, fhirPathCriteria="%current.class.code = 'AMB'"))
    assert not made.fires(change(None, DONE))
    assert made.fires(change(None, DONE | {"class": {"code": "AMB"}}))


def test_one_of_several_triggers_is_enough() -> None:
    made = compiled(trigger(supportedInteraction=["delete"]), trigger(queryCriteria={"current": "status=finished"}))
    assert made.fires(change(OPEN, None)) and made.fires(change(OPEN, DONE)) and not made.fires(change(DONE, OPEN))


def test_what_comes_back_after_a_deletion_is_created() -> None:
    again = Change(version(DONE, 3), version(None, 2), loads, INDEX)
    assert again.interaction == "create" and compiled(trigger(supportedInteraction=["create"])).fires(again)


def test_variables_that_a_criterion_defines_are_known() -> None:
    made = compiled(trigger(fhirPathCriteria="defineVariable('now', %current.status).select(%now = 'finished' and %ucum.exists())"))
    assert made.fires(change(OPEN, DONE))


def test_a_status_is_one_of_fhirs() -> None:
    with pytest.raises(FhirError, match="none of draft, active, retired, unknown"):
        topic_of(topic(trigger(), status="live"))


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (trigger(resource="Nothing"), "resourceTrigger[0]"),
        (trigger(queryCriteria={"current": "nose=1"}), "resourceTrigger[0].queryCriteria.current"),
        (trigger(queryCriteria={"previous": "patient.name=x"}), "resourceTrigger[0].queryCriteria.previous"),
        (trigger(fhirPathCriteria="%current.where("), "resourceTrigger[0].fhirPathCriteria"),
        (trigger(fhirPathCriteria="%curent.status = 'finished'"), "resourceTrigger[0].fhirPathCriteria"),
        (trigger(fhirPathCriteria="%current.subject.resolve().active"), "resourceTrigger[0].fhirPathCriteria"),
        (trigger(fhirPathCriteria="%current.class.where(memberOf('http://x.org/v')).exists()"), "resourceTrigger[0].fhirPathCriteria"),
    ],
)
def test_criteria_that_cannot_be_watched_are_told(wrong: Json, place: str) -> None:
    with pytest.raises(FhirError) as told:
        compiled(wrong)
    assert told.value.issues[0].expression == (f"SubscriptionTopic.{place}",)
