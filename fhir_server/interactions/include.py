"""`_include` and `_revinclude`: what matches refer to, and what refers to them.

Specification: https://hl7.org/fhir/R4/search.html#revinclude
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson

from fhir_server.errors import FhirError
from fhir_server.fhirpath.typed import TypedPath, typed_paths
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.model.references import parse_reference, split_canonical
from fhir_server.search.opening import names_of
from fhir_server.search.parameters import Parameter
from fhir_server.search.parser import Include
from fhir_server.search.query import KeyMatch, Or, Position, Query
from fhir_server.storage.port import Stored

MOST = 10_000
"""Most included resources of one page."""
_ROUNDS = 20
_PAGE = 1000
_paths: dict[int, list[TypedPath]] = {}


@dataclass(slots=True)
class _Round:
    """What has been found, and what came last: the resources whose references are followed next."""

    known: set[tuple[str, str]]
    until: float
    """When the search's time is over, by the monotonic clock."""
    found: list[Stored] = field(default_factory=list)
    last: list[Stored] = field(default_factory=list)
    parsed: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return len(self.found) >= MOST

    def check(self) -> None:
        """Raises FhirError 503 when the time is over: includes are many searches, of which each for itself may be short."""
        if monotonic() > self.until:
            what = "The includes took longer than the server's limit."
            advice = "Ask for a smaller _count, name parameters in place of *, or leave out :iterate."
            raise FhirError.of(
                503,
                "too-costly",
                f"{what} {advice}",
                headers=[("Retry-After", "1")],
                zh="处理 _include 和 _revinclude 的时间超过了服务器的限制。请减小 _count，以具体参数代替 *，或去掉 :iterate。",
            )

    def add(self, stored: Stored) -> None:
        place = (stored.type, stored.id)
        if place not in self.known and not self.full:
            self.known.add(place)
            self.found.append(stored)
            self.last.append(stored)

    def content(self, stored: Stored) -> dict[str, Any]:
        place = (stored.type, stored.id)
        if place not in self.parsed:
            self.parsed[place] = orjson.loads(stored.body)
        return self.parsed[place]


def _values(parameter: Parameter, resource: dict[str, Any]) -> Iterator[Any]:
    """The raw values of a reference parameter: Reference objects, and texts of canonicals and URIs."""
    paths = _paths.get(parameter.number)
    if paths is None:
        paths = _paths[parameter.number] = typed_paths(parameter.expression, parameter.resource_type)
    for path in paths:
        for value in path.values(resource):
            if path.type == "Extension":
                yield value.get("valueReference")
            else:
                yield value if path.type is not None else value.value


def _parameters(context: Context, include: Include, type: str) -> list[Parameter]:
    """The reference parameters that an include follows on resources of `type`."""
    if include.parameter is not None:
        return [include.parameter]
    return [parameter for parameter in context.search.of(type) if parameter.type == "reference"]


def _referred(context: Context, bases: tuple[str, ...], include: Include, stored: Stored, content: dict[str, Any]) -> tuple[list, list]:
    """((type, id) of local resources, canonicals) that a resource refers to by the include's parameters."""
    places: list[tuple[str, str]] = []
    canonicals: list[str] = []
    for parameter in _parameters(context, include, stored.type):
        for value in _values(parameter, content):
            text = value.get("reference") if isinstance(value, dict) else value
            if not isinstance(text, str):
                continue
            found = parse_reference(text)
            if found.within(bases):
                if include.target in (None, found.type):
                    places.append((found.type, found.id))
            elif isinstance(value, str):
                canonicals.append(value)
    return places, canonicals


async def _forward(context: Context, request: Request, includes: Sequence[Include], round: _Round, sources: list[Stored]) -> None:
    bases = (request.base, *context.own_bases)
    wanted: dict[tuple[str, str], None] = {}
    canonicals: dict[tuple[str, str | None], None] = {}
    for include in includes:
        for stored in sources:
            if include.type in ("*", stored.type):
                places, texts = _referred(context, bases, include, stored, round.content(stored))
                wanted |= dict.fromkeys(place for place in places if place not in round.known)
                canonicals |= dict.fromkeys((text, include.target) for text in texts)
    round.check()
    for stored in await context.gate.read_many(request.principal, list(wanted)):
        round.add(stored)
    for canonical, target in canonicals:
        for stored in await _by_canonical(context, request, canonical, target):
            round.add(stored)


async def _by_canonical(context: Context, request: Request, canonical: str, target: str | None) -> list[Stored]:
    """Resources whose url (and version, if stated) is the canonical's."""
    url, version, _ = split_canonical(canonical)
    types = [target] if target else [type for type in context.definitions.resource_types if context.search.get(type, "url")]
    found: list[Stored] = []
    for type in types:
        parameter = context.search.get(type, "url")
        if parameter is not None:
            matches = Or(tuple(KeyMatch(source.number, "", url) for source in parameter.sources))
            found += (await context.gate.search(request.principal, Query((type,), matches, limit=10))).items
    return [stored for stored in found if not version or orjson.loads(stored.body).get("version") == version]


def _referring(context: Context, include: Include, round: _Round, sources: list[Stored]) -> Iterator[Query]:
    """Queries for what refers to the sources by the include's parameters."""
    types = context.definitions.resource_types if include.type == "*" else (include.type,)
    groups: dict[str, list[tuple[Stored, list[tuple[str, str]]]]] = {}
    for stored in sources:
        if include.target in (None, stored.type):
            # Only what has a `url` as a search parameter bears a canonical; the rest need not be read.
            names = names_of(round.content(stored)) if context.search.get(stored.type, "url") else []
            groups.setdefault(stored.type, []).append((stored, names))
    for type in types:
        matches: dict[KeyMatch, None] = {}
        for parameter in _parameters(context, include, type):
            for kind, group in groups.items():
                if parameter.targets and "Resource" not in parameter.targets and kind not in parameter.targets:
                    continue
                for number in [source.number for source in parameter.sources if source.target in (None, kind)]:
                    for stored, names in group:
                        matches[KeyMatch(number, kind, stored.id)] = None
                        matches |= dict.fromkeys(KeyMatch(number, *words) for words in names)
        if matches:
            yield Query((type,), Or(tuple(matches)) if len(matches) > 1 else next(iter(matches)), limit=_PAGE)


async def _reverse(context: Context, request: Request, includes: Sequence[Include], round: _Round, sources: list[Stored]) -> None:
    for include in includes:
        for query in _referring(context, include, round, sources):
            after: Position | None = None
            if round.full:
                return
            while not round.full:
                round.check()
                page = await context.gate.search(request.principal, query, after)
                for stored in page.items:
                    round.add(stored)
                after = page.next
                if after is None:
                    break


async def included(context: Context, request: Request, includes: Sequence[Include], matches: Sequence[Stored]) -> list[Stored]:
    """The resources that the includes add to these matches: each once, no match among them, at most MOST."""
    round = _Round({(stored.type, stored.id) for stored in matches}, monotonic() + context.settings.search_seconds)
    sources, active = list(matches), list(includes)
    for _ in range(_ROUNDS):
        forward = [include for include in active if not include.reverse]
        backward = [include for include in active if include.reverse]
        round.last = []
        if forward:
            await _forward(context, request, forward, round, sources)
        if backward:
            await _reverse(context, request, backward, round, sources)
        sources, active = round.last, [include for include in includes if include.iterate]
        if not sources or not active or round.full:
            break
    return round.found
