"""Whether a change is an event of a topic: interaction, query criteria on the version before and the new one, FHIRPath criteria.

Specification: https://hl7.org/fhir/R5/subscriptiontopic.html#trigger-resource, conformance.md K18
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.fhirpath import Expression, FhirPathError, compile_expression
from fhir_server.fhirpath.compiler import FIXED
from fhir_server.fhirpath.parser import Call, Literal, Node, Variable, walked
from fhir_server.search.parser import Include
from fhir_server.search.query import Criterion, Everything
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import Stored
from subscriptions.criteria import Criteria
from subscriptions.topics.definition import PASSES, ResourceTrigger, Shape, Topic

Resource = Mapping[str, Any]
Index = Callable[[dict[str, Any]], IndexValues]
Compile = Callable[[str], Criteria]
"""`Type?parameters` -> criteria; raises FhirError for what cannot be decided by one resource."""
Includes = Callable[[str, Sequence[tuple[str, str]]], tuple[Include, ...]]
"""(type, parameters `_include` and `_revinclude`) -> what they stand for; raises FhirError."""


class Change:
    """One version and the one before it, parsed and indexed when first asked for. `before` is None where there was none, or a deletion."""

    def __init__(self, stored: Stored, before: Stored | None, read: Callable[[bytes], dict[str, Any]], index: Index) -> None:
        self.stored = stored
        self.before = None if before is None or before.deleted else before
        self._read, self._index = read, index
        self._fired: dict[int, bool] = {}

    def fires(self, topic: CompiledTopic) -> bool:
        """Whether it is an event of a topic; asked once, however many subscribe to it."""
        known = self._fired.get(id(topic))
        if known is None:
            known = self._fired[id(topic)] = topic.fires(self)
        return known

    @property
    def interaction(self) -> str:
        """create, update or delete; what comes back after a deletion is created."""
        return "delete" if self.stored.deleted else "update" if self.before is not None else "create"

    @property
    def focus(self) -> Stored:
        """The version that the notification is about: of a deletion the last one."""
        return self.before if self.stored.deleted and self.before is not None else self.stored

    @cached_property
    def current(self) -> dict[str, Any] | None:
        """The new content; None of a deletion."""
        return None if self.stored.deleted else self._read(self.stored.body)

    @cached_property
    def previous(self) -> dict[str, Any] | None:
        """The content before."""
        return None if self.before is None else self._read(self.before.body)

    @cached_property
    def current_values(self) -> IndexValues:
        """Index values of the new content."""
        return IndexValues() if self.current is None else self._index(self.current)

    @cached_property
    def previous_values(self) -> IndexValues:
        """Index values of the content before."""
        return IndexValues() if self.previous is None else self._index(self.previous)

    @property
    def focus_content(self) -> dict[str, Any] | None:
        """The content of `focus`; None where there never was one."""
        return self.previous if self.stored.deleted else self.current

    @property
    def focus_values(self) -> IndexValues:
        """Those of `focus`."""
        return self.previous_values if self.stored.deleted else self.current_values


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, compiled. `previous` and `current` are None where the topic asks for nothing."""

    said: ResourceTrigger
    previous: Criterion | None
    current: Criterion | None
    fhirpath: Expression | None

    def fires(self, change: Change) -> bool:
        """Whether a change of a resource of this type is an event. An expression that cannot be evaluated on it is not met."""
        if change.interaction not in self.said.interactions:
            return False
        if self.fhirpath is not None and not self._path(change):
            return False
        if self.previous is None and self.current is None:
            return True
        results = []
        if self.previous is not None:
            results.append(
                _met(self.previous, change.before, change.previous_values) if change.before is not None else self.said.for_create == PASSES
            )
        if self.current is not None:
            results.append(
                self.said.for_delete == PASSES if change.stored.deleted else _met(self.current, change.stored, change.current_values)
            )
        return all(results) if self.said.both else any(results)

    def _path(self, change: Change) -> bool:
        assert self.fhirpath is not None
        variables = {"previous": change.previous, "current": change.current}
        try:
            return self.fhirpath.test(change.current or change.previous, variables=variables) is True
        except FhirPathError:
            return False


def _met(where: Criterion, stored: Stored, values: IndexValues) -> bool:
    return Criteria(stored.type, where).meets(stored, values)


@dataclass(frozen=True, slots=True)
class CompiledTopic:
    """A topic whose triggers can be asked."""

    topic: Topic
    triggers: tuple[Trigger, ...]
    includes: Mapping[str, tuple[Include, ...]] = field(default_factory=dict)
    """Type of the focus -> what is told beside it."""

    def fires(self, change: Change) -> bool:
        """Whether a change is an event of the topic."""
        return any(one.said.type == change.stored.type and one.fires(change) for one in self.triggers)


