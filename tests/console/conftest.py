"""Fixtures of the console's tests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Server
from tests.console.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that refuses calls until it is opened."""
    made = Receiver()
    yield made
    made.shut()


@pytest.fixture
def console(server: Server) -> Iterator[httpx.Client]:
    """The console's own script: a client that sends its header."""
    with httpx.Client(base_url=server.root, headers={"X-Requested-With": "console"}, timeout=60) as http:
        yield http
