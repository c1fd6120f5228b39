"""Topics that are triggered by HL7 v2 events: docs/decisions/0085-events-are-provenances.md, table 0003 of HL7 v2.5.1."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from tests.conftest import Server
from tests.hl7v2.support import Peer, admission, salt
from tests.subscriptions.test_event_triggers import discharge_topic
from tests.subscriptions.test_topic_subscriptions import asked, told
from tests.subscriptions.test_wire import hook, wait_for

__all__ = ["hook"]


def test_the_trigger_event_of_a_message_is_an_event_of_what_it_wrote(start: Callable[..., Server], hook: ThreadingHTTPServer) -> None:
    server, token = start("--mllp-port", "0"), salt()
    url = "http://example.org/SubscriptionTopic/adt"
    with server.client() as client:
        client.put("Basic/t2", json=discharge_topic("A03", url=url)).raise_for_status()
        made = asked(f"http://127.0.0.1:{hook.server_port}/hook", "full-resource", criteria=url)
        assert client.put("Subscription/s1", json=made).status_code == 201
        wait_for(lambda: client.get("Subscription/s1").json()["status"] == "active")
        with Peer(server) as peer:
            assert peer.send(admission(f"P{token}", f"C1{token}")).code == "AA"
            assert peer.send(admission(f"P{token}", f"C2{token}", event="A03")).code == "AA"
            assert peer.send(admission(f"P{token}", f"C2{token}", event="A03")).code == "AA", "a copy is no second event"
        wait_for(lambda: len(hook.hits) >= 2)  # type: ignore[attr-defined]
        (row,) = client.get("Subscription/s1/$status").json()["entry"][0]["resource"]["parameter"][4:5]
        assert (row["name"], row["valueString"]) == ("events-since-subscription-start", "1")
    sent = [json.loads(body) for _, _, _, body in hook.hits]  # type: ignore[attr-defined]
    assert [told(one)["type"] for one in sent] == ["handshake", "event-notification"]
    (event,) = told(sent[1])["events"]
    assert "/Encounter/" in event["focus"]["reference"]
    assert sent[1]["entry"][1]["resource"]["status"] == "finished"
