"""The embedded back end: one SQLite file."""

from fhir_server.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
