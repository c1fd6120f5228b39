"""Search parameters that a site defines itself: what a SearchParameter resource asks for, and what of it cannot be served.

Specification: https://hl7.org/fhir/R4/searchparameter.html. Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_server.errors import Issue
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.typed import typed_paths
from fhir_server.model.definitions import Definitions, SearchParameterDef, definitions
from fhir_server.search.extract import BY_KIND, extractor_of
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import CUSTOM, Custom, Definition, Registry, has_second
from fhir_server.search.query import And, Chain, Criterion, Has, Not, Or, Query
from fhir_server.search.values import IndexValues

Resource = dict[str, Any]

KINDS = ("token", "string", "reference", "date", "number", "quantity", "uri")
"""Kinds of parameters that a site may define; composites and special ones are the specification's own."""
LONGEST = 10_000
"""Characters of an expression."""
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z", re.ASCII)
_OWN = frozenset(
    {
        "_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_list", "_has", "_text", "_content", "_filter", "_query",
        "_type", "_contained", "_containedType", "_count", "_sort", "_include", "_revinclude", "_summary", "_elements", "_total", "_format",
    }
)  # fmt: skip
"""Names of the specification itself: a SearchParameter of such a code is stored like any other document."""
_CHOICE = re.compile(r"\.value([A-Z]\w*)\b(?!\()")
_ABSTRACT = ("Resource", "DomainResource")
_SAMPLE = "Patient"
_OF_A_TYPE = re.compile(r"\(*[A-Z]\w*\b(?<!Resource)")
"""An expression that begins with a type of its own."""


class _Asked(NamedTuple):
    """The members of an active SearchParameter that decide what is served."""

    code: str
    kind: str
    expression: str
    bases: tuple[str, ...]
    targets: tuple[str, ...]
    url: str


class _Fault(NamedTuple):
    code: str
    element: str
    rule: str
    zh: str


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _spelled(expression: str) -> str:
    """The expression with `.value.as(dateTime)` for `.valueDateTime`, which is no FHIRPath, but stands in published packages (US Core)."""

    def cast(found: re.Match[str]) -> str:
        known = definitions().types
        kind = next((name for name in (found[1], found[1][:1].lower() + found[1][1:]) if name in known), None)
        return f".value.as({kind})" if kind else found[0]

    parts = re.split(r"('(?:[^'\\]|\\.)*')", expression)
    return "".join(part if number % 2 else _CHOICE.sub(cast, part) for number, part in enumerate(parts))


def definitions_of(resource: Resource, registry: Registry) -> tuple[list[Definition], list[Issue]]:
    """What a SearchParameter asks to be served, by resource type, and why it cannot be (then nothing of it is).

    Nothing is asked by one that is not active, nor for types that have an official parameter of its code.
    """
    if resource.get("status") != "active":
        return [], []
    asked = _Asked(
        str(resource.get("code") or ""),
        str(resource.get("type") or ""),
        _spelled(str(resource.get("expression") or "").strip()),
        _texts(resource.get("base")),
        _texts(resource.get("target")),
        str(resource.get("url") or ""),
    )
    if asked.code in _OWN:
        return [], []
    found, faults = _understood(asked, tuple(_open(asked, registry)))
    return list(found), [
        Issue(
            one.code,
            f"SearchParameter.{one.element}: {one.rule}",
            (f"SearchParameter.{one.element}",),
            zh=f"SearchParameter.{one.element}：{one.zh}",
        )
        for one in faults
    ]


def _open(asked: _Asked, registry: Registry) -> Iterator[str]:
    """The types of `base` without an official parameter of this code; unknown names as they are."""
    known = registry.definitions
    for base in dict.fromkeys(asked.bases):
        types = [one for one in known.resource_types if known.is_subtype(one, base)] if base in _ABSTRACT else [base]
        yield from (one for one in types if not registry.is_official(one, asked.code))


