"""A discharge becomes a plan, once. followup.md sections 3, 6.3, 6.4 (F08, F09)."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from fhir_server.storage.port import Unit, Write
from subscriptions.jobs.clock import DAY
from tests.followup.world import C, encounter, patient, world

MADE = {"CarePlan": 1, "Task": 2, "CommunicationRequest": 1, "Communication": 1, "Flag": 0}
NOTHING = dict.fromkeys(MADE, 0)


async def test_discharge_makes_plan_dated_tasks_and_a_message(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter("in-progress"))
        await w.jobs.settle()
        assert await w.counts() == NOTHING
        await w.put(encounter())
        await w.jobs.settle()
        plan, (first, second), request = await w.one("CarePlan"), await w.all("Task"), await w.one("CommunicationRequest")
        assert (plan["status"], plan["intent"], plan["author"]["reference"]) == ("active", "plan", "Practitioner/d1")
        assert plan["instantiatesCanonical"] == [f"{C.base}/PlanDefinition/discharge-general|1.0.0"]
        assert plan["subject"]["reference"] == "Patient/p2" and plan["encounter"] == {"reference": "Encounter/e1"}
        assert plan["period"] == {"start": "2026-03-02", "end": "2026-04-04"}
        windows = [task["restriction"]["period"] for task in (first, second)]
        assert windows == [
            {"start": "2026-03-04T00:00:00+08:00", "end": "2026-03-05T23:59:59+08:00"},
            {"start": "2026-03-09T00:00:00+08:00", "end": "2026-03-12T23:59:59+08:00"},
        ]
        for task in (first, second):
            assert (task["status"], task["intent"], task["for"]["reference"]) == ("requested", "order", "Patient/p2")
            assert task["basedOn"] == [{"reference": f"CarePlan/{plan['id']}"}]
            assert task["code"]["coding"][0] == {
                "system": f"{C.base}/CodeSystem/task",
                "code": "followup-call",
                "display": task["description"],
            }
            assert task["owner"]["reference"] == "Practitioner/d1"
        listed = {entry["reference"]["reference"] for entry in plan["activity"]}
        assert listed == {f"Task/{first['id']}", f"Task/{second['id']}", f"CommunicationRequest/{request['id']}"}
        assert request["payload"][0]["contentString"].startswith("李先生，您好！您已于3月2日出院。")
        assert request["authoredOn"] == "2026-03-02T08:00:00+08:00"


async def test_the_message_reaches_the_inbox_and_is_recorded(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        request, communication = await w.one("CommunicationRequest"), await w.one("Communication")
        assert request["status"] == "completed"
        assert communication["status"] == "completed"
        assert communication["basedOn"] == [{"reference": f"CommunicationRequest/{request['id']}"}]
        assert communication["medium"][0]["coding"][0]["code"] == "inbox"
        assert communication["sent"] == communication["received"] == "2026-03-02T08:00:00+08:00"
        assert communication["payload"] == request["payload"]
        (entry,) = await w.services.store.records("inbox", {"patient": "Patient/p2"})
        assert entry.data["text"] == request["payload"][0]["contentString"]
        assert entry.data["communication"] == f"Communication/{communication['id']}"


async def test_what_lies_beyond_the_horizon_comes_by_timer(tmp_path: Path) -> None:
    """Section 6.3: due date <= today + 14 d. The 30-day call (due 1 April) appears on 18 March, ten past midnight."""
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        w.clock.set(w.clock() + 15 * DAY)
        await w.jobs.settle()
        assert len(await w.all("Task")) == 2
        w.clock.advance(DAY)
        await w.jobs.settle()
        task = (await w.all("Task"))[2]
        assert task["restriction"]["period"] == {"start": "2026-04-01T00:00:00+08:00", "end": "2026-04-04T23:59:59+08:00"}
        plan = await w.one("CarePlan")
        assert plan["activity"][-1] == {"reference": {"reference": f"Task/{task['id']}"}}
        w.clock.advance(60 * DAY)
        await w.jobs.settle()
        assert len(await w.all("Task")) == 3


@pytest.mark.parametrize(("status", "tasks"), [("revoked", 2), ("completed", 2), ("on-hold", 2), ("active", 3)])
async def test_only_a_running_plan_goes_on(tmp_path: Path, status: str, tasks: int) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        plan = await w.one("CarePlan")
        await w.put({**plan, "status": status, "meta": {"source": plan["meta"]["source"]}})
        w.clock.advance(40 * DAY)
        await w.jobs.settle()
        assert len(await w.all("Task")) == tasks
        if status == "on-hold":
            await w.put({**plan, "status": "active", "meta": {"source": plan["meta"]["source"]}})
            w.clock.advance(DAY)
            await w.jobs.settle()
            assert len(await w.all("Task")) == 3


async def test_the_same_discharge_told_twice_makes_one_plan(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        for n in range(3):
            await w.put(encounter(text={"status": "generated", "div": f"<div xmlns='http://www.w3.org/1999/xhtml'>{n}</div>"}))
            await w.put(encounter())
            await w.jobs.settle()
        assert await w.counts() == MADE


async def test_replaying_the_feed_twenty_times_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        before = await w.services.store.last_rid()
        for _ in range(20):
            changes = await w.services.store.changes(0)
            effects = await w.engine.react(changes)
            assert effects.jobs
            await w.services.store.transact(Unit.of(jobs=effects.jobs))
            await w.jobs.settle()
        assert await w.counts() == MADE
        assert await w.services.store.last_rid() == before


async def test_two_runners_that_race_make_one_plan(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        other = w.runner()
        await w.put(*(patient(f"p{n}") for n in range(12)))
        await w.put(*(encounter(id=f"e{n}", who=f"p{n}") for n in range(12)))
        effects = await w.engine.react(await w.services.store.changes(0))
        await w.services.store.transact(Unit.of(jobs=effects.jobs * 2))
        await asyncio.gather(w.jobs.settle(), other.settle())
        assert await w.counts() == {name: number * 12 for name, number in MADE.items()}


async def test_what_a_person_deleted_does_not_come_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), encounter())
        await w.jobs.settle()
        plan = await w.one("CarePlan")
        await w.services.store.transact(Unit.of(Write("DELETE", "CarePlan", plan["id"])))
        effects = await w.engine.react(await w.services.store.changes(0))
        await w.services.store.transact(Unit.of(jobs=effects.jobs))
        await w.jobs.settle()
        assert (await w.counts())["CarePlan"] == 0


@pytest.mark.parametrize(
    "stay",
    [
        encounter(kind="AMB"),
        encounter("cancelled"),
        encounter("in-progress"),
        encounter(hospitalization={"dischargeDisposition": {"coding": [{"code": "exp"}]}}),
    ],
    ids=["outpatient", "cancelled", "still there", "died in hospital"],
)
async def test_no_plan_without_a_discharge_home(tmp_path: Path, stay: dict) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(), stay)
        await w.jobs.settle()
        assert await w.counts() == NOTHING


async def test_no_plan_for_the_dead(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(patient(deceasedDateTime="2026-03-02"), encounter())
        await w.jobs.settle()
        assert await w.counts() == NOTHING


async def test_an_archive_of_old_stays_starts_nothing_but_a_live_feed_does(tmp_path: Path) -> None:
    old = {"start": "2019-01-01", "end": "2019-01-09"}
    async with world(tmp_path) as w:
        await w.put(patient(), encounter(period=old))
        await w.jobs.settle()
        assert await w.counts() == NOTHING
        await w.put(encounter(id="e2", period=old, meta={"source": "urn:hl7v2:his#1"}))
        await w.jobs.settle()
        assert (await w.counts())["CarePlan"] == 1


async def test_a_stay_sent_before_its_patient_waits_for_the_patient(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(encounter())
        await w.jobs.settle()
        assert await w.counts() == NOTHING
        await w.put(patient())
        w.clock.advance(2 * 60_000)
        await w.jobs.settle()
        assert await w.counts() == MADE


async def test_a_site_switches_a_pathway_off_by_retiring_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        plan = next(p for p in await w.all("PlanDefinition") if p["id"] == "discharge-general")
        await w.put({**plan, "status": "retired", "meta": {}})
        await w.put(patient(), encounter())
        await w.jobs.settle()
        assert await w.counts() == NOTHING


async def test_the_local_date_of_the_discharge_counts(tmp_path: Path) -> None:
    """17:30 UTC on 1 March is 01:30 on 2 March in China."""
    async with world(tmp_path) as w:
        await w.put(patient(), encounter(period={"end": "2026-03-01T17:30:00Z"}))
        await w.jobs.settle()
        plan = await w.one("CarePlan")
        assert plan["period"]["start"] == "2026-03-02"
        assert dt.datetime.fromisoformat((await w.all("Task"))[0]["restriction"]["period"]["start"]).date() == dt.date(2026, 3, 4)
