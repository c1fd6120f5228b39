"""`fhir-server backup` and `restore` on a server that goes on working."""

from __future__ import annotations

from typer.testing import CliRunner

from fhir_server.commands.backup import app as backup
from fhir_server.commands.restore import app as restore
from tests.wire.resources import patient


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
