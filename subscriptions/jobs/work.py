"""One attempt at one job: run its handler, commit what follows, or put the job back."""

from __future__ import annotations

import asyncio
import logging
from random import Random

from fhir_server.errors import FhirError
from fhir_server.storage.port import ClaimedJob, LeaseLost
from subscriptions.jobs.kinds import Hopeless, Kind, Later, Services, finishing

log = logging.getLogger("fhir_server.jobs")

_ERROR_LENGTH = 500


async def perform(job: ClaimedJob, kind: Kind, services: Services, random: Random) -> str:
    """The result: done, retried, dead, or lost (another runner has the job, or the store did not take the result).

    Log lines name kind and id only: keys, payloads and errors may be about a person.
    """
    try:
        async with asyncio.timeout(kind.timeout):
            result = await kind.handler(job, services)
        await services.gate.transact(services.principal, finishing(job, result))
        return "done"
    except LeaseLost:
        log.warning("job %d (%s) has been taken over", job.id, job.kind)
        return "lost"
    except asyncio.CancelledError:
        await _put_back(job, services, services.clock(), "the runner stopped")
        raise
    except Hopeless as fault:
        return await _bury(job, services, str(fault))
    except Later as fault:
        pause = fault.pause if fault.pause is not None else kind.backoff.pause(job.attempts, random)
        return await _again(job, kind, services, pause, str(fault))
    except TimeoutError:
        return await _again(job, kind, services, kind.backoff.pause(job.attempts, random), f"no end within {kind.timeout:g} s")
    except FhirError as fault:
        # 409 and 412: somebody else wrote meanwhile; the next attempt sees the new state at once.
        pause = random.randrange(20, 120) if fault.status in (409, 412) else kind.backoff.pause(job.attempts, random)
        return await _again(job, kind, services, pause, str(fault))
    except Exception as fault:
        log.exception("job %d (%s) failed", job.id, job.kind)
        return await _again(job, kind, services, kind.backoff.pause(job.attempts, random), f"{type(fault).__name__}: {fault}")


async def _again(job: ClaimedJob, kind: Kind, services: Services, pause: int, error: str) -> str:
    if kind.limit is not None and job.attempts >= kind.limit:
        return await _bury(job, services, error)
    return await _put_back(job, services, services.clock() + pause, error)


async def _put_back(job: ClaimedJob, services: Services, due: int, error: str) -> str:
    try:
        await services.store.retry_job(job.id, job.lease, due, error[:_ERROR_LENGTH])
    except (FhirError, LeaseLost) as fault:
        # The claim runs out by itself and the job is taken up again.
        log.warning("job %d (%s) could not be put back: %s", job.id, job.kind, type(fault).__name__)
        return "lost"
    return "retried"


async def _bury(job: ClaimedJob, services: Services, error: str) -> str:
    try:
        await services.store.bury_job(job.id, job.lease, error[:_ERROR_LENGTH])
    except (FhirError, LeaseLost) as fault:
        log.warning("job %d (%s) could not be buried: %s", job.id, job.kind, type(fault).__name__)
        return "lost"
    log.error("job %d (%s) went to the dead letters after %d attempts", job.id, job.kind, job.attempts)
    return "dead"
