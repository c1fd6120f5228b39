"""`fhir-server demo`: a server with a small population, the population as files, and the HL7 v2 feed."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from fhir_server.demo.feed import FeedMessage, demo_messages
from fhir_server.demo.population import population

if TYPE_CHECKING:
    from fhir_server.app import Application
    from fhir_server.settings import Settings

app = typer.Typer(help="Demonstration clinic: serve it, write its population, or send its HL7 v2 feed.", no_args_is_help=True)


async def _fill(settings: Settings, patients: int) -> int:
    """Write the population into an empty store; 0 when there is something in it already."""
    from rich.progress import Progress

    from fhir_server.app import compose
    from fhir_server.auth.gate import ALL_SEEING
    from fhir_server.storage.port import Unit, Write

    server = await compose(settings, settings.port)
    count = 0
    try:
        if await server.store.last_rid() == 0:
            with Progress(transient=True) as progress:
                task = progress.add_task("Demo population · 演示人群", total=patients + 1)
                for group in population(patients, end=dt.date.today()):
                    writes = [Write("PUT", resource["resourceType"], resource["id"], resource) for resource in group]
                    await server.context.gate.own().transact(ALL_SEEING, Unit.of(*writes))
                    count += len(group)
                    progress.advance(task)
    finally:
        await server.stop()
    return count


def _with_feed(server: Application) -> None:
    """Give the live page its button: the feed is sent over MLLP to this server's own listener."""

    async def send() -> dict[str, int]:
        host, _, port = server.mllp_address.rpartition(":")
        if not port:
            raise OSError("this server was started without an MLLP listener")
        return await send_feed(host, int(port), list(demo_messages(run=secrets.token_hex(2).upper())))

    server.context.parts["demo_feed"] = send


@app.command("serve")
def serve_demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port; 0 takes a free one.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Folder of the embedded store.")] = Path("data"),
    mllp_port: Annotated[str, typer.Option(help="Port of the MLLP listener; 0 takes a free one.")] = "2575",
    patients: Annotated[int, typer.Option(min=0, help="People of the population on first start.")] = 30,
) -> None:
    """Start a server with a small population (on first start) and the demo feed's button on its live page."""
    from fhir_server.commands.serve import run, settings_of

    settings = settings_of(port=port, data_dir=data_dir, mllp_port=mllp_port)
    count = asyncio.run(_fill(settings, patients))
    if count:
        typer.echo(f"{count} resources of {patients} invented patients written · 已写入 {patients} 名虚构患者的 {count} 个资源")
    if port:
        typer.echo(f"Live page · 实时页面  http://127.0.0.1:{port}/\nFHIR              http://127.0.0.1:{port}/fhir")
    typer.echo("No sign-in is needed: the server listens on this machine only.  本机演示，无需登录。Ctrl-C ends it.")
    run(settings, _with_feed)


async def send_feed(host: str, port: int, messages: list[FeedMessage], pause: float = 0.0) -> dict[str, int]:
    """Send the messages one after the other over one MLLP connection; counts of sent and not accepted ones."""
    from integrations.hl7v2.client import MllpClient

    refused = 0
    async with MllpClient(host, port) as client:
        for message in messages:
            answer = await client.send(message.content)
            refused += b"MSA|AA" not in answer
            if pause:
                await asyncio.sleep(pause)
    return {"sent": len(messages), "refused": refused}


@app.command()
def feed(
    host: Annotated[str, typer.Option(help="Address of the MLLP listener.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the MLLP listener.")] = 2575,
    stays: Annotated[int, typer.Option(min=1, max=200, help="Hospital stays to tell.")] = 4,
    seed: Annotated[int, typer.Option(help="Which people.")] = 1,
    run: Annotated[str, typer.Option(help="Name of this run; the same name sends the same messages again.")] = "",
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two messages.")] = 0.2,
) -> None:
    """Send admissions, results (one critical) and discharges over MLLP to a running server."""
    from rich.progress import Progress

    messages = list(demo_messages(stays, seed=seed, run=run or secrets.token_hex(2).upper()))
    with Progress(transient=False) as progress:
        task = progress.add_task("HL7 v2 / MLLP", total=len(messages))
        refused = 0
        for message in messages:
            try:
                refused += asyncio.run(send_feed(host, port, [message]))["refused"]
            except OSError as fault:
                typer.echo(
                    f"No MLLP listener at {host}:{port} ({fault}). Is the server running (make run)?  MLLP 端口没有应答，请先启动服务器。",
                    err=True,
                )
                raise typer.Exit(2) from fault
            progress.update(task, advance=1, description=message.zh)
            if pause:
                asyncio.run(asyncio.sleep(pause))
    typer.echo(f"{len(messages)} messages sent, {refused} not accepted · 已发送 {len(messages)} 条，{refused} 条未被接受")
    raise typer.Exit(1 if refused else 0)


@app.command("population")
def write_population(
    folder: Annotated[Path, typer.Argument(help="Where to write <Type>.ndjson files.")],
    patients: Annotated[int, typer.Option(min=1, help="How many people.")] = 30,
    seed: Annotated[int, typer.Option(help="Another seed, other people.")] = 1,
    end: Annotated[str, typer.Option(help="Day on which the records end (YYYY-MM-DD).")] = "2026-01-01",
    years: Annotated[int, typer.Option(min=1, max=20, help="Years of history.")] = 1,
) -> None:
    """Write the population as NDJSON, the same bytes for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    count = 0
    for group in population(patients, seed=seed, end=dt.date.fromisoformat(end), years=years):
        for resource in group:
            kind = resource["resourceType"]
            if kind not in files:
                files[kind] = open(folder / f"{kind}.ndjson", "wb")  # noqa: SIM115  (closed below)
            files[kind].write(orjson.dumps(resource) + b"\n")
            count += 1
    for file in files.values():
        file.close()
    typer.echo(f"{count} resources of {patients} patients in {folder}")
