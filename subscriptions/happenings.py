"""Events of the world outside, for the event triggers of topics: what a new Provenance says has happened to its targets.

The activity of a Provenance is the event's code, each target a focus, as it was right after the unit that wrote the Provenance. HL7 v2
messages leave one with their trigger event (http://terminology.hl7.org/CodeSystem/v2-0003); any client may write others.
Specification: https://hl7.org/fhir/R5/subscriptiontopic.html#trigger-event, https://hl7.org/fhir/R4/provenance.html
Decision: docs/decisions/0085-events-are-provenances.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from fhir_server.model import json_codec
from fhir_server.model.references import parse_reference
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import Stored
from fhir_server.validation.values import listed
from subscriptions.jobs.kinds import Services
from subscriptions.topics.matching import Change

Code = tuple[str, str]
"""(system, code) of an event."""


async def happenings(
    stored: Stored,
    services: Services,
    wanted: Collection[Code],
    index: Callable[[dict[str, Any]], IndexValues],
    bases: Collection[str],
) -> AsyncIterator[tuple[Code, Change]]:
    """The events that a Provenance tells, of those codes that somebody wants: each with the version that it is about.

    `bases`: the base URLs of this server; what lies on another one is no focus.
    """
    provenance = json_codec.loads(stored.body)
    activity = provenance.get("activity")
    said = listed(activity, "coding") if isinstance(activity, dict) else []
    codes = dict.fromkeys((str(one.get("system", "")), str(one.get("code", ""))) for one in said)
    told = [code for code in codes if code in wanted]
    if not told:
        return
    for target in listed(provenance, "target"):
        reference = parse_reference(str(target.get("reference", "")))
        own = reference.within(bases)
        focus = await _as_of(services, reference.type, reference.id, reference.version, stored.rid) if own else None
        if focus is None:
            continue
        change = Change(focus, await services.store.previous(focus), json_codec.loads, index)
        for code in told:
            yield code, change


async def _as_of(services: Services, type: str, id: str, version: str, rid: int) -> Stored | None:
    """The version that a target names, or else the one that was current at a sequence number."""
    if version.isdigit():
        return await services.gate.read_version(services.principal, type, id, int(version))
    stored = await services.gate.read(services.principal, type, id)
    while stored is not None and stored.rid > rid:
        stored = await services.store.previous(stored)
    return stored
