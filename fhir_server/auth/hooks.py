"""Who is asked and told at the gate: before a write, after a commit, before a resource leaves.

The gate carries these out; what plug-ins and the server's own rooms hang in is listed in `fhir_server/plugins/hooks.py`.
Decision: docs/decisions/0078-plug-ins.md
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_server.errors import FhirError
from fhir_server.model import json_codec
from fhir_server.observability.logs import log
from fhir_server.storage.port import Commit, Effects, Facts, Record, Store, Stored, Unit, Write

if TYPE_CHECKING:
    from fhir_server.auth.gate import Gate, Principal

Resource = dict[str, Any]

SLOW = 0.1
"""Seconds from which on the run of a hook is logged and counted as slow."""
LIMIT = 5.0
"""Seconds after which a hook that waits is given up; what it was asked about is refused."""
WAITING = 1000
"""Commits of which hooks that wait may still have to be told; further ones are not told and counted."""
_TRIES = 5
_INTERACTIONS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class View(NamedTuple):
    """What a hook sees of the server: the gate, to be asked in the name of the principal. Nothing it does there asks hooks again."""

    gate: Gate
    principal: Principal


@dataclass(slots=True)
class Writing:
    """A write that is about to be committed.

    `interaction`: create, update, patch or delete (an update may also create: then there is nothing `previous`).
    """

    view: View
    interaction: str
    type: str
    id: str
    _content: Resource | None
    _before: Stored | None
    _copy: Resource | None = None

    @property
    def resource(self) -> Resource | None:
        """What will be stored, without the server's own meta elements, as a copy of the hook's own; None for a delete."""
        if self._copy is None and self._content is not None:
            self._copy = json_codec.loads(json_codec.dumps(self._content))
        return self._copy

    @property
    def previous(self) -> Resource | None:
        """The version that this write replaces; None where there is none, it is a deletion, or it is not known (a load of files)."""
        before = self._before
        return None if before is None or before.deleted else json_codec.loads(before.body)


class Committed(NamedTuple):
    """A commit that went through: its new versions (deletions included) in order; the principal in whose name it was made."""

    view: View
    versions: Sequence[Stored]


@dataclass(slots=True)
class Leaving:
    """A version that the principal may see and that is about to leave; `resource` may be changed in place: what is left of it is shown."""

    view: View
    stored: Stored
    resource: Resource


class WritesRefused(FhirError):
    """Writes of a unit were refused; nothing of it was written. `faults`: type, id and reason of each."""

    def __init__(self, faults: list[tuple[str, str, FhirError]]) -> None:
        issues = [issue for _, _, fault in faults for issue in fault.issues]
        super().__init__(max(fault.status for _, _, fault in faults), issues, [one for _, _, fault in faults for one in fault.headers])
        self.faults = faults


class _Changed(FhirError):
    """The store is no longer as it was when hooks were asked: they are to be asked again."""


class _Tried(NamedTuple):
    """One write of a unit that was tried out: its content as bytes, because others may go on changing it, and what it replaces."""

    content: bytes
    write: Write
    before: Stored | None

    def same_as(self, other: _Tried) -> bool:
        """Whether both write the same content in the place of the same version."""
        place, then = (self.write.method, self.write.type, self.write.id), (other.write.method, other.write.type, other.write.id)
        versions = [one.before.rid if one.before else 0 for one in (self, other)]
        return place == then and self.content == other.content and versions[0] == versions[1]


def _tried(effects: Effects, facts: Facts) -> list[_Tried]:
    return [_Tried(json_codec.dumps(write.resource), write, facts.current.get((write.type, write.id))) for write in effects.writes]


class Foreseen(FhirError):
    """Ends a unit of which hooks that wait are to be asked first; `tried`: what it would write."""

    def __init__(self, tried: list[_Tried]) -> None:
        super().__init__(500, [])
        self.tried = tried


class Hook:
    """One hook of one plug-in. `waits`: it is a coroutine function."""

    __slots__ = ("call", "name", "plugin", "waits")

    def __init__(self, plugin: str, name: str, call: Callable[..., Any]) -> None:
        self.plugin, self.name, self.call = plugin, name, call
        self.waits = inspect.iscoroutinefunction(call)


class ByType:
    """Hooks by the resource types that they are for, in the order in which they were added."""

    __slots__ = ("_every", "_of", "any")

    def __init__(self) -> None:
        self.any = False
        """Whether there is one at all."""
        self._every: tuple[Hook, ...] = ()
        self._of: dict[str, tuple[Hook, ...]] = {}

    def add(self, hook: Hook, types: Collection[str]) -> None:
        """Add a hook for these types; '*' = every one."""
        self.any = True
        if "*" in types:
            self._every += (hook,)
            self._of = {type: (*hooks, hook) for type, hooks in self._of.items()}
            return
        for type in types:
            self._of[type] = (*self.of(type), hook)

    def of(self, type: str) -> tuple[Hook, ...]:
        """The hooks that are for a type."""
        return self._of.get(type, self._every)


@dataclass(slots=True)
class Hooks:
    """All hooks at the gate.

    `check(resource)` raises FhirError for content that may not be stored; `event(name)` counts for the metrics.
    """

    before_write: ByType = field(default_factory=ByType)
    after_commit: list[Hook] = field(default_factory=list)
    before_answer: ByType = field(default_factory=ByType)
    check: Callable[[Resource], Any] = lambda resource: None
    event: Callable[[str], Any] = lambda name: None
    noted: Callable[[str, Sequence[Write]], Sequence[Record]] = lambda who, writes: ()
    """What a unit leaves in the trail of administrative actions, from the name of the principal and what it writes."""
    _telling: set[asyncio.Task[None]] = field(default_factory=set)

    # --- before a write
    def asking(self, view: View, decide: Callable[[Facts], Effects]) -> Callable[[Facts], Effects]:
        """The decision of a unit with the hooks that do not wait asked about what it writes: inside the store's transaction, about exactly
        what is committed. Where one is to be asked that waits, the decision ends with `Foreseen`, and nothing is written.
        """
        of = self.before_write.of

        def ask(facts: Facts) -> Effects:
            effects = decide(facts)
            for write in effects.writes:
                if of(write.type):
                    if any(hook.waits for one in effects.writes for hook in of(one.type)):
                        raise Foreseen(_tried(effects, facts))
                    return self._asked(view, effects, facts)
            return effects

        return ask

    async def transact(self, view: View, store: Store, unit: Unit, tried: Sequence[_Tried]) -> Commit:
        """Commit a unit that was tried out once its hooks that wait have been asked. Raises FhirError: then nothing of it was written.

        The transaction goes through only if it still writes what they were asked about in the place of the same versions; else the unit
        is tried out and they are asked again.
        """
        ask = self.asking(view, unit.decide)
        for _ in range(_TRIES):
            answers = await self._awaited(view, tried)
            try:
                return await store.transact(Unit(self._as_approved(view, unit, tried, answers), unit.criteria, unit.targets))
            except _Changed:
                pass
            try:
                return await store.transact(Unit(ask, unit.criteria, unit.targets))
            except Foreseen as again:
                tried = again.tried
        what = "What is written was changed by others again and again while it was checked; send the request again"
        raise FhirError.of(409, "conflict", what, zh="写入的内容在检查期间被其他请求反复更改，请重新发送")

    async def _awaited(self, view: View, tried: Sequence[_Tried]) -> list[Resource | None]:
        """What hooks that wait make of each write. Raises FhirError."""
        answers: list[Resource | None] = []
        faults: list[tuple[str, str, FhirError]] = []
        for content, write, before in tried:
            resource = json_codec.loads(content) if write.resource is not None else None
            try:
                for hook in self.before_write.of(write.type):
                    if hook.waits:
                        with self._watched(hook):
                            async with asyncio.timeout(LIMIT):
                                changed = await hook.call(_writing(view, write, resource, before))
                            resource = self._accepted(write, resource, changed)
            except FhirError as fault:
                faults.append((write.type, write.id, fault))
            answers.append(resource)
        if faults:
            raise WritesRefused(faults)
        return answers

    def _as_approved(self, view: View, unit: Unit, tried: Sequence[_Tried], answers: list[Resource | None]) -> Callable[[Facts], Effects]:
        def decide(facts: Facts) -> Effects:
            effects = unit.decide(facts)
            now = _tried(effects, facts)
            if len(now) != len(tried) or any(not one.same_as(other) for one, other in zip(now, tried, strict=True)):
                raise _Changed(409, [])
            writes = [replace(write, resource=resource) for write, resource in zip(effects.writes, answers, strict=True)]
            return self._asked(view, replace(effects, writes=writes), facts)

        return decide

    def _asked(self, view: View, effects: Effects, facts: Facts) -> Effects:
        """The effects as hooks that do not wait leave them. Raises FhirError with the refusals of all writes."""
        faults: list[tuple[str, str, FhirError]] = []
        writes: list[Write] = []
        for write in effects.writes:
            try:
                writes.append(self._settled(view, write, facts.current.get((write.type, write.id))))
            except FhirError as fault:
                faults.append((write.type, write.id, fault))
        if faults:
            raise WritesRefused(faults)
        noted = self.noted(view.principal.name, writes)
        return replace(effects, writes=writes, records=[*effects.records, *noted])

    def _settled(self, view: View, write: Write, before: Stored | None) -> Write:
        resource = write.resource
        for hook in self.before_write.of(write.type):
            if not hook.waits:
                with self._watched(hook):
                    resource = self._accepted(write, resource, hook.call(_writing(view, write, resource, before)))
        return write if resource is write.resource else replace(write, resource=resource)

    def _accepted(self, write: Write, resource: Resource | None, changed: Any) -> Resource | None:
        """What a hook made of a write's content, if it is a resource in order. Raises Misused."""
        if changed is None:
            return resource
        if resource is None:
            raise Misused("before_write must answer None for a delete")
        changed = _of_same_identity(write.type, write.id, changed)
        try:
            self.check(changed)
        except FhirError as fault:
            raise Misused(f"before_write made a resource that may not be stored: {fault}") from fault
        return changed

    async def refusal(self, view: View, write: Write) -> FhirError | None:
        """Why a write would be refused, without writing it; None where it would not be."""
        try:
            await self._awaited(view, [_Tried(json_codec.dumps(write.resource), write, None)])
            self._settled(view, write, None)
        except FhirError as fault:
            return fault
        return None

    # --- after a commit
    def told(self, view: View, commit: Commit) -> None:
        """Tell of a commit. Never raises: the write stands."""
        versions = [one.stored for one in commit.outcomes if one.stored is not None and one.result != "unchanged"]
        if not versions:
            return
        committed = Committed(view, versions)
        for hook in self.after_commit:
            if hook.waits:
                self._tell_later(hook, committed)
                continue
            began = perf_counter()
            try:
                hook.call(committed)
            except Exception as fault:
                self._failed(hook, fault)  # the write stands
            self._timed(hook, perf_counter() - began)

    def _tell_later(self, hook: Hook, committed: Committed) -> None:
        if len(self._telling) >= WAITING:
            self.event(f"plugin {hook.plugin} {hook.name} left out")
            return

        async def tell() -> None:
            began = perf_counter()
            try:
                async with asyncio.timeout(LIMIT):
                    await hook.call(committed)
            except Exception as fault:
                self._failed(hook, fault)  # the write stands
            self._timed(hook, perf_counter() - began)

        task = asyncio.get_running_loop().create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def settle(self, seconds: float = 2.0) -> None:
        """Wait for hooks that are still being told of commits; what is not done by then is given up."""
        if self._telling:
            _, late = await asyncio.wait(self._telling, timeout=seconds)
            for task in late:
                task.cancel()

    # --- before a resource leaves
    async def leaving(self, view: View, stored: Stored) -> Stored:
        """The version as hooks let it leave. Raises FhirError 500 where one of them fails: it does not leave then."""
        hooks = self.before_answer.of(stored.type)
        if not hooks or stored.deleted:
            return stored
        resource = json_codec.loads(stored.body)
        for hook in hooks:
            with self._watched(hook):
                shown = hook.call(Leaving(view, stored, resource))
                if isinstance(shown, Awaitable):
                    async with asyncio.timeout(LIMIT):
                        shown = await shown
                if shown is not None:
                    resource = _of_same_identity(stored.type, stored.id, shown)
        return stored._replace(body=json_codec.dumps(resource))

    # --- watching them
    def _watched(self, hook: Hook) -> _Watch:
        return _Watch(self, hook)

    def _timed(self, hook: Hook, seconds: float) -> None:
        """Count and log a hook that took long."""
        if seconds > SLOW:
            self.event(f"plugin {hook.plugin} {hook.name} slow")
            log().warning("a plug-in is slow", plugin=hook.plugin, hook=hook.name, seconds=round(seconds, 3))

    def _failed(self, hook: Hook, fault: Exception) -> FhirError:
        """Count and log a fault under the plug-in's name; what the client learns of it: a reference to the log."""
        reference = secrets.token_hex(4)
        self.event(f"plugin {hook.plugin} {hook.name} failed")
        log().error("a plug-in failed", plugin=hook.plugin, hook=hook.name, reference=reference, exc_info=fault)
        what = f"The server failed to answer this request; the log tells more under the reference {reference}"
        return FhirError.of(500, "exception", what, zh=f"服务器未能处理该请求；详情见日志，编号 {reference}")


class _Watch:
    """Turns what a hook did not foresee into a 500 with a reference; a FhirError is its answer."""

    __slots__ = ("_began", "_hook", "_hooks")

    def __init__(self, hooks: Hooks, hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._hooks._timed(self._hook, perf_counter() - self._began)
        if isinstance(fault, Exception) and not isinstance(fault, FhirError):
            raise self._hooks._failed(self._hook, fault) from fault


class Misused(Exception):
    """A hook answered what it may not; told in the log under the plug-in's name."""


def _writing(view: View, write: Write, resource: Resource | None, before: Stored | None) -> Writing:
    return Writing(view, _INTERACTIONS[write.method], write.type, write.id, resource, before)


def _of_same_identity(type: str, id: str, resource: Any) -> Resource:
    if not isinstance(resource, dict):
        raise Misused(f"the hook answered {resource.__class__.__name__}, not None or a resource")
    if resource.get("resourceType") != type or resource.get("id") != id:
        raise Misused(f"the hook must not change resourceType or id of {type}/{id}")
    return resource
