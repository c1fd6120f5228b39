"""A SubscriptionTopic as data, read from the forms that it has in R4: a Basic with extensions, or the resource of R4B and R5 in a package.

Specification: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/components.html#subscription-topics-in-fhir-r4,
https://hl7.org/fhir/R5/subscriptiontopic.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.model.packages import is_topic_basic
from fhir_server.model.references import CORE
from fhir_server.validation.values import listed

Resource = Mapping[str, Any]

_EXTENSION = re.compile(r"http://hl7\.org/fhir/(?:4\.3|5\.0)/StructureDefinition/extension-SubscriptionTopic\.(\w+)\Z")
INTERACTIONS = ("create", "update", "delete")
STATES = ("draft", "active", "retired", "unknown")
PASSES, FAILS = "test-passes", "test-fails"
_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"


@dataclass(frozen=True, slots=True)
class ResourceTrigger:
    """Changes of resources of a type that are events. `previous`, `current`: search parameters ('' asks for nothing)."""

    type: str
    interactions: frozenset[str] = frozenset(INTERACTIONS)
    previous: str = ""
    current: str = ""
    for_create: str = FAILS
    """Result of `previous` where there is no version before."""
    for_delete: str = FAILS
    """Result of `current` where the resource is deleted."""
    both: bool = False
    """Whether `previous` and `current` must both hold; else one of them is enough."""
    fhirpath: str = ""


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """Events of the world outside, by their codes (system, code), that are told with a resource of a type."""

    type: str
    codes: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FilterBy:
    """A parameter by which subscribers may narrow a topic. `type` '' stands for all types of the topic."""

    type: str
    parameter: str
    comparators: frozenset[str] = frozenset()
    modifiers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """What is told beside the resource itself. `related`: (code of the kind, query) of related queries."""

    type: str
    include: tuple[str, ...] = ()
    reverse: tuple[str, ...] = ()
    related: tuple[tuple[Mapping[str, Any], str], ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    """What can be subscribed to."""

    url: str
    version: str
    title: str
    status: str
    triggers: tuple[ResourceTrigger, ...] = ()
    events: tuple[EventTrigger, ...] = ()
    filters: tuple[FilterBy, ...] = ()
    shapes: tuple[Shape, ...] = field(default=())

    @property
    def types(self) -> tuple[str, ...]:
        """The resource types whose changes can be events of it, in order."""
        return tuple(dict.fromkeys([*(one.type for one in self.triggers), *(one.type for one in self.events)]))

    def shape_of(self, type: str) -> Shape:
        """What is told beside a resource of a type."""
        return next((one for one in self.shapes if one.type == type), Shape(type))


def is_topic(resource: Resource) -> bool:
    """Whether a resource is a topic in one of its forms."""
    return resource.get("resourceType") == "SubscriptionTopic" or is_topic_basic(resource)


def topic_of(resource: Resource) -> Topic:
    """The topic that a resource defines. Raises FhirError 422 that names what is missing or not understood."""
    plain = _from_basic(resource) if resource.get("resourceType") == "Basic" else dict(resource)
    url = plain.get("url")
    if not isinstance(url, str) or not url:
        raise _refused("url", "a topic needs its canonical url", "主题缺少 url")
    status = str(plain.get("status", ""))
    if status not in STATES:
        raise _refused("status", f"'{status[:40]}' is none of {', '.join(STATES)}", f"“{status[:40]}”无效，应为 {', '.join(STATES)}")
    triggers = tuple(_trigger(row, at) for at, row in enumerate(listed(plain, "resourceTrigger")))
    events = tuple(_event(row, at) for at, row in enumerate(listed(plain, "eventTrigger")))
    if not triggers and not events:
        raise _refused("resourceTrigger", "a topic needs a trigger", "主题缺少触发条件")
    return Topic(
        url,
        str(plain.get("version", "")),
        str(plain.get("title") or plain.get("name") or url),
        status,
        triggers,
        events,
        tuple(_filter(row, at) for at, row in enumerate(listed(plain, "canFilterBy"))),
        tuple(_shape(row, at) for at, row in enumerate(listed(plain, "notificationShape"))),
    )


# --- the form of R4


def _from_basic(basic: Resource) -> dict[str, Any]:
    """The elements of R5 that the extensions of a Basic stand for."""
    found: dict[str, Any] = {}
    for row in (*listed(basic, "extension"), *listed(basic, "modifierExtension")):
        match = _EXTENSION.match(str(row.get("url", "")))
        if match:
            _put(found, match[1], _value(row))
    return found


_REPEATING = frozenset(
    {
        "resourceTrigger", "eventTrigger", "canFilterBy", "notificationShape", "supportedInteraction", "include", "revInclude",
        "comparator", "modifier", "extension", "identifier", "derivedFrom", "contact", "useContext", "jurisdiction",
    }
)  # fmt: skip


def _put(holder: dict[str, Any], name: str, value: Any) -> None:
    if name in _REPEATING:
        holder.setdefault(name, []).append(value)
    else:
        holder[name] = value


def _value(extension: Resource) -> Any:
    """The value of an extension; of a complex one an object of its parts. Extensions with a URL of their own stay extensions."""
    parts = listed(extension, "extension")
    if not parts:
        return next((value for key, value in extension.items() if key.startswith("value")), None)
    inner: dict[str, Any] = {}
    for part in parts:
        name = str(part.get("url", ""))
        if ":" in name:
            inner.setdefault("extension", []).append(part)
        else:
            _put(inner, name, _value(part))
    return inner


# --- its parts


def _trigger(row: Resource, at: int) -> ResourceTrigger:
    place = f"resourceTrigger[{at}]"
    interactions = [str(one) for one in row.get("supportedInteraction") or INTERACTIONS]
    strange = [one for one in interactions if one not in INTERACTIONS]
    if strange:
        raise _refused(f"{place}.supportedInteraction", f"'{strange[0]}' is none of {', '.join(INTERACTIONS)}", f"“{strange[0]}”无效")
    query = _part(row, "queryCriteria", place)
    results = []
    for name in ("resultForCreate", "resultForDelete"):
        said = str(query.get(name) or FAILS)
        if said not in (PASSES, FAILS):
            raise _refused(f"{place}.queryCriteria.{name}", f"'{said}' is none of {PASSES}, {FAILS}", f"“{said}”无效")
        results.append(said)
    previous, current = str(query.get("previous") or ""), str(query.get("current") or "")
    return ResourceTrigger(
        _type(row, place), frozenset(interactions), _parameters(previous), _parameters(current), results[0], results[1],
        query.get("requireBoth") is True, str(row.get("fhirPathCriteria") or ""),
    )  # fmt: skip


def _event(row: Resource, at: int) -> EventTrigger:
    place = f"eventTrigger[{at}]"
    event = _part(row, "event", place)
    codings = listed(event, "coding") or ([dict(event)] if "code" in event else [])
    if not codings:
        raise _refused(f"{place}.event", "an event trigger names its event by a code", "事件触发需要事件编码")
    return EventTrigger(_type(row, place), frozenset((str(one.get("system", "")), str(one.get("code", ""))) for one in codings))


def _part(row: Resource, name: str, place: str) -> Resource:
    """An element with parts of its own; empty where it is not there."""
    value = row.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refused(f"{place}.{name}", "must have parts, not a plain value", "须为含子元素的结构，而不是简单值")
    return value


def _filter(row: Resource, at: int) -> FilterBy:
    parameter = row.get("filterParameter")
    if not isinstance(parameter, str) or not parameter:
        raise _refused(f"canFilterBy[{at}].filterParameter", "a filter names its search parameter", "缺少筛选参数名")
    return FilterBy(
        _type(row, f"canFilterBy[{at}]") if row.get("resource") else "",
        parameter,
        frozenset(map(str, row.get("comparator") or ())),
        frozenset(map(str, row.get("modifier") or ())),
    )


def _shape(row: Resource, at: int) -> Shape:
    related = []
    for extension in listed(row, "extension"):
        if extension.get("url") == f"{_BACKPORT}backport-related-query":
            parts = {str(part.get("url")): _value(part) for part in listed(extension, "extension")}
            related.append(_related(parts, f"notificationShape[{at}]"))
    for query in listed(row, "relatedQuery"):
        related.append(_related(query, f"notificationShape[{at}]"))
    include, reverse = tuple(map(str, row.get("include") or ())), tuple(map(str, row.get("revInclude") or ()))
    return Shape(_type(row, f"notificationShape[{at}]"), include, reverse, tuple(related))


def _related(row: Resource, place: str) -> tuple[Resource, str]:
    """(code of the kind, query) of a related query."""
    kind, query = _part(row, "queryType", f"{place}.relatedQuery"), row.get("query")
    if not isinstance(query, str) or not query:
        raise _refused(f"{place}.relatedQuery.query", "a related query needs its query, a text", "相关查询缺少文本形式的 query")
    return kind, query


def _type(row: Resource, place: str) -> str:
    """The name of the resource type that a row is about."""
    text = row.get("resource")
    if not isinstance(text, str) or not text:
        raise _refused(f"{place}.resource", "the resource type is missing", "缺少资源类型")
    return text.removeprefix(CORE)


def _parameters(query: str) -> str:
    """A query criterion without a type in front of its parameters."""
    return query.partition("?")[2] if re.match(r"[A-Z]\w+\?", query) else query.removeprefix("?")


def _refused(place: str, english: str, chinese: str) -> FhirError:
    return FhirError.of(
        422, "value", f"SubscriptionTopic.{place}: {english}", f"SubscriptionTopic.{place}", zh=f"SubscriptionTopic.{place}：{chinese}"
    )
