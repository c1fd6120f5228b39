"""`fhir-server backup` and `restore` on a server that goes on working."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from typer.testing import CliRunner

from fhir_server.commands.backup import app as backup
from fhir_server.commands.restore import app as restore
from tests.subscriptions.test_wire import hook, hook_subscription, observation, put, wait_for
from tests.wire.resources import patient

__all__ = ["hook"]


def run(app, *arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def test_a_running_server_is_copied_and_the_copy_is_served(tmp_path, start) -> None:
    server = start(data_dir=tmp_path / "data")
    with server.client() as client:
        before = client.post("Patient", json=patient()).json()
        ended = run(backup, tmp_path / "copy", "--data-dir", tmp_path / "data")
        assert ended.exit_code == 0, ended.output
        after = client.post("Patient", json=patient()).json()
        assert client.get(f"Patient/{after['id']}").status_code == 200
    ended = run(restore, tmp_path / "copy", "--data-dir", tmp_path / "new")
    assert ended.exit_code == 0, ended.output
    with start(data_dir=tmp_path / "new").client() as client:
        assert client.get(f"Patient/{before['id']}").json() == before
        assert client.get("Patient").json()["total"] == 1
        assert client.get(f"Patient/{after['id']}").status_code == 404


def test_what_cannot_be_done_is_said_in_both_languages(tmp_path) -> None:
    ended = run(backup, tmp_path / "copy", "--data-dir", tmp_path / "none")
    assert ended.exit_code == 2 and "holds no store" in ended.output and "没有数据库" in ended.output
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    ended = run(restore, tmp_path / "copy", "--data-dir", tmp_path / "full")
    assert ended.exit_code == 2 and "not empty" in ended.output and "不为空" in ended.output
    ended = run(restore, tmp_path / "copy", "--data-dir", tmp_path / "new")
    assert ended.exit_code == 2 and "no whole backup" in ended.output and "不是完整的备份" in ended.output
    assert not (tmp_path / "new").exists()


def now() -> str:
    """A moment between two writes."""
    time.sleep(0.01)
    moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    time.sleep(0.01)
    return moment


QUERIES = (
    "Observation?subject=Patient/w1&_sort=_id",
    "Observation?code=2823-3&_sort=_id",
    "Observation?value-quantity=gt4.15&_sort=_id",
    "Observation?subject:Patient.family=Zhang&_sort=_id",
    "Patient?_has:Observation:subject:code=2823-3&_sort=_id",
    "Patient?name=Li&_sort=_id",
    "Patient/w1/Observation?_sort=_id",
)


def test_a_store_as_of_a_moment_answers_as_it_did_then_and_tells_nothing_twice(tmp_path, start, hook) -> None:
    def answers(client):
        return {query: [entry["resource"] for entry in client.get(query).json().get("entry", ())] for query in QUERIES}

    server = start(data_dir=tmp_path / "data")
    with server.client() as client:
        asked = hook_subscription(hook, "Observation?subject=Patient/w1", payload="application/fhir+json")
        place = f"Subscription/{client.post('Subscription', json=asked).json()['id']}"
        wait_for(lambda: client.get(place).json()["status"] == "active")
        put(client, resourceType="Patient", id="w1", name=[{"family": "Zhang"}])
        for number in range(4):
            put(client, **observation(f"o{number}", "w1", 4.0 + number / 10))
        wait_for(lambda: len(hook.hits) == 4)
        then, history = answers(client), client.get("_history?_count=100").json()["entry"]
        moment = now()
        put(client, resourceType="Patient", id="w1", name=[{"family": "Li"}])
        put(client, **observation("o0", "w1", 4.9))
        put(client, **observation("o9", "w1", 4.9))
        assert client.delete("Observation/o3").status_code in (200, 204)
        wait_for(lambda: len(hook.hits) >= 6)
        assert answers(client) != then
        ended = run(backup, tmp_path / "copy", "--data-dir", tmp_path / "data")
        assert ended.exit_code == 0, ended.output
    server.stop()
    told = len(hook.hits)
    ended = run(restore, tmp_path / "copy", "--data-dir", tmp_path / "new", "--until", moment)
    assert ended.exit_code == 0, ended.output
    assert (
        "4 later versions taken away" in ended.output
        and "nothing that was sent is sent again" in ended.output
        and "不会重发" in ended.output
    )
    server = start(data_dir=tmp_path / "new")
    with server.client() as client:
        assert answers(client) == then
        assert client.get("_history?_count=100").json()["entry"] == [
            {**entry, "fullUrl": entry["fullUrl"].replace(*bases(history, client))} if "fullUrl" in entry else entry for entry in history
        ]
        put(client, **observation("o8", "w1", 4.0))
        wait_for(lambda: len(hook.hits) > told)
        time.sleep(0.5)
        assert [path for _, path, _, _ in hook.hits[told:]] == ["/hook/Observation/o8"]
        put(client, **client.get(place).json() | {"status": "off"})


def bases(history, client) -> tuple[str, str]:
    """The address of the server that wrote the history, and that of this one."""
    return history[0]["fullUrl"].split("/fhir/")[0], str(client.base_url).split("/fhir")[0]


@pytest.mark.parametrize(
    ("until", "said", "zh"),
    [
        ("yesterday", "neither a sequence number nor a date and time", "既不是序号也不是日期时间"),
        ("2999-01-01T00:00:00Z", "the backup was taken at", "备份时间为"),
        ("99999", "the backup ends with sequence number", "备份的最后序号为"),
        ("2001-01-01T00:00:00Z", "the store was empty", "尚无内容"),
        ("0", "the store was empty", "尚无内容"),
    ],
)
def test_a_moment_that_is_not_there_is_refused(tmp_path, copied, until, said, zh) -> None:
    ended = run(restore, copied, "--data-dir", tmp_path / "new", "--until", until)
    assert ended.exit_code == 2 and said in ended.output and zh in ended.output, ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def copied(server, tmp_path_factory):
    """A backup of the module's server."""
    with server.client() as client:
        client.post("Patient", json=patient())
    place = tmp_path_factory.mktemp("backup") / "copy"
    assert run(backup, place, "--data-dir", server.data_dir).exit_code == 0
    return place