def _no_includes(type: str, pairs: Sequence[tuple[str, str]]) -> tuple[Include, ...]:
    return ()


def compile_topic(topic: Topic, criteria: Compile, types: tuple[str, ...], includes: Includes = _no_includes) -> CompiledTopic:
    """Raises FhirError 422 for a criterion that cannot be read or looks at other resources, and for an include that there is not."""
    triggers = tuple(_compiled(one, at, criteria, types) for at, one in enumerate(topic.triggers))
    for at, one in enumerate(topic.events):
        _check_type(one.type, f"SubscriptionTopic.eventTrigger[{at}]", types)
    return CompiledTopic(topic, triggers, {one.type: _included(one, at, includes, types) for at, one in enumerate(topic.shapes)})


def _included(shape: Shape, at: int, includes: Includes, types: tuple[str, ...]) -> tuple[Include, ...]:
    place = f"SubscriptionTopic.notificationShape[{at}]"
    _check_type(shape.type, place, types)
    found: list[Include] = []
    for name, texts in (("include", shape.include), ("revInclude", shape.reverse)):
        for text in texts:
            try:
                found += includes(shape.type, list(_pairs(f"_{name.lower()}", text)))
            except FhirError as fault:
                where, issue = f"{place}.{name}", fault.issues[0]
                zh = f"{where}：{issue.zh or '不可用'}"
                raise FhirError.of(422, "not-supported", f"{where}: {issue.diagnostics}", where, zh=zh) from None
    return tuple(found)


def _pairs(name: str, text: str) -> Iterator[tuple[str, str]]:
    """`Encounter:patient&iterate=Patient.link` as parameters of a search."""
    first, *rest = text.split("&")
    yield name, first.removeprefix(f"{name}=")
    for part in rest:
        kind, _, value = part.partition("=")
        yield f"{name}:{kind}", value.replace(".", ":", 1)


def _check_type(type: str, place: str, types: tuple[str, ...]) -> None:
    if type not in types:
        raise FhirError.of(
            422, "value", f"{place}.resource: '{type}' is no resource type", place, zh=f"{place}.resource：“{type}”不是资源类型"
        )


def _compiled(said: ResourceTrigger, at: int, criteria: Compile, types: tuple[str, ...]) -> Trigger:
    place = f"SubscriptionTopic.resourceTrigger[{at}]"
    _check_type(said.type, place, types)
    found: list[Criterion | None] = []
    for name, query in (("previous", said.previous), ("current", said.current)):
        try:
            where = criteria(f"{said.type}?{query}").where if query else None
        except FhirError as fault:
            where_at, issue = f"{place}.queryCriteria.{name}", fault.issues[0]
            zh = f"{where_at}：{issue.zh or '检索式无效'}"
            raise FhirError.of(422, "not-supported", f"{where_at}: {issue.diagnostics}", where_at, zh=zh) from None
        found.append(None if isinstance(where, Everything) else where)
    try:
        expression = compile_expression(said.fhirpath) if said.fhirpath else None
        if expression is not None and (unserved := list(dict.fromkeys(_unserved(expression.node)))):
            raise FhirPathError("; ".join(english for english, _ in unserved), "；".join(chinese for _, chinese in unserved))
    except FhirPathError as fault:
        where_at = f"{place}.fhirPathCriteria"
        raise FhirError.of(422, "value", f"{where_at}: {fault}", where_at, zh=f"{where_at}：表达式不可用：{fault.zh}") from None
    return Trigger(said, found[0], found[1], expression)


_VARIABLES = frozenset(("previous", "current", "context", "resource", "rootResource", *FIXED))
_ELSEWHERE = frozenset(("resolve", "memberOf", "subsumes", "subsumedBy", "conformsTo"))


def _unserved(node: Node) -> Iterator[tuple[str, str]]:
    """What an expression asks for that is not there when a change is looked at: unknown variables, and functions that look elsewhere.

    In English and Chinese.
    """
    defined = {
        one.arguments[0].text
        for one in walked(node)
        if isinstance(one, Call) and one.name == "defineVariable" and one.arguments and isinstance(one.arguments[0], Literal)
    }
    for one in walked(node):
        if isinstance(one, Variable) and one.name not in _VARIABLES | defined and not one.name.startswith(("vs-", "ext-")):
            english = f"%{one.name} is not known here, only %previous, %current and those of FHIRPath"
            yield english, f"此处没有 %{one.name}，只有 %previous、%current 和 FHIRPath 自带的变量"
        if isinstance(one, Call) and one.name in _ELSEWHERE:
            english = f"{one.name}() looks at other resources, a criterion sees the changed one only"
            yield english, f"{one.name}() 需要查看其他资源，而条件只能看到发生变化的资源"
