"""Units with which the server itself changes a Subscription: its status, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.model import json_codec
from fhir_server.storage.port import Effects, Facts, Record, Unit, Write
from subscriptions.admission import end_of

Resource = dict[str, Any]


def ended(subscription: Resource, now: int) -> bool:
    """Whether its `end` has come. `now`: milliseconds since 1970."""
    end = end_of(subscription)
    return end is not None and end <= now


def kept(*records: Record) -> Unit:
    """A unit that keeps records."""
    return Unit.of(records=records)


def rewritten(id: str, change: Callable[[Resource], Resource | None], records: Sequence[Record] = ()) -> Unit:
    """A unit that rewrites the current Subscription, and keeps records with it; nothing where it is gone or `change` answers None."""
    target = ("Subscription", id)

    def decide(facts: Facts) -> Effects:
        current = facts.current.get(target)
        if current is None or current.deleted:
            return Effects()
        changed = change(json_codec.loads(current.body))
        return Effects([Write("PUT", *target, _without_store_meta(changed))], records=list(records)) if changed else Effects()

    return Unit(decide, targets=(target,))


def _without_store_meta(resource: Resource) -> Resource:
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest
