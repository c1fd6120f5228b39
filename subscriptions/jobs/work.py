"""Attempts at jobs: run their handlers, commit what follows, or put them back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from fhir_server.errors import FhirError
from fhir_server.storage.port import ClaimedJob, Effects, LeaseLost, Record, Unit
from subscriptions.jobs.kinds import Hopeless, Kind, Later, Services, finishing

log = logging.getLogger("fhir_server.jobs")

TOGETHER = 0.25
"""Seconds for which done marks without effects may wait for each other."""
_ERROR_LENGTH = 500


async def perform(train: Sequence[ClaimedJob], kind: Kind, services: Services, random: Random) -> Counter[str]:
    """Do jobs of one key, one behind the other; how many ended how.

    Results: done, retried, dead, lost (another runner has the job, or the store did not take the result). After the first that is not
    done the rest is given back, so that the order stays. Log lines name kind and id only: keys, payloads and errors may be about a person.
    """
    results: Counter[str] = Counter()
    ready: list[ClaimedJob] = []
    records: list[Record] = []
    rest = list(train)
    since = time.monotonic()
    while rest:
        try:
            async with asyncio.timeout(kind.timeout):
                number, result = await kind.attempt(rest, services)
            if number < len(rest) and _may_wait(kind, result) and time.monotonic() - since < TOGETHER:
                ready += rest[:number]
                records += result.records if isinstance(result, Effects) else ()
                rest = rest[number:]
                continue
            await services.gate.transact(services.principal, finishing([*ready, *rest[:number]], result, records))
            results["done"] += len(ready) + number
            ready, records, rest, since = [], [], rest[number:], time.monotonic()
        except asyncio.CancelledError:
            await _settle(ready, records, services)
            await _put_back(rest[0], services, services.clock(), "the runner stopped")
            await _release(rest[1:], services)
            raise
        except Exception as fault:
            results[await _settle(ready, records, services)] += len(ready)
            results[await _failed(rest[0], kind, services, random, fault)] += 1
            await _release(rest[1:], services)
            break
    return results


def _may_wait(kind: Kind, result: Unit | Effects | None) -> bool:
    """Whether a result may be committed together with those that follow: of a train, where it only leaves records."""
    light = isinstance(result, Effects) and not (result.writes or result.jobs or result.positions)
    return result is None or (kind.train is not None and light)


async def _failed(job: ClaimedJob, kind: Kind, services: Services, random: Random, fault: Exception) -> str:
    """What becomes of a job whose attempt failed."""
    pause = kind.backoff.pause(job.attempts, random)
    if isinstance(fault, LeaseLost):
        log.warning("job %d (%s) has been taken over", job.id, job.kind)
        return "lost"
    if isinstance(fault, Hopeless):
        return await _bury(job, services, str(fault))
    if isinstance(fault, Later):
        return await _again(job, kind, services, pause if fault.pause is None else fault.pause, str(fault))
    if isinstance(fault, TimeoutError):
        return await _again(job, kind, services, pause, f"no end within {kind.timeout:g} s")
    if isinstance(fault, FhirError):
        # 409 and 412: somebody else wrote meanwhile; the next attempt sees the new state at once.
        pause = random.randrange(20, 120) if fault.status in (409, 412) else pause
        return await _again(job, kind, services, pause, str(fault))
    log.error("job %d (%s) failed", job.id, job.kind, exc_info=fault)
    error = f"{type(fault).__name__}: {fault}"
    if job.attempts >= kind.poison:
        return await _bury(job, services, error)
    return await _again(job, kind, services, pause, error)


async def _again(job: ClaimedJob, kind: Kind, services: Services, pause: int, error: str) -> str:
    if kind.limit is not None and job.attempts >= kind.limit:
        return await _bury(job, services, error)
    return await _put_back(job, services, services.clock() + pause, error)


async def _settle(jobs: Sequence[ClaimedJob], records: Sequence[Record], services: Services) -> str:
    """Mark jobs done whose marks were kept back; lost where the store refuses: they will be done once more."""
    if not jobs:
        return "done"
    try:
        await services.gate.transact(services.principal, finishing(jobs, None, records))
    except (FhirError, LeaseLost) as fault:
        log.warning("%d jobs (%s) were done but could not be marked: %s", len(jobs), jobs[0].kind, type(fault).__name__)
        return "lost"
    return "done"


async def _release(jobs: Sequence[ClaimedJob], services: Services) -> None:
    if jobs:
        try:
            await services.store.release_jobs([(job.id, job.lease) for job in jobs])
        except FhirError as fault:
            # The claims run out by themselves.
            log.warning("%d jobs (%s) could not be given back: %s", len(jobs), jobs[0].kind, type(fault).__name__)


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
