"""Administrative actions leave a trail: who, what, when, outcome (https://hl7.org/fhir/R4/auditevent.html); none happens without it."""

from __future__ import annotations

import time

import pytest
from typer.testing import CliRunner

from fhir_server.auth.audit import ACTIONS, COLLECTION, Trail, record_of
from fhir_server.auth.audit import Action as Line
from fhir_server.commands import package, terminology
from fhir_server.errors import FhirError
from fhir_server.model.packages import packed
from fhir_server.storage.port import Unit, Write
from tests.cli.test_package import package as guide
from tests.console.receiver import Receiver, observation, subscription, topical, until
from tests.jobs.world import services

SPECIAL = {
    "resourceType": "SearchParameter", "id": "shoe", "url": "http://example.org/SearchParameter/shoe", "name": "shoe", "status": "active",
    "description": "x", "code": "shoe", "base": ["Patient"], "type": "string", "expression": "Patient.extension('urn:shoe').value",
}  # fmt: skip


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.shut()


@pytest.fixture
def console(server):
    with server.client(headers={"X-Requested-With": "console"}) as http:
        http.base_url = server.root
        yield http


def actions(console) -> list[dict]:
    answer = console.get("/console/jobs/actions")
    assert answer.status_code == 200
    return answer.json()["rows"]


def newest(console, action: str) -> dict:
    return next(row for row in actions(console) if row["action"] == action)


async def lines(store) -> list[Line]:
    return [Line(**one.data) for one in await store.records(COLLECTION, newest_first=True)]


# --- the port


async def test_an_action_is_recorded_before_it_is_begun(tmp_path) -> None:
    async with services(tmp_path) as s:
        async with Trail(s.store, s.clock).taking("nurse", "reindex", "*") as entry:
            (line,) = await lines(s.store)
            assert line == Line(s.clock(), "nurse", "reindex", "*", "begun")
            entry.detail = "job 7"
        (line,) = await lines(s.store)
        assert (line.outcome, line.detail) == ("done", "job 7")


async def test_a_refusal_and_a_fault_are_outcomes_and_their_texts_are_not_told(tmp_path) -> None:
    async with services(tmp_path) as s:
        trail = Trail(s.store, s.clock)
        for fault in (FhirError.of(409, "conflict", "geheim"), ValueError("geheim")):
            with pytest.raises(type(fault)):
                async with trail.taking("nurse", "job-retry", "job 1"):
                    raise fault
        assert [(one.outcome, one.detail) for one in await lines(s.store)] == [("failed", "ValueError"), ("refused", "HTTP 409")]


async def test_the_end_stands_in_the_actions_own_unit_or_nowhere(tmp_path) -> None:
    async with services(tmp_path) as s:
        trail = Trail(s.store, s.clock)
        wrong = Write("POST", "Basic", "b", {"resourceType": "Basic", "id": "b"})
        async with trail.taking("nurse", "package-install", "p#1") as entry:
            await s.store.transact(Unit.of(wrong, records=entry.done()))
        with pytest.raises(FhirError):  # the id is taken: nothing of the unit is written
            async with trail.taking("nurse", "package-install", "p#2") as entry:
                await s.store.transact(Unit.of(wrong, records=entry.done()))
        assert [(one.what, one.outcome) for one in await lines(s.store)] == [("p#2", "refused"), ("p#1", "done")]


async def test_nothing_is_done_that_cannot_be_recorded(tmp_path, monkeypatch) -> None:
    async with services(tmp_path) as s:
        done = []

        async def full(unit: Unit) -> None:
            raise FhirError.of(507, "no-store", "full")

        monkeypatch.setattr(s.store, "transact", full)
        with pytest.raises(FhirError):
            async with Trail(s.store, s.clock).taking("nurse", "reindex", "*"):
                done.append(1)
        assert done == []


def test_only_declared_names_are_taken() -> None:
    with pytest.raises(ValueError):
        record_of(Line(0, "x", "format-disk", "*", "done"))
    with pytest.raises(ValueError):
        record_of(Line(0, "x", ACTIONS[0], "*", "perhaps"))


# --- what leaves a line, over the wire


def test_pause_resume_test_and_replay_of_a_subscription(client, console, receiver) -> None:
    receiver.open()
    client.put("Subscription/audited", json=subscription(receiver, "audited", "Observation?subject=Patient/audited")).raise_for_status()
    until(lambda: client.get("Subscription/audited").json()["status"] == "active")
    before = int(time.time() * 1000)
    for name in ("hold", "release", "test"):
        assert console.post(f"/console/monitor/subscriptions/audited/{name}").status_code == 200
    assert console.post("/console/monitor/subscriptions/audited/replay", json={"first": 1, "last": 1}).status_code == 422
    assert console.post("/console/monitor/subscriptions/nobody/hold").status_code == 404
    found = [(one["action"], one["what"], one["outcome"]) for one in actions(console)[:5]]
    assert found == [
        ("subscription-pause", "Subscription/nobody", "refused"),
        ("subscription-replay", "Subscription/audited", "refused"),
        ("subscription-test", "Subscription/audited", "done"),
        ("subscription-resume", "Subscription/audited", "done"),
        ("subscription-pause", "Subscription/audited", "done"),
    ]
    assert all(one["who"] == "system" and before <= one["time"] <= time.time() * 1000 for one in actions(console)[:5])


