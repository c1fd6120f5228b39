"""`fhir-server validate`: files are judged as writes are, and nothing is stored. design: interfaces.md"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fhir_server.commands.validate import SHOWN, app
from fhir_server.validation.structure import validate
from tests.conftest import ROOT
from tests.validation.profiled import profile

GOOD = {"resourceType": "Patient", "gender": "male"}
BAD = {"resourceType": "Patient", "gender": "maleX", "birthDate": "2023-02-29"}


def run(*arguments: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def write(path: Path, *resources: object) -> Path:
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in resources), encoding="utf-8")
    return path


def test_valid_files_end_with_0(tmp_path):
    write(tmp_path / "a.json", GOOD)
    write(tmp_path / "b.ndjson", GOOD, GOOD)
    ended = run(tmp_path)
    assert ended.exit_code == 0
    assert "3 resources" in ended.stdout and "3 valid, 0 refused, 0 with warnings" in ended.stdout


def test_wrong_ones_end_with_1_and_are_named_with_line_element_and_rule(tmp_path):
    ended = run(write(tmp_path / "b.ndjson", GOOD, BAD, GOOD))
    assert ended.exit_code == 1
    for part in (
        "b.ndjson:2",
        "binding",
        "Patient.gender",
        "'maleX'",
        "administrative-gender",
        "Patient.birthDate",
        "2 valid, 1 refused",
    ):
        assert part in ended.stdout


def test_the_messages_speak_chinese(tmp_path):
    ended = run("--language", "zh", write(tmp_path / "a.json", BAD))
    assert ended.exit_code == 1
    for part in ("错误", "不在必需值集", "必须是存在的日期", "1 个被拒绝"):
        assert part in ended.stdout.replace("\n", "")


def test_expressions_with_indexes_are_shown_whole(tmp_path):
    ended = run(write(tmp_path / "a.json", {"resourceType": "Patient", "name": [{"famly": "[bold]x"}, {"use": "[red]"}]}))
    assert "Patient.name[0].famly" in ended.stdout
    assert "'[red]'" in ended.stdout


def test_what_is_no_json_is_told_with_its_line(tmp_path):
    ended = run(write(tmp_path / "b.ndjson", GOOD, "{broken}", '{"resourceType":"Patient","active":true,"active":false}'))
    assert ended.exit_code == 1
    assert "b.ndjson:2" in ended.stdout and "not JSON" in ended.stdout
    assert "b.ndjson:3" in ended.stdout and "stands twice" in ended.stdout


def test_compressed_files_are_read(tmp_path):
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(BAD).encode()))
    assert run(tmp_path / "a.ndjson.gz").exit_code == 1


def test_one_resource_does_not_fill_the_table(tmp_path):
    wild = {"resourceType": "Patient", **{f"unknown{number}": 1 for number in range(90)}}
    ended = run(write(tmp_path / "b.ndjson", wild, BAD))
    assert "Patient.unknown9:" in ended.stdout and "Patient.unknown10:" not in ended.stdout
    assert "Patient.gender" in ended.stdout and "80 more" in ended.stdout


def test_warnings_do_not_fail(tmp_path):
    elsewhere = {"coding": [{"system": "urn:x", "code": "y"}]}
    ended = run(write(tmp_path / "a.json", {**GOOD, "maritalStatus": elsewhere}))  # the binding is extensible
    assert ended.exit_code == 0
    assert "warning" in ended.stdout and "1 with warnings" in ended.stdout


def test_the_report_lists_every_resource_with_issues_as_outcomes(tmp_path):
    many = [{**BAD, "id": f"p{number}"} for number in range(SHOWN)]
    report = tmp_path / "report.ndjson"
    ended = run(write(tmp_path / "b.ndjson", GOOD, *many), "--report", report, "--language", "zh")
    assert ended.exit_code == 1
    assert f"另有 {SHOWN} 个" in ended.stdout
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [(line["line"], line["type"], line["id"]) for line in lines] == [
        (number + 2, "Patient", f"p{number}") for number in range(SHOWN)
    ]
    assert all(validate(line["outcome"]) == [] for line in lines)
    assert "不在必需值集" in lines[0]["outcome"]["issue"][0]["details"]["text"]


@pytest.mark.parametrize("name", ["nothing.json", "empty"])
def test_a_path_without_content_ends_with_2(tmp_path, name):
    (tmp_path / "empty").mkdir()
    ended = run(tmp_path / name)
    assert ended.exit_code == 2
    assert name in ended.stderr


def test_a_damaged_file_ends_with_2(tmp_path):
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(BAD).encode() * 1000)[:-20])
    ended = run(tmp_path / "a.ndjson.gz")
    assert ended.exit_code == 2
    assert "damaged" in ended.stderr


def test_it_is_a_command_of_fhir_server(tmp_path):
    line = [sys.executable, "-m", "fhir_server.cli", "validate", "--quiet", str(write(tmp_path / "a.json", BAD))]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "maleX" in ended.stdout
    assert ended.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json"], "nothing is stored"


def test_entries_of_a_bundle_have_profiles_of_their_own(tmp_path):
    wanted = profile("named", "Patient", {"path": "name", "min": 1})
    package = tmp_path / "package" / "package"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "own", "version": "1.0.0"}', encoding="utf-8")
    write(package / "named.json", wanted)
    named, nameless = {"resourceType": "Patient", "name": [{"text": "x"}]}, {"resourceType": "Patient"}
    urls = (f"urn:uuid:00000000-0000-4000-8000-00000000000{number}" for number in range(2))
    entries = [{"fullUrl": url, "resource": one} for url, one in zip(urls, (named, nameless), strict=True)]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    file, own = write(tmp_path / "b.json", bundle), ("--package", tmp_path / "package")
    assert run(file, *own, "--entry", f"Patient:0={wanted['url']}").exit_code == 0
    ended = run(file, *own, "--entry", f"Patient:1={wanted['url']}")
    assert ended.exit_code == 1 and "Bundle.entry[1].resource.name" in ended.stdout
    ended = run(file, *own, "--entry", f"Patient:2={wanted['url']}")
    assert ended.exit_code == 2 and "Patient:2" in ended.output, "there is no third Patient"
    for wrong in ("Patient=x", "Pation:0=x", "Patient:one=x", "Patient:0="):
        assert run(file, "--entry", wrong).exit_code == 2
    assert run(file, "--entry", "Patient:0=http://nowhere.org/p").exit_code == 2


def test_texts_like_html_and_addresses_of_examples_are_refused_on_demand(tmp_path):
    file = write(
        tmp_path / "a.json", {"resourceType": "Patient", "name": [{"text": "<b>x</b>"}], "photo": [{"url": "http://example.com/x"}]}
    )
    assert run(file).exit_code == 0
    ended = run(file, "--refuse", "markup, examples")
    assert ended.exit_code == 1 and "markup" in ended.stdout and "example-address" in ended.stdout
    assert run(file, "--refuse", "markup").exit_code == 1
    assert run(file, "--refuse", "html").exit_code == 2


def test_nothing_to_look_at_is_told(tmp_path):
    ended = run(write(tmp_path / "empty.json"))
    assert ended.exit_code == 2 and "no resource" in ended.output
