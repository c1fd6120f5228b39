"""The server-neutral load tool (Go), where it and Go are present: built into .cache, driven, its JSON lines read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def tool() -> Path | None:
    """The built load tool, or None where Go or its sources (`$FHIR_BENCH_TOOL`, default ../shared/tools/bench/fhirload) are absent."""
    sources = Path(os.environ.get("FHIR_BENCH_TOOL", ROOT.parent / "shared/tools/bench/fhirload"))
    go = shutil.which("go")
    if go is None or not (sources / "main.go").exists():
        return None
    folder = ROOT / ".cache" / "fhirload"
    if not (folder / "fhirload").exists():
        shutil.copytree(sources, folder, dirs_exist_ok=True)
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755)
        subprocess.run([go, "build", "-o", "fhirload", "."], cwd=folder, check=True)
    return folder / "fhirload"


def lines(program: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the tool; its JSON lines. A wrong answer is in them, so its exit status 1 is no error here."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not found:
        raise RuntimeError(f"the load tool said nothing: {done.stderr[-2000:]}")
    return found
