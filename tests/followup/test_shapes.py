"""Everything that the engine writes is valid R4, and the shipped pathways are too. https://hl7.org/fhir/R4/validation.html"""

from __future__ import annotations

from pathlib import Path

from fhir_server.model import json_codec
from fhir_server.model.references import references_in
from fhir_server.validation import structure
from subscriptions.followup import pathway
from subscriptions.followup.compile import activity_definitions, plan_definition
from subscriptions.jobs.clock import DAY
from tests.followup.test_sending import GONE, MAIL, Pigeon, request
from tests.followup.world import C, encounter, patient, potassium, world

OWN = ("CarePlan", "Task", "CommunicationRequest", "Communication", "Flag", "PlanDefinition", "ActivityDefinition")


async def test_every_version_that_the_engine_writes_is_valid_r4(tmp_path: Path) -> None:
    async with world(tmp_path, [Pigeon([GONE])]) as w:
        await w.put(patient(telecom=MAIL), encounter(), potassium(), request("r9", priority="stat"))
        await w.put(patient("nobody"), encounter(id="e2", who="nobody"))
        for _ in range(3):
            await w.jobs.settle()
            w.clock.advance(20 * DAY)
        seen = set()
        for stored in await w.services.store.changes(0):
            if stored.type in OWN:
                structure.check(json_codec.loads(stored.body))
                seen.add(stored.type)
        assert seen == set(OWN)


async def test_every_reference_that_the_engine_writes_leads_to_a_resource(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        doctor = {"resourceType": "Practitioner", "id": "d1"}
        await w.put(doctor, patient(), encounter("in-progress"), potassium())
        await w.jobs.settle()
        await w.put(encounter())
        await w.jobs.settle()
        checked = 0
        for type in OWN[:5]:
            for resource in await w.all(type):
                for found in references_in(resource):
                    kind, _, id = found["reference"].partition("/")
                    assert await w.services.store.read(kind, id) is not None, (type, found)
                    checked += 1
        assert checked > 30


def test_shipped_pathways_compile_to_valid_definitions_that_point_at_each_other() -> None:
    for one in pathway.load():
        plan, activities = plan_definition(C, one), activity_definitions(C, one)
        for resource in (plan, *activities):
            structure.check(resource)
        known = {f"{activity['url']}|{activity['version']}" for activity in activities}
        asked = {action["definitionCanonical"] for action in plan["action"] if "definitionCanonical" in action}
        assert asked == known
        assert [action["id"] for action in plan["action"]] == [action.id for action in one.actions]
