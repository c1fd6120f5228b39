"""Resident identity numbers: masked before an answer; before a write a number that comes back masked is not taken for new."""

from __future__ import annotations

from typing import Any

RESIDENT = "urn:oid:2.16.156.10011.1.3"
_MASK = "*" * 8


def mask(number: str) -> str:
    """'11010519491231002X' → '110105********002X'."""
    return number[:6] + _MASK + number[14:] if len(number) == 18 else _MASK


def masked(patient: dict[str, Any]) -> dict[str, Any] | None:
    """The Patient with masked numbers; None where there is nothing to mask."""
    numbers = [one for one in patient.get("identifier", ()) if one.get("system") == RESIDENT and one.get("value")]
    for one in numbers:
        one["value"] = mask(one["value"])
    return patient if numbers else None


def restored(patient: dict[str, Any], previous: dict[str, Any] | None) -> dict[str, Any] | None:
    """The Patient with the stored numbers in the place of their masked forms; None where no such form came."""
    known = {mask(one["value"]): one["value"] for one in (previous or {}).get("identifier", ()) if one.get("system") == RESIDENT}
    changed = False
    for one in patient.get("identifier", ()):
        if one.get("system") == RESIDENT and one.get("value") in known:
            one["value"], changed = known[one["value"]], True
    return patient if changed else None
