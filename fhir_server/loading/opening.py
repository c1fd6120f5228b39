"""The parts of a server that loading needs, on a store's folder, without listening to anything."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fhir_server.interactions.context import Context
from fhir_server.loading.sources import LoadError
from fhir_server.settings import Settings
from fhir_server.storage.port import Store, UnusableStore


@asynccontextmanager
async def opened(data_dir: Path | None) -> AsyncIterator[tuple[Context, Store]]:
    """Context and store of a folder (default: the setting's), closed at the end. Raises LoadError where store or plug-in cannot be used."""
    from fhir_server.app import compose
    from fhir_server.plugins.finding import PluginError

    # Resources are trees without cycles: looking for cycles among them again and again would cost a fifth of the load.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)

    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)  # type: ignore[call-arg]
    try:
        server = await compose(settings, 0)
    except (PluginError, UnusableStore) as problem:
        raise LoadError(str(problem)) from problem
    try:
        yield server.context, server.store
    finally:
        await server.stop()