@lru_cache(maxsize=64)
def _understood(asked: _Asked, types: tuple[str, ...]) -> tuple[tuple[Definition, ...], tuple[_Fault, ...]]:
    """Definitions for these types, or faults. Remembered, because it is asked before a write and again inside its transaction."""
    if not types and asked.bases:
        return (), ()
    faults = list(_faults(asked, definitions()))
    if faults:
        return (), tuple(faults)
    found: list[Definition] = []
    for type in dict.fromkeys(types):
        # What holds of an example holds of all types that the base stands for; going through them would take long.
        abstract = not set(asked.bases).isdisjoint(_ABSTRACT) and type not in asked.bases
        fault = _fault_in(asked, _SAMPLE if abstract and not _OF_A_TYPE.match(asked.expression) else type)
        if fault is None:
            second = has_second(SearchParameterDef(asked.url, asked.code, asked.kind, (type,), asked.expression))
            found.append(Definition(type, asked.code, asked.kind, asked.expression, _targets(asked), asked.url, second))
        elif not abstract:
            faults.append(fault)
    if not found and not faults:
        shown = _shown(asked.expression)
        rule = f"'{shown}' finds nothing that a {asked.kind} parameter can hold"
        faults.append(_Fault("value", "expression", rule, f"“{shown}”的结果不能用于 {asked.kind} 类型的检索参数"))
    return (() if faults else tuple(found)), tuple(faults)


def _targets(asked: _Asked) -> tuple[str, ...]:
    if asked.kind != "reference":
        return ()
    return asked.targets or ("Resource",)


def _faults(asked: _Asked, known: Definitions) -> Iterator[_Fault]:
    """What is wrong with the members, each for itself."""
    types = (*known.resource_types, *_ABSTRACT)
    if not asked.code:
        yield _Fault("required", "code", "a search parameter needs the name that stands in the address", "检索参数缺少地址中使用的名称")
    elif not _CODE.match(asked.code):
        rule = "a name in an address is a letter, then letters, digits, '-' and '_', 64 at most; a leading '_' is the specification's own"
        zh = "地址中的名称须以字母开头，其后为字母、数字、“-”和“_”，最多 64 个字符；以“_”开头的名称属于规范"
        yield _Fault(
            "value", "code", f"'{_shown(asked.code)}' cannot stand in a search: {rule}", f"“{_shown(asked.code)}”不能用于检索：{zh}"
        )
    elif asked.code == "near":
        yield _Fault("value", "code", "'near' is the name of the parameter for places", "“near”是位置检索参数的名称")
    if not asked.bases:
        yield _Fault("required", "base", "the resource types that have the parameter must be named", "缺少该参数所属的资源类型")
    for number, base in enumerate(asked.bases):
        if base not in types:
            yield _Fault(
                "value", f"base[{number}]", f"'{_shown(base)}' is no resource type of FHIR R4", f"“{_shown(base)}”不是 FHIR R4 的资源类型"
            )
    for number, target in enumerate(asked.targets):
        if target not in types:
            shown = _shown(target)
            yield _Fault("value", f"target[{number}]", f"'{shown}' is no resource type of FHIR R4", f"“{shown}”不是 FHIR R4 的资源类型")
    if not asked.kind:
        kinds = ", ".join(KINDS)
        yield _Fault("required", "type", f"the kind of the values must be one of {kinds}", f"值的类型须为以下之一：{kinds}")
    elif asked.kind not in KINDS:
        kinds, shown = ", ".join(KINDS), _shown(asked.kind)
        rule = f"'{shown}' is not served for parameters of a site; one of {kinds} is"
        yield _Fault("not-supported", "type", rule, f"自定义参数不支持类型“{shown}”，支持：{kinds}")
    if not asked.expression:
        yield _Fault(
            "required", "expression", "an active search parameter needs the FHIRPath of its values", "启用的检索参数缺少取值的 FHIRPath"
        )
    elif len(asked.expression) > LONGEST:
        yield _Fault("too-long", "expression", f"is longer than {LONGEST} characters", f"超过 {LONGEST} 个字符")
    else:
        try:
            typed_paths(asked.expression, _SAMPLE)
        except FhirPathError as fault:
            shown = _shown(asked.expression)
            yield _Fault("invalid", "expression", f"'{shown}' is no FHIRPath: {fault}", f"“{shown}”不是 FHIRPath：{fault.zh}")
        except RecursionError:
            shown = _shown(asked.expression)
            yield _Fault("invalid", "expression", f"'{shown}' nests too deep", f"“{shown}”嵌套过深")


