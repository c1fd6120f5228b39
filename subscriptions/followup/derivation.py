"""Derived resources exist once: each carries a key of what caused it, and is created only where that key is not known.

Specification: followup.md section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from fhir_server.search.query import KeyMatch, Query
from fhir_server.storage.port import Effects, Facts, Job, Record, Unit, Write
from subscriptions.followup.canonical import Canonical

Resource = dict[str, Any]


def derivation_key(rule: str, version: str, subject: str, trigger: str) -> str:
    """SHA-256, hex, over `rule-id|rule-major-version|subject|trigger-key`; `version` is semantic ('1.0.0' counts as '1')."""
    return hashlib.sha256(f"{rule}|{version.split('.', maxsplit=1)[0]}|{subject}|{trigger}".encode()).hexdigest()


def enrolment_key(plan_url: str, patient: str, anchor: str, date: str) -> str:
    """The key of an enrolment: `enroll|PlanDefinition.url|patient|anchor code|anchor date` (followup.md section 6.2)."""
    return hashlib.sha256(f"enroll|{plan_url}|{patient}|{anchor}|{date}".encode()).hexdigest()


def id_of(key: str) -> str:
    """The logical id that a derived resource gets: known beforehand, so that resources of one unit can refer to each other."""
    return key[:32]


def derived(canonical: Canonical, key: str, resource: Resource) -> Resource:
    """The resource with id, derivation identifier and source."""
    identifiers = [{"system": canonical.derivation, "value": key}, *resource.get("identifier", ())]
    return {
        "resourceType": resource["resourceType"],
        "id": id_of(key),
        "meta": {"source": canonical.source},
        "identifier": identifiers,
        **{name: value for name, value in resource.items() if name not in ("resourceType", "identifier")},
    }


def create_once(
    canonical: Canonical,
    identifier_parameter: int,
    leader: Resource,
    others: Sequence[Resource] = (),
    jobs: Sequence[Job] = (),
    records: Sequence[Record] = (),
) -> Unit:
    """A unit that creates the leader and all the rest, or nothing at all where the leader's key is known.

    Known is a resource with the same derivation identifier, and also one under the same id that has been deleted since: what a
    person removed does not come back with the next replay. `identifier_parameter` is the number of the leader type's `identifier`.
    """
    kind, id = leader["resourceType"], leader["id"]
    key = next(i["value"] for i in leader["identifier"] if i.get("system") == canonical.derivation)
    question = Query((kind,), KeyMatch(identifier_parameter, canonical.derivation, key), limit=2)

    def decide(facts: Facts) -> Effects:
        if facts.matches[0] or facts.current.get((kind, id)) is not None:
            return Effects()
        writes = [Write("POST", resource["resourceType"], resource["id"], resource) for resource in (leader, *others)]
        return Effects(writes, list(jobs), list(records))

    return Unit(decide, (question,), ((kind, id),))
