"""The progress of a load, kept in the store: which chunks of which file are done. It is written in the same unit as the data.

After a kill the load goes on with the first chunk that is not there; a file that was finished starts a new run, in which
content that is there already makes no new version.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fhir_server.loading.report import Report
from fhir_server.loading.sources import Source
from fhir_server.storage.port import Record, Store, Unit

COLLECTION = "load"
BUNDLES = "load-bundle"
_PAGE = 500


def digest(text: str | bytes) -> str:
    """A short name for something: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:32]


class Journal:
    """The journal of one source. `done`: numbers of the chunks that an interrupted run has finished."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._name = digest(source.identity)
        self._run = 1
        self.done: dict[int, int] = {}
        """Chunk number -> how many items it had."""

    @property
    def run(self) -> str:
        return f"{self._name}:{self._run}"

    async def open(self, store: Store, report: Report) -> None:
        """Take up an interrupted run, adding what it has done to the report, or begin a new one."""
        head = await store.record(COLLECTION, self._name)
        if head is not None:
            self._run = head.data["run"] + (1 if head.data["finished"] else 0)
        if head is None or head.data["finished"]:
            await store.transact(Unit.of(records=[self._head(finished=False)]))
            return
        after = 0
        while found := await store.records(COLLECTION, {"run": self.run}, after=after, limit=_PAGE):
            for record in found:
                self.done[record.data["chunk"]] = record.data["items"]
                report.add(record.data["report"])
                report.resumed += record.data["items"]
            after = found[-1].seq

    def chunk_done(self, number: int, items: int, report: dict[str, Any]) -> Record:
        """The record that says that a chunk is done."""
        data = {"chunk": number, "items": items, "report": report}
        return Record(COLLECTION, f"{self.run}:{number}", data, {"run": self.run})

    def _head(self, *, finished: bool) -> Record:
        return Record(COLLECTION, self._name, {"run": self._run, "finished": finished, "source": self.source.name}, {"source": "yes"})

    async def finish(self, store: Store) -> None:
        """The whole file is done: say so, then tidy the records of its chunks away."""
        await store.transact(Unit.of(records=[self._head(finished=True)]))
        while found := await store.records(COLLECTION, {"run": self.run}, limit=_PAGE):
            for record in found:
                await store.delete_record(COLLECTION, record.key)


def bundle_done(body: bytes, source: str, line: int) -> Record:
    """The record that says that a transaction or batch with this content has been carried out."""
    return Record(BUNDLES, digest(body), {"source": source, "line": line})
