"""Snapshots of profiles: what a differential says, laid over the snapshot of its base.

Specification: https://hl7.org/fhir/R4/profiling.html#snapshot
"""

from fhir_server.validation.snapshot.generate import Generator, SnapshotError

__all__ = ["Generator", "SnapshotError"]
