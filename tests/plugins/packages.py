"""Installs plug-ins for tests as pip does, into a folder of their own: the shared environment is left alone and nothing is downloaded."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "plugin"


def wheel(folder: Path, name: str, version: str, modules: dict[str, str], points: dict[str, str]) -> Path:
    """A wheel of `modules` (path -> text) with entry points of the group `fhir_server.plugins`.

    https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    rows = "".join(f"{point} = {value}\n" for point, value in points.items())
    files = {
        **modules,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[fhir_server.plugins]\n{rows}",
    }
    record = ""
    path = folder / f"{stem}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            content = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += f"{place},sha256={digest},{len(content)}\n"
            archive.writestr(place, content)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def example(folder: Path) -> Path:
    """The wheel of `examples/plugin`, with the name, version and entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = (EXAMPLE / "fhir_example_plugin").rglob("*.py")
    modules = {str(file.relative_to(EXAMPLE)): file.read_text(encoding="utf-8") for file in files}
    return wheel(folder, project["name"], project["version"], modules, project["entry-points"]["fhir_server.plugins"])


def install(target: Path, *wheels: Path) -> dict[str, str]:
    """Install wheels into a folder; the environment in which a server finds them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir", "--target", str(target)]
    subprocess.run([*command, *map(str, wheels)], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return {"PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}
