"""Modifiers that ask for a set of values: `:in` and `:not-in` (value sets), `:above` and `:below` (hierarchies).

Specification: https://hl7.org/fhir/R4/search.html#modifiers, https://hl7.org/fhir/R4/search.html#recursive
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from fhir_server.model.references import ID, parse_reference, split_canonical
from fhir_server.search.errors import invalid
from fhir_server.search.extract import implied_system
from fhir_server.search.parameters import Parameter, Registry, Source
from fhir_server.search.query import Criterion, InHierarchy, InValueSet, KeyMatch, KeyPrefix, Not, Nothing, Subsumed
from fhir_server.search.values_of import Scope, token_parts, unescape, union

SETS = ("in", "not-in", "above", "below")
_PART_OF = ("partof", "part-of")
_PATH_ENDS = "/?#"


class Sets:
    """Turns these modifiers into criteria."""

    def __init__(self, registry: Registry, scope: Scope) -> None:
        self._registry = registry
        self._scope = scope

    def filter(self, parameter: Parameter, name: str, modifier: str, choices: list[str]) -> Criterion:
        """A parameter with one of SETS that its kind allows. Raises FhirError 400."""
        up = modifier == "above"
        if modifier in ("in", "not-in"):
            found = union([self._in(parameter, name, choice) for choice in choices])
            return Not(found) if modifier == "not-in" else found
        if parameter.type == "token":
            return union([self._subsumed(parameter, name, choice, up) for choice in choices])
        if parameter.type == "uri":
            return union([_uri(parameter, name, choice, up) for choice in choices])
        return union([self._reference(parameter, name, choice, up) for choice in choices])

    def _in(self, parameter: Parameter, name: str, choice: str) -> Criterion:
        value = unescape(choice)
        found = parse_reference(value)
        own = found.within(self._scope.own_bases)
        if own and found.type == "ValueSet":
            value = f"ValueSet/{found.id}"
        elif not _split(name, value).scheme:
            raise invalid(name, choice, "needs a value set: its canonical URL, or ValueSet/<id>", "需要值集：其规范 URL 或 ValueSet/<id>")
        return union([InValueSet(source.number, value) for source in parameter.sources])

    def _subsumed(self, parameter: Parameter, name: str, choice: str, up: bool) -> Criterion:
        system, code = token_parts(name, choice)
        if system is None:
            system = implied_system(self._registry.definitions, parameter.expression, parameter.resource_type)
        if not system or code is None:
            raise invalid(name, choice, "needs the form system|code: a hierarchy belongs to a code system", "需要“系统|编码”的形式")
        return union([Subsumed(source.number, system, code, up) for source in parameter.sources])

    # --- references

    def _reference(self, parameter: Parameter, name: str, choice: str, up: bool) -> Criterion:
        """`Type/id` in the hierarchy of its type, or a canonical with a version and those below it."""
        value = unescape(choice)
        found = parse_reference(value)
        if found.within(self._scope.own_bases):
            return self._in_hierarchy(parameter, name, choice, found.type, found.id, up)
        if ID.match(value):
            kinds = [target for target in parameter.targets if self._part_of(target)]
            if len(kinds) != 1:
                raise invalid(name, choice, f"needs the form Type/id: {parameter.code} may refer to several types", "需要“类型/id”的形式")
            return self._in_hierarchy(parameter, name, choice, kinds[0], value, up)
        url, version, _ = split_canonical(value)
        if not _split(name, url).scheme:
            raise invalid(name, choice, "is neither Type/id nor a canonical URL", "既不是“类型/id”，也不是规范 URL")
        if not version:
            any_version: list[Criterion] = [KeyMatch(source.number, url, None) for source in parameter.sources]
            return union([*any_version, *(one for source in parameter.sources for one in _uri_of(source, url, up))])
        if up:
            above = [version.rsplit(".", at)[0] for at in range(version.count(".") + 1)]
            return union([KeyMatch(source.number, url, one) for source in parameter.sources for one in above])
        return union([KeyPrefix(source.number, url, version, ".-") for source in parameter.sources])

    def _part_of(self, type: str) -> int | None:
        """The number of the parameter by which resources of a type are part of others of it."""
        for code in _PART_OF:
            parameter = self._registry.get(type, code)
            if parameter is not None and parameter.type == "reference" and type in parameter.targets:
                return parameter.sources[0].number
        return None

    def _in_hierarchy(self, parameter: Parameter, name: str, choice: str, type: str, id: str, up: bool) -> Criterion:
        part_of = self._part_of(type)
        if part_of is None:
            raise invalid(name, choice, f"resources of type {type} are not part of others of it", f"{type} 资源没有上下级")
        sources = [source for source in parameter.sources if source.target in (None, type)]
        if not sources or ("Resource" not in parameter.targets and type not in parameter.targets):
            return Nothing()
        return union([InHierarchy(source.number, type, id, up, part_of) for source in sources])


# --- uris


def _split(name: str, url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as fault:
        raise invalid(name, url, f"is no URL ({fault})", "不是 URL") from None


def _uri(parameter: Parameter, name: str, choice: str, up: bool) -> Criterion:
    value = unescape(choice)
    parts = _split(name, value)
    if not parts.scheme or not parts.netloc:
        raise invalid(name, choice, "only URLs have a path with something above and below, not URNs", "只有 URL 有上下级，URN 没有")
    return union([one for source in parameter.sources for one in _uri_of(source, value, up)])


def _uri_of(source: Source, value: str, up: bool) -> list[Criterion]:
    """By the segments of the path: http://a/b is above http://a/b/c, and not above http://a/bc."""
    if not up:
        stem = value.rstrip("/")
        if stem != value:
            return [KeyPrefix(source.number, "", value)]
        return [KeyPrefix(source.number, "", stem, _PATH_ENDS)]
    found = [value]
    parts = urlsplit(value)
    root = f"{parts.scheme}://{parts.netloc}"
    rest = value[len(root) :]
    while rest:
        cut = max(rest.rfind(end) for end in _PATH_ENDS)
        rest = rest[: max(cut, 0)]
        found += [root + rest + "/", root + rest]
    return [KeyMatch(source.number, "", one) for one in dict.fromkeys(found)]
