"""kill -9 at any moment: what was accepted with 202 is carried out, and nothing of it twice.

Short form here; `make soak` kills more often.
"""

from __future__ import annotations

import base64
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import SOAK, Server
from tests.interactions.bundles import SYSTEM, batch, entry, patient, transaction

KILLS = 12 if SOAK else 2
ENTRIES, PATCHED = 2500, 200
ASYNC = {"Prefer": "respond-async"}
ADD = base64.b64encode(b'[{"op": "add", "path": "/telecom/-", "value": {"system": "phone", "value": "1"}}]').decode()


def _begin(client: httpx.Client, bundle: dict[str, Any]) -> str:
    answer = client.post("", json=bundle, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"].partition("/fhir/")[2]


def _result(client: httpx.Client, address: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (answer := client.get(address)).status_code == 202:
        assert time.monotonic() < deadline, answer.headers["x-progress"]
        time.sleep(0.1)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["entry"]
    assert found["response"]["status"].startswith("200"), found
    resource: dict[str, Any] = found["resource"]
    return resource


def _values(client: httpx.Client, prefix: str) -> Counter[str]:
    found: Counter[str] = Counter()
    url = f"Patient?identifier={SYSTEM}|&_count=1000"
    while url:
        page = client.get(url).json()
        for one in page.get("entry", ()):
            found.update(each["value"] for each in one["resource"]["identifier"] if each["value"].startswith(prefix))
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    return found


def _cut_short(server: Server, addresses: list[str], draw: random.Random) -> None:
    """Kill -9 a server soon after it has begun (or gone on with) some of these requests."""
    with server.client() as client:
        before, deadline = None, time.monotonic() + 8
        while time.monotonic() < deadline:
            told = [(answer.status_code, answer.headers.get("x-progress")) for answer in map(client.get, addresses)]
            if before is not None and told != before:
                break
            before = told
            time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.3))
    server.kill()


@pytest.mark.longer
def test_kill_9_neither_loses_nor_doubles_an_entry_of_a_batch(start: Callable[..., Server], tmp_path: Path) -> None:
    folder, draw = tmp_path / "data", random.Random(5)
    server = start(data_dir=folder)
    with server.client() as client:
        there = [entry("PUT", f"Patient/p{n}", patient(f"there{n}", id=f"p{n}", telecom=[{"value": "0"}])) for n in range(PATCHED)]
        client.post("", json=transaction(*there)).raise_for_status()
        patches = [entry("PATCH", f"Patient/p{n}", {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": ADD})
                   for n in range(PATCHED)]  # fmt: skip
        address = _begin(client, batch(*(entry("POST", "Patient", patient(f"b{n}")) for n in range(ENTRIES)), *patches))
    server.kill()
    for _ in range(KILLS):
        _cut_short(start(data_dir=folder), [address], draw)
    with start(data_dir=folder).client() as client:
        answers = _result(client, address)["entry"]
        assert Counter(one["response"]["status"][:3] for one in answers) == {"201": ENTRIES, "200": PATCHED}
        assert _values(client, "b") == {f"b{n}": 1 for n in range(ENTRIES)}
        for n in range(0, ENTRIES, 97):
            made = client.get(answers[n]["response"]["location"]).json()
            assert made["identifier"][0]["value"] == f"b{n}"
        for n in range(PATCHED):
            assert [one["value"] for one in client.get(f"Patient/p{n}").json()["telecom"]] == ["0", "1"]


@pytest.mark.longer
def test_kill_9_leaves_each_transaction_done_once_as_a_whole(start: Callable[..., Server], tmp_path: Path) -> None:
    folder, draw, addresses = tmp_path / "data", random.Random(6), {}
    server = start(data_dir=folder)
    with server.client() as client:
        for number in range(4 * KILLS + 4):
            name = f"t{number}-"
            reads = [entry("GET", f"Patient?identifier={SYSTEM}|{name}0")] if number % 2 else []
            addresses[name] = _begin(client, transaction(*(entry("POST", "Patient", patient(f"{name}{n}")) for n in range(250)), *reads))
    server.kill()
    for _ in range(KILLS):
        _cut_short(start(data_dir=folder), list(addresses.values()), draw)
    with start(data_dir=folder).client() as client:
        for name, address in addresses.items():
            answers = _result(client, address)["entry"]
            assert len([one for one in answers if one["response"]["status"].startswith("201")]) == 250
            assert _values(client, name) == {f"{name}{n}": 1 for n in range(250)}
            if len(answers) > 250:
                assert len(answers[250]["resource"]["entry"]) == 1
