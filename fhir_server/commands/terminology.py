"""`fhir-server terminology`: take in the terminologies that a site brings (LOINC, SNOMED CT, ICD-10 editions), and list them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fhir_server.settings import Settings
from fhir_server.terminology.large import LargeSystems, write
from fhir_server.terminology.releases import ReleaseError, read_release

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help="Terminologies that a site brings.")

STOPPED = 2
Folder = Annotated[Path | None, typer.Option(help="Data folder of the server (which may be running).")]


class Kind(StrEnum):
    """Formats of releases."""

    loinc = "loinc"
    snomed = "snomed"
    table = "table"


@app.command()
def load(
    path: Annotated[Path, typer.Argument(help="The release: a zip archive, a folder, or a table.")],
    format: Annotated[
        Kind, typer.Option(help="loinc: Loinc.csv; snomed: RF2 snapshot; table: CSV or TSV with code and name (ICD-10, 国临版).")
    ],
    url: Annotated[str, typer.Option(help="URI of the code system (for tables).")] = "",
    version: Annotated[str, typer.Option(help="Version (default: as the file names tell).")] = "",
    name: Annotated[str, typer.Option(help="Name for people (for tables).")] = "",
    data_dir: Folder = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Take in a release, in the place of one of the same version; a running server uses it within a second.

    Exit status: 0 it is taken in, 2 nothing was changed.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.completed} concepts 概念"), TimeElapsedColumn())
    try:
        release = read_release(path, format.value, url, version, name)
        with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
            task = progress.add_task("", total=None)

            def counted():  # type: ignore[no-untyped-def]
                for number, row in enumerate(release.rows):
                    if number % 1000 == 0:
                        progress.update(task, completed=number)
                    yield row

            folder = data_dir or Settings().data_dir  # type: ignore[call-arg]
            count = write(folder, release.url, release.version, release.name, release.language, release.properties, counted())
    except (ReleaseError, OSError, sqlite3.Error) as problem:
        text = f"{problem}\n{problem.zh}" if isinstance(problem, ReleaseError) and problem.zh else str(problem)
        console.print(f"[red]It stopped 已中止:[/red] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    asyncio.run(_noted(folder, f"{release.url}|{release.version}", count, console))
    print(f"{release.url}|{release.version}: {count} concepts, {time.monotonic() - started:.1f} s")


async def _noted(folder: Path, what: str, count: int, console: Console) -> None:
    """Leave a line in the trail of administrative actions. The release is there already: what cannot be written is only said."""
    from fhir_server.auth.audit import operator, trail_of
    from fhir_server.errors import FhirError
    from fhir_server.loading.opening import opened
    from fhir_server.loading.sources import LoadError

    try:
        async with opened(folder) as (context, _):
            await trail_of(context.parts, context.clock).note(operator(), "terminology-load", what, f"{count} concepts")
    except (LoadError, FhirError, OSError) as problem:
        console.print(f"It is not in the trail of administrative actions 未能记入管理操作记录: {escape(str(problem))}", highlight=False)


@app.command("list")
def list_command(data_dir: Folder = None) -> None:
    """The terminologies that were taken in."""
    systems = LargeSystems(data_dir or Settings().data_dir)  # type: ignore[call-arg]
    systems.refresh()
    table = Table("url", "version", "name", "concepts")
    for one in systems.all():
        table.add_row(one.url, one.version, one.name, str(len(one.concepts)))
    Console().print(table if systems.all() else "no terminologies 没有导入任何术语")
