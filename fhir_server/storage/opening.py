"""Answers open criteria from what is stored: value sets, code systems, hierarchies of resources, and links by canonical.

What is stored under a canonical comes before what FHIR itself defines under it. Value sets are worked out once and kept as long as
none of the resources they are made of changes.
Specification: https://hl7.org/fhir/R4/search.html#token, https://hl7.org/fhir/R4/search.html#recursive
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import replace
from itertools import islice
from typing import Any

import orjson

from fhir_server.errors import FhirError
from fhir_server.search.opening import closed, names_of, open_parts, words_in
from fhir_server.search.query import (
    And,
    Criterion,
    Everything,
    Has,
    Ids,
    InHierarchy,
    InValueSet,
    KeyMatch,
    KeySet,
    NamedBy,
    Naming,
    Open,
    Or,
    Query,
    Subsumed,
    Values,
)
from fhir_server.storage.port import Store, Stored
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.large import LargeSystems
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import Content, NotEnumerable

MOST_IN_HIERARCHY = 10_000
"""Most resources that are above or below one."""
MOST_BELOW = 100_000
"""Most codes that are above or below one."""
MOST_NAMED = 10_000
"""Most resources whose canonicals are followed by one chain or `_has`."""
KEPT = 64
"""Value sets that stay worked out."""
Official = Callable[[str], Mapping[str, Any] | None]
"""Canonical -> a resource that FHIR defines, or None."""
_Made = tuple[tuple[str, ...], ...]
"""(type, id, version) of the stored resources, and (name, time) of the files, that something was made of."""


class Openings:
    """`url_numbers`: type (ValueSet, CodeSystem) -> number of its search parameter `url`; `large`: the code systems that lie in files."""

    def __init__(self, store: Store, official: Official, url_numbers: Mapping[str, int], large: LargeSystems | None = None) -> None:
        self._store = store
        self._official = official
        self._url_numbers = url_numbers
        self._large = large
        self._rooms: OrderedDict[tuple[str, _Made], Terminology] = OrderedDict()

    async def closed(self, query: Query) -> Query:
        """The query with answers in place of its open criteria. Raises FhirError 400 for a value set or code that is not here."""
        answers: dict[Open, Criterion] = {}
        for part in open_parts(query.where):
            if part not in answers:
                answers[part] = await self._answer(part)
        return replace(query, where=closed(query.where, answers), open=False)

    async def _answer(self, part: Open) -> Criterion:
        if isinstance(part, InValueSet):
            return await self._in_value_set(part)
        if isinstance(part, Subsumed):
            return await self._subsumed(part)
        if isinstance(part, InHierarchy):
            return await self._in_hierarchy(part)
        if isinstance(part, Naming):
            return await self._naming(part)
        if isinstance(part, NamedBy):
            return await self._named_by(part)
        raise TypeError(f"unknown criterion {part.__class__.__name__}")

    # --- canonicals as links

    async def _naming(self, part: Naming) -> Criterion:
        found: dict[tuple[str, str], None] = {}
        async for stored in self._all(part.target, part.part):
            found |= dict.fromkeys(names_of(orjson.loads(stored.body)))
        return KeySet(part.parameter, frozenset(found))

    async def _named_by(self, part: NamedBy) -> Criterion:
        """Of what bears a canonical there are few, and of what names it there may be many: each canonical is asked for."""
        inner = await self.closed(Query((part.type,), part.part, limit=1, words=any(words_in(part.part))))
        ids: list[str] = []
        async for stored in self._all(part.target, Everything()):
            names = names_of(orjson.loads(stored.body))
            where = And((KeySet(part.parameter, frozenset(names)), inner.where))
            if names and (await self._store.search(replace(inner, where=where))).items:
                ids.append(stored.id)
        return Ids(tuple(ids))

    async def _all(self, type: str, where: Criterion) -> AsyncIterator[Stored]:
        """All resources of a type that meet a criterion. Raises FhirError 400 for more than are worth looking at."""
        query = await self.closed(Query((type,), where, limit=1000, words=any(words_in(where))))
        page, seen = await self._store.search(query), 0
        while True:
            for stored in page.items:
                yield stored
            seen += len(page.items)
            if page.next is None:
                return
            if seen >= MOST_NAMED:
                what = f"more than {MOST_NAMED} resources of type {type} would have to be looked at for their canonicals; narrow the search"
                raise FhirError.of(400, "too-costly", what, zh=f"需要查看的 {type} 资源超过 {MOST_NAMED} 个，请缩小检索范围")
            page = await self._store.search(query, page.next)

    # --- terminology

    async def _in_value_set(self, part: InValueSet) -> Criterion:
        room = await self._room("ValueSet", part.value_set)
        try:
            content = room.value_set(part.value_set)
            made = None if content is None else _key_set(part.parameter, content, room)
        except NotEnumerable as fault:
            what = f"The value set {part.value_set} cannot be worked out: {fault}"
            raise FhirError.of(400, "not-supported", what, zh=f"无法计算值集 {part.value_set}：{fault.zh}") from None
        if made is None:
            raise FhirError.of(400, "not-found", f"The value set {part.value_set} is not here", zh=f"没有值集 {part.value_set}")
        return made

    async def _subsumed(self, part: Subsumed) -> Criterion:
        room = await self._room("CodeSystem", part.system)
        system = room.code_system(part.system)
        if system is None or not system.concepts:
            raise FhirError.of(400, "not-found", f"The code system {part.system} is not here", zh=f"没有代码系统 {part.system}")
        if system.find(part.code) is None:
            if system.whole:
                code = part.code[:80]
                raise FhirError.of(400, "code-invalid", f"'{code}' is no code of {part.system}", zh=f"“{code}”不是 {part.system} 的编码")
            return KeyMatch(part.parameter, part.system, part.code)
        codes = list(islice(system.above(part.code) if part.up else system.below(part.code), MOST_BELOW + 1))
        if len(codes) > MOST_BELOW:
            code, where, where_zh = part.code[:80], *(("above", "上级") if part.up else ("below", "下级"))
            raise FhirError.of(
                400,
                "too-costly",
                f"more than {MOST_BELOW:,} codes of {part.system} are {where} '{code}': name a narrower one",
                zh=f"{part.system} 中“{code}”的{where_zh}编码超过 {MOST_BELOW:,} 个，请用更窄的编码",
            )
        return KeySet(part.parameter, frozenset((part.system, code) for code in codes))

    async def _room(self, type: str, canonical: str) -> Terminology:
        """A room that knows the resource and all that it draws on."""
        found: dict[str, tuple[Stored, Mapping[str, Any]] | None] = {}
        queue = [(type, canonical)]
        for kind, name in queue:  # grows while it is walked
            if name in found:
                continue
            stored = await self._stored(kind, name)
            resource = orjson.loads(stored.body) if stored is not None else None
            found[name] = (stored, resource) if stored is not None and resource is not None else None
            if resource is None:
                official = self._official(name)
                resource = official if official is not None and official.get("resourceType") == kind else None
            if resource is not None:
                queue += _drawn_on(resource)
        made: _Made = tuple((one[0].type, one[0].id, str(one[0].version)) for one in found.values() if one is not None)
        if self._large is not None:
            made += tuple((name, str(stamp)) for name, stamp in self._large.refresh())
        room = self._rooms.get((canonical, made))
        if room is None:
            resources = {name: one[1] for name, one in found.items() if one is not None}
            room = self._rooms[canonical, made] = Terminology(
                lambda name: resources.get(name) or self._official(name), large=self._large.find if self._large is not None else None
            )
            if len(self._rooms) > KEPT:
                self._rooms.popitem(last=False)
        else:
            self._rooms.move_to_end((canonical, made))
        return room

    async def _stored(self, type: str, canonical: str) -> Stored | None:
        """The stored resource of a canonical (of several the one changed last), or of `ValueSet/id`."""
        if canonical.startswith(f"{type}/"):
            stored = await self._store.read(type, canonical.removeprefix(f"{type}/"))
            return stored if stored is not None and not stored.deleted else None
        url, _, version = canonical.partition("|")
        number = self._url_numbers[type]
        page = await self._store.search(Query((type,), KeyMatch(number, "", url), limit=100))
        for stored in page.items:
            if not version or orjson.loads(stored.body).get("version") == version:
                return stored
        return None

    # --- hierarchies

    async def _in_hierarchy(self, part: InHierarchy) -> Criterion:
        """Level by level; a resource that is part of itself ends there."""
        seen, level = {part.id: None}, [part.id]
        while level:
            where: Criterion = (
                Has(part.type, part.part_of, Ids(tuple(level)))
                if part.up
                else Or(tuple(KeyMatch(part.part_of, part.type, id) for id in level))
            )
            following: list[str] = []
            page = await self._store.search(Query((part.type,), where, limit=1000))
            while True:
                following += [one.id for one in page.items if one.id not in seen]
                seen.update(dict.fromkeys(following))
                if len(seen) > MOST_IN_HIERARCHY:
                    what = f"more than {MOST_IN_HIERARCHY} resources are {'above' if part.up else 'below'} {part.type}/{part.id}"
                    zh = f"{part.type}/{part.id} 的{'上级' if part.up else '下级'}资源超过 {MOST_IN_HIERARCHY} 个"
                    raise FhirError.of(400, "too-costly", what, zh=zh)
                if page.next is None:
                    break
                page = await self._store.search(Query((part.type,), where, limit=1000), page.next)
            level = following
        return KeySet(part.parameter, frozenset((part.type, id) for id in seen))


def _drawn_on(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a value set is made of, as (type, canonical)."""
    if resource.get("resourceType") != "ValueSet":
        return []
    compose = resource.get("compose") or {}
    found: list[tuple[str, str]] = []
    for row in (*compose.get("include", ()), *compose.get("exclude", ())):
        found += [("ValueSet", canonical) for canonical in row.get("valueSet", ())]
        if system := row.get("system"):
            version = row.get("version")
            found.append(("CodeSystem", f"{system}|{version}" if version else system))
    return found


class _Outside:
    """The codes of a system that are excluded, or that the system does not have."""

    def __init__(self, excluded: Set[str], system: CodeSystem | None) -> None:
        self._excluded, self._system = excluded, system

    def __contains__(self, code: object) -> bool:
        return code in self._excluded or (self._system is not None and self._system.find(str(code)) is None)


def _key_set(parameter: int, content: Content, room: Terminology) -> KeySet:
    outside: list[tuple[str, Values]] = []
    for url, excluded in content.systems.items():
        system = room.code_system(url, content.versions.get(url, ""))
        outside.append((url, _Outside(excluded, system if system is not None and system.whole else None)))
    return KeySet(parameter, frozenset(content.codes), tuple(outside))
