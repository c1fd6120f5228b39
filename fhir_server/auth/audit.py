"""The trail of administrative actions: who did what to the server, when, and how it ended.

An action leaves a record before it is begun, so that none is without a trace; how it ended is written in the action's own unit where it has
one, else behind it. What is written is what an AuditEvent of R4 wants (agent, type and entity, recorded, outcome); this port is where
AuditEvents will come from. Names of jobs, Subscriptions and packages are told, never content.
Specification: https://hl7.org/fhir/R4/auditevent.html. Decision: docs/decisions/0099-observability.md
"""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fhir_server.errors import FhirError
from fhir_server.observability.logs import log
from fhir_server.storage.port import Record, Store, Unit, Write

COLLECTION = "admin-action"
ACTIONS = (
    "subscription-pause",
    "subscription-resume",
    "subscription-test",
    "subscription-replay",
    "job-retry",
    "job-retry-all",
    "job-set-aside",
    "reindex",
    "package-install",
    "terminology-load",
    "plugin-load",
    "search-parameter",
)
OUTCOMES = ("begun", "done", "nothing", "refused", "failed")
"""`begun`: it is under way, or the server was ended in the middle of it; `nothing`: there was nothing to do."""
CHANGES = frozenset({"SearchParameter"})
"""Types of resources whose change changes the server itself."""
_NAMED = 10


class Action(NamedTuple):
    """A line of the trail. `time`: milliseconds since 1970 at which it was begun; `detail`: what came of it, without content."""

    time: int
    who: str
    action: str
    what: str
    outcome: str
    detail: str = ""


class Entry:
    """One action under way; the caller may say what came of it."""

    def __init__(self, action: Action) -> None:
        self._action, self._key = action, f"{action.time:015d}-{secrets.token_hex(6)}"
        self.outcome, self.detail = "done", ""
        self.settled = False
        """Whether how it ended is written in a unit of the action itself."""

    def record(self, outcome: str, detail: str = "") -> Record:
        """The record with an outcome; it takes the place of the one before."""
        return record_of(self._action._replace(outcome=outcome, detail=detail), self._key)

    def done(self) -> Sequence[Record]:
        """What is to be written in the action's own unit."""
        self.settled = True
        return (self.record("done", self.detail),)


def record_of(action: Action, key: str = "") -> Record:
    """An action as the store keeps it. Raises ValueError for a name that is not declared here."""
    if action.action not in ACTIONS or action.outcome not in OUTCOMES:
        raise ValueError(f"{action.action} {action.outcome}")
    return Record(COLLECTION, key or f"{action.time:015d}-{secrets.token_hex(6)}", action._asdict(), {"action": action.action})


class Trail:
    """The trail in a store. `clock` gives milliseconds since 1970."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store, self._clock = store, clock

    @asynccontextmanager
    async def taking(self, who: str, action: str, what: str) -> AsyncIterator[Entry]:
        """Around an action. Raises FhirError, and nothing is done, where it cannot be recorded."""
        entry = Entry(Action(self._clock(), who, action, what, "begun"))
        await self._keep(entry.record("begun"))
        try:
            yield entry
        except FhirError as fault:
            await self._ended(entry.record("refused", f"HTTP {fault.status}"))
            raise
        except BaseException as fault:
            await self._ended(entry.record("failed", type(fault).__name__))
            raise
        if not entry.settled:
            await self._ended(entry.record(entry.outcome, entry.detail))

    async def note(self, who: str, action: str, what: str, detail: str = "") -> None:
        """Record what is done already."""
        await self._keep(record_of(Action(self._clock(), who, action, what, "done", detail)))

    def noted(self, who: str, writes: Sequence[Write]) -> Sequence[Record]:
        """What a unit with these writes leaves, to be kept in the unit itself."""
        changes = [f"{write.method} {write.type}/{write.id}" for write in writes if write.type in CHANGES]
        if not changes:
            return ()
        more = f" (+{len(changes) - _NAMED})" if len(changes) > _NAMED else ""
        return (record_of(Action(self._clock(), who, "search-parameter", ", ".join(changes[:_NAMED]) + more, "done")),)

    async def latest(self, limit: int = 50) -> list[Action]:
        """The last actions, newest first."""
        return [Action(**one.data) for one in await self._store.records(COLLECTION, limit=limit, newest_first=True)]

    async def _keep(self, record: Record) -> None:
        await self._store.transact(Unit.of(records=[record]))

    async def _ended(self, record: Record) -> None:
        """Write how an action ended. It has happened: where this cannot be written the record goes on saying `begun`."""
        try:
            await self._keep(record)
        except FhirError as fault:
            log().error("the end of an administrative action could not be recorded", action=record.data["action"], status=fault.status)


def trail_of(parts: Mapping[str, Any], clock: Callable[[], int]) -> Trail:
    """The server's trail. `parts` are those of its context."""
    found: Trail | None = parts.get("audit")
    return found or Trail(parts["store"], clock)


def operator() -> str:
    """Who runs a command on this machine."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # a container without a user of that number
        return f"user {os.getuid()} (command line)"
