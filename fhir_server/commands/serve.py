"""`fhir-server serve`: the server on the embedded store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)


def settings_of(**options: Any) -> Any:
    """The settings from the environment, overridden by the options that were given. Ends with status 2 where one is wrong."""
    from pydantic import ValidationError

    from fhir_server.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as fault:
        for error in fault.errors():
            name = str(error["loc"][0] if error["loc"] else "settings")
            print(f"fhir-server: --{name.lower().replace('_', '-')}: {error['msg']} (got {error['input']!r})", file=sys.stderr)
        raise typer.Exit(2) from None


def run(settings: Any, prepare: Any = None) -> None:
    """Serve and end with its status; 2 where the settings are refused."""
    from fhir_server.serve import Refused, serve

    try:
        status = serve(settings, prepare)
    except Refused as refusal:
        print(f"fhir-server: {refusal}", file=sys.stderr)
        raise typer.Exit(2) from None
    raise typer.Exit(status)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (loopback only while authorization is off). Default 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="HTTP port; 0 takes a free one and prints it. Default 8000.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the embedded store. Default ./data.")] = None,
    store: Annotated[str | None, typer.Option(help="sqlite (mongodb://... is not served yet).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker processes on one store. Default 1.")] = None,
    mllp_port: Annotated[str | None, typer.Option(help="Port of the MLLP listener; 0 = a free one, off = none. Default 2575.")] = None,
    auth: Annotated[str | None, typer.Option(help="off (smart is not served yet).")] = None,
    jobs: Annotated[str | None, typer.Option(help="embedded (celery is not served yet).")] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis for --jobs celery.")] = None,
    log_level: Annotated[str | None, typer.Option(help="Level of the JSON log on stderr. Default INFO.")] = None,
) -> None:
    """Start the server and print its addresses; every option is also a setting FHIR_SERVER_<NAME>."""
    given = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "store": store,
        "workers": workers,
        "mllp_port": mllp_port,
        "auth": auth,
        "jobs": jobs,
        "redis_url": redis_url,
        "log_level": log_level,
    }
    run(settings_of(**given))
