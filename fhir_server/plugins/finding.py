"""Finds and loads the plug-ins that are installed, by their entry points.

Specification: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

from fhir_server.plugins.hooks import HOOKS, Plugin

GROUP = "fhir_server.plugins"
_NONE = frozenset({"", "off"})
ALL = "all"


class PluginError(Exception):
    """A plug-in that cannot be used; the text names plug-in, hook and what to do, in English and Chinese."""

    def __init__(self, plugin: str, hook: str, what: str, zh: str) -> None:
        place, ort = f"plug-in '{plugin}'" + (f", hook {hook}" if hook else ""), f"插件“{plugin}”" + (f"，钩子 {hook}" if hook else "")
        super().__init__(f"{place}: {what}\n{ort}：{zh}")
        self.plugin, self.hook = plugin, hook


class Loaded(NamedTuple):
    """A plug-in that was loaded: the name and version of what brought it, and the names of the hooks that it uses."""

    name: str
    version: str
    plugin: Plugin
    hooks: tuple[str, ...]


def used(plugin: Plugin) -> tuple[str, ...]:
    """The names of the hooks that a plug-in overrides."""
    return tuple(name for name in HOOKS if getattr(type(plugin), name) is not getattr(Plugin, name) or name in vars(plugin))


def _points() -> dict[str, metadata.EntryPoint]:
    """Entry points by name. Raises PluginError where two packages bring the same name."""
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            both = ", ".join(sorted({_package(other), _package(point)}))
            raise PluginError(
                point.name,
                "",
                f"two packages bring a plug-in of this name ({both}); uninstall one",
                f"两个包提供了同名插件（{both}），请卸载其一",
            )
    return found


def _package(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _chosen(wanted: str, there: Sequence[str]) -> list[str]:
    if wanted.strip() == ALL:
        return sorted(there)
    if wanted.strip() in _NONE:
        return []
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip()))
    for name in names:
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise PluginError(
                name,
                "",
                f"FHIR_SERVER_PLUGINS names it, but it is not installed (installed: {known}); install its package or take the name out",
                f"FHIR_SERVER_PLUGINS 中列出了它，但未安装（已安装：{known}）；请安装相应的包，或删去该名称",
            )
    return names


def installed(wanted: str) -> list[Loaded]:
    """The plug-ins that the setting `plugins` wants (names, 'all', or '' and 'off' for none), in its order. Raises PluginError."""
    points = _points() if wanted.strip() not in _NONE else {}
    return [_loaded(points[name]) for name in _chosen(wanted, list(points))]


def _loaded(point: metadata.EntryPoint) -> Loaded:
    try:
        found: Any = point.load()
        plugin = found() if isinstance(found, type) and issubclass(found, Plugin) else found
    except Exception as fault:
        raise PluginError(
            point.name,
            "",
            f"it cannot be loaded from {point.value} ({type(fault).__name__}: {fault}); mend or uninstall {_package(point)}, "
            "or name the others in FHIR_SERVER_PLUGINS",
            f"无法从 {point.value} 加载（{type(fault).__name__}: {fault}）；请修复或卸载 {_package(point)}，"
            "或在 FHIR_SERVER_PLUGINS 中只列出其他插件",
        ) from fault
    if not isinstance(plugin, Plugin):
        raise PluginError(
            point.name,
            "",
            f"{point.value} is {type(plugin).__name__}; the entry point must lead to a subclass of fhir_server.plugins.Plugin",
            f"{point.value} 是 {type(plugin).__name__}；入口点必须指向 fhir_server.plugins.Plugin 的子类",
        )
    return Loaded(point.name, point.dist.version if point.dist is not None else "", plugin, used(plugin))
