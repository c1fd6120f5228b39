"""`fhir-server backup`: a whole copy of the data folder, taken while servers read and write in it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fhir_server.settings import Settings
from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite.backing_up import BackupError, back_up

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

STOPPED = 2


class Bars:
    """A bar for each part of the work, from its first step on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, part: str, done: int, total: int) -> None:
        if part not in self._tasks:
            self._tasks[part] = self._progress.add_task(part, total=max(total, 1))
        self._progress.update(self._tasks[part], completed=done if total else 1)


def bars(console: Console, quiet: bool) -> Progress:
    """What shows the progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=quiet, refresh_per_second=4)


def stopped(console: Console, problem: Exception) -> typer.Exit:
    """Say why nothing was done, in both languages where there are both; what to raise then."""
    text = f"{problem}\n{problem.zh}" if isinstance(problem, BackupError) else str(problem)
    console.print(f"[red]It stopped 已中止:[/red] {escape(text)}", highlight=False, soft_wrap=True)
    return typer.Exit(STOPPED)


@app.command()
def backup(
    place: Annotated[Path, typer.Argument(help="Folder to make; it must not be there yet.")],
    data_dir: Annotated[Path | None, typer.Option(help="Data folder (servers may be running on it).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Copy the store with its keys, the large code systems and all other files of the data folder, as of one moment; writers go on.

    The folder appears when it is whole, with a manifest. Exit status: 0 it is there, 2 nothing is.
    """
    console = Console(stderr=True)
    folder = data_dir or Settings().data_dir  # type: ignore[call-arg]
    try:
        with bars(console, quiet or not console.is_terminal) as progress:
            manifest = back_up(folder, place, time.time_ns() // 1_000_000, Bars(progress))
    except (BackupError, UnusableStore, OSError, sqlite3.Error) as problem:
        raise stopped(console, problem) from None
    size = sum(item.bytes for item in manifest.files)
    print(f"{place}: {len(manifest.files)} files 个文件, {size:,} bytes 字节, sequence number 序号 {manifest.rid}")
