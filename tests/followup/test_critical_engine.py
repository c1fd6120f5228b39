"""A critical result makes a Flag, one stat Task and messages, once. followup.md sections 3, 9.2, 13 (F22); hl7v2.md item 36."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_server.storage.port import Unit
from tests.followup.world import C, encounter, patient, potassium, world

NOTHING = {"CarePlan": 0, "Task": 0, "CommunicationRequest": 0, "Communication": 0, "Flag": 0}


async def test_flag_task_and_messages(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter("in-progress"), potassium())
        await w.jobs.settle()
        flag, task, request = await w.one("Flag"), await w.one("Task"), await w.one("CommunicationRequest")
        assert flag["status"] == "active" and flag["subject"]["reference"] == "Patient/p2"
        assert flag["code"]["coding"][0]["system"] == f"{C.base}/CodeSystem/flag" and flag["code"]["coding"][0]["code"] == "critical"
        assert (task["priority"], task["status"], task["intent"]) == ("stat", "requested", "order")
        assert task["code"]["coding"][0]["code"] == "critical-value"
        assert task["focus"]["reference"] == task["reasonReference"]["reference"] == "Observation/k1"
        assert task["for"]["reference"] == "Patient/p2" and task["owner"]["reference"] == "Practitioner/d1"
        assert task["restriction"]["period"] == {"start": "2026-03-02T08:00:00+08:00", "end": "2026-03-03T08:00:00+08:00"}
        assert task["encounter"] == flag["encounter"] == {"reference": "Encounter/e1"}
        assert "血钾 6.9 mmol/L" in task["description"]
        assert request["priority"] == "stat" and request["recipient"][0]["reference"] == "Patient/p2"


async def test_a_person_speaks_first_the_patients_message_names_no_result(tmp_path: Path) -> None:
    """Section 9.1: for L3/L4 the message says only that staff will call; the doctor's copy has the value."""
    async with world(tmp_path) as w:
        await w.put(patient(), encounter("in-progress"), potassium())
        await w.jobs.settle()
        text = (await w.one("CommunicationRequest"))["payload"][0]["contentString"]
        assert "6.9" not in text and "血钾" not in text and "打电话" in text
        notes = {note["recipient"][0]["reference"]: note for note in await w.all("Communication")}
        assert set(notes) == {"Patient/p2", "Practitioner/d1"}
        doctor = notes["Practitioner/d1"]
        assert "李强" in doctor["payload"][0]["contentString"] and "6.9 mmol/L" in doctor["payload"][0]["contentString"]
        assert doctor["about"] == [{"reference": "Observation/k1"}]
        (entry,) = await w.services.store.records("inbox", {"recipient": "Practitioner/d1"})
        assert entry.data["priority"] == "stat"


@pytest.mark.parametrize(
    ("result", "fires"),
    [
        (potassium(6.4, flag=None), True),
        (potassium(4.6, flag=None), False),
        (potassium(4.6, flag="N"), False),
        (potassium(5.6, flag="H"), False),
        (potassium(5.6, flag="HH"), True),
        (potassium(status="preliminary"), False),
        (potassium(status="entered-in-error"), False),
        ({k: v for k, v in potassium().items() if k != "subject"}, False),
    ],
    ids=["by table", "normal", "marked normal", "high", "marked critical", "preliminary", "in error", "nobody's"],
)
async def test_only_final_critical_results_of_a_patient_fire(tmp_path: Path, result: dict, fires: bool) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), result)
        await w.jobs.settle()
        assert len(await w.all("Flag")) == len(await w.all("Task")) == int(fires)


async def test_the_same_result_told_twice_alerts_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), potassium())
        await w.jobs.settle()
        made = await w.counts()
        await w.put(potassium())
        await w.put(potassium(note=[{"text": "已复核"}]))
        await w.put(potassium(status="amended", note=[{"text": "已复核"}]))
        await w.jobs.settle()
        assert await w.counts() == made


async def test_a_corrected_value_that_is_critical_too_alerts_again(tmp_path: Path) -> None:
    """One Task for each Observation version that is critical anew (hl7v2.md item 36)."""
    async with world(tmp_path) as w:
        await w.put(patient(), potassium())
        await w.jobs.settle()
        await w.put(potassium(7.4, status="corrected"))
        await w.jobs.settle()
        assert len(await w.all("Task")) == 2


async def test_replaying_the_feed_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter("in-progress"), potassium())
        await w.jobs.settle()
        made, last = await w.counts(), await w.services.store.last_rid()
        for _ in range(20):
            effects = await w.engine.react(await w.services.store.changes(0))
            await w.services.store.transact(Unit.of(jobs=effects.jobs))
            await w.jobs.settle()
        assert await w.counts() == made
        assert await w.services.store.last_rid() == last


async def test_without_a_visit_the_patients_own_doctor_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(generalPractitioner=[{"reference": "Practitioner/gp"}]), potassium())
        await w.jobs.settle()
        assert (await w.one("Task"))["owner"] == {"reference": "Practitioner/gp"}


async def test_old_results_of_an_archive_alert_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), potassium(effectiveDateTime="2019-01-01"), potassium(id="k2", effectiveDateTime="2019"))
        await w.jobs.settle()
        assert [flag["extension"][0]["valueReference"]["reference"] for flag in await w.all("Flag")] == ["Observation/k2"]


async def test_nothing_that_the_engine_wrote_starts_it_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter(), potassium())
        await w.jobs.settle()
        before = await w.services.store.last_rid()
        settled = await w.jobs.settle()
        assert (settled.changes, settled.outbox) == (0, 0)
        assert await w.services.store.last_rid() == before
