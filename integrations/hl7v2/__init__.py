"""HL7 v2: MLLP listener, journal, mapping to FHIR, acknowledgements.

Specification: HL7 v2.5.1; v2-to-FHIR implementation guide 1.0.0
"""

from __future__ import annotations

from typing import Any

from fhir_server.storage.port import Store
from integrations.hl7v2.listener import MllpServer
from integrations.hl7v2.mapping import NO_SEGMENTS, Messages, Segments
from integrations.hl7v2.maps import HANDLERS
from integrations.hl7v2.pipeline import Pipeline


class Running:
    """The running HL7 v2 side of a server: `address` of the listener, `pipeline` with its counters."""

    def __init__(self, pipeline: Pipeline, server: MllpServer) -> None:
        self.pipeline, self._server = pipeline, server

    @property
    def address(self) -> str:
        return self._server.address

    async def stop(self) -> None:
        await self._server.stop()


async def start(context: Any, store: Store, messages: Messages = HANDLERS, segments: Segments = NO_SEGMENTS) -> Running:
    """Listen on the settings' MLLP address; raises OSError where it is taken.

    `context`: `fhir_server.interactions.context.Context`; `store` keeps the journal; `messages` and `segments` are the maps.
    """
    settings = context.settings
    metrics = context.parts.get("metrics")
    pipeline = Pipeline(context.gate, store, context.search, context.zone, metrics=metrics, messages=messages, segments=segments)
    server = MllpServer(settings.mllp_host, int(settings.mllp_port), pipeline.handle, max_frame=settings.mllp_max_bytes)
    await server.start()
    context.parts["hl7v2"] = pipeline
    return Running(pipeline, server)
