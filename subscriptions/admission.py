"""What a Subscription must be to be accepted: what is not served is refused at creation, with its reason.

Specification: https://hl7.org/fhir/R4/subscription.html, conformance.md K17, K22, K23.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

from fhir_server.errors import FhirError, Issue
from subscriptions.delivery.endpoint import EndpointPolicy
from subscriptions.delivery.mail import address_of, attached
from subscriptions.delivery.notification import CONTENTS, wish_of
from subscriptions.delivery.rest_hook import JSON_TYPES, MEDIA_TYPES, header_complaint, payload_type
from subscriptions.watch import BACKPORT, FILTER, Watch, names_topic

Resource = dict[str, Any]

CHANNELS = ("rest-hook", "websocket", "message", "email")
"""Channel types that are served so far; sms follows with its adapters."""
HEADERS = 20
_NUMBERS = {f"{BACKPORT}backport-{name}" for name in ("heartbeat-period", "timeout", "max-count")}
_BACKPORT = re.compile(
    r"backport-(topic|filter-criteria|channel-type|payload-content|heartbeat-period|timeout|max-count)|/5\.0/StructureDefinition/extension-Subscription|/subscriptions-backport/"
)


_ENDPOINT = (
    "地址须为绝对的 http 或 https URL，不含空白、非 ASCII 字符、用户名、片段，且不指向未经 FHIR_SERVER_ENDPOINT_ALLOW 允许的内网或本机"
)
_HEADER = "请求头须写作“名称: 值”，不含换行或控制字符，且不得设置属于连接本身的头"


def check_subscription(
    resource: Resource, watch: Callable[[Resource], Watch], policy: EndpointPolicy, *, mail: bool = False
) -> list[Issue]:
    """Issues (HTTP 422) of a Subscription that a client wants to create or update; none when it will be served.

    `resource` has passed the structural check; `watch` makes of it what is watched, or raises FhirError. `mail`: there is a mail server.
    A Subscription that the client switches off may say what it likes.
    """
    if resource.get("status") == "off":
        return []
    return list(_issues(resource, watch, policy, mail))


def _issues(resource: Resource, watch: Callable[[Resource], Watch], policy: EndpointPolicy, mail: bool) -> Iterator[Issue]:
    topic = names_topic(str(resource.get("criteria", "")))
    try:
        watch(resource)
    except FhirError as fault:
        yield from fault.issues
    yield from _foreign(resource, topic)
    if topic:
        yield from _topic(resource)
    if resource.get("end") and end_of(resource) is None:
        yield _issue("value", "end", f"'{resource['end']}' is no time that can be waited for", f"“{resource['end']}”不是可用的时间")
    channel = resource.get("channel", {})
    kind = channel.get("type")
    if kind not in CHANNELS:
        yield _issue(
            "not-supported",
            "channel.type",
            f"'{kind}' is not served; served are: {', '.join(CHANNELS)}",
            f"不支持“{kind}”，支持的有：{'、'.join(CHANNELS)}",
        )
        return
    if kind == "email":
        yield from _mail(channel, mail)
        return
    if kind == "websocket":
        if payload_type(channel) and payload_type(channel) not in JSON_TYPES:
            yield _issue(
                "not-supported",
                "channel.payload",
                f"a websocket carries {JSON_TYPES[0]}, or nothing but pings",
                f"websocket 只能携带 {JSON_TYPES[0]}，或仅发送 ping",
            )
        return
    endpoint = channel.get("endpoint")
    if not endpoint:
        yield _issue("required", "channel.endpoint", f"a {kind} needs the URL that is called", f"{kind} 需要被调用的 URL")
    elif complaint := policy.complaint(str(endpoint)):
        yield _issue("value", "channel.endpoint", f"the endpoint {complaint}", _ENDPOINT)
    if payload_type(channel) and payload_type(channel) not in MEDIA_TYPES:
        yield _issue(
            "not-supported",
            "channel.payload",
            f"'{channel['payload']}' is not served; served are: {', '.join(MEDIA_TYPES)}, or none",
            f"不支持“{channel['payload']}”，支持的有：{'、'.join(MEDIA_TYPES)}，或不填",
        )
    elif any(ord(letter) < 32 or ord(letter) > 126 for letter in str(channel.get("payload", ""))):
        yield _issue("value", "channel.payload", "contains characters that no media type has", "含有媒体类型不允许的字符")
    headers = channel.get("header", ())
    if len(headers) > HEADERS:
        yield _issue("too-costly", "channel.header", f"more than {HEADERS} headers", f"请求头超过 {HEADERS} 个")
    for number, line in enumerate(headers):
        if complaint := header_complaint(str(line)):
            yield _issue("value", f"channel.header[{number}]", f"the header {complaint}", _HEADER)


def _topic(resource: Resource) -> Iterator[Issue]:
    """What a topic-based Subscription must say of its notifications."""
    channel = resource.get("channel", {})
    wish = wish_of(channel)
    if not wish.content:
        yield _issue(
            "required",
            "channel.payload",
            f"the extension backport-payload-content is required: {', '.join(CONTENTS)}",
            f"缺少扩展 backport-payload-content：{'、'.join(CONTENTS)}",
        )
    elif wish.content not in CONTENTS:
        yield _issue(
            "value",
            "channel.payload",
            f"backport-payload-content is '{wish.content[:40]}', not one of {', '.join(CONTENTS)}",
            f"backport-payload-content 须为 {'、'.join(CONTENTS)} 之一",
        )
    for extension in channel.get("extension", ()):
        url, value = str(extension.get("url", "")), next((value for key, value in extension.items() if key.startswith("value")), None)
        if url in _NUMBERS and not (type(value) is int and value > 0):
            yield _issue(
                "value",
                "channel.extension",
                f"{url.rpartition('/')[2]} must be a whole number above 0",
                f"{url.rpartition('/')[2]} 须为大于 0 的整数",
            )


def _mail(channel: Resource, mail: bool) -> Iterator[Issue]:
    """What a Subscription by mail must say."""
    if not mail:
        yield _issue(
            "not-supported",
            "channel.type",
            "'email' is not served here, because no mail server is configured (FOLLOWUP_SMTP_HOST)",
            "未配置邮件服务器（FOLLOWUP_SMTP_HOST），不支持 email",
        )
    if not address_of(str(channel.get("endpoint", ""))):
        yield _issue(
            "value",
            "channel.endpoint",
            "an email needs an endpoint of the form mailto:name@example.org",
            "email 的地址须为 mailto:name@example.org 的形式",
        )
    if attached(str(channel.get("payload", ""))) is None:
        yield _issue(
            "not-supported",
            "channel.payload",
            "a mail is text/plain, or text/plain;attach=application/fhir+json (or +xml)",
            "邮件的内容须为 text/plain，或 text/plain;attach=application/fhir+json（或 +xml）",
        )
    if channel.get("header"):
        yield _issue("not-supported", "channel.header", "headers of HTTP do not go with a mail", "邮件不能带 HTTP 请求头")


def _foreign(resource: Resource, topic: bool) -> Iterator[Issue]:
    """Extensions that would change what is sent: not understood means refused, never ignored."""
    channel = resource.get("channel", {})
    places = [
        ("criteria", resource.get("_criteria"), {FILTER} if topic else set()),
        ("channel.payload", channel.get("_payload"), {f"{BACKPORT}backport-payload-content"} if topic else set()),
        ("channel.type", channel.get("_type"), set()),
        ("channel", channel, _NUMBERS if topic else set()),
        ("extension", resource, set()),
    ]
    for place, element in (("modifierExtension", resource), ("channel.modifierExtension", channel)):
        for extension in element.get("modifierExtension", ()):
            url = str(extension.get("url", ""))
            yield _issue("not-supported", place, f"the modifier extension {url} is not understood here", f"本机不理解修饰扩展 {url}")
    for place, element, known in places:
        for extension in (element or {}).get("extension", ()):
            url = str(extension.get("url", ""))
            if _BACKPORT.search(url) and url not in known:
                why = "is not understood here" if topic else "belongs to topic-based subscriptions, but the criteria are a search"
                zh = "本机不支持" if topic else "只用于基于主题的订阅，而此处的 criteria 是检索式"
                yield _issue("not-supported", place, f"the extension {url} {why}", f"扩展 {url} {zh}")


def end_of(resource: Resource) -> int | None:
    """`Subscription.end` (an instant) in milliseconds since 1970; None where it is none."""
    try:
        return round(dt.datetime.fromisoformat(str(resource.get("end"))).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _issue(code: str, place: str, text: str, zh: str) -> Issue:
    return Issue(code, f"Subscription.{place}: {text}", (f"Subscription.{place}",), zh=f"Subscription.{place}：{zh}")
