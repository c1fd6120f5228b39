"""What all statements about this server say of it: that it is an instance of this software, and since when it runs."""

from __future__ import annotations

from typing import Any

from fhir_server import __version__
from fhir_server.interactions.headers import instant


def about(base: str, started: int) -> dict[str, Any]:
    """The elements status to implementation of a CapabilityStatement or TerminologyCapabilities; `started`: milliseconds since 1970."""
    return {
        "status": "active",
        "date": instant(started),
        "kind": "instance",
        "software": {"name": "fhir-server", "version": __version__},
        "implementation": {"description": "FHIR R4 server with HL7 v2 feeds, subscriptions and follow-up care", "url": base},
    }
