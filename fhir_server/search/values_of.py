"""Values of search parameters, each kind turned into a criterion.

Specification: https://hl7.org/fhir/R4/search.html#ptypes, https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

from fhir_server.fhirpath.typed import typed_paths
from fhir_server.model.dates import DateError, interval
from fhir_server.model.references import ID, parse_reference, split_canonical
from fhir_server.search.errors import invalid, not_yet, unknown
from fhir_server.search.han import INITIALS, typed
from fhir_server.search.numbers import approximate_range, implicit_range, parse_number
from fhir_server.search.parameters import SPELLED, Parameter
from fhir_server.search.query import Criterion, KeyMatch, KeyPrefix, Near, Not, Nothing, Or, RangeMatch, TextMatch, Updated
from fhir_server.search.text import MAX_LENGTH, fold
from fhir_server.terminology.ucum import UcumError, convert

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
_STRINGS = frozenset({"string", "Extension", ""})
"""Types of values that are strings, or may be."""
_CANONICAL = frozenset({"canonical", "uri", "url"})
_PREFIX = re.compile(r"([a-z]{2})(?=[-+.\d])")


@dataclass(frozen=True, slots=True)
class Scope:
    """What turning a value needs to know: zone of zone-less dates, now in milliseconds, and the server's own base URLs."""

    zone: ZoneInfo
    now: int = 0
    own_bases: tuple[str, ...] = ()


def split(text: str, separator: str) -> list[str]:
    """Split at a separator that no backslash escapes; the escapes stay."""
    if "\\" not in text:
        return text.split(separator)
    parts, current, escaped = [], "", False
    for one in text:
        if escaped:
            current, escaped = current + one, False
        elif one == "\\":
            current, escaped = current + one, True
        elif one == separator:
            parts.append(current)
            current = ""
        else:
            current += one
    return [*parts, current]


def unescape(text: str) -> str:
    """Resolve \\, \\| \\$ and \\\\."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def union(choices: list[Criterion]) -> Criterion:
    """One of several."""
    return choices[0] if len(choices) == 1 else Or(tuple(choices))


def prefix_of(name: str, text: str) -> tuple[str, str]:
    """('ge', rest) of a value with prefix, ('eq', text) without; raises for a prefix that does not exist."""
    found = _PREFIX.match(text)
    if not found:
        return "eq", text
    if found[1] not in PREFIXES:
        raise unknown("prefix", found[1], f"the parameter '{name}'", PREFIXES, f"参数“{name}”")
    return found[1], text[2:]


# --- token


def token_parts(name: str, text: str) -> tuple[str | None, str | None]:
    """System and code of `code`, `system|code`, `|code`, `system|`; None where it may be any."""
    parts = split(text, "|")
    if len(parts) == 1:
        return None, unescape(parts[0])
    if len(parts) > 2:
        raise invalid(name, text, "a token is code, system|code, |code or system|", "token 的格式应为 code、system|code、|code 或 system|")
    system, code = (unescape(part) for part in parts)
    if not system and not code:
        raise invalid(name, text, "a token needs a system or a code", "token 需要 system 或 code")
    return system, code or None


def token(parameter: Parameter, name: str, text: str) -> Criterion:
    """`code`, `system|code`, `|code`, `system|`. Case does not count where the element is a string (R4 search, "token")."""
    space, value = token_parts(name, text)
    kinds = _kinds(parameter.expression, parameter.resource_type)
    if value is None or kinds.isdisjoint(_STRINGS) or value == value.lower():
        return _keys(parameter, space, value)
    return union([_keys(parameter, space, value.lower()), _keys(parameter, space, value)])


def _keys(parameter: Parameter, space: str | None, value: str | None) -> Criterion:
    return union([KeyMatch(source.number, space, value) for source in parameter.sources])


# --- reference


def reference(parameter: Parameter, name: str, text: str, scope: Scope, only: str | None = None) -> Criterion:
    """A logical id, Type/id, an absolute URL (own or foreign), or a canonical with or without version. `only`: the type of `:Type`."""
    value = unescape(text)
    found = parse_reference(value)
    if found.within(scope.own_bases):
        if only and found.type != only:
            raise invalid(name, text, f"the modifier says {only}, the value {found.type}", f"修饰符指明 {only}，而值是 {found.type}")
        return _targets(parameter, name, text, [found.type], found.id, explicit=True)
    if found.form == "absolute" and only is None:
        # Canonicals look like absolute references; both are stored under what was sent.
        return union([one for source in parameter.sources for one in _whole(source.number, value, value, None)])
    if found.form in ("urn", "other") and ID.match(value) is None:
        url, version, _ = split_canonical(value)
        if not url:
            raise invalid(name, text, "a reference is an id, Type/id or URL", "引用应为 id、Type/id 或 URL")
        return union([one for source in parameter.sources for one in _whole(source.number, value, url, version or None)])
    if ID.match(value) is None:
        raise invalid(name, text, "a reference is an id, Type/id or URL", "引用应为 id、Type/id 或 URL")
    types = [only] if only else [target for target in parameter.targets if target != "Resource"]
    if not types:
        return _keys(parameter, None, value)
    found_ids = _targets(parameter, name, text, types, value, explicit=bool(only))
    if only or _CANONICAL.isdisjoint(_kinds(parameter.expression, parameter.resource_type)):
        return found_ids
    # What looks like an id may be a canonical that is no URL.
    return union([found_ids, *(one for source in parameter.sources for one in _whole(source.number, value, value, None))])


@lru_cache(maxsize=4096)
def _kinds(expression: str, resource_type: str) -> frozenset[str]:
    """The FHIR types of a parameter's values; '' for those that say it only when they are there."""
    return frozenset(path.type or "" for path in typed_paths(expression, resource_type))


