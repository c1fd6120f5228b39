"""A receiver of notifications on a port of its own, which can be shut (calls are refused) and opened."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.hits.append((self.command, self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = _take

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class Receiver:
    """`hits` holds (method, path, body). It is shut at first."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.hits: list[tuple[str, str, bytes]] = []
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Take what comes."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _Taking)
        self._server.hits = self.hits  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def shut(self) -> None:
        """Refuse calls."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What it gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def subscription(receiver: Receiver, id: str, criteria: str, **more: Any) -> dict[str, Any]:
    """A Subscription by rest-hook whose endpoint and headers hold secrets."""
    endpoint = f"http://127.0.0.1:{receiver.port}/geheim/hook?token=geheim"
    channel = {"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json", "header": ["Authorization: Bearer geheim"]}
    base = {"resourceType": "Subscription", "id": id, "status": "requested", "reason": f"reason of {id}", "criteria": criteria}
    return {**base, "channel": channel, **more}


CONTENT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content"
TOPIC = "http://example.org/followup/SubscriptionTopic/observation-recorded"


def topical(receiver: Receiver, id: str, **more: Any) -> dict[str, Any]:
    """The same on a topic that the product brings."""
    asked = subscription(receiver, id, TOPIC, **more)
    asked["channel"]["_payload"] = {"extension": [{"url": CONTENT, "valueCode": "id-only"}]}
    return asked


def observation(id: str, who: str = "nobody") -> dict[str, Any]:
    """A result of a patient."""
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}
    return {"resourceType": "Observation", "id": id, "status": "final", "code": code, "subject": {"reference": f"Patient/{who}"}}
