"""The command line `fhir-server`: commands are found by name and imported only when called.

A command is a module with a Typer application `app`. To add one, write it and add its line to COMMANDS.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

COMMANDS = {
    "serve": ("fhir_server.commands.serve", "Start the server."),
    "demo": ("fhir_server.demo.commands", "Demonstration clinic: serve it, or send its HL7 v2 feed."),
    "load": ("fhir_server.commands.load", "Load NDJSON, JSON and Bundles; resumable."),
    "backup": ("fhir_server.commands.backup", "Copy the whole data folder while the server works."),
    "restore": ("fhir_server.commands.restore", "Make a data folder of a backup, also as of an earlier moment."),
    "reindex": ("fhir_server.commands.reindex", "Index what is stored once more, with progress."),
    "export": ("fhir_server.commands.export", "Write all resources as NDJSON."),
    "validate": ("fhir_server.commands.validate", "Check resources in files."),
    "package": ("fhir_server.commands.package", "Install FHIR packages (implementation guides)."),
    "terminology": ("fhir_server.commands.terminology", "Take in LOINC, SNOMED CT, ICD-10 files."),
    "hl7v2": ("integrations.hl7v2.commands", "HL7 v2 tools: try messages without storing anything."),
    "jobs": ("subscriptions.commands", "Background jobs: dead letters and their revival."),
    "doctor": ("fhir_server.commands.doctor", "Check the set-up and say what is wrong."),
    "capabilities": ("fhir_server.commands.capabilities", "Print the CapabilityStatement."),
}
"""Name -> (module, one line of help)."""


def _exists(module: str) -> bool:
    """Whether a module's file is there. The packages above it are not imported, which `find_spec` of a nested name would do."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    places = spec.submodule_search_locations if spec else None
    return any(Path(place, *rest).with_suffix(".py").exists() for place in places or ())


class LazyGroup(TyperGroup):
    """Commands whose modules are imported when they are called; `--help` imports none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What `--help` shows: name and one line."""
        module, help = COMMANDS.get(cmd_name, ("", ""))
        return TyperCommand(cmd_name, help=help) if module and _exists(module) else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported now."""
        name, found, rest = super().resolve_command(ctx, args)
        if found is not None and name is not None:
            found = get_command(importlib.import_module(COMMANDS[name][0]).app)
        return name, found, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A FHIR R4 server with HL7 v2 feeds, subscriptions and a follow-up (随访) engine. Settings: docs/configuration.md.",
)


@app.callback(invoke_without_command=True)
def entry(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """Options before the command."""
    if version:
        from fhir_server import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the console script `fhir-server`."""
    app()


if __name__ == "__main__":
    main()
