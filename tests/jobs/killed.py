"""A process that works until it is killed: python -m tests.jobs.killed FOLDER OUTSIDE. Used by test_kill."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fhir_server.storage.port import Effects, Job, Record
from subscriptions.jobs.feed import FeedReader
from subscriptions.jobs.kinds import Kind, Kinds, Lane
from subscriptions.jobs.runner import Jobs
from tests.jobs.world import NOW, services


async def main(folder: Path, outside: Path) -> None:
    log = os.open(outside, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def react(changes):
        jobs = [Job(kind, c.id[0], {"n": int(c.id[1:])}, NOW) for c in changes for kind in ("inside", "outside")]
        return Effects(jobs=jobs)

    async def inside(job, services):
        name = f"{job.key}{job.payload['n']}"
        return Effects(records=[Record("seen", name, {"n": job.payload["n"]}, {"key": job.key}, only_new=True)])

    async def outside_effect(job, services):
        os.write(log, f"{job.key} {job.payload['n']}\n".encode())
        await asyncio.sleep(0.001)

    async with services(folder) as world:
        kinds = Kinds([Kind("inside", inside), Kind("outside", outside_effect, Lane("outside", 8))])
        jobs = Jobs(world, kinds, [FeedReader("test", react)], lease=600)
        await jobs.start()
        print("ready", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
