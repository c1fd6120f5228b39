"""`fhir-server demo`: a server with a small population, the population as files, and the HL7 v2 feed."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from pathlib import Path
from typing import Annotated

import orjson
import typer

from fhir_server.demo.feed import FeedMessage, demo_messages
from fhir_server.demo.population import population

app = typer.Typer(help="Demonstration clinic: serve it, write its population, or send its HL7 v2 feed.", no_args_is_help=True)


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
