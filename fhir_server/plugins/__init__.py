"""Plug-ins: what others need to write one, and the registry into which the server's own features and installed packages hang themselves."""

from fhir_server.auth.hooks import Committed, Leaving, View, Writing
from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.registration import Operation
from fhir_server.plugins.finding import PluginError, installed
from fhir_server.plugins.hooks import HOOKS, Plugin
from fhir_server.plugins.registry import Plugins

__all__ = [
    "HOOKS",
    "Committed",
    "FhirError",
    "Issue",
    "Leaving",
    "Operation",
    "Plugin",
    "PluginError",
    "Plugins",
    "View",
    "Writing",
    "installed",
]
