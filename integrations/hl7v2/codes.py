"""The code maps of `profiles/hl7v2/codes.yaml`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).resolve().parents[2] / "profiles" / "hl7v2" / "codes.yaml"


@lru_cache(maxsize=1)
def tables() -> dict[str, Any]:
    """All maps by name."""
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def code(table: str, value: str) -> Any:
    """The target of a value in a plain map, or None."""
    return tables()[table].get(value)


def coding(table: str, value: str) -> dict[str, Any] | None:
    """The Coding of a value in a map with a system, or None."""
    entry = tables()[table]
    target = entry["codes"].get(value)
    if target is None:
        return None
    if isinstance(target, list):
        code, display, *own = target
        return {"system": own[0] if own else entry["system"], "code": code, "display": display}
    return {"system": entry["system"], "code": target}
