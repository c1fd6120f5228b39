"""Jobs that carry out asynchronous requests, and timers that remove what is kept of them.

Specification: https://hl7.org/fhir/R5/async-bundle.html. Decision: docs/decisions/0077-asynchronous-requests.md
"""

from __future__ import annotations

from fhir_server.interactions.async_requests import ATTEMPT_SECONDS, FORGET, REQUEST, forget
from fhir_server.interactions.async_work import Overtaken, carry_out
from fhir_server.interactions.context import Context
from fhir_server.storage.port import ClaimedJob
from subscriptions.jobs.backoff import Backoff
from subscriptions.jobs.kinds import Kind, Lane, Later, Services

REQUESTS = Lane("requests", 4)
"""A lane of its own: long requests wait for each other, and no delivery waits for them."""
_PAUSES = Backoff((1_000, 5_000, 30_000, 120_000, 600_000))


def kinds(context: Context) -> list[Kind]:
    """The job kinds of asynchronous requests. Only what passes (a full disk, an index that is being made) is tried again."""

    async def carry(job: ClaimedJob, services: Services) -> None:
        try:
            await carry_out(context, services.store, job.key, job.attempts)
        except Overtaken as other:
            raise Later(f"overtaken: {other}", 1_000) from other

    async def remove(job: ClaimedJob, services: Services) -> None:
        await forget(services.store, job.key, job.payload["entries"], all=job.payload["all"])

    return [
        Kind(REQUEST, carry, REQUESTS, _PAUSES, limit=None, timeout=ATTEMPT_SECONDS),
        Kind(FORGET, remove, REQUESTS, _PAUSES, limit=None, timeout=ATTEMPT_SECONDS, timer=True),
    ]
