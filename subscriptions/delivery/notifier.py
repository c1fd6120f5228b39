"""Sends the notifications of Subscriptions over their channels (rest-hook, message, email) and tells what went wrong, without secrets.

Specification: https://hl7.org/fhir/R4/subscription.html#channels, conformance.md K5–K14, K22
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_server.storage.port import Stored
from subscriptions.channel import Channel, Message
from subscriptions.delivery.caller import Caller, CallFailed
from subscriptions.delivery.endpoint import EndpointRefused
from subscriptions.delivery.mail import attached, mail_of
from subscriptions.delivery.message import SEARCH_EVENT, message_of, processing
from subscriptions.delivery.notification import Event, Sight, bundle_of, less, status_of, told, wish_of
from subscriptions.delivery.rest_hook import Call, call_of, empty, posted
from subscriptions.jobs.clock import Clock

Resource = dict[str, Any]


class Told(NamedTuple):
    """How a call went. `fault`: what was wrong, without secrets, '' when the notification was taken."""

    fault: str = ""
    status: str = "HTTP 200"
    """What was answered, for the delivery log."""
    down: bool = False
    """Whether it is the endpoint that does not work, and not this notification that it does not want."""
    pause: int = 0
    """Milliseconds for which the endpoint asks to be left alone (`Retry-After`)."""


class Notifier:
    """`base`: the base URL under which the server is known, for what is sent; `mail`: the channel of mails, where there is one."""

    def __init__(self, caller: Caller, base: Callable[[], str], clock: Clock, mail: Channel | None = None) -> None:
        self._caller, self._base, self._clock, self._mail = caller, base, clock, mail
        self._sent: dict[str, int] = {}

    def reached(self, id: str) -> int:
        """When this process last reached the endpoint of a Subscription, in milliseconds since 1970; 0 where it never did."""
        return self._sent.get(id, 0)

    async def tell(
        self,
        kind: str,
        subscription: Resource,
        count: int,
        *,
        status: str = "",
        events: Sequence[Event] = (),
        seen: Mapping[int, Sight] | None = None,
    ) -> Told:
        """Send a notification Bundle. `seen`: event number -> what it tells of, where the subscriber may see that."""
        channel = subscription["channel"]
        wish = wish_of(channel)
        for event in events:
            wish = wish._replace(content=less(wish.content, event.content))
        said = status_of(kind, subscription, self._base(), count, events, focus=wish.content != "empty", status=status, seen=seen)
        bundle = bundle_of(said, subscription, self._base(), self._clock(), events, wish.content, seen or {})
        if channel.get("type") == "email":
            return await self._post(subscription, kind, count, bundle if wish.content != "empty" else None, events, seen or {})
        if channel.get("type") != "message":
            return await self._send(str(subscription["id"]), posted(channel, bundle), wish.timeout)
        call = self._message(channel, str(subscription["criteria"]), bundle, f"urn:uuid:{bundle['id']}", self._clock())
        return await self._send(str(subscription["id"]), call, wish.timeout)

    async def _post(
        self,
        subscription: Resource,
        kind: str,
        count: int,
        bundle: Resource | None,
        events: Sequence[Event],
        seen: Mapping[int, Sight],
    ) -> Told:
        """A notification of a topic by mail."""
        lines = [("Subscription", "订阅", str(subscription["id"])), ("Events so far", "累计事件数", str(count))]
        for event in events:
            lines.append(("Event", "事件编号", str(event.number)))
            if bundle is not None and event.number in seen:
                lines += [
                    ("Topic", "主题", str(subscription["criteria"])),
                    ("Resource", "资源", f"{event.type}/{event.id} ({event.interaction})"),
                ]
        key = f"Subscription/{subscription['id']}|{kind}|{events[0].number if events else count}"
        return await self._mailed(mail_of(subscription, kind, key, lines, bundle, self._clock()), str(subscription["id"]))

    async def tell_match(self, subscription: Resource, version: Stored, rid: int) -> Told:
        """Send what is to be sent of a version that met a search; `rid`: its sequence number."""
        if subscription["channel"].get("type") == "email":
            return await self._post_match(subscription, version, rid)
        return await self._send(str(subscription["id"]), self._of_match(subscription["channel"], version, self._clock()))

    async def ring(self, subscription: Resource) -> Told:
        """An empty POST, which names nothing: whether the endpoint of a search can be reached."""
        if subscription["channel"].get("type") == "email":
            lines = [("Subscription", "订阅", str(subscription["id"]))]
            key = f"Subscription/{subscription['id']}|test|{self._clock()}"
            return await self._mailed(mail_of(subscription, "heartbeat", key, lines, None, self._clock()), str(subscription["id"]))
        return await self._send(str(subscription["id"]), empty(subscription["channel"]))

    async def _post_match(self, subscription: Resource, version: Stored, rid: int) -> Told:
        """A new version that met a search by mail: without a payload the text alone, which names nothing."""
        lines = [("Subscription", "订阅", str(subscription["id"]))]
        payload = attached(str(subscription["channel"].get("payload", "")))
        if payload or subscription["channel"].get("payload"):
            lines += [("Resource", "资源", f"{version.type}/{version.id}")]
        key = f"Subscription/{subscription['id']}|search|{rid}"
        message = mail_of(subscription, "event-notification", key, lines, told(version), self._clock())
        return await self._mailed(message, str(subscription["id"]))

    async def _mailed(self, message: Message, id: str) -> Told:
        if self._mail is None:
            return Told("no mail server is configured", "-", down=True)
        receipt = await self._mail.send(message)
        if receipt.outcome != "delivered":
            return Told(f"mail: {receipt.outcome}: {receipt.status}", receipt.outcome, down=receipt.outcome != "permanent")
        self._sent[id] = self._clock()
        return Told(status=receipt.status or receipt.outcome)

    def _of_match(self, channel: Resource, version: Stored, now: int) -> Call:
        """What is sent of a version that met a search."""
        if channel.get("type") != "message":
            return call_of(channel, version)
        place = f"{self._base()}/{version.type}/{version.id}"
        return self._message(channel, SEARCH_EVENT, told(version), place, now)

    def _message(self, channel: Resource, event: str, focus: Resource, place: str, now: int) -> Call:
        url = processing(str(channel.get("endpoint", "")))
        return posted(channel, message_of(event, focus, place, self._base(), str(channel.get("endpoint", "")), now), url)

    async def _send(self, id: str, call: Call, timeout: float = 0) -> Told:
        try:
            answer = await self._caller.call(*call, timeout=timeout)
        except (EndpointRefused, CallFailed) as fault:
            return Told(f"{call.method} {_shown(call.url)}: {fault}", str(fault), down=True)
        status = f"HTTP {answer.status}"
        if 200 <= answer.status < 300:
            self._sent[id] = self._clock()
            return Told(status=status)
        down = answer.status >= 500 or answer.status == 429
        return Told(f"{call.method} {_shown(call.url)}: {status}", status, down, answer.retry_after * 1000 if down else 0)


def _shown(url: str) -> str:
    """A URL for an error text: without its query, which may hold a token."""
    return url.partition("?")[0]
