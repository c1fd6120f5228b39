"""Keeps the documentation true: generated pages are current, links lead somewhere, README's commands exist.

python scripts/check_docs.py [--write]     --write renews the generated pages
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def configuration() -> str:
    """The table of all settings, from `fhir_server.settings`."""
    from fhir_server.settings import Settings

    rows = [
        "# Configuration",
        "",
        "Generated from `fhir_server/settings.py` by `make docs`. A command-line option of `fhir-server serve` wins over the variable.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "(empty)" if field.default == "" else f"`{field.default}`"
        rows.append(f"| `FHIR_SERVER_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


GENERATED = {"docs/configuration.md": configuration}


def pages() -> list[Path]:
    """All Markdown pages that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def broken_links() -> list[str]:
    """Relative links whose target is not there."""
    faults = []
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
                faults.append(f"{page.relative_to(ROOT)}: link to {target}, which is not there")
    return faults


def unlinked_decisions() -> list[str]:
    """Decision pages that the index does not name."""
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    return [
        f"docs/decisions/README.md does not link {page.name}"
        for page in sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
        if page.name not in index
    ]


def missing_pages() -> list[str]:
    """Pages that the code names and that are not there."""
    named: dict[str, Path] = {}
    for room in ("fhir_server", "integrations", "subscriptions", "scripts", "tests", "benchmarks"):
        for file in (ROOT / room).rglob("*.py"):
            for page in re.findall(r"docs/[a-z0-9/-]+\.md", file.read_text(encoding="utf-8")):
                named.setdefault(page, file.relative_to(ROOT))
    return [f"{file} names {page}, which is not there" for page, file in sorted(named.items()) if not (ROOT / page).exists()]


def unknown_commands() -> list[str]:
    """`make` targets in README and docs that the Makefile does not have."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    faults = []
    for page in pages():
        for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M):
            if target not in targets:
                faults.append(f"{page.relative_to(ROOT)}: `make {target}` is not in the Makefile")
    return faults


def main() -> int:
    write = "--write" in sys.argv
    faults = []
    for name, render in GENERATED.items():
        page, wanted = ROOT / name, render()
        if write:
            page.write_text(wanted, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != wanted:
            faults.append(f"{name} is out of date: run make docs")
    faults += broken_links() + unlinked_decisions() + missing_pages() + unknown_commands()
    print("\n".join(faults) if faults else "docs: current")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
