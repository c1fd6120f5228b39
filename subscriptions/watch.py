"""What a Subscription watches: a search (R4's own form), or a topic with filters (the R5 backport).

Specification: https://hl7.org/fhir/R4/subscription.html#criteria, https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.errors import FhirError, Issue
from fhir_server.validation.values import listed
from subscriptions.criteria import Criteria
from subscriptions.topics.definition import Topic
from subscriptions.topics.matching import Change, CompiledTopic

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
FILTER = f"{BACKPORT}backport-filter-criteria"
_CANONICAL = re.compile(r"(?:https?://|urn:)[^?\s]+\Z")
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)[0-9]")
Find = Callable[[str], "CompiledTopic | None"]
Compile = Callable[[str], Criteria]


class Watch(Protocol):
    """Which changes a Subscription is told of."""

    @property
    def types(self) -> tuple[str, ...]:
        """The resource types whose changes can matter."""

    @property
    def looks_back(self) -> bool:
        """Whether the version before is asked for."""

    def wants(self, change: Change) -> bool:
        """Whether a change of a resource of these types is told."""

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """(system, code) of events of the world outside that are told."""

    def wants_event(self, code: tuple[str, str], change: Change) -> bool:
        """Whether such an event is told, of the version that the change is about."""


@dataclass(frozen=True, slots=True)
class SearchWatch:
    """R4's own form: each new version that meets the criteria; no deletions."""

    criteria: Criteria

    @property
    def types(self) -> tuple[str, ...]:
        """That of the criteria."""
        return (self.criteria.type,)

    @property
    def looks_back(self) -> bool:
        """Only the new version counts."""
        return False

    def wants(self, change: Change) -> bool:
        """The new version meets the criteria."""
        if change.stored.deleted:
            return False
        return self.criteria.everything or self.criteria.meets(change.stored, change.current_values)

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """None."""
        return ()

    def wants_event(self, code: tuple[str, str], change: Change) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class TopicWatch:
    """Events of a topic whose resource meets all filters for its type."""

    topic: CompiledTopic
    filters: tuple[Criteria, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Those whose changes are events of the topic."""
        return tuple(dict.fromkeys(one.type for one in self.topic.topic.triggers))

    @property
    def looks_back(self) -> bool:
        """Updates and deletions are told from creations."""
        return True

    def wants(self, change: Change) -> bool:
        """An event of the topic; filters look at the new version, of a deletion at the last one."""
        return change.fires(self.topic) and self._passes(change)

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """Those of the topic's event triggers."""
        return tuple(dict.fromkeys(code for one in self.topic.topic.events for code in sorted(one.codes)))

    def wants_event(self, code: tuple[str, str], change: Change) -> bool:
        """An event trigger of the topic with that code and type; filters as above."""
        fires = any(one.type == change.stored.type and code in one.codes for one in self.topic.topic.events)
        return fires and self._passes(change)

    def _passes(self, change: Change) -> bool:
        focus = change.focus
        return all(one.type != focus.type or one.meets(focus, change.focus_values) for one in self.filters)


def names_topic(criteria: str) -> bool:
    """Whether criteria are the canonical of a topic, and no search."""
    return _CANONICAL.match(criteria.strip()) is not None


def filters_of(subscription: Mapping[str, Any]) -> list[str]:
    """The filters of a topic-based Subscription (`Encounter?patient=Patient/123`)."""
    beside = subscription.get("_criteria")
    rows = listed(beside, "extension") if isinstance(beside, dict) else []
    return [str(row.get("valueString", "")) for row in rows if row.get("url") == FILTER]


def watch_of(subscription: Mapping[str, Any], compile: Compile, find: Find) -> Watch:
    """Raises FhirError 422 with all that this server cannot watch, naming element and value."""
    criteria = str(subscription.get("criteria", ""))
    if not names_topic(criteria):
        if filters_of(subscription):
            raise _refused("a filter narrows a topic; these criteria are a search", "筛选条件只用于主题订阅")
        return SearchWatch(compile(criteria))
    topic = find(criteria.strip())
    if topic is None:
        raise FhirError.of(
            422, "not-supported", f"Subscription.criteria: the topic {criteria} is not known here, or not active", "Subscription.criteria",
            zh=f"Subscription.criteria：本机没有主题 {criteria}，或主题未启用",
        )  # fmt: skip
    found: list[Criteria] = []
    issues: list[Issue] = []
    for text in filters_of(subscription):
        try:
            found.append(_filter(text, topic.topic, compile))
        except FhirError as fault:
            issues += fault.issues
    if issues:
        raise FhirError(422, issues)
    return TopicWatch(topic, tuple(found))


def _filter(text: str, topic: Topic, compile: Compile) -> Criteria:
    """A filter, whose type and parameters are those that the topic allows."""
    type, question, query = text.strip().partition("?")
    if not question:
        raise _refused(f"'{text[:120]}' is no filter: it reads Type?parameter=value", f"“{text[:120]}”不是筛选条件")
    if not query:
        raise _refused(f"nothing stands behind the '?' of '{text[:120]}': a filter names a parameter", f"筛选条件“{text[:120]}”没有参数")
    if type not in topic.types:
        raise _refused(
            f"'{type[:40]}' is no type of the topic {topic.url}, only {', '.join(topic.types)}", f"主题 {topic.url} 没有类型“{type[:40]}”"
        )
    for name, modifier, value in _parameters(query):
        allowed = [one for one in topic.filters if one.parameter == name and one.type in ("", type)]
        if not allowed:
            known = sorted({one.parameter for one in topic.filters if one.type in ("", type)})
            hint = f"only by {', '.join(known)}" if known else "for it names no filters"
            raise _refused(
                f"the topic {topic.url} cannot be filtered by '{name[:40]}', {hint}", f"主题 {topic.url} 不能按“{name[:40]}”筛选"
            )
        if modifier and modifier not in {word for one in allowed for word in one.modifiers}:
            raise _refused(
                f"the topic {topic.url} does not allow the modifier '{modifier[:20]}' of {name}",
                f"主题 {topic.url} 不允许修饰符“{modifier[:20]}”",
            )
        comparators = {word for one in allowed for word in one.comparators}
        strange = next((found[1] for one in value.split(",") if (found := _PREFIX.match(one)) and found[1] not in comparators), "")
        if strange and comparators:
            raise _refused(
                f"the topic {topic.url} does not allow the comparator '{strange}' of {name}",
                f"主题 {topic.url} 不允许比较符“{strange}”",
            )
    return compile(f"{type}?{query}")


def _parameters(query: str) -> Iterator[tuple[str, str, str]]:
    """(name, modifier, value) of each part."""
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            bare, _, modifier = name.partition(":")
            yield bare, modifier, value


def _refused(english: str, chinese: str) -> FhirError:
    place = "Subscription.criteria.extension"
    return FhirError.of(422, "not-supported", f"{place}: {english}", place, zh=f"{place}：{chinese}")
