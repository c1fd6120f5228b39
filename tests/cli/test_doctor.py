"""`fhir-server doctor` says what is wrong with a set-up and what to do about it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def doctor(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    line = [sys.executable, "-m", "fhir_server.cli", "doctor", *arguments]
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "COLUMNS": "300", **(env or {})}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_sound_set_up_is_good(tmp_path: Path) -> None:
    status, text = doctor("--data-dir", str(tmp_path / "new"), "--port", "0", "--mllp-port", "off")
    assert status == 0
    assert "wrong" not in text and "the first start makes it" in text
    assert not (tmp_path / "new").exists()


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "fhir.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    status, text = doctor("--data-dir", str(tmp_path), "--port", "0", "--mllp-port", "off")
    assert status == 1
    assert "fhir.db" in text and "wrong" in text


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, text = doctor("--data-dir", str(tmp_path), "--port", port, "--mllp-port", port)
    assert status == 0
    assert f"127.0.0.1:{port}" in text and text.count("is a server running there already?") == 2


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        (("--host", "0.0.0.0"), {}, "not a loopback address"),
        ((), {"FHIR_SERVER_TIME_ZONE": "Mars/Phobos"}, "Mars/Phobos"),
        (("--mllp-port", "many"), {}, "neither a number nor 'off'"),
    ],
)
def test_settings_that_would_be_refused_are_told(tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], word: str) -> None:
    status, text = doctor("--data-dir", str(tmp_path), "--port", "0", *arguments, env=env)
    assert status == 1
    assert word in text