def _whole(number: int, value: str, url: str, version: str | None) -> tuple[KeyMatch, KeyMatch]:
    """A URI `value`, or a canonical of that version (None = of any)."""
    return KeyMatch(number, "", value), KeyMatch(number, url, version)


def _targets(parameter: Parameter, name: str, text: str, types: list[str], id: str, *, explicit: bool) -> Criterion:
    choices: list[Criterion] = [
        KeyMatch(source.number, kind, id)
        for source in parameter.sources
        for kind in ([source.target] if source.target and not explicit else types)
        if source.target in (None, kind)
    ]
    return union(choices) if choices else Nothing()


def logical_reference(numbers: Iterable[int], name: str, text: str) -> Criterion:
    """`:identifier`: the identifier inside the reference itself, posted under `numbers`."""
    system, code = token_parts(name, text)
    return union([KeyMatch(number, system, code) for number in numbers])


# --- string, uri


def string(parameter: Parameter, name: str, text: str, mode: str) -> Criterion:
    """Prefix without case and accents, or :exact, or :contains. A Chinese name is found by its pinyin and initials, too."""
    value = unescape(text)
    if mode != "exact" and not fold(value):
        raise invalid(name, text, "there is nothing to search for", "没有可检索的内容")
    text = value[:MAX_LENGTH] if mode == "exact" else fold(value)
    choices: list[Criterion] = [TextMatch(source.number, text, mode) for source in parameter.sources]
    word = typed(text) if parameter.code in SPELLED and mode != "exact" else None
    if word:
        spelled = [source.number + 1 for source in parameter.sources]
        choices += [TextMatch(number, word, mode) for number in spelled]
        if mode != "contains":
            choices += [TextMatch(number, INITIALS + word, mode) for number in spelled]
    return union(choices)


def uri(parameter: Parameter, text: str) -> Criterion:
    """The whole URI, letter by letter."""
    return _keys(parameter, "", unescape(text))


