"""`fhir-server package`: install FHIR packages (implementation guides) into a store, and list those that are there.

Specification: https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.errors import FhirError
from fhir_server.loading.installing import NEEDS_INDEXING, Installed, install, installed
from fhir_server.loading.sources import LoadError
from fhir_server.model.guide import guide
from fhir_server.model.packages import Package, PackageError, packed, read_package
from fhir_server.settings import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help="FHIR packages: implementation guides.")

REFUSED, STOPPED = 1, 2
SHOWN = 10
Folder = Annotated[Path | None, typer.Option(help="Folder of the store (a server may be running on it).")]


@app.command("install")
def install_command(
    paths: Annotated[list[Path], typer.Argument(help="Packages: .tgz files, or folders with a package.json.")],
    data_dir: Folder = None,
    search_parameters: Annotated[
        bool, typer.Option("--search-parameters", help="Also its search parameters; the resources of their types are indexed anew then.")
    ] = False,
) -> None:
    """Install packages, offline; several versions of one stand side by side, and installing one again changes nothing.

    Exit status: 0 all is installed, 1 some resources of a package were refused (they are listed), 2 nothing was installed of one.
    """
    console = Console(stderr=True)
    try:
        with console.status("reading 读取"):
            packages = [read_package(path) for path in paths]
        reports = asyncio.run(_install(packages, data_dir, search_parameters, console))
    except (PackageError, LoadError, FhirError, OSError) as problem:
        text = "; ".join(issue.diagnostics for issue in problem.issues) if isinstance(problem, FhirError) else str(problem)
        raise _stopped(text + ("; none of the packages was installed 所有包均未安装" if len(paths) > 1 else "")) from None
    for report, seconds in reports:
        _show(report, seconds)
    raise typer.Exit(REFUSED if any(report.refused for report, _ in reports) else 0)


async def _install(
    packages: list[Package], data_dir: Path | None, search_parameters: bool, console: Console
) -> list[tuple[Installed, float]]:
    from fhir_server.auth.audit import operator, trail_of
    from fhir_server.loading.opening import opened

    found: list[tuple[Installed, float]] = []
    async with opened(data_dir or Settings().data_dir) as (context, _):  # type: ignore[call-arg]
        for package in packages:
            started = time.monotonic()
            with console.status(f"installing 安装 {package.id}: {len(package.resources)} resources"):
                async with trail_of(context.parts, context.clock).taking(operator(), "package-install", package.id) as entry:
                    entry.detail = f"{len(package.resources)} resources"
                    report = await install(context, package, search_parameters=search_parameters, noted=entry.done)
            found.append((report, time.monotonic() - started))
    return found


def _show(report: Installed, seconds: float) -> None:
    total = sum(report.types.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.types.most_common())
    print(f"{report.package}: {total} resources ({kinds}), {report.changed} new or changed, {seconds:.1f} s")
    for kind, count in report.passed_over.items():
        hint = " (--search-parameters installs them)" if kind in NEEDS_INDEXING else ""
        print(f"  left out 未安装: {count} {kind}{hint}")
    for name in report.missing:
        print(f"  builds upon 依赖 {name}, which is not installed 尚未安装")
    for name, issues in report.refused[:SHOWN]:
        print(f"  refused 拒绝: {name}: {issues[0].diagnostics}")
    if len(report.refused) > SHOWN:
        print(f"  refused 拒绝: {len(report.refused) - SHOWN} more")


@app.command("list")
def list_command(data_dir: Folder = None) -> None:
    """The packages that are installed."""
    folder = data_dir or Settings().data_dir  # type: ignore[call-arg]
    if not folder.is_dir():
        raise _stopped(f"there is no folder 没有该文件夹: {folder}")
    try:
        found = asyncio.run(_installed(data_dir))
    except (LoadError, FhirError, OSError) as problem:
        raise _stopped(str(problem)) from None
    table = Table("package", "version")
    for name in found:
        table.add_row(*name.split("#", 1))
    Console().print(table if found else "no packages 没有安装任何包")


@app.command("export")
def export_command(
    path: Annotated[Path, typer.Argument(help="File to write (.tgz).")],
    canonical: Annotated[str, typer.Option(help="Base of the canonicals (default: the setting FOLLOWUP_CANONICAL).")] = "",
) -> None:
    """Write this product's own implementation guide as a package: the same bytes each time."""
    made = guide(canonical or Settings().followup_canonical)  # type: ignore[call-arg]
    try:
        path.write_bytes(packed(made))
    except OSError as problem:
        raise _stopped(f"{path}: {problem.strerror}") from None
    print(f"{path}: {made.id}, {len(made.resources)} resources, {len(made.examples)} examples")


def _stopped(text: str) -> typer.Exit:
    """Say why nothing was done; what to raise then."""
    Console(stderr=True).print(f"[red]It stopped 已中止:[/red] {text}", highlight=False, soft_wrap=True)
    return typer.Exit(STOPPED)


async def _installed(data_dir: Path | None) -> list[str]:
    from fhir_server.loading.opening import opened

    async with opened(data_dir or Settings().data_dir) as (context, _):  # type: ignore[call-arg]
        return await installed(context)