def test_a_replay_is_recorded_in_its_own_unit(client, console, receiver) -> None:
    receiver.open()
    client.put("Subscription/replayed", json=topical(receiver, "replayed")).raise_for_status()
    until(lambda: client.get("Subscription/replayed").json()["status"] == "active")
    client.put("Observation/replayed", json=observation("replayed")).raise_for_status()
    until(lambda: console.get("/console/monitor/subscriptions/replayed").json()["events"] == 1)
    asked = {"first": 1, "last": 1}
    assert console.post("/console/monitor/subscriptions/replayed/replay", json=asked).json() == {"events": 1}
    line = newest(console, "subscription-replay")
    assert (line["what"], line["outcome"], line["detail"]) == ("Subscription/replayed", "done", "1-1")


def test_retry_and_set_aside_of_a_job_name_it_without_its_key(client, console, receiver) -> None:
    client.put("Subscription/held-up", json=subscription(receiver, "held-up", "Observation?subject=Patient/held-up")).raise_for_status()
    until(lambda: client.get("Subscription/held-up").json()["status"] == "active")
    client.put("Observation/h1", json=observation("h1", "held-up")).raise_for_status()

    def waiting() -> dict | None:
        rows = console.get("/console/jobs/list", params={"state": "waiting"}).json()["rows"]
        return next((row for row in rows if row["key"] == "held-up"), None)

    job = until(waiting)
    until(lambda: console.post(f"/console/jobs/{job['id']}/set-aside").json()["done"])
    line = newest(console, "job-set-aside")
    assert (line["what"], line["outcome"]) == (f"job {job['id']} (subscription.deliver)", "done")
    console.post(f"/console/jobs/{job['id']}/set-aside")
    assert newest(console, "job-set-aside")["outcome"] == "nothing"
    assert console.post("/console/jobs/retry", json={"kind": "subscription.deliver"}).json()["retried"] == 1
    assert newest(console, "job-retry-all")["detail"] == "1"
    until(lambda: console.post(f"/console/jobs/{job['id']}/retry").json()["done"])
    assert newest(console, "job-retry")["outcome"] in ("done", "nothing")
    assert not any("held-up" in one["what"] + one["detail"] for one in actions(console))


def test_reindex_and_search_parameters(client, console) -> None:
    assert client.post("Patient/$reindex").status_code == 202
    line = newest(console, "reindex")
    assert (line["what"], line["outcome"]) == ("Patient", "done") and line["detail"].startswith("job ")
    assert client.post("$reindex?type=Nobody").status_code == 400
    assert sum(one["action"] == "reindex" for one in actions(console)) == 1, "what was not understood is no action"
    client.put("SearchParameter/shoe", json=SPECIAL).raise_for_status()
    line = newest(console, "search-parameter")
    assert (line["what"], line["outcome"], line["who"]) == ("PUT SearchParameter/shoe", "done", "system")
    client.delete("SearchParameter/shoe").raise_for_status()
    assert newest(console, "search-parameter")["what"] == "DELETE SearchParameter/shoe"
    number = sum(one["action"] == "search-parameter" for one in actions(console))
    assert client.put("SearchParameter/shoe", json={**SPECIAL, "expression": "Patient.(("}).status_code == 422
    assert sum(one["action"] == "search-parameter" for one in actions(console)) == number, "nothing was changed"


def test_the_trail_cannot_be_changed_over_rest(client) -> None:
    assert client.get("AuditEvent").json().get("entry", []) == []


def test_commands_leave_lines_with_who_ran_them(tmp_path, start, monkeypatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "operator-7")
    store, run = tmp_path / "data", CliRunner()
    (tmp_path / "p.tgz").write_bytes(packed(guide()))
    (tmp_path / "codes.csv").write_text("code,display\nA1,one\nA2,two\n", encoding="utf-8")
    assert run.invoke(package.app, ["install", str(tmp_path / "p.tgz"), "--data-dir", str(store)]).exit_code == 0
    loaded = ["load", str(tmp_path / "codes.csv"), "--format", "table", "--url", "urn:codes", "--version", "1", "--name", "Codes"]
    ended = run.invoke(terminology.app, [*loaded, "--data-dir", str(store)])
    assert ended.exit_code == 0, ended.output
    server = start(data_dir=store)
    with server.client() as http:
        rows = http.get(server.root + "/console/jobs/actions").json()["rows"]
    assert [(one["action"], one["what"], one["outcome"], one["who"]) for one in rows] == [
        ("terminology-load", "urn:codes|1", "done", "operator-7 (command line)"),
        ("package-install", "example.guide#1.0.0", "done", "operator-7 (command line)"),
    ]


def test_the_trail_survives_kill_9(start, receiver) -> None:
    server = start()
    with server.client() as http:
        assert http.post("Patient/$reindex").status_code == 202
    server.kill()
    again = start()
    with again.client() as http:
        assert [one["action"] for one in http.get(again.root + "/console/jobs/actions").json()["rows"]] == ["reindex"]
