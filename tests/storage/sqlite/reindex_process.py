"""A process that defines, changes and retires search parameters, has the index made anew, and writes all the while, until it is killed.

Arguments: folder, seed. Each line is the number of writes acknowledged so far.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from fhir_server.storage.port import Unit
from fhir_server.storage.sqlite import filling
from tests.storage.sqlite import site

filling.SLICE, filling.BUDGET = 5, 0.002


async def main() -> None:
    rnd = random.Random(sys.argv[2])
    store, _ = site.opened(Path(sys.argv[1]), cursor_seconds=1)
    await store.open()
    done = 0
    while True:
        done += await site.some_writes(store, rnd, 4)
        chance = rnd.random()
        if chance < 0.15:
            code = rnd.choice(tuple(site.EXPRESSIONS))
            await store.transact(Unit.of(site.parameter(code, rnd.randrange(2), rnd.choice(("active", "active", "active", "retired")))))
        elif chance < 0.18:
            await store.reindex()
        elif chance < 0.2:
            await store.reindex(["Patient"])
        print(done, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
