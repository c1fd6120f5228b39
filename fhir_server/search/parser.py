"""A search request → the query algebra; nothing is silently ignored.

Specification: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus

from fhir_server.errors import FhirError, Issue
from fhir_server.search import values_of
from fhir_server.search.errors import invalid, issue_of, not_yet, unknown
from fhir_server.search.parameters import Parameter, Registry
from fhir_server.search.query import And, Chain, Criterion, Everything, Has, Ids, KeyMatch, Not, Or, Present, Query, SortKey
from fhir_server.search.values_of import Scope, split, unescape, union

MAX_COUNT = 1000
DEFAULT_COUNT = 20
MAX_VALUE = 20_000
"""Longest value of one parameter, in characters."""
MAX_CHOICES = 2000
"""Most values that one parameter may offer with commas."""
MAX_CHAIN = 6
_REMEMBERED = 4096
"""Most parameters whose criteria are remembered, and the longest value of such a one."""
_SHORT = 200
SUMMARIES = ("true", "text", "data", "count", "false")
TOTALS = ("none", "estimate", "accurate")
_NOT_YET = ("_text", "_content", "_filter", "_list", "_query", "_contained", "_containedType")
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
)
_MODIFIERS = {
    "string": ("exact", "contains", "missing"),
    "token": ("not", "missing", "text", "in", "not-in", "above", "below", "of-type"),
    "reference": ("identifier", "missing", "above", "below"),
    "uri": ("missing", "above", "below"),
    "date": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
}
_LATER = ("text", "in", "not-in", "above", "below", "of-type")


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

    # --- the whole search

    def search(
        self, types: Sequence[str], pairs: Iterable[tuple[str, str]], *, lenient: bool = False, extra: Criterion | None = None
    ) -> ParsedSearch:
        """A search over these types (one, or several for a system search). `extra` is joined (compartments).

        Raises FhirError 400 or 501; with `lenient`, unknown parameters are left out and named in `ignored`.
        """
        pairs = list(pairs)
        chosen = self._types(types, pairs)
        result = ParsedSearch(Query(chosen))
        criteria: list[Criterion] = [extra] if extra is not None else []
        sort: tuple[SortKey, ...] = ()
        includes: list[Include] = []
        count, total = DEFAULT_COUNT, "none"
        for name, value in pairs:
            try:
                if not value and not lenient:
                    raise invalid(name, value, "a parameter needs a value")
                if len(value) > MAX_VALUE:
                    raise invalid(name, value, f"is longer than {MAX_VALUE} characters")
                if "\x00" in value:
                    raise invalid(name, value.replace("\x00", "␀"), "holds the character U+0000")
                base = name.partition(":")[0]
                if base == "_count":
                    count = self._count(value)
                    result.pairs.append((name, str(count)))
                    continue
                if base == "_total":
                    total = _one_of(name, value, TOTALS)
                elif base == "_summary":
                    result.summary = _one_of(name, value, SUMMARIES)
                elif base == "_elements":
                    result.elements = tuple(part.strip() for part in value.split(",") if part.strip())
                elif base == "_sort":
                    sort = self._sort(chosen, value)
                elif base in ("_include", "_revinclude"):
                    includes.append(self._include(chosen, name, value))
                elif base == "_cursor":
                    result.cursor = value
                    continue
                elif base == "_explain":
                    result.explain = value == "true"
                elif base not in ("_format", "_pretty", "_type"):
                    criteria.append(self._across(chosen, name, value))
                result.pairs.append((name, value))
            except FhirError as fault:
                if not lenient or not _may_be_ignored(name, fault):
                    raise
                result.ignored.append(issue_of(fault))
        where: Criterion = Everything() if not criteria else criteria[0] if len(criteria) == 1 else And(tuple(criteria))
        result.query = Query(chosen, where, sort, count, total)
        result.includes = tuple(includes)
        return result

    def criteria(self, type: str, text: str) -> Query:
        """The query of conditional interactions and Subscriptions ('identifier=a|b&status=final'): filters only."""
        pairs = pairs_of(text)
        for name, _ in pairs:
            if name.partition(":")[0] in _PRESENTATION:
                raise invalid(name, "", "only parameters that filter may stand in criteria")
        if not pairs:
            raise FhirError.of(400, "invalid", f"The criteria for {type} are empty; at least one search parameter is needed")
        return self.search((type,), pairs).query

    def _types(self, types: Sequence[str], pairs: list[tuple[str, str]]) -> tuple[str, ...]:
        wanted = [one for name, value in pairs if name == "_type" for one in value.split(",")]
        if len(types) == 1:
            if wanted:
                raise invalid("_type", ",".join(wanted), "is for searches over several types")
            return tuple(types)
        known = self._registry.definitions.resource_types
        for one in wanted:
            if one not in known:
                raise unknown("resource type", one, "_type", known)
        return tuple(one for one in types if not wanted or one in wanted)

    # --- parameters of the result

    def _count(self, value: str) -> int:
        if not value.isascii() or not value.isdigit():
            raise invalid("_count", value, "must be a whole number from 0 on")
        return min(int(value), MAX_COUNT)

    def _sort(self, types: tuple[str, ...], value: str) -> tuple[SortKey, ...]:
        keys = []
        for part in value.split(","):
            descending, name = part.startswith("-"), part.strip().removeprefix("-")
            if name in ("_lastUpdated", "_id"):
                keys.append(SortKey(name, "updated" if name == "_lastUpdated" else "id", descending))
                continue
            if len(types) != 1:
                raise invalid("_sort", value, "a search over several types is sorted by _lastUpdated or _id")
            parameter = self._registry.get(types[0], name)
            if parameter is None:
                raise unknown("sort key", name, types[0], self._registry.codes(types[0]))
            if len(parameter.sources) != 1 or parameter.type in ("composite", "special"):
                raise not_yet(f"Sorting by '{name}'")
            kind = {"string": "text", "date": "range", "number": "range", "quantity": "range"}.get(parameter.type, "key")
            keys.append(SortKey(parameter.sources[0].number, kind, descending))
        return tuple(keys)

    def _include(self, types: tuple[str, ...], name: str, value: str) -> Include:
        base, _, modifier = name.partition(":")
        if modifier not in ("", "iterate", "recurse"):
            raise unknown("modifier", modifier, base, ["iterate"])
        reverse, iterate = base == "_revinclude", bool(modifier)
        parts = value.split(":")
        known = self._registry.definitions.resource_types
        if parts == ["*"]:
            return Include(reverse, "*" if reverse else types[0] if len(types) == 1 else "*", None, None, iterate)
        if len(parts) not in (2, 3):
            raise invalid(name, value, "has the form Type:parameter or Type:parameter:TargetType")
        if parts[0] not in known:
            raise unknown("resource type", parts[0], name, known)
        if not reverse and not iterate and parts[0] not in types:
            raise invalid(name, value, f"{parts[0]} is not what is searched for ({', '.join(types[:3])})")
        target = parts[2] if len(parts) == 3 else None
        if target is not None and target not in known:
            raise unknown("resource type", target, name, known)
        if parts[1] == "*":
            return Include(reverse, parts[0], None, target, iterate)
        parameter = self._registry.get(parts[0], parts[1])
        references = [one.code for one in self._registry.of(parts[0]) if one.type == "reference"]
        if parameter is None or parameter.type != "reference":
            raise unknown("reference parameter", parts[1], f"{parts[0]} in {name}", references)
        if target is not None and "Resource" not in parameter.targets and target not in parameter.targets:
            raise invalid(name, value, f"{parts[0]}.{parts[1]} never refers to {target}")
        return Include(reverse, parts[0], parameter, target, iterate)

    # --- filters

    def _across(self, types: tuple[str, ...], name: str, value: str) -> Criterion:
        """One parameter over the searched types: in a system search it must be known to each of them."""
        if len(types) == 1:
            return self._remembered(types[0], name, value)
        base = name.partition(":")[0].partition(".")[0]
        if base not in ("_id", "_lastUpdated", "_tag", "_profile", "_security", "_source"):
            raise invalid(name, value, "a search over several types takes only parameters that all resources share")
        return union(list(dict.fromkeys(self.filter(one, name, value) for one in types)))

    def _remembered(self, type: str, name: str, value: str) -> Criterion:
        """The criterion of a parameter: clients ask with the same codes, statuses and dates again and again."""
        at = (type, name, value, self._scope.own_bases, self._scope.zone)
        found = self._memory.get(at)
        if found is None:
            found = self.filter(type, name, value)
            # `ap` looks at the clock.
            if len(value) <= _SHORT and "ap" not in value:
                if len(self._memory) >= _REMEMBERED:
                    self._memory.clear()
                self._memory[at] = found
        return found

    def filter(self, type: str, name: str, value: str, depth: int = 0) -> Criterion:
        """One parameter of one type as a criterion: AND is repetition, OR is comma."""
        if depth > MAX_CHAIN:
            raise invalid(name, value, f"chains have {MAX_CHAIN} links at most")
        if name.startswith("_has:"):
            return self._has(type, name, value, depth)
        first, dot, rest = name.partition(".")
        base, _, modifier = first.partition(":")
        if dot:
            return self._chain(type, name, base, modifier, rest, value, depth)
        choices = split(value, ",")
        if len(choices) > MAX_CHOICES:
            raise invalid(name, value, f"offers more than {MAX_CHOICES} values")
        if any(not choice for choice in choices):
            raise invalid(name, value, "a value between commas is empty")
        if base in ("_id", "_lastUpdated"):
            return self._built_in(base, modifier, choices)
        if base in _NOT_YET:
            raise not_yet(f"The search parameter '{base}'")
        parameter = self._registry.get(type, base)
        if parameter is None:
            raise unknown("search parameter", base, type, self._registry.codes(type))
        if modifier == "missing":
            return self._missing(parameter, name, value)
        if parameter.type in ("composite", "special"):
            raise not_yet(f"The {parameter.type} search parameter '{base}'")
        return self._modified(parameter, name, modifier, choices)

    def _built_in(self, name: str, modifier: str, choices: list[str]) -> Criterion:
        if modifier:
            raise unknown("modifier", modifier, name, [])
        if name == "_id":
            return Ids(tuple(unescape(choice) for choice in choices))
        return union([values_of.updated(choice, self._scope) for choice in choices])

    def _missing(self, parameter: Parameter, name: str, value: str) -> Criterion:
        if value not in ("true", "false"):
            raise invalid(name, value, "must be true or false")
        if parameter.type in ("composite", "special"):
            raise not_yet(f"The modifier :missing on '{parameter.code}'")
        choices: list[Criterion] = []
        for source in parameter.sources:
            choices.append(KeyMatch(source.number, source.target, None) if source.target else Present(source.number))
            own = parameter.identifier if parameter.type == "reference" and not parameter.derived else 0
            if own:
                choices.append(Present(own))
        present = union(choices)
        return Not(present) if value == "true" else present

    def _modified(self, parameter: Parameter, name: str, modifier: str, choices: list[str]) -> Criterion:
        kind = parameter.type
        if modifier in _LATER and modifier in _MODIFIERS[kind]:
            raise not_yet(f"The modifier :{modifier} on '{parameter.code}'")
        if kind == "reference" and modifier and modifier not in _MODIFIERS[kind]:
            if modifier not in self._registry.definitions.resource_types:
                raise unknown("modifier", modifier, f"'{parameter.code}'", [*_MODIFIERS[kind], *parameter.targets])
            if "Resource" not in parameter.targets and modifier not in parameter.targets:
                raise invalid(name, ",".join(choices), f"{parameter.code} never refers to {modifier}")
            return union([values_of.reference(parameter, name, choice, self._scope, modifier) for choice in choices])
        if modifier and modifier not in _MODIFIERS[kind]:
            raise unknown("modifier", modifier, f"the {kind} parameter '{parameter.code}'", _MODIFIERS[kind])
        found = union([self._value(parameter, name, modifier, choice) for choice in choices])
        return Not(found) if modifier == "not" else found

    def _value(self, parameter: Parameter, name: str, modifier: str, choice: str) -> Criterion:
        kind = parameter.type
        if kind == "token":
            return values_of.token(parameter, name, choice)
        if kind == "reference":
            if modifier == "identifier":
                return values_of.logical_reference(parameter, name, choice)
            return values_of.reference(parameter, name, choice, self._scope)
        if kind == "string":
            return values_of.string(parameter, name, choice, modifier or "prefix")
        if kind == "date":
            return values_of.date(parameter, name, choice, self._scope)
        if kind == "number":
            return values_of.number(parameter, name, choice)
        if kind == "quantity":
            return values_of.quantity(parameter, name, choice)
        return values_of.uri(parameter, choice)

    # --- joins

    def _chain(self, type: str, name: str, base: str, modifier: str, rest: str, value: str, depth: int) -> Criterion:
        parameter = self._registry.get(type, base)
        if parameter is None:
            raise unknown("search parameter", base, type, self._registry.codes(type))
        if parameter.type != "reference":
            raise invalid(name, value, f"'{base}' is no reference, so nothing can be chained to it")
        types = self._registry.definitions.resource_types
        allowed = (
            list(types) if "Resource" in parameter.targets or not parameter.targets else [one for one in parameter.targets if one in types]
        )
        if modifier:
            if modifier not in types:
                raise unknown("resource type", modifier, name, allowed)
            if modifier not in allowed:
                raise invalid(name, value, f"{base} never refers to {modifier}")
            allowed = [modifier]
        inner_name = rest.partition(".")[0].partition(":")[0]
        known = [one for one in allowed if inner_name in ("_id", "_lastUpdated", "_has") or self._registry.get(one, inner_name)]
        if not known:
            codes = {code for one in allowed[:5] for code in self._registry.codes(one)}
            raise unknown("search parameter", inner_name, f"{', '.join(allowed[:5])} in '{name}'", codes)
        choices: list[Criterion] = []
        for source in parameter.sources:
            targets = tuple((one, self.filter(one, rest, value, depth + 1)) for one in known if source.target in (None, one))
            if targets:
                choices.append(Chain(source.number, targets))
        if not choices:
            raise invalid(name, value, f"{base} never refers to {', '.join(known)}")
        return union(choices)

    def _has(self, type: str, name: str, value: str, depth: int) -> Criterion:
        parts = name.split(":", 3)
        if len(parts) != 4 or not parts[3]:
            raise invalid(name, value, "has the form _has:Type:reference:parameter")
        _, other, code, rest = parts
        known = self._registry.definitions.resource_types
        if other not in known:
            raise unknown("resource type", other, "_has", known)
        parameter = self._registry.get(other, code)
        if parameter is None or parameter.type != "reference":
            references = [one.code for one in self._registry.of(other) if one.type == "reference"]
            raise unknown("reference parameter", code, f"{other} in _has", references)
        if "Resource" not in parameter.targets and parameter.targets and type not in parameter.targets:
            raise invalid(name, value, f"{other}.{code} never refers to {type}")
        inner = self.filter(other, rest, value, depth + 1)
        return union([Has(other, source.number, inner) for source in parameter.sources if source.target in (None, type)])

    def compartment(self, name: str, id: str, type: str) -> Criterion:
        """Resources of `type` in the compartment of `name`/`id`; raises FhirError 400 for a type that is never in it."""
        members = self._registry.definitions.compartments.get(name)
        if members is None:
            raise unknown("compartment", name, "this server", self._registry.definitions.compartments)
        if type == name:
            return Ids((id,))
        codes = members.get(type)
        if not codes:
            raise FhirError.of(400, "not-supported", f"{type} is not in the {name} compartment", zh=f"{type} 不属于 {name} 区间")
        choices: list[Criterion] = []
        for code in codes:
            parameter = self._registry.get(type, code)
            if parameter is not None and parameter.type == "reference":
                choices += [KeyMatch(source.number, name, id) for source in parameter.sources if source.target in (None, name)]
        return Or(tuple(dict.fromkeys(choices)))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise invalid(name, value, f"must be one of {', '.join(allowed)}")
    return value


def _may_be_ignored(name: str, fault: FhirError) -> bool:
    """Lenient handling leaves out what is unknown or not there yet, not what is wrong in the paging itself."""
    return name.partition(":")[0] not in ("_count", "_total", "_summary", "_cursor")
