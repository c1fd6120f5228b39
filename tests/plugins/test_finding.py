"""Which plug-ins are loaded, and what stops the start: always with the plug-in's name, the hook, and what to do, in both languages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fhir_server.model.definitions import definitions
from fhir_server.plugins import PluginError, Plugins, shipped
from fhir_server.plugins.finding import Loaded, used
from tests.conftest import ROOT
from tests.plugins.packages import install, wheel

HEAD = """
from fhir_server.plugins import Operation, Plugin
from integrations.channels.inbox import Inbox
from subscriptions.jobs.feed import FeedReader


async def serve(context, request, type, id): ...


def plain(*arguments): ...


def operation(name="mine", policy="mine", handler=serve, levels=frozenset({"system"}), **more):
    return Operation(name, handler, policy, levels, **more)


class P(Plugin):
"""


def run(tmp_path: Path, body: str, *command: str, point: str = "mod:P", **settings: str) -> subprocess.CompletedProcess[str]:
    made = wheel(tmp_path, "faulty", "0.3", {"mod.py": HEAD + body}, {"mine": point})
    environment = {**os.environ, **install(tmp_path / "site", made), **settings}
    line = [sys.executable, "-m", "fhir_server.cli", *command, "--data-dir", str(tmp_path / "data"), "--port", "0", "--mllp-port", "off"]
    return subprocess.run(line, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


DECLARATIONS = {
    "    def operations(self): return [operation('validate')]": ("operations", "$validate is declared by 'operations' already", "已由"),
    "    def operations(self): return [operation(), operation()]": ("operations", "$mine is declared by 'mine' already", "已由"),
    "    def operations(self): return [operation(policy='')]": ("operations", "$mine has no policy", "没有 policy"),
    "    def operations(self): return [operation(handler=plain)]": ("operations", "must be async def", "async def"),
    "    def operations(self): return [operation(types=('Patiënt',))]": (
        "operations",
        "'Patiënt', which R4 does not have",
        "不是 R4 的资源类型",
    ),
    "    def operations(self): return [operation(levels=frozenset({'world'}))]": ("operations", "levels of $mine", "levels"),
    "    def operations(self): return ['mine']": ("operations", "it gave str, not an Operation", "而不是 Operation"),
    "    async def operations(self): return []": ("operations", "write def, not async def", "请用 def"),
    "    def operations(self): return 1 / 0": ("operations", "ZeroDivisionError", "执行失败"),
    "    def channels(self): return [Inbox()]": ("channels", "channel 'inbox' is declared by 'messages' already", "已由"),
    "    def channels(self): return [P()]": ("channels", "has no code", "没有 code"),
    "    def v2_maps(self): return {'ADT^A01': plain}": ("v2_maps", "the map of ADT^A01 is declared by 'hl7v2' already", "已由"),
    "    def v2_maps(self): return {'ZPI': serve}": ("v2_maps", "the map of ZPI must be def", "必须用 def"),
    "    def v2_maps(self): return {'Zp': plain}": ("v2_maps", "'Zp' is neither a message", "既不是消息"),
    "    def readers(self): return [FeedReader('mine', plain)]": ("readers", "must be async def", "async def"),
    "    def readers(self): return [FeedReader('followup', serve)]": ("readers", "cannot be the name of a reader", "不能作读取器的名称"),
    "    def before_writes(self, writing): ...": ("before_writes", "before_write is meant?", "before_write"),
    "    def before_write(self, writing): yield": ("before_write", "must not be a generator", "不能是生成器"),
    "    before_answer_types = 'Patient'\n    def before_answer(self, leaving): ...": ("before_answer", "must be a tuple", "元组"),
    "    before_write_types = ('Pat',)\n    def before_write(self, writing): ...": (
        "before_write",
        "'Pat', which R4 does not have",
        "不是 R4",
    ),
}


def declared(body: str) -> None:
    """Hang a plug-in into a registry that has the server's own features, as the start does."""
    module: dict[str, Any] = {}
    exec(HEAD + body, module)
    plugin = module["P"]()
    registry = Plugins(definitions().resource_types)
    for name, shipped_one in {"operations": shipped.Operations(), "messages": shipped.Messages(), "hl7v2": shipped.V2()}.items():
        registry.ship(name, shipped_one)
    registry.add(Loaded("mine", "0.3", plugin, used(plugin)))


