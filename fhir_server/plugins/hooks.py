"""The list of hooks: all places where a plug-in may hook into the server, with signature and guarantees.

A plug-in is a subclass of `Plugin`, named by an entry point of the group `fhir_server.plugins`. The server's own features hang in through
the same list (`shipped.py`). `docs/plugins.md` tells the same with an example.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from fhir_server.auth.hooks import Committed, Leaving, Writing
from fhir_server.interactions.registration import Operation
from integrations.hl7v2.mapping import Handler
from subscriptions.channel import Channel
from subscriptions.jobs.feed import FeedReader

Resource = dict[str, Any]


class Plugin:
    """Base of all plug-ins: override the hooks that are wanted; what is not overridden costs nothing.

    One object serves a process from its start to its end. `before_write_types` and `before_answer_types` name the resource types
    that these hooks are asked about ('*' = every one).
    """

    before_write_types: Sequence[str] = ("*",)
    before_answer_types: Sequence[str] = ("*",)

    def before_write(self, writing: Writing) -> Resource | Awaitable[Resource | None] | None:
        """Asked before each write that comes from outside is committed, whichever way it came (REST with all conditional forms, the result
        of a patch, Bundle entries, operations, GraphQL, HL7 v2, loads); None leaves it, a resource takes its place after it was validated
        again, a FhirError (422, 403) refuses it, and with it the whole transaction or message: nothing is left behind.

        `def` runs inside the store's transaction on exactly what is committed, may run more than once, and must be quick and without I/O.
        `async def` runs before it and may look around through `writing.view`; the transaction goes through only if it still writes the same
        content in the place of the same version. What the server's own jobs write is not asked about.
        """

    def after_commit(self, commit: Committed) -> Awaitable[None] | None:
        """Told of each commit's new versions, from every write path and the server's own jobs, in the process that made it: at most once,
        and not after a crash; an error fails nothing. `def` runs before the request is answered, `async def` beside it.

        Who must not miss anything gives a reader.
        """

    def before_answer(self, leaving: Leaving) -> Resource | Awaitable[Resource | None] | None:
        """Asked about each version that is about to leave, after the rights were applied (read, vread, search, history, Bundle entries,
        operations, answers to writes, notifications). None shows `leaving.resource` as the hook left it, a resource is shown in its
        place, a FhirError refuses the request.

        What is masked is still stored: searches find by it, and the server's own jobs see it.
        """

    def operations(self) -> Sequence[Operation]:
        """FHIR operations, `async handler(context, request, type, id)`; the gate is asked for their `policy` before each call, and routing,
        CapabilityStatement, OpenAPI and the docs page show them like the server's own. Resources are reached through `context.gate` in the
        name of `request.principal`, or by the functions of `fhir_server.interactions`.
        """
        return ()

    def channels(self) -> Sequence[Channel]:
        """Ways to reach people with messages; those that have an address of the recipient are tried in turn: e-mail, plug-ins, inbox."""
        return ()

    def v2_maps(self) -> Mapping[str, Handler]:
        """Maps of HL7 v2 by 'ADT^A60' (a message that no other map is for) or by 'ZPI' (a segment: runs after the message's own map,
        where the message has such a segment). `handler(mapping)` puts resources by `mapping.put` and refuses by raising Refusal.
        """
        return {}

    def readers(self) -> Sequence[FeedReader]:
        """Readers of the change feed: each is given every version in commit order, and what it answers (resources, jobs, records) is
        committed in one unit with its position. After a crash it goes on where it was: it sees each version at least once, its effects
        happen once.
        """
        return ()


HOOKS = ("before_write", "after_commit", "before_answer", "operations", "channels", "v2_maps", "readers")
"""The names of all hooks."""
EVENTS = frozenset({"before_write", "after_commit", "before_answer"})
"""Hooks that are called while the server runs; the others declare something when it starts."""
