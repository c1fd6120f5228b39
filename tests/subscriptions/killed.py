"""A server's room that writes and delivers until it is killed: python -m tests.subscriptions.killed FOLDER FIRST.

Prints `ready`, then `ack N` for each Observation whose write was acknowledged. FIRST -1: writes nothing, only delivers.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.subscriptions.world import observation, world


async def main(folder: Path, first: int) -> None:
    async with world(folder, running=True) as w:
        print("ready", flush=True)
        number = first
        while first >= 0:
            await w.put(observation(f"n{number}"))
            print(f"ack {number}", flush=True)
            number += 1
            await asyncio.sleep(0.002)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
