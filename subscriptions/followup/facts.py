"""What the engine reads out of resources: references, attending doctor, death, and whether a record is history.

Pure functions over resources as they are stored.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from subscriptions.followup.calendar import date_of

Resource = dict[str, Any]

HISTORY = 365
"""Days: an event older than this that is recorded for the first time, and not by a live feed, is an import of history."""
LIVE_SOURCE = "urn:hl7v2:"
"""`meta.source` of what an HL7 v2 feed writes begins so: always live."""


def reference(element: Any, *types: str) -> str:
    """A relative literal reference 'Type/id' to one of `types`, else ''."""
    text = element.get("reference", "") if isinstance(element, dict) else ""
    kind, _, id = text.partition("/_history/")[0].partition("/")
    return f"{kind}/{id}" if id and "/" not in id and (kind in types or not types) else ""


def codes(concept: Any) -> set[str]:
    """The codes of a CodeableConcept."""
    return {coding.get("code", "") for coding in (concept or {}).get("coding", ())}


def attending(encounter: Resource) -> Resource | None:
    """The reference element of the attending doctor (participant type ATND)."""
    for participant in encounter.get("participant", ()):
        individual: Resource = participant.get("individual") or {}
        if any("ATND" in codes(kind) for kind in participant.get("type", ())) and _portable(individual):
            return individual
    return None


def _portable(element: Resource | None) -> bool:
    """Whether a reference means the same in another resource: not one to a contained resource."""
    return bool(element) and not str((element or {}).get("reference", "")).startswith("#")


def owner(encounter: Resource | None) -> Resource | None:
    """Who answers for work that a visit makes: the attending doctor, else the visit's organization as a queue."""
    if encounter is None:
        return None
    provider: Resource | None = encounter.get("serviceProvider")
    return attending(encounter) or (provider if _portable(provider) else None)


def is_dead(patient: Resource, encounter: Resource | None = None) -> bool:
    """Whether the patient has died, by the record or by the discharge disposition."""
    if patient.get("deceasedBoolean") is True or patient.get("deceasedDateTime"):
        return True
    disposition = (encounter or {}).get("hospitalization", {}).get("dischargeDisposition")
    return "exp" in codes(disposition)


def is_history(resource: Resource, first: bool, happened: str | None, now: dt.datetime) -> bool:
    """Whether an old event is told for the first time (`first`: no earlier version), as when an archive is loaded: no reaction."""
    if not first or str(resource.get("meta", {}).get("source", "")).startswith(LIVE_SOURCE):
        return False
    date = date_of(happened, now.tzinfo or dt.UTC)
    return date is not None and (now.date() - date).days > HISTORY
