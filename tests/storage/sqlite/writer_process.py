"""A process that writes without pause and tells each acknowledged unit on its standard output, until it is killed.

Arguments: folder, name of the writer. A line is `<unit> <writes>`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from fhir_server.storage.port import Job, Record, Store, Unit
from tests.contract import support as s


async def write(store: Store, name: str, rnd: random.Random) -> None:
    """Units of one to many writes: new resources of the unit, and a common one."""
    number = 0
    while True:
        number += 1
        unit = f"{name}-{number}"
        size = rnd.choice([1, 1, 2, 5, 30, 300 if number % 50 == 0 else 3])
        writes = [s.put(s.observation(f"{unit}-{k}", f"p{k}", f"c{number % 5}", k, unit=unit)) for k in range(size)]
        writes.append(s.put(s.patient("shared", f"F{number % 7}", n=unit)))
        if number % 9 == 0:
            writes.append(s.delete("Observation", f"{name}-{number - 1}-0"))
        await store.transact(Unit.of(*writes, jobs=[Job("k", "a", {"unit": unit})], records=[Record("unit", unit, {"size": size})]))
        print(unit, size, flush=True)


async def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    store = s.sqlite_store(folder, cursor_seconds=1)
    await store.open()
    await asyncio.gather(*(write(store, f"{name}{n}", random.Random(f"{name}{n}")) for n in range(4)))


if __name__ == "__main__":
    asyncio.run(main())
