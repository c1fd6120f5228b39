"""docs/hl7v2.md is true: its table names what is served, its example message works as it is written."""

from __future__ import annotations

import re

import httpx

from integrations.hl7v2.maps import HANDLERS
from tests.conftest import ROOT, Server
from tests.hl7v2.support import Ack, Peer, found

PAGE = (ROOT / "docs" / "hl7v2.md").read_text(encoding="utf-8")


def test_the_table_of_messages_is_what_is_served() -> None:
    told: dict[str, set[str]] = {}
    for kind, events in re.findall(r"^\| ([A-Z]{3}) \| ([A-Z0-9 ]+) \|", PAGE, re.M):
        told.setdefault(kind, set()).update(events.split())
    assert told == {kind: set(events) for kind, events in HANDLERS.items()}


def test_the_example_is_answered_aa_and_found_by_the_example_search(server: Server, client: httpx.Client) -> None:
    text = re.search(r"printf '(.*)' \| nc", PAGE)
    assert text
    raw = text[1]
    for written, meant in (("\\v", "\x0b"), ("\\034", "\x1c"), ("\\r", "\r"), ("\\\\", "\\")):
        raw = raw.replace(written, meant)
    with Peer(server) as peer:
        peer.write(raw.encode())
        assert Ack.of(peer.answer()).code == "AA"
    query = re.search(r"/fhir/Observation\?([^=]+)=(\d+)", PAGE)
    assert query
    (observation,) = found(client, "Observation", **{query[1]: query[2]})
    assert observation["interpretation"][0]["coding"][0]["code"] == "HH"
    assert observation["valueQuantity"]["value"] == 6.9
