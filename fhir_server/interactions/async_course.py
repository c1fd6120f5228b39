"""How an asynchronous request is carried out exactly once, whatever interrupts it.

A transaction keeps its answer in its own unit. Each entry of a batch keeps its answer in the unit of its write, so that a batch that is
taken up again goes on where it was. Decision: docs/decisions/0077-asynchronous-requests.md
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions import async_requests as kept_as
from fhir_server.interactions.async_requests import Kept
from fhir_server.interactions.bundle_answer import bundle_answer, failed_entry, whole_entry
from fhir_server.interactions.http import Response
from fhir_server.interactions.plan import to_keep
from fhir_server.storage.port import Commit, Effects, Record, Store, StoredRecord, Unit

if TYPE_CHECKING:
    from fhir_server.interactions.bundle_entries import Entry
    from fhir_server.interactions.context import Context

_TELL_SECONDS = 1.0
"""How often progress is written down."""
Answering = Callable[[Commit], Generator[None, None, Sequence["tuple[Entry, bytes | None]"]]]


class Ended(Exception):
    """The request has ended already: it was cancelled, or is answered elsewhere."""


class Written(NamedTuple):
    """A transaction whose unit is committed as `rid`, with the answers of its entries in their order; None: a reading one."""

    rid: int
    answers: list[bytes | None]


class Course:
    """One attempt at a request. `again`: an earlier attempt may have done parts of it."""

    def __init__(self, context: Context, store: Store, kept: Kept, *, again: bool, written: Written | None = None) -> None:
        self.written = written
        self.ended = False
        """Whether the whole result was kept together with what was written."""
        self.committed = written is not None
        """Whether a part of it was, so that the whole replaces it."""
        self._context, self._store, self._kept, self._again = context, store, kept, again
        self._total = self._done = 0
        self._told = 0.0

    @property
    def expires(self) -> int:
        """Until when a result of now is kept, in milliseconds since 1970."""
        return self._context.clock() + self._context.settings.async_hours * kept_as.HOUR

    async def go_on(self) -> None:
        """Raises Ended when there is nothing to do any more."""
        if await self._store.record(kept_as.RESULTS, self._kept.id) is not None:
            raise Ended

    # --- transactions
    def with_answers(self, effects: Effects, answering: Answering) -> Effects:
        """The effects of a transaction, with its answer as a record of the same unit."""
        id, now, expires = self._kept.id, self._context.clock(), self.expires

        def conclude(commit: Commit) -> Generator[None, None, Sequence[Record]]:
            told = yield from answering(commit)
            answers = [answer for _, answer in told if answer is not None]
            if len(answers) == len(told):
                body = kept_as.wrapped(whole_entry(bundle_answer("transaction-response", answers), self._kept.base))
                raw = yield from kept_as.packing(body[at : at + 65_536] for at in range(0, len(body), 65_536))
                result = kept_as.result_record(id, kept_as.FINISHED, expires, raw)
            else:
                body = orjson.dumps([None if answer is None else answer.decode() for _, answer in told])
                raw = yield from kept_as.packing([body])
                result = kept_as.result_record(id, kept_as.WRITTEN, expires, raw, rid=commit.rid)
            return [result, kept_as.open_record(id, None)]

        return replace(effects, jobs=[*effects.jobs, *kept_as.clearing(id, 0, now, expires)], conclude=conclude)

    def commit(self, *, whole: bool) -> None:
        """The unit is committed, and with it the `whole` answer or a part of it."""
        self.committed, self.ended = True, whole

    # --- batches
    async def begin(self, total: int, done: int) -> None:
        """A batch of `total` entries begins, `done` of which need nothing more."""
        self._total, self._done = total, done
        await self._tell()

    async def entry(self, entry: Entry, do: Callable[[Entry], Awaitable[bytes]]) -> bytes:
        """The answer of one entry, which is done by `do` unless an earlier attempt has done it. Raises Ended, RecordExists."""
        await self.go_on()
        key = f"{self._kept.id}/{entry.index}"
        operation = entry.route.interaction == "operation" and entry.request.method == "POST"
        if self._again and (entry.writes or operation):
            known = await self._store.record(kept_as.ENTRIES, key)
            if known is not None:
                return await self._counted(_known(entry, known))
        if operation:
            # It may write by itself, in units of its own: what is begun is not begun a second time.
            await self._keep(Record(kept_as.ENTRIES, key, {}, only_new=True))
        elif entry.writes:
            base = entry.request.base

            def journal(response: Response) -> list[Record]:
                return [Record(kept_as.ENTRIES, key, {"raw": whole_entry(to_keep(self._context, response), base)}, only_new=True)]

            entry.request.journal = journal
        answer = await do(entry)
        if operation:
            await self._keep(Record(kept_as.ENTRIES, key, {"raw": answer}))
        return await self._counted(answer)

    async def _counted(self, answer: bytes) -> bytes:
        self._done += 1
        if monotonic() - self._told > _TELL_SECONDS:
            await self._tell()
        return answer

    async def _tell(self) -> None:
        self._told = monotonic()
        await self._keep(Record(kept_as.PROGRESS, self._kept.id, {"done": self._done, "total": self._total}))

    async def _keep(self, record: Record) -> None:
        await self._store.transact(Unit.of(records=[record]))


def _known(entry: Entry, known: StoredRecord) -> bytes:
    """The answer that was kept; of an operation that was interrupted nobody knows how far it came."""
    if "raw" in known.data:
        answer: bytes = known.data["raw"]
        return answer
    what = f"{entry.name}: the server was stopped while this operation ran; look what it did, and send it again where that is missing"
    zh = f"{entry.name}：执行此操作时服务器停止；请检查其结果，缺少的部分请重新发送"
    return failed_entry(FhirError.of(500, "incomplete", what, entry.name, zh=zh), entry.request.headers)
