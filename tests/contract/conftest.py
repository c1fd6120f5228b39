"""The contract suite runs over every back end: a new one adds a line to `BACK_ENDS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fhir_server.storage.port import Store
from tests.contract.support import sqlite_store

BACK_ENDS: dict[str, Callable[..., Store]] = {"sqlite": sqlite_store}

OpenStore = Callable[..., Awaitable[Store]]


@pytest_asyncio.fixture(params=sorted(BACK_ENDS))
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """`await open_store(**options)`: a store on the test's own data; a second call opens the same data once more."""
    opened: list[Store] = []

    async def open_one(**more: Any) -> Store:
        store = BACK_ENDS[request.param](tmp_path / "store", **more)
        await store.open()
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest_asyncio.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
