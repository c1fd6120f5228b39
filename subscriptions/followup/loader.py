"""Puts what the product brings (pathways, topics) into the store as FHIR resources, where they are not there yet.

What a site has changed, retired or deleted stays as the site left it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.storage.port import Effects, Facts, Unit, Write
from subscriptions.followup.canonical import Canonical
from subscriptions.followup.compile import activity_definitions, plan_definition
from subscriptions.followup.pathway import Pathway
from subscriptions.jobs.kinds import Services
from subscriptions.topics.shipped import shipped


async def install(canonical: Canonical, pathways: Sequence[Pathway], services: Services) -> int:
    """Write what is missing, in one unit; how many resources were written."""
    plans = [item for pathway in pathways for item in (*activity_definitions(canonical, pathway), plan_definition(canonical, pathway))]
    resources = [*plans, *shipped(canonical.base)]
    targets = [(resource["resourceType"], resource["id"]) for resource in resources]

    def decide(seen: Facts) -> Effects:
        missing = [r for r, target in zip(resources, targets, strict=True) if seen.current.get(target) is None]
        return Effects([Write("POST", resource["resourceType"], resource["id"], resource) for resource in missing])

    commit = await services.gate.transact(services.principal, Unit(decide, targets=targets))
    return len(commit.outcomes)
