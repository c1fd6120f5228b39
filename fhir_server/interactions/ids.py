"""Logical ids that the server gives: short, unique over all processes, and growing with time.

Specification: https://hl7.org/fhir/R4/datatypes.html#id
"""

from __future__ import annotations

import os
import re
import time

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)

_RANDOM = 5
_POOL = 512
_pool: dict[str, object] = {"pid": 0, "hex": "", "at": 0}


def new_id() -> str:
    """21 characters: milliseconds since 1970 in hexadecimal (neighbours in time are neighbours in an index), then 40 random bits."""
    pool = _pool
    at: int = pool["at"]  # type: ignore[assignment]
    text: str = pool["hex"]  # type: ignore[assignment]
    if at >= len(text) or pool["pid"] != os.getpid():
        # Random bytes are fetched in one go: a system call per id costs more than the rest. A forked child starts its own.
        text, at = os.urandom(_RANDOM * _POOL).hex(), 0
        pool["hex"], pool["pid"] = text, os.getpid()
    pool["at"] = at + 2 * _RANDOM
    return f"{time.time_ns() // 1_000_000:011x}{text[at : at + 2 * _RANDOM]}"


def is_id(text: str) -> bool:
    """Whether the text is a FHIR id: 1 to 64 of A-Z a-z 0-9 - and dot."""
    return ID.fullmatch(text) is not None
