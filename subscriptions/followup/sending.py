"""Sends what a CommunicationRequest asks for: one Communication for each attempt, until one of them is delivered.

An attempt that leaves the store is written down before the hand-over. Found again after a crash, its fate is unknown: a routine message
is then not sent a second time, a `stat` one is sent once more. Specification: followup.md sections 3 (3) and 11.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.model import json_codec
from fhir_server.storage.port import ClaimedJob, Effects, Facts, Record, Stored, Unit, Write
from subscriptions.channel import Channel, Message, Receipt
from subscriptions.followup.canonical import Canonical
from subscriptions.followup.derivation import derived, id_of
from subscriptions.followup.facts import is_dead, reference
from subscriptions.jobs.clock import MINUTE, local
from subscriptions.jobs.kinds import Backoff, Kind, Lane, Later, Services

Resource = dict[str, Any]

SEND = "message.send"
PAUSES = (1 * MINUTE, 5 * MINUTE, 15 * MINUTE)
"""After a transient failure the same channel is tried again after these, then the next channel (followup.md section 11.3)."""
ATTEMPTS = len(PAUSES) + 1
SUBJECTS = {"alert": "请尽快查看：您有一条新的医院消息", "report": "您的检查报告已出"}
SUBJECT = "您有一条新的随访消息"
"""Subject lines name no health details: lock screens show them."""
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_DISPLAYS = {"email": "电子邮件", "inbox": "站内信"}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """`verdict`: send | delivered (an earlier attempt was) | unknown (its fate is, and it must not be repeated)."""

    channel: Channel
    number: int
    key: str
    verdict: str = "send"

    @property
    def id(self) -> str:
        return id_of(hashlib.sha256(self.key.encode()).hexdigest())


class Sender:
    """The handler of `message.send` jobs. `channels` in the order in which they are tried; the last one should reach everybody."""

    def __init__(self, canonical: Canonical, channels: Sequence[Channel], zone: dt.tzinfo) -> None:
        self._canonical, self._channels, self._zone = canonical, tuple(channels), zone

    def kind(self) -> Kind:
        """The job kind, with a lane of its own: a slow mail server must not hold up care."""
        return Kind(SEND, self.send, Lane("messages", 16), Backoff((60_000, 300_000, 900_000)), limit=12, timeout=45.0)

    async def send(self, job: ClaimedJob, services: Services) -> Unit | Effects | None:
        """One run: send by the next channel that may still deliver. Raises Later where it has to be tried again."""
        stored = await services.gate.read(services.principal, "CommunicationRequest", str(job.payload["id"]))
        if stored is None or stored.deleted:
            return None
        request = json_codec.loads(stored.body)
        now = local(services.clock(), self._zone)
        if request.get("status") != "active" or request.get("doNotPerform") is True:
            return None
        if wait := _too_early(request, now):
            raise Later("its time has not come", wait)
        patient, recipient = await self._people(request, services)
        if patient is not None and is_dead(patient):
            return self._close(stored, "revoked", "deceased")
        usable = self._usable(request, recipient)
        while (attempt := await self._next(request, stored.id, usable, services)) is not None:
            if attempt.verdict != "send":
                return self._close(stored, "completed") if attempt.verdict == "delivered" else None
            result = await self._try(attempt, request, stored, recipient, services, now)
            if result is not None:
                return result
            usable = usable[usable.index(attempt.channel) + 1 :]
        return self._nobody_reached(request, stored, now)

    async def _people(self, request: Resource, services: Services) -> tuple[Resource | None, Resource | None]:
        async def load(element: Any, *types: str) -> Resource | None:
            target = reference(element, *types)
            if not target:
                return None
            type, _, id = target.partition("/")
            found = await services.gate.read(services.principal, type, id)
            return json_codec.loads(found.body) if found and not found.deleted else None

        patient = await load(request.get("subject"), "Patient")
        recipients = request.get("recipient") or []
        recipient = await load(recipients[0]) if recipients else patient
        return patient, recipient

    def _usable(self, request: Resource, recipient: Resource | None) -> list[Channel]:
        """The channels that reach the recipient; `medium` of the request, where it names channels, leaves only those."""
        system = self._canonical.url("CodeSystem", "channel")
        forced = {c.get("code") for medium in request.get("medium", ()) for c in medium.get("coding", ()) if c.get("system") == system}
        return [c for c in self._channels if (not forced or c.code in forced) and c.address(recipient or {}) is not None]

    async def _next(self, request: Resource, id: str, usable: Sequence[Channel], services: Services) -> _Attempt | None:
        """The first attempt that has not been made; None when all failed; no `send` verdict where nothing more may be sent."""
        stat = request.get("priority") == "stat"
        for channel in usable:
            for number in range(1, ATTEMPTS + 1):
                attempt = _Attempt(channel, number, f"CommunicationRequest/{id}|{channel.code}|{number}")
                found = await services.gate.read(services.principal, "Communication", attempt.id)
                if found is None:
                    return attempt
                status, permanent = self._state(found)
                if status in ("in-progress", "unknown"):
                    if status == "in-progress":
                        await self._update(services, found, "unknown", "结果未知：服务在投递时中断")
                    if not stat or number > 1:
                        return replace(attempt, verdict="unknown")
                elif status == "completed":
                    return replace(attempt, verdict="delivered")
                elif permanent:
                    break
        return None

    def _state(self, stored: Stored) -> tuple[str, bool]:
        if stored.deleted:
            return "stopped", False
        communication = json_codec.loads(stored.body)
        reasons = {coding.get("code") for coding in communication.get("statusReason", {}).get("coding", ())}
        return str(communication.get("status")), "invalid-address" in reasons

    async def _try(
        self, attempt: _Attempt, request: Resource, stored: Stored, recipient: Resource | None, services: Services, now: dt.datetime
    ) -> Unit | None:
        """Make one attempt: the unit that records a success; None where the next channel is to be taken. Raises Later."""
        communication = self._communication(attempt, request, stored.id, now)
        message = self._message(attempt, request, recipient, communication, now)
        if not attempt.channel.external:
            receipt = await attempt.channel.send(message)
            return self._record(attempt, stored, communication, receipt, new=True)
        await services.gate.transact(services.principal, Unit.of(Write("POST", "Communication", attempt.id, communication)))
        receipt = await attempt.channel.send(message)
        unit = self._record(attempt, stored, communication, receipt, new=False)
        if receipt.outcome in ("delivered", "unknown"):
            return unit
        await services.gate.transact(services.principal, unit)
        if receipt.outcome == "transient" and attempt.number < ATTEMPTS:
            raise Later(receipt.status, PAUSES[attempt.number - 1])
        return None

    def _communication(self, attempt: _Attempt, request: Resource, id: str, now: dt.datetime) -> Resource:
        channel = attempt.channel
        medium = [self._canonical.concept("channel", channel.code, _DISPLAYS.get(channel.code, channel.code))]
        if channel.participation:
            medium.append({"coding": [{"system": _TERMINOLOGY + "v3-ParticipationMode", "code": channel.participation}]})
        category = request.get("category", [])
        key = hashlib.sha256(attempt.key.encode()).hexdigest()
        parts: Resource = {
            "resourceType": "Communication",
            "extension": [self._canonical.extension("attempt", valuePositiveInt=attempt.number)],
            "basedOn": [{"reference": f"CommunicationRequest/{id}"}],
            "status": "in-progress",
            "category": category,
            "priority": request.get("priority", "routine"),
            "medium": medium,
            "subject": request.get("subject"),
            "topic": category[0] if category else None,
            "encounter": request.get("encounter"),
            "sent": now.isoformat(timespec="seconds"),
            "recipient": request.get("recipient") or ([request["subject"]] if request.get("subject") else []),
            "sender": request.get("sender"),
            "reasonReference": request.get("reasonReference"),
            "payload": request.get("payload", []),
        }
        return derived(self._canonical, key, {name: value for name, value in parts.items() if value})

    def _message(
        self, attempt: _Attempt, request: Resource, recipient: Resource | None, communication: Resource, now: dt.datetime
    ) -> Message:
        text = "\n".join(part["contentString"] for part in request.get("payload", ()) if part.get("contentString"))
        category = next((coding.get("code", "") for c in request.get("category", ()) for coding in c.get("coding", ())), "")
        to_whom = (request.get("recipient") or [request.get("subject")])[0]
        return Message(
            key=attempt.key,
            to=attempt.channel.address(recipient or {}) or "",
            subject=SUBJECTS.get(category, SUBJECT),
            text=text,
            at=round(now.timestamp() * 1000),
            priority=request.get("priority", "routine"),
            recipient=reference(to_whom),
            patient=reference(request.get("subject"), "Patient"),
            communication=f"Communication/{communication['id']}",
        )

    def _outcome(self, communication: Resource, receipt: Receipt) -> Resource:
        """The Communication after the hand-over."""
        changed = dict(communication)
        extensions = list(changed.get("extension", ()))
        if receipt.provider_id:
            extensions.append(self._canonical.extension("provider-id", valueString=receipt.provider_id))
        if receipt.status:
            extensions.append(self._canonical.extension("provider-status", valueString=receipt.status))
        changed["extension"] = extensions
        changed["status"] = {"delivered": "completed", "unknown": "unknown"}.get(receipt.outcome, "stopped")
        if receipt.outcome == "delivered":
            changed["received"] = changed["sent"]
        elif receipt.outcome == "permanent":
            changed["statusReason"] = self._canonical.concept("send-reason", "invalid-address", receipt.status)
        else:
            changed["statusReason"] = {"text": receipt.status or "unknown"}
        return changed

    def _record(self, attempt: _Attempt, stored: Stored, communication: Resource, receipt: Receipt, *, new: bool) -> Unit:
        """Communication, and with a delivery the request's end and the channel's records, in one unit."""
        changed = self._outcome(communication, receipt)
        records: Sequence[Record] = receipt.records
        targets = (("CommunicationRequest", stored.id), ("Communication", attempt.id))

        def decide(facts: Facts) -> Effects:
            writes = []
            earlier = facts.current.get(targets[1])
            if new and earlier is not None:
                return Effects()
            writes.append(Write("POST" if new else "PUT", "Communication", attempt.id, changed))
            if receipt.outcome == "delivered":
                writes += _ended(facts.current.get(targets[0]), "completed")
            return Effects(writes, records=list(records))

        return Unit(decide, targets=targets)

    async def _update(self, services: Services, stored: Stored, status: str, why: str) -> None:
        resource = content_of(stored)
        resource["status"], resource["statusReason"] = status, {"text": why}
        write = Write("PUT", stored.type, stored.id, resource, if_match=stored.version)
        await services.gate.transact(services.principal, Unit.of(write))

    def _close(self, stored: Stored, status: str, reason: str = "") -> Unit:
        target = ("CommunicationRequest", stored.id)
        why = self._canonical.concept("send-reason", reason) if reason else None
        return Unit(lambda facts: Effects(_ended(facts.current.get(target), status, why)), targets=(target,))

    def _nobody_reached(self, request: Resource, stored: Stored, now: dt.datetime) -> Unit:
        """No channel is left: a person takes over, and the request waits on hold."""
        target = ("CommunicationRequest", stored.id)
        subject = request.get("subject") or {}
        task: Resource = {
            "resourceType": "Task",
            "status": "requested",
            "intent": "order",
            "priority": request.get("priority", "routine"),
            "code": self._canonical.concept("task", "no-contact-channel", "无可用联系渠道"),
            "description": "消息无法送达：没有可用的渠道",
            "focus": {"reference": f"CommunicationRequest/{stored.id}"},
            **({"for": subject} if subject else {}),
            "authoredOn": now.isoformat(timespec="seconds"),
            "lastModified": now.isoformat(timespec="seconds"),
        }
        key = hashlib.sha256(f"no-contact-channel|1|CommunicationRequest/{stored.id}|{stored.version}".encode()).hexdigest()
        task = derived(self._canonical, key, task)
        why = self._canonical.concept("send-reason", "invalid-address", "没有可用的渠道")

        def decide(facts: Facts) -> Effects:
            writes = _ended(facts.current.get(target), "on-hold", why)
            if facts.current.get(("Task", task["id"])) is None:
                writes.append(Write("POST", "Task", task["id"], task))
            return Effects(writes)

        return Unit(decide, targets=(target, ("Task", task["id"])))


def content_of(stored: Stored) -> Resource:
    """The stored resource without what the store itself sets."""
    resource: Resource = json_codec.loads(stored.body)
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**resource, "meta": meta} if meta else {name: value for name, value in resource.items() if name != "meta"}


def _ended(current: Stored | None, status: str, why: Resource | None = None) -> list[Write]:
    """The write that ends an active request; nothing where it has changed its state meanwhile."""
    if current is None or current.deleted:
        return []
    request = content_of(current)
    if request.get("status") != "active":
        return []
    request["status"] = status
    if why:
        request["statusReason"] = why
    return [Write("PUT", "CommunicationRequest", current.id, request)]


def _too_early(request: Resource, now: dt.datetime) -> int:
    """Milliseconds until the request's own time, 0 when it has come."""
    start = request.get("occurrenceDateTime") or request.get("occurrencePeriod", {}).get("start")
    if not start:
        return 0
    begin = dt.datetime.fromisoformat((start + "-01-01")[:10] if len(start) < 10 else start)
    begin = begin if begin.tzinfo else begin.replace(tzinfo=now.tzinfo)
    return max(0, round((begin - now).total_seconds() * 1000))
