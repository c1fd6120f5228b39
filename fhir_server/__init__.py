"""A FHIR R4 server: every write is one transaction on one ordered log, reads copy bytes."""

__version__ = "0.1.0"
