"""What the engine says it reacts to is what it reacts to."""

from __future__ import annotations

from pathlib import Path

import orjson

from fhir_server.model.definitions import definitions
from fhir_server.storage.port import Stored
from tests.followup.world import NOW, Resource, encounter, patient, potassium, world

REQUEST = {"resourceType": "CommunicationRequest", "id": "c1", "status": "active", "subject": {"reference": "Patient/p2"}}


def _stored(resource: Resource) -> Stored:
    return Stored(1, resource["resourceType"], resource["id"], 1, NOW, "PUT", orjson.dumps(resource))


async def test_each_event_of_the_engine_is_named_by_a_trigger_of_its_type(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        reader = w.engine.reader()
        for resource in (encounter(), potassium(), REQUEST):
            effects = await reader.react([_stored(resource)])
            named = {kind for trigger in reader.triggers if resource["resourceType"] in trigger.types for kind in trigger.kinds}
            assert effects.jobs and {job.kind for job in effects.jobs} <= named


async def test_a_type_without_a_trigger_is_not_looked_at(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        reader = w.engine.reader()
        declared = {type for trigger in reader.triggers for type in trigger.types}
        assert declared == {"Encounter", "Observation", "CommunicationRequest"}
        for type in set(definitions().resource_types) - declared:
            # A body that would fire under a type that is looked at.
            for resource in (encounter(), potassium(), REQUEST, patient()):
                assert not (await reader.react([_stored({**resource, "resourceType": type})])).jobs


async def test_a_trigger_says_in_both_languages_what_happens_and_in_which_pathway(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        triggers = {trigger.name: trigger for trigger in w.engine.reader().triggers}
        assert set(triggers) == {"discharge-general", "critical-value", "message"}
        assert "discharge-general" in triggers["discharge-general"].english and "出院通用随访" in triggers["discharge-general"].chinese
        assert "血钾" in triggers["critical-value"].chinese
