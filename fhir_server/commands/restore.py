"""`fhir-server restore`: a data folder out of a backup, as it was then or at an earlier moment."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fhir_server.commands.backup import Bars, bars, stopped
from fhir_server.settings import Settings
from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite.backing_up import BackupError
from fhir_server.storage.sqlite.restoring import restored

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="Folder that `fhir-server backup` made.")],
    data_dir: Annotated[Path | None, typer.Option(help="Data folder to make; must be empty or not there.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Verify a backup and make a data folder of it; nothing is left where that fails.

    Exit status: 0 the folder can be served, 2 nothing was made.
    """
    console = Console(stderr=True)
    folder = data_dir or Settings().data_dir  # type: ignore[call-arg]
    try:
        with bars(console, quiet or not console.is_terminal) as progress, restored(backup, folder, Bars(progress)) as (_, manifest):
            pass
    except (BackupError, UnusableStore, OSError, sqlite3.Error) as problem:
        raise stopped(console, problem) from None
    print(f"{folder}: restored 已恢复, sequence number 序号 {manifest.rid}")