@pytest.mark.parametrize("body", DECLARATIONS)
def test_a_wrong_declaration_is_named_with_its_hook(body: str) -> None:
    hook, english, chinese = DECLARATIONS[body]
    with pytest.raises(PluginError) as refused:
        declared(body)
    first, second = str(refused.value).splitlines()
    assert first.startswith(f"plug-in 'mine', hook {hook}: ") and english in first
    assert second.startswith(f"插件“mine”，钩子 {hook}：") and chinese in second


def test_what_is_in_order_is_taken() -> None:
    declared(
        "    def operations(self): return [operation()]\n"
        "    def v2_maps(self): return {'ZPI': plain, 'ADT^A60': plain}\n"
        "    def readers(self): return [FeedReader('mine', serve)]\n"
        "    def _before_writes(self): ...\n"
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_declaration_stops_the_start(tmp_path: Path, workers: str) -> None:
    done = run(tmp_path, "    def operations(self): return [operation('validate')]", "serve", FHIR_SERVER_WORKERS=workers)
    assert done.returncode == 1
    first, second = done.stderr.strip().splitlines()[:2]
    assert first.startswith("fhir-server: plug-in 'mine', hook operations: operation $validate is declared by 'operations' already")
    assert second.startswith("插件“mine”，钩子 operations：")
    assert not list((tmp_path / "data").glob("*"))


@pytest.mark.parametrize(
    ("body", "point", "wanted", "english"),
    [
        ("    pass\nraise RuntimeError('at import')", "mod:P", "all", "it cannot be loaded from mod:P (RuntimeError: at import)"),
        ("    def __init__(self): self.x = 1 / 0", "mod:P", "all", "ZeroDivisionError"),
        ("    pass", "mod:missing", "all", "it cannot be loaded from mod:missing"),
        ("    pass", "mod:serve", "all", "must lead to a subclass of fhir_server.plugins.Plugin"),
    ],
)
def test_what_cannot_be_loaded_stops_the_start(tmp_path: Path, body: str, point: str, wanted: str, english: str) -> None:
    done = run(tmp_path, body, "serve", point=point, FHIR_SERVER_PLUGINS=wanted)
    assert done.returncode == 1
    first, second = done.stderr.strip().splitlines()
    assert first.startswith("fhir-server: plug-in 'mine': ") and english in first
    assert second.startswith("插件“mine”：")


def test_a_name_that_is_not_installed_stops_the_start(tmp_path: Path) -> None:
    done = run(tmp_path, "    pass", "serve", FHIR_SERVER_PLUGINS="mine, other")
    assert done.returncode == 1
    assert "plug-in 'other': FHIR_SERVER_PLUGINS names it, but it is not installed (installed: mine)" in done.stderr
    assert "插件“other”" in done.stderr


def test_the_doctor_lists_plug_ins_with_version_and_hooks(tmp_path: Path) -> None:
    body = "    def before_write(self, writing): ...\n    def readers(self): return ()"
    done = run(tmp_path, body, "doctor")
    assert (done.returncode, "mine 0.3: before_write, readers" in done.stdout) == (0, True)
    done = run(tmp_path, body, "doctor", FHIR_SERVER_PLUGINS="off")
    assert "none (FHIR_SERVER_PLUGINS=off)" in done.stdout and "mine" not in done.stdout


def test_the_doctor_says_what_would_stop_the_start(tmp_path: Path) -> None:
    done = run(tmp_path, "    def operations(self): return [operation(policy='')]", "doctor")
    assert done.returncode == 1
    assert "$mine has no policy" in done.stdout