def uri_prefix(number: int, text: str) -> Criterion:
    """URIs that begin with a text."""
    return KeyPrefix(number, "", text)


# --- date


def date_bounds(name: str, text: str, scope: Scope) -> tuple[str, int, int]:
    """(prefix, low, high) of a date value in milliseconds."""
    prefix, rest = prefix_of(name, unescape(text))
    rest = rest.replace(" ", "+")  # a plus sign that was not percent-encoded in the URL
    try:
        low, high = interval(rest, scope.zone)
    except DateError as fault:
        raise invalid(name, text, str(fault), fault.zh) from None
    if prefix == "ap":
        # A tenth of the distance to now, but at least the value's own width: R4 recommends the former.
        slack = max(abs(scope.now - (low + high) // 2) // 10, high - low)
        low, high = low - slack, high + slack
    return prefix, low, high


def date(parameter: Parameter, name: str, text: str, scope: Scope) -> Criterion:
    """All prefixes; `eq` is containment."""
    prefix, low, high = date_bounds(name, text, scope)
    return union([_ranged(source.number, prefix, low, high) for source in parameter.sources])


def date_overlaps(parameter: Parameter, name: str, text: str, scope: Scope) -> Criterion:
    """Dates and periods that have some time in common with the value (`po` of `_filter`)."""
    prefix, low, high = date_bounds(name, text, scope)
    if prefix != "eq":
        raise invalid(name, text, "takes a date without prefix", "日期不能带前缀")
    return union([_ranged(source.number, "ap", low, high) for source in parameter.sources])


def updated(text: str, scope: Scope) -> Criterion:
    """`_lastUpdated`, which is an instant."""
    prefix, low, high = date_bounds("_lastUpdated", text, scope)
    if prefix == "ne":
        return Not(Updated(low, high))
    spans: dict[str, tuple[int | None, int | None]] = {
        "gt": (high + 1, None),
        "sa": (high + 1, None),
        "ge": (low, None),
        "lt": (None, low - 1),
        "eb": (None, low - 1),
        "le": (None, high),
    }
    return Updated(*spans.get(prefix, (low, high)))


def _ranged(
    number: int, prefix: str, low: float, high: float, *, half_open: bool = False, unit: tuple[str | None, str | None] = (None, None)
) -> Criterion:
    """One prefix as range criteria; `half_open`: the search value is [low, high)."""
    upper = frozenset({"high_max"}) if half_open else frozenset()

    def make(strict: frozenset[str] = frozenset(), **limits: float) -> RangeMatch:
        return RangeMatch(number, strict=strict, space=unit[0], value=unit[1], **limits)  # type: ignore[arg-type]

    inside = make(upper, low_min=low, high_max=high)
    if prefix == "eq":
        return inside
    if prefix == "ne":  # some value is not within; what has no value is not unequal to anything
        above = make(frozenset() if half_open else frozenset({"high_min"}), high_min=high)
        return Or((make(frozenset({"low_max"}), low_max=low), above))
    if prefix == "ap":
        return make(low_max=high, high_min=low)
    if prefix in ("gt", "ge"):
        above = make(frozenset({"high_min"}), high_min=high)
        return above if prefix == "gt" else Or((above, inside))
    if prefix in ("lt", "le"):
        below = make(frozenset({"low_max"}), low_max=low)
        return below if prefix == "lt" else Or((below, inside))
    return make(frozenset({"low_min"}), low_min=high) if prefix == "sa" else make(frozenset({"high_max"}), high_max=low)


# --- number and quantity


def _numeric(number: int, name: str, text: str, unit: tuple[str | None, str | None] = (None, None)) -> Criterion:
    prefix, rest = prefix_of(name, text)
    value = parse_number(rest)
    if value is None:
        raise invalid(name, text, "is no number such as 5.4, -3 or 1e2", "不是数值，例如 5.4、-3 或 1e2")
    if prefix in ("eq", "ne"):
        low, high = implicit_range(value)
        return _ranged(number, prefix, low, high, half_open=True, unit=unit)
    if prefix == "ap":
        low, high = approximate_range(value)
        return _ranged(number, prefix, low, high, unit=unit)
    exact = float(value)  # with the other prefixes the digits imply nothing (R4, "prefixes")
    return _ranged(number, prefix, exact, exact, unit=unit)


def number(parameter: Parameter, name: str, text: str) -> Criterion:
    return union([_numeric(source.number, name, unescape(text)) for source in parameter.sources])


def quantity(parameter: Parameter, name: str, text: str) -> Criterion:
    """`number`, `number|system|code`, `number||unit`."""
    return union([quantity_in(source.number, name, text) for source in parameter.sources])


def quantity_in(number: int, name: str, text: str) -> Criterion:
    """A quantity as it is posted under one number."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) == 1:
        unit: tuple[str | None, str | None] = (None, None)
    elif len(parts) == 3:
        unit = (parts[1] or None, parts[2] or None)
        if unit[1] is None and unit[0] is not None:
            raise invalid(name, text, "a quantity with a system needs a code, too", "带 system 的数量还需要 code")
    else:
        raise invalid(
            name,
            text,
            "a quantity is number, number|system|code or number||unit",
            "数量的格式应为 number、number|system|code 或 number||unit",
        )
    return _numeric(number, name, parts[0], unit)


# --- near

DEFAULT_KILOMETRES = "50"
"""How far `near` looks when the search does not say."""


def near(number: int, name: str, text: str) -> Criterion:
    """`latitude|longitude[|distance[|unit]]`, the unit a UCUM code of length, km by default."""
    parts = [unescape(part) for part in split(text, "|")]
    if not 2 <= len(parts) <= 4:
        raise invalid(name, text, "has the form latitude|longitude|distance|unit", "格式应为 latitude|longitude|distance|unit")
    latitude, longitude = (parse_number(part) for part in parts[:2])
    if latitude is None or not -90 <= latitude <= 90:
        raise invalid(name, text, "needs a latitude between -90 and 90 degrees", "纬度应在 -90 至 90 度之间")
    if longitude is None or not -180 <= longitude <= 180:
        raise invalid(name, text, "needs a longitude between -180 and 180 degrees", "经度应在 -180 至 180 度之间")
    length = parse_number((parts[2] if len(parts) > 2 else "") or DEFAULT_KILOMETRES)
    if length is None or length < 0:
        raise invalid(name, text, "needs a distance of 0 or more", "距离应不小于 0")
    try:
        metres = convert(length, (parts[3] if len(parts) > 3 else "") or "km", "m")
    except UcumError as fault:
        raise invalid(
            name,
            text,
            f"needs a unit of length such as km, m or [mi_i]: {fault}",
            f"需要长度单位，例如 km、m 或 [mi_i]；“{fault.code}”不能换算为 m",
        ) from None
    return Near(number, float(latitude), float(longitude), float(metres))


# --- components of composites


def component(parameter: Parameter, number: int, name: str, text: str, scope: Scope) -> Criterion:
    """A value of a component of the kind of `parameter`, posted under `number` with the other components of its element."""
    kind = parameter.type
    if kind == "token":
        return KeyMatch(number, *token_parts(name, text))
    if kind == "reference":
        found = parse_reference(unescape(text))
        if found.within(scope.own_bases):
            return KeyMatch(number, found.type, found.id)
        return KeyMatch(number, None if ID.match(text) else "", unescape(text))
    if kind == "quantity":
        return quantity_in(number, name, text)
    if kind == "number":
        return _numeric(number, name, unescape(text))
    if kind == "date":
        return _ranged(number, *date_bounds(name, text, scope))
    raise not_yet(f"A component of type {kind} of the composite parameter '{name}'", f"组合参数“{name}”中 {kind} 类型的组成部分")
