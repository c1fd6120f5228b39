"""A server with a few resources, for tables of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import start_server

Resources = Iterable[dict[str, Any]]


@contextmanager
def stocked(folder: Path, resources: Resources | Callable[[str], Resources], env: dict[str, str] | None = None) -> Iterator[httpx.Client]:
    """A client of a server that holds the resources, written one by one in their order; a function makes them of its base URL."""
    server = start_server(folder / "data", env=env)
    try:
        with server.client() as client:
            for one in resources(server.base) if callable(resources) else resources:
                answer = client.put(f"{one['resourceType']}/{one['id']}", json=one)
                assert answer.status_code == 201, answer.text
            yield client
    finally:
        server.kill()
