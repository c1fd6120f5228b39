"""What a plug-in declares is checked when the server starts, so that nothing wrong is found out only by a request."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any

from fhir_server.interactions.registration import Operation
from fhir_server.plugins.finding import Loaded, PluginError
from fhir_server.plugins.hooks import EVENTS, HOOKS, Plugin
from subscriptions.jobs.feed import FeedReader

_LEVELS = frozenset({"system", "type", "instance", "version"})
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_READER = re.compile(r"[a-z][a-z0-9_]*")
_SIMILAR = 0.75


def waits(function: Any) -> bool:
    """Whether calling it gives something to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_hooks(loaded: Loaded, types: Iterable[str]) -> None:
    """Raise PluginError for a misspelt hook, one of the wrong kind of function, or types that R4 does not have."""
    name, plugin = loaded.name, loaded.plugin
    for member in dir(type(plugin)):
        if member.startswith("_") or hasattr(Plugin, member) or not callable(getattr(type(plugin), member)):
            continue
        if close := difflib.get_close_matches(member, HOOKS, 1, _SIMILAR):
            raise PluginError(
                name,
                member,
                f"there is no such hook; {close[0]} is meant? (a method of one's own: begin its name with _)",
                f"没有这个钩子；是否应为 {close[0]}？（自用方法的名称请以 _ 开头）",
            )
    for hook in loaded.hooks:
        function = getattr(plugin, hook)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise PluginError(name, hook, "it must not be a generator; use return, not yield", "不能是生成器；请使用 return 而不是 yield")
        if hook not in EVENTS and waits(function):
            raise PluginError(
                name, hook, "it declares something at the start: write def, not async def", "它在启动时声明内容：请用 def，不要用 async def"
            )
    known = {*types, "*"}
    for hook in ("before_write", "before_answer"):
        wanted = getattr(plugin, f"{hook}_types")
        if isinstance(wanted, str) or not wanted:
            raise PluginError(name, hook, f"{hook}_types must be a tuple of resource types", f"{hook}_types 必须是由资源类型组成的元组")
        for type_ in wanted:
            if type_ not in known:
                raise PluginError(
                    name, hook, f"{hook}_types names '{type_}', which R4 does not have", f"{hook}_types 中的“{type_}”不是 R4 的资源类型"
                )


def check_operation(plugin: str, operation: Any, types: Iterable[str]) -> None:
    """Raise PluginError for an operation that could not be served, or that nobody could be asked about."""

    def wrong(what: str, zh: str) -> PluginError:
        return PluginError(plugin, "operations", what, zh)

    if not isinstance(operation, Operation):
        raise wrong(f"it gave {type(operation).__name__}, not an Operation", f"给出的是 {type(operation).__name__}，而不是 Operation")
    name = operation.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong(f"'{name}' is not a name of an operation (without $)", f"“{name}”不是合法的操作名（不含 $）")
    if not isinstance(operation.policy, str) or not operation.policy.strip():
        raise wrong(
            f"${name} has no policy; name the right that the gate is to ask for", f"${name} 没有 policy；请写明需要向门禁查询的权限"
        )
    if not waits(operation.handler):
        raise wrong(f"the handler of ${name} must be async def", f"${name} 的 handler 必须用 async def")
    if not operation.levels or not operation.levels <= _LEVELS:
        raise wrong(
            f"levels of ${name} must be some of {', '.join(sorted(_LEVELS))}", f"${name} 的 levels 应取自 {', '.join(sorted(_LEVELS))}"
        )
    if not operation.methods or not set(operation.methods) <= _METHODS:
        raise wrong(f"methods of ${name} must be HTTP methods such as GET, POST", f"${name} 的 methods 应为 GET、POST 等 HTTP 方法")
    if unknown := [one for one in operation.types if one not in {*types, "*", ""}]:
        raise wrong(f"${name} names the type '{unknown[0]}', which R4 does not have", f"${name} 中的“{unknown[0]}”不是 R4 的资源类型")


def check_channel(plugin: str, channel: Any) -> None:
    """Raise PluginError for a channel that messages could not leave through."""
    code = getattr(channel, "code", "")
    if not code or not isinstance(code, str):
        raise PluginError(plugin, "channels", f"{type(channel).__name__} has no code", f"{type(channel).__name__} 没有 code")
    for member, kind in (("participation", str), ("external", bool)):
        if not isinstance(getattr(channel, member, None), kind):
            raise PluginError(
                plugin, "channels", f"channel '{code}' needs {member} ({kind.__name__})", f"渠道“{code}”缺少 {member}（{kind.__name__}）"
            )
    if not callable(getattr(channel, "address", None)) or waits(channel.address):
        raise PluginError(plugin, "channels", f"channel '{code}': address must be def", f"渠道“{code}”的 address 必须用 def")
    if not waits(getattr(channel, "send", None)):
        raise PluginError(plugin, "channels", f"channel '{code}': send must be async def", f"渠道“{code}”的 send 必须用 async def")


def check_map(plugin: str, key: Any, handler: Any) -> None:
    """Raise PluginError for a key that is neither message nor segment, or a map that is no plain function."""
    if not isinstance(key, str) or not re.fullmatch(r"[A-Z][A-Z0-9]{2}(\^[A-Z][A-Z0-9]{2})?", key):
        raise PluginError(
            plugin, "v2_maps", f"'{key}' is neither a message (ADT^A60) nor a segment (ZPI)", f"“{key}”既不是消息（ADT^A60）也不是段（ZPI）"
        )
    if not callable(handler) or waits(handler):
        raise PluginError(plugin, "v2_maps", f"the map of {key} must be def", f"{key} 的映射必须用 def")


def check_reader(plugin: str, reader: Any) -> None:
    """Raise PluginError for a reader whose name cannot be kept, or that does not wait."""
    if not isinstance(reader, FeedReader):
        raise PluginError(
            plugin, "readers", f"it gave {type(reader).__name__}, not a FeedReader", f"给出的是 {type(reader).__name__}，而不是 FeedReader"
        )
    if not _READER.fullmatch(reader.name) or reader.name in ("subscriptions", "followup"):
        raise PluginError(
            plugin,
            "readers",
            f"'{reader.name}' cannot be the name of a reader: a-z, 0-9 and _, and not one of the server's own",
            f"“{reader.name}”不能作读取器的名称：只能用 a-z、0-9 和 _，且不能与服务器自有的重名",
        )
    if not waits(reader.react) or not waits(reader.prepare):
        raise PluginError(
            plugin,
            "readers",
            f"react and prepare of '{reader.name}' must be async def",
            f"“{reader.name}”的 react 和 prepare 必须用 async def",
        )
