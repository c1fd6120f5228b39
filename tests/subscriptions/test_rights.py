"""What a subscriber may not see is not told, judged at the moment of delivery. conformance.md K23."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhir_server.auth.gate import Gate, Principal
from fhir_server.storage.port import Stored
from tests.subscriptions.receiver import receiver
from tests.subscriptions.test_topic_subscriptions import asked, begin, bundles, encounter, told, topical
from tests.subscriptions.world import observation, subscription, world

APP = Principal("app", role="integration")


class Closed(Gate):
    """Hides what carries the word 'geheim' from the application."""

    def may_see(self, principal: Principal, stored: Stored) -> bool:
        return principal is not APP or b"geheim" not in stored.body


@pytest.mark.parametrize("content", ["id-only", "full-resource"])
async def test_an_event_of_a_hidden_resource_keeps_its_number_and_names_nothing(tmp_path: Path, content: str) -> None:
    async with receiver() as there, topical(tmp_path, gate=Closed, principal=APP) as w:
        await begin(w, asked(there.url, content))
        await w.put(encounter("e1"), encounter("e2", text={"status": "empty", "div": "geheim"}), encounter("e3"))
        await w.settle()
        sent = bundles(there)
        assert [told(one)["events"][0]["event-number"] for one in sent] == ["1", "2", "3"], "no gap"
        assert [len(one["entry"]) for one in sent] == [2, 1, 2]
        assert "focus" not in told(sent[1])["events"][0] and "Encounter/e2" not in json.dumps(sent[1])


async def test_a_hidden_match_of_a_search_is_not_sent(tmp_path: Path) -> None:
    async with receiver() as there, world(tmp_path, gate=Closed, principal=APP) as w:
        await w.put(subscription(there.url, channel={"payload": "application/json"}))
        await w.settle()
        await w.put(observation("o1"), observation("o2", valueString="geheim"), observation("o3"))
        await w.settle()
        assert [hit.path for hit in there.hits] == ["/hook/Observation/o1", "/hook/Observation/o3"]
