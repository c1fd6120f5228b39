"""The conformance resources that are stored, ready to be looked up while a resource is validated.

They are read when something of them has changed, and kept compressed: an implementation guide is some megabytes of JSON, of which a
validation needs a few.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import zstandard

from fhir_server.model import json_codec
from fhir_server.model.library import chosen
from fhir_server.model.references import split_canonical
from fhir_server.search.query import Everything, Query
from fhir_server.storage.port import Store, Stored

TYPES = (
    "StructureDefinition",
    "ValueSet",
    "CodeSystem",
    "ConceptMap",
    "Questionnaire",
    "Measure",
    "ImplementationGuide",
    "SearchParameter",
)
"""Types that others are validated against, or looked up in."""
SECONDS = 1.0
"""For how long another process's changes may go unseen."""
_PARSED = 256
"""Resources that stay parsed."""


class StoredConformance:
    """One process's view. `generation` grows whenever something changed."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self.generation = 0
        self._state: tuple[tuple[int, int | None], ...] | None = None
        self._looked = float("-inf")
        self._bodies: dict[str, dict[str, bytes]] = {}
        self._kinds: dict[str, str] = {}
        self._parsed: OrderedDict[tuple[str, str], Mapping[str, Any]] = OrderedDict()
        self.profiles: dict[str, list[str]] = {}
        """Type -> canonicals of the profiles on it, with versions."""
        self.by_type: dict[str, list[str]] = {}
        """Type -> profiles that an implementation guide demands of each resource of it (`global`)."""
        self._supplements: dict[str, list[str]] = {}
        self._unpack = zstandard.ZstdDecompressor().decompress
        self._pack = zstandard.ZstdCompressor(level=3).compress

    def noticed(self, versions: Iterable[Stored]) -> None:
        """Something was written here: if resources are validated against it, look again at once."""
        if any(stored.type in TYPES for stored in versions):
            self._looked = self._clock() - SECONDS

    async def fresh(self) -> int:
        """Take up what has changed; the generation then."""
        now = self._clock()
        if now - self._looked < SECONDS:
            return self.generation
        state = tuple([await self._newest(type) for type in TYPES])
        self._looked = now
        if state != self._state:
            await self._load()
            self._state = state
            self.generation += 1
        return self.generation

    async def _newest(self, type: str) -> tuple[int, int | None]:
        """Sequence number of the last change, and how many there are."""
        page = await self._store.search(Query((type,), Everything(), limit=1, total="accurate"))
        return (page.items[0].rid if page.items else 0), page.total

    async def _load(self) -> None:
        self._bodies, self._kinds, self.profiles, self.by_type, self._supplements = {}, {}, {}, {}, {}
        self._parsed.clear()
        for type in TYPES:
            query = Query((type,), Everything(), limit=1000)
            page = await self._store.search(query)
            while True:
                for stored in page.items:
                    self._take(stored)
                if page.next is None:
                    break
                page = await self._store.search(query, page.next)

    def _take(self, stored: Stored) -> None:
        resource = orjson.loads(stored.body)
        url = resource.get("url")
        if not isinstance(url, str) or not url:
            return
        version = str(resource.get("version", ""))
        versions = self._bodies.setdefault(url, {})
        if version in versions:
            return  # the one changed last comes first
        versions[version] = self._pack(stored.body)
        self._kinds.setdefault(url, stored.type)
        if stored.type == "StructureDefinition" and resource.get("derivation") == "constraint" and resource.get("kind") == "resource":
            self.profiles.setdefault(str(resource.get("type")), []).append(f"{url}|{version}" if version else url)
        if stored.type == "CodeSystem" and isinstance(resource.get("supplements"), str):
            self._supplements.setdefault(resource["supplements"].partition("|")[0], []).append(f"{url}|{version}" if version else url)
        if stored.type == "ImplementationGuide":
            for row in resource.get("global") or ():
                self.by_type.setdefault(str(row.get("type")), []).append(str(row.get("profile")))

    def find(self, canonical: str) -> Mapping[str, Any] | None:
        """The resource of a canonical; of several versions the highest that fits, or None."""
        url, wanted, _ = split_canonical(canonical)
        versions = self._bodies.get(url, {})
        version = chosen(versions, wanted)
        if version is None:
            return None
        held = self._parsed.get((url, version))
        if held is None:
            # What a code system says of its codes is answered with all digits; of the others nobody tells numbers.
            parse = json_codec.loads_stored if self._kinds[url] == "CodeSystem" else orjson.loads
            held = self._parsed[url, version] = parse(self._unpack(versions[version]))
            if len(self._parsed) > _PARSED:
                self._parsed.popitem(last=False)
        return held

    def supplements(self, url: str) -> list[Mapping[str, Any]]:
        """The CodeSystems that add texts and properties to the one of that URL."""
        return [found for canonical in self._supplements.get(url, ()) if (found := self.find(canonical))]

    def versions(self, url: str) -> list[str]:
        """The versions that are here of a canonical ('' for none)."""
        return list(self._bodies.get(url, ()))

    def urls(self, type: str) -> list[str]:
        """The canonicals of one type."""
        return [url for url, kind in self._kinds.items() if kind == type]
