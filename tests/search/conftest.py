"""One server with the ward, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import Server, start_server
from tests.search.ward import WARD

Found = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Dates without a zone are UTC here, so that the tables need no arithmetic."""
    running = start_server(tmp_path_factory.mktemp("ward") / "data", env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in WARD]
    answer = httpx.post(running.base, json={"resourceType": "Bundle", "type": "transaction", "entry": entries}, timeout=30)
    assert answer.status_code == 200, answer.text
    yield running
    running.kill()


@pytest.fixture(scope="module")
def asks(ward: Server) -> Iterator[httpx.Client]:
    with ward.client() as client:
        yield client


@pytest.fixture
def found(asks: httpx.Client) -> Found:
    """The ids of the matches of a search, in their order."""

    def ask(query: str) -> list[str]:
        answer = asks.get(query)
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", [])
        return [entry["resource"]["id"] for entry in entries if entry["search"]["mode"] == "match"]

    return ask