def _fault_in(asked: _Asked, type: str) -> _Fault | None:
    """Why the expression finds nothing in a type that such a parameter could hold; None where it may."""
    from fhir_server.search.parameters import Parameter

    known = definitions()
    shown = _shown(asked.expression)
    try:
        paths = typed_paths(asked.expression, type)
    except FhirPathError as fault:
        rule = f"'{shown}' cannot be evaluated on {type}: {fault}"
        return _Fault("invalid", "expression", rule, f"“{shown}”无法在 {type} 上求值：{fault.zh}")
    if not paths:
        rule = f"'{shown}' finds nothing in {type}: there is no such element"
        return _Fault("value", "expression", rule, f"“{shown}”在 {type} 中没有结果：没有这样的元素")
    parameter = Parameter(CUSTOM, asked.code, asked.kind, type, asked.expression, identifier=CUSTOM + 1)
    kinds = [path.type for path in paths]
    for kind in kinds:
        if kind is None or (kind in ("Reference", *BY_KIND[asked.kind]) and extractor_of(known, parameter, kind, asked.expression)):
            return None
    found = ", ".join(sorted({str(kind) for kind in kinds})[:5])
    rule = f"'{shown}' gives {found} in {type}, which a {asked.kind} parameter cannot hold"
    return _Fault("value", "expression", rule, f"“{shown}”在 {type} 中得到 {found}，不能用于 {asked.kind} 类型的检索参数")


def _shown(text: str) -> str:
    return text if len(text) <= 120 else text[:120] + "…"


def customs_in(query: Query) -> set[int]:
    """The numbers of a site's own parameters that a query asks about, in filters and sort keys."""
    found = set(_numbers(query.where))
    found.update(key.parameter for key in query.sort if isinstance(key.parameter, int))
    return {number for number in found if number >= CUSTOM}


def _numbers(criterion: Criterion) -> Iterator[int]:
    if isinstance(criterion, And | Or):
        for part in criterion.parts:
            yield from _numbers(part)
        return
    if isinstance(criterion, Not | Has):
        yield from _numbers(criterion.part)
    elif isinstance(criterion, Chain):
        for _, part in criterion.targets:
            yield from _numbers(part)
    number = getattr(criterion, "parameter", None)
    if number is not None:
        yield number


class Customs:
    """The site's own parameters of one process: its registry and its indexer, as the store last told.

    The store calls `take` whenever its generation has grown; `generation` says which one is known here.
    """

    def __init__(self, registry: Registry, indexer: Indexer) -> None:
        self._registry, self._indexer = registry, indexer
        self.ever = False
        """Whether there has been one in this process: only then a query may ask about one."""

    @property
    def generation(self) -> int:
        return self._registry.generation

    def wanted(self, resource: Resource) -> list[Definition]:
        """What a stored SearchParameter asks for; nothing where it cannot be served."""
        found, issues = definitions_of(resource, self._registry)
        return [] if issues else found

    def issues(self, resource: Resource) -> list[Issue]:
        """Why a SearchParameter is refused (422); none when it can be stored."""
        return definitions_of(resource, self._registry)[1]

    def take(self, customs: Iterable[Custom], generation: int) -> None:
        """These are the parameters from now on."""
        customs = list(customs)
        self.ever = self.ever or bool(customs)
        self._registry.take(customs, generation)
        self._indexer.forget()

    def of_number(self, number: int) -> Custom | None:
        """The parameter that posts under a number, be it its second one."""
        found = self._registry.customs.get(number)
        if found is None:
            found = self._registry.customs.get(number - 1)
            return found if found is not None and found.definition.second else None
        return found

    def numbers(self) -> set[int]:
        """First numbers of all that are known here."""
        return set(self._registry.customs)

    def values(self, kind: str, numbers: frozenset[int]) -> Callable[[Resource], IndexValues]:
        """What gives the values of these numbers only."""
        return self._indexer.only(kind, numbers)

    def connect(self, progress: Callable[[str, str], tuple[int, int]], renew: Callable[[], None]) -> None:
        """Hang in the store: (type, code) -> (resources indexed, all), and a look whether there are newer parameters."""
        self._registry.progress, self._registry.look = progress, renew
