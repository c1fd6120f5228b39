"""The two phases of every write: planned first, then decided inside the store's transaction.

A single interaction is plan → transact → answer (`perform`). A transaction Bundle plans all of its entries, puts their
questions and decisions into one unit, and lets each plan answer for itself.
Specification: https://hl7.org/fhir/R4/http.html#ops (conditional interactions), https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.search.query import Query
from fhir_server.storage.port import Commit, Effects, Facts, Outcome, Record, Stored, Unit, Write


class Seen(NamedTuple):
    """What one plan sees of the store at the instant of the commit: its slice of `Facts`.

    `matches[i]`: at most two (type, id) that meet question i, `PlannedWrite.criteria` first, then `extra`; `current`: versions of
    targets and matches.
    """

    matches: Sequence[Sequence[tuple[str, str]]]
    current: Mapping[tuple[str, str], Stored | None]


@dataclass(slots=True)
class PlannedWrite:
    """A write that has been read, validated and understood, but not done.

    `interaction`: create, update, patch or delete. `id`: the logical id that is written unless `criteria[0]` finds another one
    (a server-assigned id is fixed here already). `resource`: the validated content with its id, None for delete and patch;
    `decide` hands exactly this dict to the store (or what a patch made), so links may still be rewritten in it.
    `decide(seen)` is pure, may run more than once, and raises FhirError (412 several matches ...).
    `answer(seen, outcomes)` takes what `decide` saw last and the outcomes of its writes, in order.
    `criteria`: none or one query that chooses the resource; `extra`: further questions (who refers to what is deleted ...).
    """

    interaction: str
    type: str
    id: str
    resource: dict[str, Any] | None
    decide: Callable[[Seen], list[Write]]
    answer: Callable[[Seen, Sequence[Outcome]], Response]
    criteria: tuple[Query, ...] = ()
    targets: tuple[tuple[str, str], ...] = ()
    extra: tuple[Query, ...] = ()

    @property
    def questions(self) -> tuple[Query, ...]:
        """All queries that the unit must ask, in the order of `Seen.matches`."""
        return self.criteria + self.extra

    def identity(self, seen: Seen) -> tuple[str, str]:
        """(type, id) of the resource that this write is about: the match of its criteria, else its own id ('' = none)."""
        if self.criteria and seen.matches[0]:
            return seen.matches[0][0]
        return self.type, self.id


async def leaving(context: Context, request: Request, response: Response) -> Response:
    """The answer to a write with its content as that may leave."""
    stored = response.stored
    if stored is not None and response.body and response.body is stored.body:
        response.body = (await context.gate.leaving(request.principal, stored)).body
    return response


def to_keep(context: Context, response: Response) -> Response:
    """The answer to a write as it is kept in the write's own unit, where nobody can be asked yet what of its content may leave."""
    if response.stored is not None and response.body is response.stored.body and context.gate.masks:
        return replace(response, body=b"")
    return response


async def perform(context: Context, request: Request, planned: PlannedWrite) -> Response:
    """Do one planned write as a unit of its own, with the records of its journal if it has one."""
    seen = Seen((), {})
    questions, targets, journal = planned.questions, planned.targets, request.journal
    if planned.id and planned.interaction != "create" and context.gate.asks(planned.type):
        targets += ((planned.type, planned.id),)  # who is asked wants to know what is replaced
    if not questions and not targets and journal is None:
        commit = await context.gate.transact(request.principal, Unit.of(*planned.decide(seen)))
        return await leaving(context, request, planned.answer(seen, commit.outcomes))

    def conclude(commit: Commit) -> Generator[None, None, Sequence[Record]]:
        yield from ()
        return journal(planned.answer(seen, commit.outcomes)) if journal is not None else ()

    def decide(facts: Facts) -> Effects:
        nonlocal seen
        seen = Seen(facts.matches, facts.current)
        return Effects(planned.decide(seen), conclude=conclude if journal is not None else None)

    commit = await context.gate.transact(request.principal, Unit(decide, questions, targets))
    return await leaving(context, request, planned.answer(seen, commit.outcomes))
