"""The command line; see `fhir-server --help`."""


def main() -> None:
    """Entry point of the console script `fhir-server`."""
    raise SystemExit("not built yet")
