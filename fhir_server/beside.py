"""What is served beside /fhir and /health: metrics and the documentation page, as a FastAPI application that the console joins."""

from __future__ import annotations

import os
import shutil
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from fhir_server import __version__
from fhir_server.interactions.context import Context
from fhir_server.interactions.registration import INTERACTIONS
from fhir_server.observability.metrics import Gauge, RequestMetrics, SharedSnapshots, exposition
from fhir_server.storage.port import Reindexing

_NO_STORE = {"Cache-Control": "no-store"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}code{background:#eee}"
)


def documentation(context: Context) -> str:
    """The page /docs: interactions, operations, and each type with its search parameters, from the one registration."""
    rows = "".join(
        f"<tr><td><code>{interaction.method}</code></td><td><code>[base]/{escape(interaction.path)}</code></td><td>{escape(interaction.title)}</td></tr>"
        for interaction in INTERACTIONS
    )
    operations = "".join(
        f"<tr><td><code>${escape(operation.name)}</code></td><td>{', '.join(sorted(operation.levels))}</td>"
        f"<td>{escape(', '.join(filter(None, operation.types)))}</td><td>{escape(operation.title)}</td></tr>"
        for operation in sorted(context.operations.operations.values(), key=lambda operation: operation.name)
    )
    types = "".join(
        f'<tr><td><a href="https://hl7.org/fhir/R4/{type.lower()}.html">{type}</a></td><td>'
        + ", ".join(sorted(f"<code>{escape(parameter.code)}</code>" for parameter in context.search.of(type)))
        + "</td></tr>"
        for type in context.definitions.resource_types
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>FHIR R4 server {__version__}</title><style>{_STYLE}</style>'
        f"<h1>FHIR R4 server {__version__}</h1>"
        '<p><a href="fhir/metadata?_pretty=true">CapabilityStatement</a> · <a href="fhir/openapi.json">OpenAPI</a> · '
        '<a href="https://hl7.org/fhir/R4/http.html">the specification</a></p>'
        f"<h2>Interactions</h2><table>{rows}</table><h2>Operations</h2><table>{operations}</table>"
        f"<h2>Resource types and their search parameters</h2><table>{types}</table></html>"
    )


def _indexing(works: list[Reindexing]) -> list[Gauge]:
    """How far work over the search index is."""
    running = [work for work in works if work.ended is None]
    return [
        Gauge("fhir_server_reindex_total", "Resources that are to be indexed by work under way", sum(work.total for work in running)),
        Gauge("fhir_server_reindex_done", "How many of them are indexed", sum(work.done for work in running)),
    ]


async def _store(store: Any, data_dir: Path) -> list[Gauge]:
    """Sizes, asked for without a write: the page is there also when the disk is full."""
    disk = shutil.disk_usage(data_dir)
    rows = [
        Gauge("fhir_server_disk_free_bytes", "Room left for the store", disk.free),
        Gauge("fhir_server_disk_bytes", "Size of the disk that holds the store", disk.total),
        Gauge("fhir_store_last_change", "Sequence number of the last change", await store.last_rid()),
    ]
    if (sizes := getattr(store, "sizes", None)) is not None:  # a store of the network has no files here
        found = sizes()
        rows.append(Gauge("fhir_store_bytes", "Size of the store's database file", found["bytes"]))
        rows.append(Gauge("fhir_store_log_bytes", "Size of its write-ahead log", found["log_bytes"]))
    return rows


def build(context: Context, metrics: RequestMetrics, snapshots: SharedSnapshots | None, data_dir: Path) -> FastAPI:
    """The FastAPI application."""
    app = FastAPI(title="fhir-server", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/metrics")
    async def prometheus() -> Response:
        total = snapshots.total(metrics) if snapshots is not None else metrics
        gauges = await _store(context.parts["store"], data_dir)
        gauges.append(Gauge("fhir_server_worker_pid", "Process that answered", os.getpid()))
        gauges += _indexing(await context.parts["store"].reindexing())
        if (room := context.parts.get("jobs")) is not None:
            gauges += await room.gauges()
        return Response(exposition(total, gauges), media_type="text/plain; version=0.0.4; charset=utf-8", headers=_NO_STORE)

    @app.get("/docs")
    async def docs() -> Response:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(documentation(context), headers=headers)

    return app
