"""`fhir-server doctor`: looks at the set-up and says what is wrong and what to do, without changing anything."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.commands.serve import settings_of

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LEAST_FREE = 1_000_000_000
"""Bytes of free disk below which a store soon stands still."""


class Finding(NamedTuple):
    """What was looked at, `good`, `warning` or `wrong`, and what to know or do."""

    subject: str
    state: str
    text: str


def _python() -> Finding:
    return Finding("Python", "good", ".".join(map(str, sys.version_info[:3])))


def _packages() -> Finding:
    missing = []
    for name in ("uvloop", "httptools"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        return Finding("packages", "warning", f"{', '.join(missing)} not installed: requests cost more; pip install fhir-server")
    return Finding("packages", "good", "all that speed needs are installed")


def _folder(settings: Any) -> Iterator[Finding]:
    folder: Path = settings.data_dir
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            "data folder", "wrong", f"{folder.absolute()}: {place} may not be written by this user; change its owner or --data-dir"
        )
        return
    yield Finding("data folder", "good", f"{folder.absolute()}" + ("" if folder.exists() else " (will be made)"))
    free = shutil.disk_usage(place).free
    state = "good" if free >= LEAST_FREE else "warning"
    yield Finding("free disk", state, f"{free / 1e9:.1f} GB" + ("" if state == "good" else "; writes are refused when it is full"))
    yield _store(folder)


def _store(folder: Path) -> Finding:
    from fhir_server.storage.port import UnusableStore
    from fhir_server.storage.sqlite import files

    path = folder / files.FILE_NAME
    if not path.exists():
        return Finding("store", "good", "none yet; the first start makes it")
    try:
        files.check(path)
    except UnusableStore as fault:
        return Finding("store", "wrong", f"{fault}; put a copy back, or start with another --data-dir")
    return Finding("store", "good", f"{path.stat().st_size / 1e6:.1f} MB, undamaged")


def _settings(settings: Any) -> Finding:
    from fhir_server.serve import Refused, check

    try:
        check(settings)
    except Refused as refusal:
        return Finding("settings", "wrong", str(refusal))
    return Finding("settings", "good", "would be served")


def _zone(settings: Any) -> Finding:
    try:
        ZoneInfo(settings.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return Finding("time zone", "wrong", f"FHIR_SERVER_TIME_ZONE={settings.time_zone} is not known; use a name such as Asia/Shanghai")
    return Finding("time zone", "good", settings.time_zone)


def _plugins(settings: Any) -> Iterator[Finding]:
    from fhir_server.model.definitions import definitions
    from fhir_server.plugins import PluginError, Plugins, installed, shipped

    registry = Plugins(definitions().resource_types)
    registry.ship("operations", shipped.Operations())
    registry.ship("hl7v2", shipped.V2())
    try:
        found = installed(settings.plugins)
        for one in found:
            registry.add(one)
    except PluginError as fault:
        yield Finding("plug-ins", "wrong", str(fault))
        return
    if not found:
        yield Finding("plug-ins", "good", "none" if settings.plugins == "all" else f"none (FHIR_SERVER_PLUGINS={settings.plugins})")
    for one in found:
        yield Finding("plug-in", "good", f"{one.name} {one.version}: {', '.join(one.hooks) or 'no hooks'}")


def _port(subject: str, host: str, port: int) -> Finding:
    if port == 0:
        return Finding(subject, "good", "a free one will be taken")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host.strip("[]"), port), family=family):
            return Finding(subject, "good", f"{host}:{port} is free")
    except OSError as fault:
        return Finding(subject, "warning", f"{host}:{port}: {fault.strerror}; is a server running there already?")


def findings(settings: Any) -> Iterator[Finding]:
    """All that is looked at, in the order in which to mend it."""
    yield _python()
    yield _packages()
    yield _settings(settings)
    yield _zone(settings)
    yield from _plugins(settings)
    yield from _folder(settings)
    yield _port("HTTP port", settings.host, settings.port)
    if settings.mllp_port.isdigit():
        yield _port("MLLP port", settings.mllp_host, int(settings.mllp_port))


_SHOWN: dict[str, Callable[[str], str]] = {
    "good": lambda text: f"[green]{text}[/green]",
    "warning": lambda text: f"[yellow]{text}[/yellow]",
    "wrong": lambda text: f"[red]{text}[/red]",
}


@app.command()
def doctor(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded store. Default ./data.")] = None,
    host: Annotated[str | None, typer.Option(help="Address that would be listened on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="HTTP port.")] = None,
    mllp_port: Annotated[str | None, typer.Option(help="Port of the MLLP listener, or off.")] = None,
) -> None:
    """Check the set-up. Exit status 1 if something is wrong."""
    settings = settings_of(data_dir=data_dir, host=host, port=port, mllp_port=mllp_port)
    table = Table(show_header=False, box=None, pad_edge=False)
    bad = False
    for finding in findings(settings):
        table.add_row(finding.subject, _SHOWN[finding.state](finding.state), finding.text)
        bad |= finding.state == "wrong"
    Console(soft_wrap=True).print(table)
    raise typer.Exit(1 if bad else 0)
