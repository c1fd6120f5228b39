"""`fhir-server reindex`: index what is stored once more, on a store's folder or on a running server, and show how far it is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fhir_server.errors import FhirError
from fhir_server.loading.sources import LoadError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

FAULTY, STOPPED = 1, 2
_LOOK = 0.2


class State(NamedTuple):
    """How far the work is."""

    done: int
    total: int
    faults: int
    ended: bool
    fault: str = ""


@app.command()
def reindex(
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the store (a server may be running on it).")] = None,
    url: Annotated[str, typer.Option(help="Ask the running server with this FHIR base instead.")] = "",
    token: Annotated[str, typer.Option(envvar="FHIR_SERVER_TOKEN", help="Access token for --url.")] = "",
    type: Annotated[list[str] | None, typer.Option(help="Only resources of this type (again for more); searches go on meanwhile.")] = None,
    parameter: Annotated[str, typer.Option(help="Only the types that have the search parameter of this URL.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Make the whole search index anew (searches answer 503 until it is whole), or write that of some types once more.

    The work goes on in a running server when this command is interrupted, else with the next start. Exit status: 0 all is indexed, 1 some
    resources could not be, 2 it stopped.
    """
    console = Console(stderr=True)
    if url and data_dir:
        raise typer.BadParameter("--url and --data-dir exclude each other")
    asked = [("type", name) for name in type or ()] + ([("url", parameter)] if parameter else [])
    started = time.monotonic()
    try:
        state = asyncio.run(
            _remote(url, token, asked, _progress(console, quiet)) if url else _direct(data_dir, asked, _progress(console, quiet))
        )
    except (LoadError, FhirError, OSError) as problem:
        text = "; ".join(issue.diagnostics for issue in problem.issues) if isinstance(problem, FhirError) else str(problem)
        console.print(f"[red]It stopped:[/red] {text}", highlight=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        console.print("Not waiting any longer; a running server goes on with it, else the next start does.")
        raise typer.Exit(STOPPED) from None
    seconds = time.monotonic() - started
    print(f"{state.done} resources indexed in {seconds:.1f} s, {state.faults} with errors")
    if state.faults:
        print(f"The first: {state.fault}")
    raise typer.Exit(FAULTY if state.faults else 0)


def _progress(console: Console, quiet: bool) -> Progress:
    return Progress(
        TextColumn("index"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("resources"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
        refresh_per_second=4,
    )


async def _direct(data_dir: Path | None, asked: list[tuple[str, str]], progress: Progress) -> State:
    from fhir_server.auth.audit import operator
    from fhir_server.auth.gate import Principal
    from fhir_server.interactions.http import Request
    from fhir_server.loading.opening import opened
    from fhir_server.operations.reindex import reindex as operation
    from fhir_server.settings import Settings
    from fhir_server.storage.sqlite.schema import FILE_NAME

    folder = data_dir or Settings().data_dir  # type: ignore[call-arg]
    if not (folder / FILE_NAME).exists():
        raise LoadError(f"{folder.absolute()} holds no store ({FILE_NAME})")
    async with opened(folder) as (context, store):
        request = Request("POST", "$reindex", resource=_parameters(asked), base="/fhir", principal=Principal(operator()))
        answer = await operation(context, request, None, None)
        number = int(dict(answer.headers)["Content-Location"].rpartition("=")[2])
        with progress:
            task = progress.add_task("index")
            while True:
                (work,) = await store.reindexing(number)
                progress.update(task, completed=work.done, total=work.total)
                if work.ended is not None:
                    return State(work.done, work.total, work.faults, True, work.fault)
                await asyncio.sleep(_LOOK)


def _parameters(asked: list[tuple[str, str]]) -> dict[str, Any]:
    rows = [{"name": name, "valueUri" if name == "url" else "valueCode": value} for name, value in asked]
    return {"resourceType": "Parameters", "parameter": rows} if rows else {"resourceType": "Parameters"}


async def _remote(url: str, token: str, asked: list[tuple[str, str]], progress: Progress) -> State:
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        try:
            answer = await client.post(f"{url.rstrip('/')}/$reindex", json=_parameters(asked))
            if answer.status_code != 202:
                raise LoadError(_said(answer))
            with progress:
                task = progress.add_task("index")
                while True:
                    status = await client.get(answer.headers["Content-Location"])
                    if status.status_code not in (200, 202):
                        raise LoadError(_said(status))
                    state = _state(status.json(), status.status_code == 200)
                    progress.update(task, completed=state.done, total=state.total)
                    if state.ended:
                        return state
                    await asyncio.sleep(_LOOK)
        except httpx.HTTPError as fault:
            raise LoadError(f"{url}: {fault.__class__.__name__}: {fault}") from fault


def _state(report: dict[str, Any], ended: bool) -> State:
    found = {one["name"]: one for one in report["parameter"]}
    done, total, faults = (found[name]["valueInteger"] for name in ("indexed", "total", "errors"))
    said = found["outcome"]["resource"]["issue"][0]["diagnostics"] if ended else ""
    return State(done, total, faults, ended, said)


def _said(answer: Any) -> str:
    try:
        return f"HTTP {answer.status_code}: " + "; ".join(issue["diagnostics"] for issue in answer.json()["issue"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
