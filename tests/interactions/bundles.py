"""Small Bundles for the tests of batch and transaction."""

from __future__ import annotations

import secrets
from typing import Any

SYSTEM = "http://example.org/mrn"


def fresh() -> str:
    """An identifier value that no other test uses."""
    return secrets.token_hex(8)


def patient(value: str = "", **more: Any) -> dict[str, Any]:
    identified = {"identifier": [{"system": SYSTEM, "value": value}]} if value else {}
    return {"resourceType": "Patient", **identified, **more}


def observation(subject: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": subject},
        **more,
    }


def entry(method: str, url: str, resource: dict[str, Any] | None = None, full_url: str = "", **request: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if full_url:
        content["fullUrl"] = full_url
    if resource is not None:
        content["resource"] = resource
    return content


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {})}


def transaction(*entries: dict[str, Any]) -> dict[str, Any]:
    return bundle("transaction", *entries)


def batch(*entries: dict[str, Any]) -> dict[str, Any]:
    return bundle("batch", *entries)
