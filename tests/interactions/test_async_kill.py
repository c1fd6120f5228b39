"""kill -9 at any moment: what was accepted with 202 is carried out, and nothing of it twice.

Short form here; `make soak` kills more often.
"""

from __future__ import annotations

import base64
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import SOAK, Server
from tests.interactions.bundles import SYSTEM, batch, entry, patient, transaction

KILLS = 12 if SOAK else 2
ENTRIES, PATCHED = 2000, 800
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


def _values(client: httpx.Client, names: Iterable[str]) -> dict[str, Counter[str]]:
    """By the beginning of an identifier: how many Patients have each that begins so."""
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    url = f"Patient?identifier={SYSTEM}|&_count=1000"
    while url:
        page = client.get(url).json()
        for one in page.get("entry", ()):
            (value,) = [each["value"] for each in one["resource"]["identifier"]]
            name = value[: value.rindex("-") + 1]
            if name in found:
                found[name][value] += 1
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
    return found


def _cut_short(start: Callable[..., Server], folder: Path, draw: random.Random, bundles: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The life of a server: it accepts these Bundles, and is killed soon after it has begun with the first; their status addresses."""
    server = start(data_dir=folder)
    with server.client() as client:
        addresses = {name: _begin(client, bundle) for name, bundle in bundles.items()}
        deadline = time.monotonic() + 10
        while client.get(next(iter(addresses.values()))).headers.get("x-progress") == "waiting" and time.monotonic() < deadline:
            time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.5))
    server.kill()
    return addresses


@pytest.mark.longer
def test_kill_9_neither_loses_nor_doubles_an_entry_of_a_batch(start: Callable[..., Server], tmp_path: Path) -> None:
    folder, draw, addresses = tmp_path / "data", random.Random(5), {}
    for life in range(KILLS):
        posts = [entry("POST", "Patient", patient(f"b{life}-{n}")) for n in range(ENTRIES)]
        addresses |= _cut_short(start, folder, draw, {f"b{life}-": batch(*posts)})
    with start(data_dir=folder).client() as client:
        results = {name: _result(client, address)["entry"] for name, address in addresses.items()}
        values = _values(client, results)
        for name, answers in results.items():
            assert Counter(one["response"]["status"][:3] for one in answers) == {"201": ENTRIES}
            assert values[name] == {f"{name}{n}": 1 for n in range(ENTRIES)}
            for n in range(0, ENTRIES, 97):
                made = client.get(answers[n]["response"]["location"]).json()
                assert made["identifier"][0]["value"] == f"{name}{n}"


@pytest.mark.longer
def test_kill_9_applies_no_patch_of_a_batch_twice(start: Callable[..., Server], tmp_path: Path) -> None:
    folder, draw = tmp_path / "data", random.Random(7)
    server = start(data_dir=folder)
    with server.client() as client:
        there = [entry("PUT", f"Patient/p{n}", patient(f"p{n}", id=f"p{n}", telecom=[{"value": "0"}])) for n in range(PATCHED)]
        client.post("", json=transaction(*there)).raise_for_status()
    server.stop()
    change = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": ADD}
    patches = [entry("PATCH", f"Patient/p{n}", change) for n in range(PATCHED)]
    addresses = [_cut_short(start, folder, draw, {"": batch(*patches)})[""] for _ in range(KILLS)]
    with start(data_dir=folder).client() as client:
        for address in addresses:
            assert Counter(one["response"]["status"][:3] for one in _result(client, address)["entry"]) == {"200": PATCHED}
        for n in range(PATCHED):
            assert len(client.get(f"Patient/p{n}").json()["telecom"]) == 1 + KILLS


@pytest.mark.longer
def test_kill_9_leaves_each_transaction_done_once_as_a_whole(start: Callable[..., Server], tmp_path: Path) -> None:
    folder, draw, addresses = tmp_path / "data", random.Random(6), {}
    for life in range(KILLS):
        bundles = {}
        for number in range(12):
            name = f"t{life}-{number}-"
            reads = [entry("GET", f"Patient?identifier={SYSTEM}|{name}0")] if number % 2 else []
            bundles[name] = transaction(*(entry("POST", "Patient", patient(f"{name}{n}")) for n in range(250)), *reads)
        addresses |= _cut_short(start, folder, draw, bundles)
    with start(data_dir=folder).client() as client:
        results = {name: _result(client, address)["entry"] for name, address in addresses.items()}
        values = _values(client, results)
        for name, answers in results.items():
            assert len([one for one in answers if one["response"]["status"].startswith("201")]) == 250
            assert values[name] == {f"{name}{n}": 1 for n in range(250)}
            if len(answers) > 250:
                assert len(answers[250]["resource"]["entry"]) == 1
