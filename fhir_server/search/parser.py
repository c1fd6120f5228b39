"""A search request → the query algebra; nothing is silently ignored.

Specification: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus

from fhir_server.errors import FhirError, Issue
from fhir_server.search import controls
from fhir_server.search.errors import invalid, issue_of, unknown
from fhir_server.search.filters import Filters
from fhir_server.search.opening import open_parts, words_in
from fhir_server.search.parameters import SPELLED, Parameter, Registry
from fhir_server.search.query import And, Criterion, Everything, OfType, Or, Query, RangeMatch, SortKey
from fhir_server.search.sets import SETS
from fhir_server.search.values_of import Scope, union

MAX_COUNT = 1000
DEFAULT_COUNT = 20
MAX_VALUE = 20_000
"""Longest value of one parameter, in characters; of one that offers several with commas, of each of them."""
MAX_LIST = 2_000_000
"""Longest list of values, in characters."""
_REMEMBERED = 4096
"""Most parameters whose criteria are remembered, and the longest value of such a one."""
_SHORT = 200
SUMMARIES = ("true", "text", "data", "count", "false")
CONTAINED = ("false", "true", "both")
CONTAINED_TYPES = ("container", "contained")
TOTALS = ("none", "estimate", "accurate")
_OF_ALL = ("_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_list", "_text", "_content")
"""Parameters that mean the same on every type."""
_WORDED = ("_text", "_content", ":text")
_SHOWN = ("_summary", "_contained", "_containedType", "_explain")
_PRESENTATION = (
    "_format",
    "_pretty",
    "_summary",
    "_elements",
    "_count",
    "_total",
    "_sort",
    "_include",
    "_revinclude",
    "_cursor",
    "_explain",
    "_type",
    "_contained",
    "_containedType",
)
_UNLISTED = frozenset({*_PRESENTATION, *_WORDED, "_filter"})
"""Parameters that have no long lists of values."""


class Include(NamedTuple):
    """`_include` or `_revinclude`: `parameter` None stands for '*'. `type`: whose references are followed (or, reversed, who refers).

    `target`: the only type that is taken, or None. `iterate`: also on what was included.
    """

    reverse: bool
    type: str
    parameter: Parameter | None
    target: str | None
    iterate: bool


@dataclass(slots=True)
class ParsedSearch:
    """A search as it was understood. `pairs` are those of `link self`, decoded; `ignored` what a lenient search left out."""

    query: Query
    includes: tuple[Include, ...] = ()
    summary: str | None = None
    elements: tuple[str, ...] = ()
    cursor: str | None = None
    explain: bool = False
    contained: str = "false"
    """Whether contained resources are searched: false (not), true (only they), both."""
    contained_type: str = "container"
    """What stands for a contained match: its container, or itself (contained)."""
    pairs: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[Issue] = field(default_factory=list)


def pairs_of(query: str) -> list[tuple[str, str]]:
    """The decoded pairs of a query string or form body, in order."""
    found = []
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            found.append((unquote_plus(name), unquote_plus(value)) if "%" in piece or "+" in piece else (name, value))
    return found


class Parser:
    """Parses searches over one registry; `scope` carries zone and own base URLs."""

    def __init__(self, registry: Registry, scope: Scope) -> None:
        self._registry = registry
        self._scope = scope
        self._memory = registry.memory
        self.filters = Filters(registry, scope)

    # --- the whole search

    def search(
        self, types: Sequence[str], pairs: Iterable[tuple[str, str]], *, lenient: bool = False, extra: Criterion | None = None
    ) -> ParsedSearch:
        """A search over these types (one, or several for a system search). `extra` is joined (compartments).

        Raises FhirError 400 or 501; with `lenient`, unknown parameters are left out and named in `ignored`.
        """
        pairs = list(pairs)
        self.filters.restart()
        chosen = self.chosen(types, pairs)
        result = ParsedSearch(Query(chosen))
        criteria: list[Criterion] = [extra] if extra is not None else []
        sort: tuple[SortKey, ...] = ()
        includes: list[Include] = []
        count, total = DEFAULT_COUNT, "none"
        seen: dict[str, str] = {}
        for name, value in pairs:
            try:
                if not value:
                    raise invalid(name, value, "a parameter needs a value", "缺少值")
                if len(value) > MAX_VALUE:
                    _check_length(name, value)
                if "\x00" in value:
                    raise invalid(name, value, "holds the character U+0000", "含有字符 U+0000")
                base = name.partition(":")[0]
                controls.check(name, value, seen)
                if base == "_count":
                    count = self._count(value)
                    result.pairs.append((name, str(count)))
                    continue
                if base == "_total":
                    total = _one_of(name, value, TOTALS)
                elif base == "_elements":
                    result.elements += controls.elements(self._registry.definitions, self._shown(chosen, pairs), value)
                elif base in _SHOWN:
                    _show(result, base, name, value)
                elif base == "_sort":
                    sort += self._sort(chosen, value)
                elif base in ("_include", "_revinclude"):
                    includes.append(self._include(chosen, name, value))
                elif base == "_cursor":
                    result.cursor = value
                    continue
                elif base not in ("_format", "_pretty", "_type"):
                    criteria.append(self._across(chosen, name, value))
                result.pairs.append((name, value))
            except FhirError as fault:
                if not lenient or not _may_be_ignored(name, value, fault):
                    raise
                result.ignored.append(issue_of(fault))
        where: Criterion = Everything() if not criteria else criteria[0] if len(criteria) == 1 else And(tuple(criteria))
        worded = any(name.endswith(_WORDED) or "_filter" in name for name, _ in result.pairs) and any(words_in(where))
        asks = any(_may_ask(name) for name, _ in result.pairs)
        result.query = Query(
            chosen, where, _each_once(sort) or self._unsaid(chosen, where), count, total, asks and any(open_parts(where)), worded
        )
        result.includes = tuple(dict.fromkeys(includes))
        return result

    def criteria(self, type: str, text: str) -> Query:
        """The query of conditional interactions and Subscriptions ('identifier=a|b&status=final'): filters only."""
        pairs = pairs_of(text)
        for name, _ in pairs:
            if name.partition(":")[0] in _PRESENTATION:
                raise invalid(name, "", "only parameters that filter may stand in criteria", "条件中只能使用筛选参数")
        if not pairs:
            what = f"The criteria for {type} are empty; at least one search parameter is needed"
            raise FhirError.of(400, "invalid", what, zh=f"{type} 的条件为空，至少需要一个检索参数")
        query = self.search((type,), pairs).query
        if query.words:
            rule = "searches by words (_text, _content, :text) cannot decide about a write"
            raise invalid("criteria", text, rule, "全文检索（_text、_content、:text）不能用于判断写入")
        return query

    def chosen(self, types: Sequence[str], pairs: list[tuple[str, str]]) -> tuple[str, ...]:
        """Those of `types` that `_type` asks for. Raises FhirError 400 for a type that does not exist or is not among them."""
        wanted = [one for name, value in pairs if name == "_type" for one in value.split(",")]
        if len(types) == 1:
            if wanted:
                raise invalid("_type", ",".join(wanted), "is for searches over several types", "只用于跨多种类型的检索")
            return tuple(types)
        known = self._registry.definitions.resource_types
        for one in wanted:
            if one not in known:
                raise unknown("resource type", one, "_type", known)
            if one not in types:
                raise invalid("_type", one, "is not in this compartment", "不在此区间之内")
        return tuple(one for one in types if not wanted or one in wanted)

    def _shown(self, types: tuple[str, ...], pairs: list[tuple[str, str]]) -> Sequence[str]:
        """The types of which resources may be in the answer."""
        return self._registry.definitions.resource_types if any("include" in name for name, _ in pairs) else types

    # --- parameters of the result

    def _count(self, value: str) -> int:
        if not value.isascii() or not value.isdigit():
            raise invalid("_count", value, "must be a whole number from 0 on", "应为非负整数")
        return min(int(value.lstrip("0")[:5] or "0"), MAX_COUNT)

    def _sort(self, types: tuple[str, ...], value: str) -> tuple[SortKey, ...]:
        keys = []
        for part in value.split(","):
            descending, name = part.startswith("-"), part.strip().removeprefix("-")
            if name in ("_lastUpdated", "_id"):
                keys.append(SortKey(name, "updated" if name == "_lastUpdated" else "id", descending))
                continue
            if len(types) != 1:
                raise invalid(
                    "_sort",
                    value,
                    "a search over several types is sorted by _lastUpdated or _id",
                    "跨多种类型的检索只能按 _lastUpdated 或 _id 排序",
                )
            parameter = self._registry.get(types[0], name)
            if parameter is None:
                raise unknown("sort key", name, types[0], self._registry.codes(types[0]))
            if parameter.type in ("composite", "special"):
                raise invalid(
                    "_sort",
                    value,
                    f"'{name}' is a {parameter.type} parameter, which has no order",
                    f"“{name}”是 {parameter.type} 类型的参数，没有顺序",
                )
            kind = {"string": "text", "date": "range", "number": "range", "quantity": "range"}.get(parameter.type, "key")
            first, *others = parameter.sources
            spelling = first.number + 1 if kind == "text" and name in SPELLED else 0
            keys.append(SortKey(first.number, kind, descending, tuple(one.number for one in others), first.target, spelling))
        return tuple(keys)

    def _unsaid(self, types: tuple[str, ...], where: Criterion) -> tuple[SortKey, ...]:
        """The order without `_sort`: what was asked for by its clinical date comes newest date first, as its postings lie."""
        clinical = self._registry.clinical.get(types[0]) if len(types) == 1 else None
        if clinical is None:
            return ()
        for part in where.parts if isinstance(where, And) else (where,):
            dates = part.parts if isinstance(part, Or) else (part,)
            if all(isinstance(date, RangeMatch) and date.parameter == clinical for date in dates):
                return (SortKey(clinical, "range", descending=True),)
        return ()

    def _include(self, types: tuple[str, ...], name: str, value: str) -> Include:
        base, _, modifier = name.partition(":")
        if modifier not in ("", "iterate", "recurse"):
            raise unknown("modifier", modifier, base, ["iterate"])
        reverse, iterate = base == "_revinclude", bool(modifier)
        parts = value.split(":")
        known = self._registry.definitions.resource_types
        if parts == ["*"]:
            return Include(reverse, "*" if reverse or iterate or len(types) != 1 else types[0], None, None, iterate)
        if len(parts) not in (2, 3):
            raise invalid(
                name,
                value,
                "has the form Type:parameter or Type:parameter:TargetType",
                "格式应为 Type:parameter 或 Type:parameter:TargetType",
            )
        if parts[0] not in known:
            raise unknown("resource type", parts[0], name, known)
        if not reverse and not iterate and parts[0] not in types:
            raise invalid(
                name,
                value,
                f"{parts[0]} is not what is searched for ({', '.join(types[:3])})",
                f"{parts[0]} 不是所检索的类型（{'、'.join(types[:3])}）",
            )
        target = parts[2] if len(parts) == 3 else None
        if target is not None and target not in known:
            raise unknown("resource type", target, name, known)
        if parts[1] == "*":
            return Include(reverse, parts[0], None, target, iterate)
        parameter = self._registry.get(parts[0], parts[1])
        references = [one.code for one in self._registry.of(parts[0]) if one.type == "reference"]
        if parameter is None or parameter.type != "reference":
            raise unknown("reference parameter", parts[1], f"{parts[0]} in {name}", references, f"{name} 中的 {parts[0]}")
        if target is not None and "Resource" not in parameter.targets and target not in parameter.targets:
            raise invalid(name, value, f"{parts[0]}.{parts[1]} never refers to {target}", f"{parts[0]}.{parts[1]} 不会引用 {target}")
        return Include(reverse, parts[0], parameter, target, iterate)

    # --- filters

    def _across(self, types: tuple[str, ...], name: str, value: str) -> Criterion:
        """One parameter over the searched types: of several, each must know it. Raises FhirError 400."""
        if len(types) == 1:
            return self._remembered(types[0], name, value)
        base = name.partition(":")[0].partition(".")[0]
        if base in _OF_ALL:
            return union(list(dict.fromkeys(self.filters.filter(one, name, value) for one in types)))
        if base not in ("_has", "_filter"):
            foreign = next((one for one in types if self._registry.get(one, base) is None), None)
            if foreign is not None:
                common = set.intersection(*(set(self._registry.codes(one)) for one in types))
                of = f"{foreign}; a search over several types takes only parameters that all of them have"
                of_zh = f"{foreign}；跨多种类型的检索只能使用这些类型共有的参数"
                raise unknown("search parameter", base, of, [*common, *controls.NAMES], of_zh)
        return Or(tuple(And((OfType(one), self.filters.filter(one, name, value))) for one in types))

    def _remembered(self, type: str, name: str, value: str) -> Criterion:
        """The criterion of a parameter: clients ask with the same codes, statuses and dates again and again."""
        at = (type, name, value, self._scope.own_bases, self._scope.zone)
        found = self._memory.get(at)
        if found is None:
            found = self.filters.filter(type, name, value)
            # `ap` looks at the clock.
            if len(value) <= _SHORT and "ap" not in value:
                if len(self._memory) >= _REMEMBERED:
                    self._memory.clear()
                self._memory[at] = found
        return found


def _may_ask(name: str) -> bool:
    """Whether the criterion of a parameter may hold an open part: a set, a hierarchy, or a link that is a canonical."""
    return "." in name or (":" in name and (name.startswith("_has:") or any(word in name for word in SETS))) or "_filter" in name


def _show(result: ParsedSearch, base: str, name: str, value: str) -> None:
    """Take up what is said about the form of the answer."""
    if base == "_summary":
        result.summary = _one_of(name, value, SUMMARIES)
    elif base == "_contained":
        result.contained = _one_of(name, value, CONTAINED)
    elif base == "_containedType":
        result.contained_type = _one_of(name, value, CONTAINED_TYPES)
    else:
        result.explain = _one_of(name, value, ("true", "false")) == "true"


def _each_once(sort: tuple[SortKey, ...]) -> tuple[SortKey, ...]:
    """What is in order by a key stays so: a second time it says nothing, but in the other direction, which looks at other values."""
    return tuple(dict.fromkeys(sort))


def _check_length(name: str, value: str) -> None:
    """Lists of values may be long, values may not. Raises FhirError 400."""
    if name.partition(":")[0] in _UNLISTED or len(value) > MAX_LIST or max(map(len, value.split(","))) > MAX_VALUE:
        raise invalid(name, value, f"is longer than {MAX_VALUE} characters", f"超过 {MAX_VALUE} 个字符")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise invalid(name, value, f"must be one of {', '.join(allowed)}", f"应为 {'、'.join(allowed)} 之一")
    return value


def _may_be_ignored(name: str, value: str, fault: FhirError) -> bool:
    """Lenient handling leaves out what is empty, unknown or not there yet; not a wrong value, without which all would match, nor paging."""
    known = fault.issues[0].code != "not-supported" and value
    return not known and name.partition(":")[0] not in ("_count", "_total", "_summary", "_cursor")
