"""What the reader of Subscriptions waits for, as the monitor page shows it beside the triggers of the follow-up engine.

Specification: docs/subscriptions.md (monitor)
"""

from __future__ import annotations

from subscriptions.delivering import DELIVER
from subscriptions.handlers import ACTIVATE, EXPIRE, HEARTBEAT, REVIEW
from subscriptions.jobs.feed import Trigger

OWN = (
    Trigger(
        "subscription-event", (), (DELIVER,),
        "A version meets the criteria of a Subscription, or is an event of its topic: it is numbered and delivered",
        "资源版本符合订阅条件，或构成其主题的事件：编号并投递",
    ),
    Trigger(
        "subscription-life", ("Subscription",), (ACTIVATE, HEARTBEAT, EXPIRE, REVIEW),
        "A Subscription is written: handshake and activation, heartbeats, its end",
        "订阅被写入：握手与启用、心跳、到期停用",
    ),
    Trigger(
        "topic-definition", ("Basic",), (),
        "A topic is written or deleted: it counts from the next version on",
        "主题被写入或删除：自下一个版本起生效",
    ),
)  # fmt: skip
