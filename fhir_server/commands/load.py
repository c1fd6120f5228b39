"""`fhir-server load`: NDJSON, JSON resources and Bundles into a store's folder, or into a running server."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fhir_server.errors import FhirError
from fhir_server.loading.journal import digest
from fhir_server.loading.report import Report
from fhir_server.loading.sources import LoadError, Source, find_sources

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

REFUSED, STOPPED = 1, 2
SHOWN_GROUPS = 30


class Loader(Protocol):
    """What loads one source after the other."""

    async def load(self, source: Source, advance: Advance, read_bytes: Advance) -> None: ...


class Advance(Protocol):
    """Told a number: items more, or bytes read so far."""

    def __call__(self, number: int, /) -> None: ...


@app.command()
def load(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders: .ndjson, .json, Bundles; plain, .gz, .tar.gz, .tgz.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the store to load into (a server may be running on it).")] = None,
    url: Annotated[str, typer.Option(help="Load into the running server with this FHIR base instead.")] = "",
    token: Annotated[str, typer.Option(envvar="FHIR_SERVER_TOKEN", help="Access token for --url.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write the end report to this file (JSON).")] = None,
    journal: Annotated[Path | None, typer.Option(help="Where --url keeps its progress (default: in the user's state folder).")] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Processes that read and validate (with --data-dir).")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Load files. Ids are kept, so that loading again changes nothing; after an interruption the same command goes on where it stopped.

    Exit status: 0 all is loaded, 1 something was refused (the report says what and why), 2 the load stopped.
    """
    console = Console(stderr=True)
    if url and data_dir:
        raise typer.BadParameter("--url and --data-dir exclude each other")
    try:
        sources, ignored = find_sources(paths)
        started = time.monotonic()
        result = asyncio.run(_run(sources, _Target(data_dir, url, token, journal, workers), console, quiet))
    except (LoadError, FhirError) as problem:
        console.print(f"[red]The load stopped:[/red] {_plain(problem)}", highlight=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from here.")
        raise typer.Exit(STOPPED) from None
    seconds = time.monotonic() - started
    show(result, seconds, ignored, Console())
    if report is not None:
        report.write_text(json.dumps(result.as_json(seconds, ignored), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(REFUSED if result.refused else 0)


def _plain(problem: LoadError | FhirError) -> str:
    return str(problem) if isinstance(problem, LoadError) else "; ".join(issue.diagnostics for issue in problem.issues)


class _Target:
    """Where to load to."""

    def __init__(self, data_dir: Path | None, url: str, token: str, journal: Path | None, workers: int) -> None:
        self.data_dir, self.url, self.token, self.workers = data_dir, url, token, workers
        self._journal = journal

    def journal(self) -> Path:
        if self._journal is not None:
            return self._journal
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return state / "fhir-server" / f"load-{digest(self.url.rstrip('/'))}.json"


async def _run(sources: list[Source], target: _Target, console: Console, quiet: bool) -> Report:
    report = Report()
    progress = _progress(console, quiet)
    task = progress.add_task("load", total=sum(source.size for source in sources), items=0, rate=0.0, file="")
    with progress:
        if target.url:
            await _remote(sources, target, report, _Bar(progress, task))
        else:
            await _direct(sources, target, report, _Bar(progress, task))
    return report


def _progress(console: Console, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.fields[file]}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[items]} resources, {task.fields[rate]:.0f}/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
        refresh_per_second=4,
    )


class _Bar:
    """The progress bar over all sources, told by the loader."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._before = 0
        self._items = 0
        self._started = time.monotonic()

    def begin(self, source: Source) -> None:
        self._progress.update(self._task, file=source.name[-40:])

    def end(self, source: Source) -> None:
        self._before += source.size
        self._progress.update(self._task, completed=self._before)

    def advance(self, number: int, /) -> None:
        self._items += number
        rate = self._items / max(time.monotonic() - self._started, 0.001)
        self._progress.update(self._task, items=self._items, rate=rate)

    def read_bytes(self, number: int, /) -> None:
        self._progress.update(self._task, completed=self._before + number)


async def _all(loader: Loader, sources: list[Source], bar: _Bar) -> None:
    for source in sources:
        bar.begin(source)
        await loader.load(source, bar.advance, bar.read_bytes)
        bar.end(source)


async def _remote(sources: list[Source], target: _Target, report: Report, bar: _Bar) -> None:
    from fhir_server.loading.remote import FileJournal, RemoteLoader

    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    loader = RemoteLoader(target.url, FileJournal(target.journal()), report, headers)
    try:
        await _all(loader, sources, bar)
    finally:
        await loader.close()


async def _direct(sources: list[Source], target: _Target, report: Report, bar: _Bar) -> None:
    from fhir_server.loading.direct import DirectLoader
    from fhir_server.loading.opening import opened

    async with opened(target.data_dir) as (context, store):
        await _all(DirectLoader(context, store, report), sources, bar)


def show(report: Report, seconds: float, ignored: list[str], console: Console) -> None:
    """Print the end report: counts by type, then what was refused and why."""
    results = sorted({result for counted in report.counts.values() for result in counted})
    table = Table(title="Loaded")
    table.add_column("type")
    for result in results:
        table.add_column(result, justify="right")
    for type, counted in sorted(report.counts.items()):
        table.add_row(type, *(str(counted[result] or "") for result in results))
    table.add_row("all", *(str(report.total(result)) for result in results), style="bold")
    console.print(table)
    rate = report.items / max(seconds, 0.001)
    console.print(f"{report.items} resources in {seconds:.1f} s ({rate:.0f}/s)", highlight=False)
    if report.bundles or report.skipped_bundles:
        before = f"; carried out by an earlier load and skipped: {report.skipped_bundles}" if report.skipped_bundles else ""
        console.print(f"Bundles carried out: {report.bundles}{before}", highlight=False)
    if report.resumed:
        console.print(f"Done before the interruption: {report.resumed}", highlight=False)
    if ignored:
        console.print(f"Files without FHIR content, ignored: {len(ignored)} (such as {ignored[0]})", highlight=False)
    if report.refused:
        _show_refused(report, console)


def _show_refused(report: Report, console: Console) -> None:
    table = Table(title=f"Refused: {report.refused}")
    for name in ("count", "type", "reason", "for example"):
        table.add_column(name, overflow="fold")
    for (type, reason), number in report.groups.most_common(SHOWN_GROUPS):
        example = report.examples[type, reason]
        table.add_row(str(number), type, reason, f"{example.place} {example.id}")
    console.print(table)
    if len(report.groups) > SHOWN_GROUPS:
        console.print(f"... and {len(report.groups) - SHOWN_GROUPS} more reasons; --report FILE lists all", highlight=False)
