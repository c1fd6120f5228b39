"""The registry: everything that the server's own features and the installed plug-ins hang in, checked and put where it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from fhir_server.auth.hooks import Hook, Hooks
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.registration import Registry as Operations
from fhir_server.plugins import checks
from fhir_server.plugins.finding import Loaded, PluginError, used
from fhir_server.plugins.hooks import Plugin
from integrations.hl7v2.mapping import Handler
from subscriptions.channel import Channel
from subscriptions.jobs.feed import FeedReader

_STORE_SIDE = frozenset({"store", "jobs", "hl7v2", "sockets", "demo_feed"})
"""Parts of the context that lead past the gate: operations of plug-ins are not given them."""


class Plugins:
    """What all plug-ins of one process hang in.

    `hooks` goes to the gate, `operations` to the dispatcher, `messages` and `segments` to the HL7 v2 room, `readers` to the jobs.
    """

    def __init__(self, types: Iterable[str]) -> None:
        self._types = tuple(types)
        self.loaded: list[Loaded] = []
        self.hooks = Hooks()
        self.operations = Operations()
        self.messages: dict[str, dict[str, Handler]] = {}
        self.segments: dict[str, list[Handler]] = {}
        self.readers: list[FeedReader] = []
        self._channels: list[Channel] = []
        self._owner: dict[tuple[str, str], str] = {}

    @property
    def channels(self) -> list[Channel]:
        """In the order in which they are tried: those that leave the store first, the inbox, which reaches everybody, last."""
        return sorted(self._channels, key=lambda channel: not channel.external)

    async def start(self) -> Plugins:
        """Nothing is to be started; gives itself, to be stopped."""
        return self

    async def stop(self) -> None:
        """Wait for those who are still being told of commits."""
        await self.hooks.settle()

    def ship(self, name: str, plugin: Plugin) -> None:
        """Hang in one of the server's own features."""
        self._add(Loaded(name, "", plugin, used(plugin)), own=True)

    def add(self, loaded: Loaded) -> None:
        """Hang in an installed plug-in. Raises PluginError for what it declares wrongly."""
        self._add(loaded, own=False)
        self.loaded.append(loaded)

    def _add(self, loaded: Loaded, *, own: bool) -> None:
        name, plugin = loaded.name, loaded.plugin
        checks.check_hooks(loaded, self._types)
        for hook in loaded.hooks:
            if hook == "before_write":
                self.hooks.before_write.add(Hook(name, hook, plugin.before_write), plugin.before_write_types)
            elif hook == "after_commit":
                self.hooks.after_commit.append(Hook(name, hook, plugin.after_commit))
            elif hook == "before_answer":
                self.hooks.before_answer.add(Hook(name, hook, plugin.before_answer), plugin.before_answer_types)
            else:
                self._declare(name, hook, plugin, own=own)

    def _declare(self, name: str, hook: str, plugin: Plugin, *, own: bool) -> None:
        try:
            declared = getattr(plugin, hook)()
            items = list(declared.items() if hook == "v2_maps" else declared)
        except Exception as fault:
            kind = type(fault).__name__
            raise PluginError(
                name, hook, f"it failed ({kind}: {fault}); mend the plug-in", f"执行失败（{kind}: {fault}）；请修复该插件"
            ) from fault
        for item in items:
            if hook == "operations":
                self._add_operation(name, item, own=own)
            elif hook == "channels":
                checks.check_channel(name, item)
                self._claim(name, hook, f"channel '{item.code}'", f"渠道“{item.code}”")
                self._channels.append(item)
            elif hook == "readers":
                checks.check_reader(name, item)
                self._claim(name, hook, f"reader '{item.name}'", f"读取器“{item.name}”")
                self.readers.append(item)
            else:
                self._add_map(name, *item)

    def _claim(self, plugin: str, hook: str, what: str, zh: str) -> None:
        """Each thing is declared once. Raises PluginError naming both plug-ins."""
        other = self._owner.get((hook, what))
        if other is not None:
            raise PluginError(
                plugin,
                hook,
                f"{what} is declared by '{other}' already; give it another name, or leave one of the two out of FHIR_SERVER_PLUGINS",
                f"{zh}已由“{other}”声明；请改名，或在 FHIR_SERVER_PLUGINS 中去掉其中一个",
            )
        self._owner[hook, what] = plugin

    def _add_operation(self, plugin: str, operation: Operation, *, own: bool) -> None:
        checks.check_operation(plugin, operation, self._types)
        self._claim(plugin, "operations", f"operation ${operation.name}", f"操作 ${operation.name} ")
        self.operations.add(operation if own else replace(operation, handler=_within_the_gate(operation.handler)))

    def _add_map(self, plugin: str, key: str, handler: Handler) -> None:
        checks.check_map(plugin, key, handler)
        kind, _, event = key.partition("^")
        if not event:
            self.segments.setdefault(kind, []).append(handler)
            return
        self._claim(plugin, "v2_maps", f"the map of {key}", f"{key} 的映射")
        self.messages.setdefault(kind, {})[event] = handler


def _within_the_gate(handler: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """The handler with a context that reaches resources through the gate only."""

    async def handle(context: Context, request: Request, type: str | None, id: str | None) -> Response:
        parts: dict[str, Any] = {name: part for name, part in context.parts.items() if name not in _STORE_SIDE}
        return await handler(replace(context, parts=parts), request, type, id)

    return handle
