"""`make conformance`: what its exit status says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("conformance", ROOT / "scripts" / "conformance.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance"] = module
    spec.loader.exec_module(module)
    return module


def ran(script, monkeypatch, tmp_path, capsys, *suites):
    (tmp_path / "r4").mkdir()
    monkeypatch.setattr(script, "SUITES", list(suites))
    monkeypatch.setattr(sys, "argv", ["conformance.py", "--corpora", str(tmp_path), "--json", str(tmp_path / "scores.json")])
    status = script.main()
    return status, capsys.readouterr().out, json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))


def cases(script, *faults):
    def fail():
        raise ValueError("broken inside")

    def made(corpora):
        for number, fault in enumerate(faults):
            yield script.Case(f"case {number}", fail if fault is None else lambda fault=fault: fault)

    return made


def test_at_the_recorded_score_it_ends_with_0(script, monkeypatch, tmp_path, capsys):
    status, shown, scores = ran(script, monkeypatch, tmp_path, capsys, script.Suite("S", 2, "x", cases(script, "", "", "wrong")))
    assert status == 0
    assert "case 2: wrong" in shown
    assert scores == {"S": {"passed": 2, "of": 3, "misses": [["case 2", "wrong"]]}}


def test_below_it_ends_with_1_and_names_the_misses(script, monkeypatch, tmp_path, capsys):
    good, bad = script.Suite("Good", 1, "x", cases(script, "")), script.Suite("Bad", 2, "x", cases(script, "", None))
    status, shown, scores = ran(script, monkeypatch, tmp_path, capsys, good, bad)
    assert status == 1
    assert "below" in shown and "ValueError: broken inside" in shown
    assert scores["Bad"]["passed"] == 1


def test_a_suite_that_lost_its_cases_is_below(script, monkeypatch, tmp_path, capsys):
    assert ran(script, monkeypatch, tmp_path, capsys, script.Suite("S", 1, "x", cases(script)))[0] == 1


def test_without_corpora_it_says_so(tmp_path):
    line = [sys.executable, "scripts/conformance.py", "--corpora", str(tmp_path)]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "FHIR_TEST_DATA" in ended.stdout


def test_the_recorded_scores_are_whole_suites(script):
    """What is recorded today: every case of every suite."""
    recorded = {suite.title: suite.recorded for suite in script.SUITES}
    assert recorded["FHIRPath suite R4"] == 598
    assert recorded["Search parameters compiled"] == 1400
    assert recorded["Examples stored and read back unchanged"] + recorded["Flawed examples refused"] == 549
